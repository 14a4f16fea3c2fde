"""The family, the source and circuits of both, held to the library's promises by its own suites."""

from __future__ import annotations

import torch
from visits import RateDecoder, ZeroInflatedPoisson

import pcircuits as pc
from pcircuits.testing import check_family, check_source, check_structure

FAMILY = ZeroInflatedPoisson(closed=0.1)


def decoder() -> RateDecoder:
    return RateDecoder(3, 5, generator=torch.Generator().manual_seed(1)).double()


def test_the_family() -> None:
    check_family(FAMILY, {"rate": torch.tensor([0.01, 0.7, 3.0, 20.0], dtype=torch.float64)})


def test_the_source() -> None:
    check_source(decoder(), FAMILY, width=5)


def test_a_circuit_of_both() -> None:
    rates = pc.inputs(FAMILY, ["Mon", "Tue", "Wed"], pc.Sourced(decoder(), 3, 5))
    weights = torch.tensor([0.1, 0.2, 0.3, 0.2, 0.2], dtype=torch.float64)
    check_structure(pc.Circuit(rates.prod().sum(weights)), types=(ZeroInflatedPoisson, RateDecoder))
