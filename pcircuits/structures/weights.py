"""Random weights on the simplex."""

from __future__ import annotations

from typing import Protocol

import torch

from pcircuits.arguments import as_generator
from pcircuits.families.draws import standard_normal
from pcircuits.parameters import Parameter, Sourced, simplex

__all__ = ["RandomSimplices", "Weights", "random_simplices"]


def random_simplices(shape: tuple[int, ...], generator: torch.Generator | None) -> torch.Tensor:
    """Vectors of positive numbers with sum 1 along the last axis: the softmax of standard normal numbers, in float64.

    >>> random_simplices((2, 3), torch.Generator().manual_seed(0)).sum(-1)
    tensor([1.0000, 1.0000], dtype=torch.float64)
    """
    return torch.softmax(standard_normal(shape, torch.empty(0), generator), -1)


class Weights(Protocol):
    """Any callable that makes the weights of sums, such as `RandomSimplices` and `NetworkSimplices`."""

    def __call__(self, *shape: int) -> Parameter | Sourced:
        """Weights of R regions of O sums over A inputs, (R, O, A); or (O, A), which regions share."""


class RandomSimplices:
    """Makes the weights of sums, trainable and on the simplex, from one generator.

    >>> RandomSimplices(torch.Generator().manual_seed(0))(5, 2, 3).shape
    torch.Size([5, 2, 3])
    """

    def __init__(self, generator: torch.Generator | None) -> None:
        self._generator = as_generator(generator)

    def __call__(self, *shape: int) -> Parameter:
        """Weights of a shape, which sum to 1 along its last axis."""
        return Parameter(random_simplices(shape, self._generator), simplex, name="the weights of a sum")
