"""Values and rows that tell circuits apart: all states, and points near and far from densities."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from pcircuits.scope import OPEN_ENDED, REAL, Variable
from pcircuits.testing.oracle import Oracle

__all__ = ["draw_rows", "telling_values"]

DISTANCES = (0.0, -0.7, 1.9, 60.0)
"""From the mean of what has no last state, in standard deviations."""


def telling_values(oracle: Oracle) -> dict[Variable, list[float]]:
    """For each variable all of its states, or points near and far from its densities or open-ended counts.

    A state that only indicators declare comes with one that none of them has.

    >>> import pcircuits as pc
    >>> telling_values(Oracle(pc.Circuit(pc.Indicator("a", 0) * pc.Normal("b", 0.0, 10.0))))
    {'a': [0.0, 1.0], 'b': [0.0, -7.0, 19.0, 600.0]}
    """
    return {label: _values(oracle, label) for label in oracle.circuit.variables}


def _values(oracle: Oracle, label: Variable) -> list[float]:
    leaves = oracle.leaves_of[label]
    declared = oracle.circuit.states[oracle.circuit.column_of[label]]
    unbounded = [leaf for leaf in leaves if leaf.states is None]
    if unbounded:
        spreads = [(leaf.moment(1), math.sqrt(leaf.variance())) for leaf in unbounded[:4]]
        points = [mean + z * deviation for mean, deviation in spreads for z in DISTANCES]
        return points if declared == REAL else [float(max(0, round(point))) for point in points]
    states = int(max(oracle.candidates(label))) + 2 if declared == OPEN_ENDED else declared
    return [float(s) for s in range(states)]


def draw_rows(oracle: Oracle, count: int, numbers: np.random.Generator) -> Tensor:
    """Rows (count, D) in float64, NaN where missing, each with a missing pattern of its own.

    >>> import pcircuits as pc
    >>> draw_rows(Oracle(pc.Circuit(pc.Bernoulli("a", 0.5))), 3, np.random.default_rng(0)).shape
    torch.Size([3, 1])
    """
    columns = [numbers.choice(values, count) for values in telling_values(oracle).values()]
    table = torch.as_tensor(np.stack(columns, 1).reshape(count, len(columns)))
    missing = numbers.uniform(size=table.shape) < numbers.uniform(0, 1, (count, 1))
    return table.masked_fill(torch.as_tensor(missing), torch.nan)
