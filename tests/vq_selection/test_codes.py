"""Sets of codes: validation, prefixes and subsets, storage."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcircuits.errors import FileFormatError
from vq_sources import selection
from vq_sources.codes import CodeSet, Provenance, code_keys, first_occurrences
from vq_sources.errors import DataError, SelectionError

SOURCE = Provenance("by hand", None, 3, 3, "0" * 16)
THREE = CodeSet(
    torch.tensor([[0, 1], [1, 1], [1, 2]]), torch.tensor([0.5, 0.25, 0.125]).double().log(), (1, 2), (2, 3), SOURCE
)


@pytest.mark.errors
def test_prefixes_are_nested_and_mass_adds_up():
    assert THREE.covered_mass == pytest.approx(0.875)
    assert THREE.prefix(2).codes.tolist() == [[0, 1], [1, 1]]
    assert THREE.prefix(2).prefix(1).covered_mass == pytest.approx(0.5)
    assert (THREE.prefix(2).provenance.asked, THREE.prefix(2).provenance.reached) == (2, 2)
    for n in (0, 4):
        with pytest.raises(SelectionError, match=f"a prefix of {n} codes was asked of a set of 3 codes"):
            THREE.prefix(n)


def test_subsets_by_index_and_by_mask():
    assert THREE.subset(torch.tensor([2, 0])).codes.tolist() == [[1, 2], [0, 1]]
    assert THREE.subset(torch.tensor([False, True, True])).log_weights.exp().tolist() == pytest.approx([0.25, 0.125])


@pytest.mark.errors
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"codes": torch.tensor([[0, 1], [1, 1], [0, 1]])}, DataError, r"row 2, \[0, 1\], is there before"),
        ({"codes": torch.tensor([[0, 1], [1, 1], [1, 3]])}, DataError, "position 1"),
        ({"codes": torch.tensor([[0], [1], [2]])}, DataError, "shape"),
        ({"codes": torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 2.0]])}, DataError, "integers"),
        ({"codes": torch.tensor([[0, 1], [1, 1], [1, 2]]).int()}, DataError, "int64"),
        ({"grid": (2, 2)}, DataError, "a grid 2 by 2 does not hold 2 cardinalities"),
        ({"log_weights": torch.zeros(2).double()}, DataError, r"log_weights must be \(3,\)"),
        ({"log_weights": torch.tensor([0.5, 0.0, -1.0]).double()}, DataError, "a log-probability is <= 0"),
        ({"log_weights": torch.tensor([-1.0, torch.nan, -1.0]).double()}, DataError, r"log_weights\[1\] is nan"),
        ({"log_joint": torch.zeros(2, 3).double()}, DataError, r"log_joint must be \(3, C\)"),
        ({"perturbed": torch.zeros(2).double()}, DataError, r"perturbed must be \(3,\)"),
    ],
)
def test_what_does_not_fit_is_named(changes, error, message):
    with pytest.raises(error, match=message):
        replace(THREE, **changes)


@pytest.mark.errors
def test_an_empty_set_is_refused():
    with pytest.raises(SelectionError, match="at least one code"):
        THREE.subset(torch.zeros(3, dtype=torch.bool))


def test_stored_sets_come_back(by_class, uneven):
    g = torch.Generator().manual_seed(0)
    every = selection.stochastic_beam(uneven, 6, generator=g)
    for codes in (THREE, selection.stochastic_beam(by_class, 9, generator=g), every, selection.ancestral(by_class, 5)):
        tensors, metadata = codes.to_tensors()
        assert all(isinstance(value, str) for value in metadata.values())
        back = CodeSet.from_tensors(tensors, metadata)
        assert back.provenance == codes.provenance
        assert (back.grid, back.cardinalities, back.kappa) == (codes.grid, codes.cardinalities, codes.kappa)
        assert all(torch.equal(value, back.to_tensors()[0][name]) for name, value in tensors.items())


@pytest.mark.errors
def test_unreadable_metadata_is_a_file_error():
    tensors, metadata = THREE.to_tensors()
    for broken in ({}, {"code_set": "{"}, {"code_set": "{}"}, {"code_set": '{"grid": 3}'}):
        with pytest.raises(FileFormatError, match="not a stored set of codes"):
            CodeSet.from_tensors(tensors, broken)
    with pytest.raises(FileFormatError, match="not a stored set of codes"):
        CodeSet.from_tensors({"codes": THREE.codes}, metadata)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.sampled_from([2, 3, 2**20]), st.integers(1, 30), st.integers(0, 10**6))
def test_keys_are_equal_exactly_where_rows_are(positions, symbols, rows, seed):
    g = torch.Generator().manual_seed(seed)
    codes = torch.randint(min(symbols, 3), (rows, positions), generator=g)
    keys = code_keys(codes, (symbols,) * positions)
    assert torch.equal(keys[:, None] == keys, (codes[:, None] == codes).all(2))
    first = first_occurrences(keys).tolist()
    listed = codes.tolist()
    assert first == [i for i in range(rows) if listed[i] not in listed[:i]]
