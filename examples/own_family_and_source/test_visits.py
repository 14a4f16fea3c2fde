"""The family, the source and circuits of both, held to the library's promises by its own suites."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from scipy import stats
from visits import Poisson, RateDecoder

import pcircuits as pc
from pcircuits.families import AbstractFamily
from pcircuits.testing import check_family, check_source, check_structure
from pcircuits.testing.oracle import LEAVES, Leaf
from pcircuits.testing.oracle.arithmetic import log_sum


class PoissonLeaf(Leaf):
    """The family once more, as a table by scipy: what the oracle answers with. No rate here comes near its end."""

    states = None

    def __init__(self, rate: float) -> None:
        self.log_probs = stats.poisson(rate).logpmf(range(400)).tolist()

    def log_density(self, x: float) -> float:
        return self.log_probs[int(x)]

    def log_interval(self, lower: float, upper: float) -> float:
        return log_sum(value for k, value in enumerate(self.log_probs) if lower <= k <= upper)

    def mode(self) -> float:
        return float(self.log_probs.index(max(self.log_probs)))

    def moment(self, order: int) -> float:
        return self.expectation(lambda x: x**order)

    def variance(self) -> float:
        mean = self.moment(1)
        return self.expectation(lambda x: (x - mean) ** 2)

    def expectation(self, f: Callable[[float], float]) -> float:
        return math.fsum(math.exp(value) * f(float(k)) for k, value in enumerate(self.log_probs))


def leaf(family: AbstractFamily, values: Mapping[str, Any]) -> Leaf:
    return PoissonLeaf(values["rate"])


def decoder() -> RateDecoder:
    return RateDecoder(3, 5, generator=torch.Generator().manual_seed(1)).double()


def test_the_family() -> None:
    check_family(Poisson(), {"rate": torch.tensor([0.01, 0.7, 3.0, 20.0], dtype=torch.float64)})


def test_the_source() -> None:
    check_source(decoder(), Poisson(), width=5)


def test_a_circuit_of_both() -> None:
    rates = pc.inputs(Poisson(), ["Mon", "Tue", "Wed"], pc.Sourced(decoder(), 3, 5))
    weights = torch.tensor([0.1, 0.2, 0.3, 0.2, 0.2], dtype=torch.float64)
    check_structure(
        pc.Circuit(rates.prod().sum(weights)), types=(Poisson, RateDecoder), leaves={**LEAVES, "Poisson": leaf}
    )
