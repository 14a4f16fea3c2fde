"""The total mass of every unit: what remains when all variables are summed and integrated out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pcircuits.circuit.circuit import Circuit, fold
from pcircuits.circuit.units import Constant, Input, Mix, Outer, Product, Sum, Units, Wiring
from pcircuits.parameters import Parameter

__all__ = ["log_masses", "log_values", "log_weights"]


def log_masses(circuit: Circuit) -> dict[int, Tensor]:
    """For each array (by id), log ∫ unit, (R, K) in float64; right where the circuit is smooth and decomposable."""
    return log_values(circuit, lambda array: torch.zeros(array.shape, dtype=torch.float64))


def log_values(circuit: Circuit, leaves: Callable[[Input], Tensor]) -> dict[int, Tensor]:
    """For each array (by id), the log of its units' values, (R, K) in float64, from those of the input units."""
    return fold(circuit.arrays, lambda array, children: _combine(array, children, leaves))


def log_weights(weights: Parameter) -> Tensor:
    """The logs of weights in float64; a simplex is renormalised, as it is when it is compiled."""
    return weights.log().cpu()


def _combine(array: Units, children: list[Tensor], leaves: Callable[[Input], Tensor]) -> Tensor:
    if isinstance(array, Input):
        return leaves(array)
    if isinstance(array, Constant):
        return array.value.log().cpu().expand(array.shape)
    if isinstance(array, Wiring):
        return _wire(array, children)
    if isinstance(array, Product) and array.groups is not None:
        return torch.stack([children[0][list(group)].sum(0) for group in array.groups])
    if isinstance(array, Product):
        return torch.stack([child.expand(array.shape) for child in children]).sum(0)
    if isinstance(array, Outer):
        total = children[0]
        for child in children[1:]:
            total = (total.unsqueeze(-1) + child.unsqueeze(-2)).flatten(-2)
        return total
    if isinstance(array, Mix):
        stacked = torch.stack([child.expand(array.shape) for child in children], -1)
        return torch.logsumexp(stacked + log_weights(array.weights), -1)
    assert isinstance(array, Sum)
    log = log_weights(array.weights)
    log = log.reshape(1, 1, -1) if log.ndim == 1 else log
    return torch.logsumexp(children[0].unsqueeze(1) + log, -1)


def _wire(array: Wiring, children: list[Tensor]) -> Tensor:
    child, region = torch.as_tensor(array.child), torch.as_tensor(array.region)
    out = torch.empty(array.shape, dtype=torch.float64)
    for number, values in enumerate(children):
        here = child == number
        if array.column is None:
            out[here] = values[region[here]]
        else:
            out[here] = values[region[here], torch.as_tensor(array.column)[here]]
    return out
