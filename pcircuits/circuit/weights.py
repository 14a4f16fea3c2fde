"""The weights of sums: from what users write, and as logarithms."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from pcircuits.computed import SourcedWeights
from pcircuits.parameters import Parameter, Sourced, as_parameter, nonnegative, simplex

__all__ = ["as_weights", "log_weights", "rebuilt_weights"]


def as_weights(weights: object, name: str) -> Parameter | Sourced:
    """Weights as a `Parameter`: non-negative numbers, unless they come as a simplex, or from a source."""
    if isinstance(weights, Sourced) or (isinstance(weights, Parameter) and weights.constraint is simplex):
        return weights
    return as_parameter(weights, nonnegative, name)


def log_weights(weights: Parameter) -> Tensor:
    """The logs of weights in float64; a simplex is renormalised, as it is when it is compiled."""
    return weights.log().cpu()


def rebuilt_weights(
    weights: Parameter, parameter: Callable[[Parameter], Parameter], sourced: Callable[[Sourced], Sourced]
) -> Parameter:
    """Weights with parameters replaced; those that a source makes, with the source replaced."""
    made = parameter(weights)
    return made.of(sourced(made.sourced)) if isinstance(made, SourcedWeights) else made
