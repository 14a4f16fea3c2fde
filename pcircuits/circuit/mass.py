"""The total mass of every unit: what remains when all variables are summed and integrated out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pcircuits.circuit.circuit import Circuit, fold
from pcircuits.circuit.units import Input

__all__ = ["log_masses", "log_values"]


def log_masses(circuit: Circuit) -> dict[int, Tensor]:
    """For each array (by id), log ∫ unit, (R, K) in float64; right where the circuit is smooth and decomposable."""
    return log_values(circuit, lambda array: torch.zeros(array.shape, dtype=torch.float64))


def log_values(circuit: Circuit, leaves: Callable[[Input], Tensor]) -> dict[int, Tensor]:
    """For each array (by id), the log of its units' values, (R, K) in float64, from those of the input units."""
    return fold(circuit.arrays, lambda array, children: array.log_values(children, leaves))
