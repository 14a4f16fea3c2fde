"""The weights of sums: from what users write, and as logarithms."""

from __future__ import annotations

from torch import Tensor

from pcircuits.parameters import Parameter, as_parameter, nonnegative, simplex

__all__ = ["as_weights", "log_weights"]


def as_weights(weights: object, name: str) -> Parameter:
    """Weights as a `Parameter`: non-negative numbers, unless they come as a simplex."""
    if isinstance(weights, Parameter) and weights.constraint is simplex:
        return weights
    return as_parameter(weights, nonnegative, name)


def log_weights(weights: Parameter) -> Tensor:
    """The logs of weights in float64; a simplex is renormalised, as it is when it is compiled."""
    return weights.log().cpu()
