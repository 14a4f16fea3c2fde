"""Arrays, lists, masked arrays and dicts of them mean what a tensor with NaN in the right places means."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.masked import masked_tensor

import pcircuits as pc
from pcircuits.errors import EvidenceError
from pcircuits.evidence import Evidence, Variables

NAN = float("nan")
VARIABLES = Variables(("x", "c", "n"), (-1, 3, 0))
ROWS = [[0.5, NAN, 2.0], [NAN, 1.0, NAN]]
SEEN = [[True, False, True], [False, True, False]]
FILLED = [[0.5, -7.0, 2.0], [NAN, 1.0, 0.25]]
"""Where nothing is known: a state that there is not, NaN, and a count that there is not."""


def read(given, dtype=torch.float64, variables=VARIABLES):
    return Evidence.read(given, variables, dtype, torch.device("cpu"))


@pytest.mark.parametrize(
    "form",
    [
        np.array(ROWS),
        np.array(ROWS, np.float32),
        np.array(ROWS, ">f8"),
        np.asfortranarray(np.array(ROWS)),
        np.array(ROWS)[::-1][::-1],
        np.lib.stride_tricks.as_strided(np.array(ROWS), writeable=False),
        np.array(ROWS, np.longdouble),
        np.array(ROWS, object),
        np.array([[0.5, None, 2], [None, True, None]], object),
        ROWS,
        [[0.5, None, 2], [None, 1, None]],
        [[Fraction(1, 2), Decimal("NaN"), Decimal(2)], [None, np.int8(1), np.float32("nan")]],
        [torch.tensor(row) for row in ROWS],
        [np.array(row) for row in ROWS],
        tuple(tuple(row) for row in [*ROWS, ROWS[0]]),
        np.ma.masked_invalid(ROWS),
        np.ma.masked_array(FILLED, ~np.array(SEEN)),
        np.ma.masked_array(ROWS, np.zeros((2, 3), bool)),
        [np.ma.masked_array(row, ~np.array(seen)) for row, seen in zip(FILLED, SEEN, strict=True)],
        (np.array(FILLED), np.array(SEEN)),
        (FILLED, SEEN),
        (torch.tensor(FILLED), np.array(SEEN)),
        (np.array(FILLED), torch.tensor(SEEN)),
        (torch.tensor(FILLED), torch.tensor(SEEN).to(torch.uint8)),
        (torch.tensor(FILLED), torch.tensor(SEEN).long()),
        (np.ma.masked_array(FILLED, [[False, True, False], [False, False, True]]), [[1, 1, 1], [0, 1, 1]]),
        {"n": [2.0, NAN], "x": np.array([0.5, NAN]), "c": (None, 1)},
        {np.str_("x"): [Decimal("0.5"), None], "c": np.ma.masked_array([9, 1], [1, 0]), "n": torch.tensor([2.0, NAN])},
        {"x": np.ma.masked_array([0.5, 1.0], [False, True]), "c": [NAN, 1], "n": np.ma.masked_array([2, 0.5], [0, 1])},
    ],
    ids=lambda form: type(form).__name__,
)
def test_every_form_means_the_same(form):
    known = read(form)
    assert known.x[:2].tolist() == [[0.5, 0.0, 2.0], [0.0, 1.0, 0.0]]
    assert known.observed[:2].tolist() == SEEN


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int8, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
@pytest.mark.parametrize("model", [torch.float32, torch.float64])
def test_integers_of_every_width_are_states(dtype, model):
    array = np.array([[0, 1, 1], [1, 0, 1]], dtype)
    for form in (
        array,
        torch.from_numpy(array.copy()),
        [list(row) for row in array],
        dict(zip("xcn", array.T, strict=True)),
    ):
        known = read(form, model)
        assert known.x.tolist() == [[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]]
        assert known.x.dtype == model
        assert known.observed.all()


@pytest.mark.parametrize("dtype", [torch.float8_e5m2, torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floats_of_every_width(dtype):
    assert read(torch.tensor(ROWS, dtype=dtype), torch.float32).x.tolist() == [[0.5, 0.0, 2.0], [0.0, 1.0, 0.0]]


def test_single_values_of_every_kind():
    for value in (2, 2.0, np.int64(2), np.float32(2), Decimal(2), Fraction(2), torch.tensor(2), np.array(2)):
        assert read({"c": value}).x.tolist() == [[0.0, 2.0, 0.0]]
    for value in (NAN, np.ma.masked, np.float32("nan"), Decimal("NaN")):
        assert not read({"c": value}).observed.any()


@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors:UserWarning")
def test_masked_tensors():
    given = masked_tensor(torch.tensor(FILLED), torch.tensor(SEEN))
    for known in (read(given), read({"x": given[:, 0], "c": given[:, 1], "n": given[:, 2]})):
        assert known.x.tolist() == [[0.5, 0.0, 2.0], [0.0, 1.0, 0.0]]
        assert known.observed.tolist() == SEEN


def test_labels_of_numpy_and_torch():
    numbered = Variables((3, 5), (2, -1))
    for label in (np.int64(5), np.uint8(5), torch.tensor(5)):
        assert read({label: 1.5}, variables=numbered).x.tolist() == [[0.0, 1.5]]
    u = pc.Normal(np.arange(3), np.zeros((3, 1)), 1.0)
    assert u.variables == ((0,), (1,), (2,))
    assert {type(label) for labels in u.variables for label in labels} == {int}
    assert pc.Bernoulli(np.int64(3), 0.5).variables == pc.Bernoulli(torch.tensor([3]), 0.5).variables == ((3,),)
    both = pc.Circuit(pc.Bernoulli(0, 0.5) * pc.Bernoulli(1, 0.25))
    assert pc.marginalize(both, np.int64(1)).variables == pc.marginalize(both, np.array([1])).variables == (0,)


def test_data_that_changes_later_changes_no_evidence():
    model = pc.Circuit(pc.Normal("a", 0.0, 1.0) * pc.Normal("b", 0.0, 1.0)).compile(dtype=torch.float64)
    x, seen = torch.ones(1, 2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.bool)
    array = np.ones((1, 2))
    answers = [model.given(x), model.given((x, seen)), model.given(array), model.given({"a": x[:, 0], "b": x[:, 1]})]
    x.add_(5.0)
    seen.fill_(False)
    array += 5.0
    for given in answers:
        assert given.mean().tolist() == [[1.0, 1.0]]


def test_a_row_that_is_not_kept_is_not_copied():
    x = torch.ones(2, 3, dtype=torch.float64)
    shared = Evidence.read(x, VARIABLES, torch.float64, x.device, copy=False)
    assert shared.x.data_ptr() == x.data_ptr()
    assert read(x).x.data_ptr() != x.data_ptr()


@pytest.mark.errors
@pytest.mark.parametrize("form", [torch.tensor([[2**24 + 1]]), [[2**24 + 2]], {"n": 2**24 + 1}, {"n": np.int64(2**40)}])
def test_counts_that_float32_does_not_hold_are_refused_there(form):
    counts = Variables(("n",), (0,))
    with pytest.raises(
        EvidenceError, match=r"row 0: 'n' is \d+, which torch.float32 does not hold: compile .* float64"
    ):
        read(form, torch.float32, counts)
    assert int(read(form, torch.float64, counts).x) > 2**24
    assert read({"n": 2**24}, torch.float32, counts).x.tolist() == [[2.0**24]]


@pytest.mark.errors
def test_what_no_dtype_holds_is_refused():
    with pytest.raises(EvidenceError, match=r"'n' is 9007199254740992, which torch.float64 does not hold: no dtype"):
        read({"n": 2**53 + 1}, torch.float64)
    with pytest.raises(EvidenceError, match=r"'x' is 1e\+300, which torch.float32 does not hold: compile"):
        read({"x": 1e300}, torch.float32)
    assert read({"x": 2**60}).x[0, 0] == 2.0**60  # a real number may be rounded


def test_the_cost_of_a_dict_is_linear():
    """Columns are looked up in constant time: of 20,000 labels a list would be searched 200 million times."""
    labels = tuple(f"v{i}" for i in range(20_000))
    known = read(dict.fromkeys(reversed(labels), 1.0), variables=Variables(labels, (-1,) * len(labels)))
    assert known.observed.all()


def test_whatever_the_default_dtype_is():
    before = torch.get_default_dtype()
    try:
        for dtype in (torch.float64, torch.float16):
            torch.set_default_dtype(dtype)
            for form in (ROWS, np.array(ROWS), {"x": [0.5, NAN], "c": [NAN, 1], "n": [2, NAN]}):
                assert read(form).x.tolist() == [[0.5, 0.0, 2.0], [0.0, 1.0, 0.0]]
            assert read({"x": 0.1}).x[0, 0].item() == 0.1
    finally:
        torch.set_default_dtype(before)


def test_answers_can_be_labelled():
    answers = {}
    for order in (("a", "b"), ("b", "a")):
        circuit = pc.Circuit(pc.Normal("a", 1.0, 1.0) * pc.Normal("b", 2.0, 1.0), variables=order)
        labelled = Variables(circuit.variables, circuit.states).label(circuit.compile().mean())
        answers[order] = {label: value.item() for label, value in labelled.items()}
    assert answers["a", "b"] == answers["b", "a"] == {"a": 1.0, "b": 2.0}


@pytest.mark.errors
def test_what_has_other_columns_cannot_be_labelled():
    with pytest.raises(
        pc.CircuitError, match=r"shape \(2, 4\) cannot be labelled: the last axis needs 3 columns, for 'x'"
    ):
        VARIABLES.label(torch.zeros(2, 4))
