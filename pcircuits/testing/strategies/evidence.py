"""Evidence, rows and boxes for a circuit: any missing pattern, likely, unlikely and impossible values."""

from __future__ import annotations

import math

import torch
from hypothesis import strategies as st
from torch import Tensor

from pcircuits.circuit.circuit import Circuit
from pcircuits.scope import Variable
from pcircuits.testing.drawing.values import telling_values
from pcircuits.testing.oracle import Oracle
from pcircuits.testing.strategies.drawn import Draw

__all__ = ["boxes", "evidence", "rows"]


def _values(circuit: Circuit) -> dict[Variable, st.SearchStrategy[float]]:
    """For each variable the values to draw from."""
    return {label: st.sampled_from(values) for label, values in telling_values(Oracle(circuit)).items()}


@st.composite
def evidence(draw: Draw, circuit: Circuit, possible: bool = False) -> dict[Variable, float]:
    """Values for some variables, none, or all of them.

    States are within what the leaves declare, but may have probability zero; `possible` keeps only evidence that all
    roots give positive probability.
    """
    chosen: dict[Variable, float] = {}
    oracle = Oracle(circuit)
    for label, values in _values(circuit).items():
        value = draw(st.none() | values)
        if value is None:
            continue
        assert isinstance(value, float)
        chosen[label] = value
        if possible and any(oracle.log_value(chosen, root) == -math.inf for root in range(circuit.num_roots)):
            del chosen[label]
    return chosen


@st.composite
def rows(draw: Draw, circuit: Circuit, min_size: int = 1, max_size: int = 4) -> Tensor:
    """A batch (B, D) in float64, NaN where missing, each row with a missing pattern of its own."""
    size = draw(st.integers(min_size, max_size))
    assert isinstance(size, int)
    drawn = [draw(evidence(circuit)) for _ in range(size)]
    table = [[row.get(label, math.nan) for label in circuit.variables] for row in drawn]  # type: ignore[attr-defined]
    return torch.tensor(table, dtype=torch.float64).reshape(size, len(circuit.variables))


@st.composite
def boxes(draw: Draw, circuit: Circuit) -> tuple[dict[Variable, float], dict[Variable, float]]:
    """Lower and upper bounds of a box; absent bounds are infinite, some boxes are a single point."""
    lower: dict[Variable, float] = {}
    upper: dict[Variable, float] = {}
    for label, values in _values(circuit).items():
        a, b = draw(st.none() | values), draw(st.none() | values)
        low, high = sorted((a, b)) if a is not None and b is not None else (a, b)  # type: ignore[type-var]
        if low is not None:
            lower[label] = low  # type: ignore[assignment]
        if high is not None:
            upper[label] = high  # type: ignore[assignment]
    return lower, upper
