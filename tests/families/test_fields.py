"""Families with tuples among their fields compare, hash and save."""

from dataclasses import dataclass

import pytest
import torch

import pcircuits as pc
from pcircuits.families import Categorical


@dataclass(frozen=True)
class Grouped(Categorical):
    """A categorical family whose states come in groups."""

    groups: tuple[tuple[int, ...], ...] = ()
    name = "Grouped"


def test_tuples_come_back_from_files_as_tuples(tmp_path):
    family = Grouped(3, ((0, 1), (2,)))
    circuit = pc.Circuit(pc.inputs(family, "a", {"probs": [0.2, 0.3, 0.5]}))
    pc.save(circuit, tmp_path / "grouped.pc")
    again = pc.load(tmp_path / "grouped.pc", types=(Grouped,))
    (units,) = again.inputs
    assert units.family == family
    assert hash(units.family) == hash(family)
    assert units.family.groups == ((0, 1), (2,))
    assert again.compile().log_prob({"a": 2.0}).exp().item() == pytest.approx(0.5)


@pytest.mark.errors
def test_other_fields_are_refused(tmp_path):
    circuit = pc.Circuit(pc.inputs(Grouped(3, (torch.zeros(1),)), "a", {"probs": [0.2, 0.3, 0.5]}))
    with pytest.raises(pc.FileFormatError, match=r"its field groups is .* not a number, a string or a tuple of them"):
        pc.save(circuit, tmp_path / "grouped.pc")
