"""The forms of evidence, what each means, and what is refused."""

import re

import numpy as np
import pytest
import scipy.sparse
import torch

from pcircuits.errors import CircuitError, EvidenceError, ScopeError
from pcircuits.evidence import Evidence, Variables

NAN = torch.nan
VARIABLES = Variables(("x", "c", "n"), (-1, 3, 0))
"""A real number, three states, and counts without an end."""


def read(given, dtype=torch.float64):
    return Evidence.read(given, VARIABLES, dtype, torch.device("cpu"))


def test_nan_is_missing():
    known = read(torch.tensor([[0.5, NAN, 2.0], [NAN, NAN, NAN]], dtype=torch.float64))
    assert known.observed.tolist() == [[True, False, True], [False, False, False]]
    assert known.x.tolist() == [[0.5, 0.0, 2.0], [0.0, 0.0, 0.0]]
    assert known.rows == 2


def test_one_row_may_come_without_its_axis():
    assert read(torch.tensor([0.5, NAN, 2.0])).rows == 1


def test_integers_are_all_observed():
    known = read(torch.tensor([[3, 2, 40]]))
    assert known.observed.all()
    assert known.x.dtype == torch.float64
    assert known.x.tolist() == [[3.0, 2.0, 40.0]]


def test_booleans_are_states():
    binary = Variables(("a", "b"), (2, 2))
    known = Evidence.read(torch.tensor([[True, False]]), binary, torch.float32, torch.device("cpu"))
    assert known.x.tolist() == [[1.0, 0.0]]


def test_under_a_mask_values_that_are_not_observed_do_not_matter():
    x = torch.tensor([[NAN, 17.0, torch.inf], [1.0, 2.0, 3.0]])
    known = read((x, torch.tensor([[False, False, False], [True, True, False]])))
    assert known.x.tolist() == [[0.0, 0.0, 0.0], [1.0, 2.0, 0.0]]
    assert torch.equal(read((x.nan_to_num(0, 0).int(), known.observed)).x, known.x)


def test_a_dict_names_variables_and_repeats_single_values():
    known = read({"c": 1, "x": torch.tensor([0.25, 0.5, NAN])})
    assert known.x.tolist() == [[0.25, 1.0, 0.0], [0.5, 1.0, 0.0], [0.0, 1.0, 0.0]]
    assert known.observed.tolist() == [[True, True, False], [True, True, False], [False, True, False]]
    assert read({}).observed.tolist() == [[False, False, False]]
    assert read({"c": [0, 1]}).rows == 2
    assert read({"c": torch.tensor(2)}).x.tolist() == [[0.0, 2.0, 0.0]]


@pytest.mark.parametrize("form", [torch.zeros(0, 3), (torch.zeros(0, 3), torch.zeros(0, 3) > 0), {"x": torch.zeros(0)}])
def test_no_rows_are_no_rows(form):
    known = read(form)
    assert known.x.shape == known.observed.shape == (0, 3)


def test_the_model_decides_on_the_dtype_after_the_check():
    assert read(torch.tensor([[0.1, 1.0, 2.0]], dtype=torch.float64), torch.float32).x.dtype == torch.float32
    assert read(torch.tensor([[0.1, 1.0, 2.0]], dtype=torch.float32)).x.dtype == torch.float64
    with pytest.raises(EvidenceError, match="'c' is 1"):  # in float32 it would be the state 1
        read({"c": 1 + 1e-12}, torch.float32)


def test_nothing_is_changed_in_place():
    x = torch.tensor([[NAN, 1.0, 2.0]], dtype=torch.float64)
    known = read(x)
    x[0, 1] = 2.0
    assert known.x.tolist() == [[0.0, 1.0, 2.0]]


def test_evidence_joins():
    one, two = read({"x": [0.5, 1.5]}), read({"c": 2})
    joined = one.join(two, VARIABLES)
    assert joined.x.tolist() == [[0.5, 2.0, 0.0], [1.5, 2.0, 0.0]]
    assert joined.observed.tolist() == [[True, True, False]] * 2
    assert joined.join(read({"c": 2.0}), VARIABLES).rows == 2
    assert one.join(read(torch.zeros(0, 3)), VARIABLES).rows == 0 if one.rows == 1 else True


@pytest.mark.errors
@pytest.mark.parametrize(
    ("form", "error", "says"),
    [
        (torch.zeros(2, 4), EvidenceError, "evidence has shape (2, 4); it needs (B, 3), a column for each variable"),
        (torch.zeros(4), EvidenceError, "evidence has shape (4,); it needs (B, 3)"),
        (torch.zeros(1, 2, 3), EvidenceError, "evidence has shape (1, 2, 3)"),
        (torch.zeros(()), EvidenceError, "evidence has shape ()"),
        (torch.tensor([[0.0, 3.0, 0.0]]), EvidenceError, "row 0: 'c' is 3; it needs an integer in 0..2, or NaN"),
        (torch.tensor([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]]), EvidenceError, "row 1: 'c' is -1"),
        (torch.tensor([[0.0, 0.5, 0.0]]), EvidenceError, "row 0: 'c' is 0.5; it needs an integer in 0..2"),
        (torch.tensor([[0.0, 0.0, 0.5]]), EvidenceError, "row 0: 'n' is 0.5; it needs an integer >= 0"),
        (torch.tensor([[0.0, 0.0, -1.0]]), EvidenceError, "row 0: 'n' is -1"),
        (torch.tensor([[torch.inf, 0.0, 0.0]]), EvidenceError, "row 0: 'x' is inf; it needs a finite number"),
        (torch.tensor([[0.0, 0.0, -torch.inf]]), EvidenceError, "row 0: 'n' is -inf"),
        ({"x": -torch.inf}, EvidenceError, "row 0: 'x' is -inf"),
        ((torch.full((1, 3), NAN), torch.tensor([[False, True, False]])), EvidenceError, "row 0: 'c' is NaN, but"),
        ((torch.zeros(1, 3), torch.zeros(2, 3) > 0), EvidenceError, "shape (1, 3), its mask (2, 3)"),
        ((torch.zeros(1, 3), torch.zeros(1, 3)), EvidenceError, "the mask is bool, or 0 and 1 as integers"),
        ((torch.zeros(1, 3), torch.tensor([[0, 1, 2]])), EvidenceError, "a tensor of torch.int64): x == x is the mask"),
        (
            (torch.zeros(1, 3), None),
            EvidenceError,
            "a pair of arrays, not (a tensor of torch.float32, a NoneType): None is",
        ),
        ((torch.zeros(2, 3), torch.ones(3, 2) > 0), EvidenceError, "shape (3, 2); it needs (B, 3), a column for each"),
        ((torch.zeros(2, 3), torch.ones(3) > 0), EvidenceError, "its mask (1, 3): they need the same, (B, 3)"),
        (torch.zeros(3, 2), EvidenceError, "NaN where one is missing; transpose it (x.T)"),
        (torch.zeros(1, 3, dtype=torch.complex64), EvidenceError, "a tensor of torch.complex64, which are no real"),
        (torch.zeros(1, 3, device="meta"), EvidenceError, "it is on the device 'meta', and holds no data"),
        (torch.zeros(1, 3).to_sparse(), EvidenceError, "it is a sparse or nested tensor: x.to_dense()"),
        (scipy.sparse.csr_array(np.zeros((1, 3))), EvidenceError, "it is sparse: x.toarray() makes"),
        (np.zeros((1, 3), complex), EvidenceError, "its dtype is complex128, which are no real numbers"),
        (np.array([[0.0, "c", 0.0]], object), EvidenceError, "'c' is no number"),
        (np.zeros((1, 3), "datetime64[D]"), EvidenceError, "it holds dates or durations: turn them into numbers"),
        ([[0.0, 0.0], [0.0]], EvidenceError, "evidence is a list that cannot be read: its parts"),
        ([["0", "1", "2"]], EvidenceError, "'0' is no number"),
        ({"x": 1j}, EvidenceError, "the value of 'x' is 1j"),
        ({"x": torch.zeros(2).to_sparse()}, EvidenceError, "it is a sparse"),
        ({True: 0.0}, ScopeError, "a variable is an int or a str, not True"),
        ({("x",): 0.0}, ScopeError, "a variable is an int or a str, not ('x',)"),
        ({"x": [0.0, 1.0], "c": [0.0, 1.0, 2.0]}, EvidenceError, "different lengths: {'x': 2, 'c': 3}"),
        ({"x": [[0.0]]}, EvidenceError, "'x' has shape (1, 1); it needs one number, or (B,)"),
        ({"x": "wet"}, EvidenceError, "the value of 'x' is 'wet'"),
        ({"x": None}, EvidenceError, "the value of 'x' is None"),
        ({"y": 0.0}, ScopeError, "there is no variable 'y': there are 'x', 'c', 'n'"),
        (None, EvidenceError, "not NoneType"),
        ("wet", EvidenceError, "not str"),
        (0.5, EvidenceError, "not float"),
    ],
)
def test_refused(form, error, says):
    with pytest.raises(error, match=re.escape(says)) as raised:
        read(form)
    assert isinstance(raised.value, CircuitError)


@pytest.mark.errors
def test_a_contradiction_is_named():
    with pytest.raises(EvidenceError, match=r"row 1 says 'c' is 2, but the evidence given before says 0"):
        read({"c": [1, 0]}).join(read({"c": [1, 2]}), VARIABLES)


@pytest.mark.errors
def test_numbers_of_rows_must_go_together():
    with pytest.raises(EvidenceError, match="2 rows of evidence do not go with 3 rows"):
        read({"x": [0.0, 1.0]}).join(read({"c": [0, 1, 2]}), VARIABLES)


@pytest.mark.errors
def test_many_variables_are_shown_in_short():
    many = Variables(tuple(range(100)), (-1,) * 100)
    with pytest.raises(ScopeError, match=r"7, \.\.\. 100 in all"):
        many.column(100)
