"""Data frames, whose columns are variables by name, and their series."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch

import pcircuits as pc
from pcircuits.errors import EvidenceError, ScopeError
from pcircuits.evidence import Evidence, Variables

NAN = float("nan")
VARIABLES = Variables(("wet", "t"), (2, -1))
FRAME = pd.DataFrame({"t": [0.1, 0.2, NAN, 0.4], "wet": [0, 1, 1, 0], "id": [7, 8, 9, 10]})


def read(given, variables=VARIABLES):
    return Evidence.read(given, variables, torch.float64, torch.device("cpu"))


def test_columns_are_found_by_name_and_rows_by_position():
    for rows in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 3]):
        some = FRAME.iloc[rows]
        for frame in (
            some[["wet", "t"]],
            some[["t", "wet"]],
            dict(some[["t", "wet"]]),
            some[["t", "wet"]].to_records(False),
        ):
            known = read(frame)
            assert known.x[:, 0].tolist() == [[0, 1, 1, 0][i] for i in rows]
            assert known.x[:, 1].tolist() == [[0.1, 0.2, 0.0, 0.4][i] for i in rows]
            assert known.observed[:, 1].tolist() == [i != 2 for i in rows]


def test_columns_that_are_not_there_are_missing():
    assert read(FRAME[["t"]]).observed.tolist() == [[False, True], [False, True], [False, False], [False, True]]


@pytest.mark.parametrize("dtype", ["Int64", "boolean", "Float32", object, "category"])
def test_every_way_in_which_a_column_says_missing(dtype):
    column = pd.Series([0, None, 1], dtype=object).astype(dtype)
    for form in (pd.DataFrame({"wet": column}), {"wet": column}):
        known = read(form)
        assert known.x[:, 0].tolist() == [0.0, 0.0, 1.0]
        assert known.observed[:, 0].tolist() == [True, False, True]


def test_a_missing_number_and_exact_numbers():
    assert not read({"t": pd.NA}).observed.any()
    assert read({"t": pd.Series([Decimal("0.5"), None], index=[4, 2])}).x[:, 1].tolist() == [0.5, 0.0]


def test_a_frame_with_a_mask():
    some = FRAME[["t", "wet"]].fillna(9.0)
    for mask in (
        FRAME[["t", "wet"]].notna(),
        FRAME[["wet", "t"]].notna().astype(int),
        dict(FRAME[["wet", "t"]].notna()),
    ):
        assert read((some, mask)).x.tolist() == read(FRAME[["t", "wet"]]).x.tolist()
        assert read((some, mask)).observed.tolist() == read(FRAME[["t", "wet"]]).observed.tolist()
    assert read((some, FRAME[["wet"]].notna())).observed.tolist() == [[True, False]] * 4


def test_a_frame_without_columns_has_rows():
    assert read(FRAME[[]]).observed.tolist() == [[False, False]] * 4
    assert read(FRAME[["t"]].iloc[:0]).rows == 0


def test_one_row_of_a_frame_names_its_variables():
    assert read(FRAME[["t", "wet"]].iloc[1]).x.tolist() == [[1.0, 0.2]]


def test_integer_columns_are_integer_labels():
    frame = pd.DataFrame([[1.5, 2.5]], columns=[9, 4])
    assert read(frame, Variables((4, 9), (-1, -1))).x.tolist() == [[2.5, 1.5]]


def test_an_answer_from_a_frame():
    model = pc.Circuit(pc.Bernoulli("wet", 0.25) * pc.Normal("t", 0.0, 1.0)).compile(dtype=torch.float64)
    found = model.log_prob(FRAME[["t", "wet"]].iloc[[3, 2]])
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(torch.tensor(0.4, dtype=torch.float64)).item()
    assert found.tolist() == pytest.approx([np.log(0.75) + normal, np.log(0.25)], rel=1e-9)


class Table:
    """A frame of another library: names, columns by name, and columns that become arrays."""

    columns = ("t", "wet")

    def __getitem__(self, name):
        return {"t": np.array([0.5, NAN]), "wet": np.array([1, 0])}[name]


def test_frames_of_other_libraries():
    assert read(Table()).x.tolist() == [[1.0, 0.5], [0.0, 0.0]]


@pytest.mark.errors
@pytest.mark.parametrize(
    ("form", "error", "says"),
    [
        (
            FRAME,
            ScopeError,
            r"the DataFrame names 'id', which are no variables: there are 'wet', 't'.*frame\[\[...\]\]",
        ),
        (
            pd.DataFrame([[0, 0.5]]),
            ScopeError,
            r"names 0, 1, which are no variables.*x\.to_numpy\(\) is read by position",
        ),
        (pd.DataFrame([[0, 1]], columns=["wet", "wet"]), EvidenceError, "the columns 'wet' come more than once"),
        (pd.DataFrame({"wet": ["0", "1"]}), EvidenceError, "the value of 'wet' is .*'0' is no number"),
        (pd.DataFrame({"wet": [2]}), EvidenceError, "row 0: 'wet' is 2; it needs an integer in 0..1"),
        (pd.DataFrame({"t": pd.to_datetime(["2020-01-01"])}), EvidenceError, "it holds dates"),
        (FRAME["t"], ScopeError, r"the Series names 0, 1, 2, 3, which .* \{label: series\} gives a column"),
        ((FRAME[["wet", "t"]], np.ones((4, 2), bool)), EvidenceError, "columns by name, or neither has"),
        ((np.zeros((4, 2)), FRAME[["wet", "t"]].notna()), EvidenceError, "columns by name, or neither has"),
        ((FRAME[["t"]].fillna(0), FRAME[["t"]]), EvidenceError, "the mask is bool, or 0 and 1 as integers"),
        (
            [row for _, row in FRAME[["t", "wet"]].iterrows()],
            EvidenceError,
            r"one frame of them, as in pandas.DataFrame",
        ),
        ({"id": FRAME["id"]}, ScopeError, "there is no variable 'id'"),
    ],
)
def test_refused(form, error, says):
    with pytest.raises(error, match=f"(?s){says}"):
        read(form)
