"""Makers of input units: for variables, a width and a generator, one region of random units for each variable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from pcircuits.circuit.leaves import Bernoulli, Categorical, DiscretizedLogistic, DiscretizedNormal, Normal
from pcircuits.circuit.units import Units
from pcircuits.families.draws import standard_normal, uniform
from pcircuits.families.fields import integer
from pcircuits.scope import Variable
from pcircuits.structures.weights import random_simplices

__all__ = [
    "Leaves",
    "bernoulli_leaves",
    "categorical_leaves",
    "discretized_logistic_leaves",
    "discretized_normal_leaves",
    "normal_leaves",
]


class Leaves(Protocol):
    """Any callable that makes input units."""

    def __call__(self, variables: Sequence[Variable], width: int, generator: torch.Generator, /) -> Units:
        """Units (R, width) over R variables, which may come several times: region r is over `variables[r]` alone."""


def bernoulli_leaves() -> Leaves:
    """Bernoulli units with probabilities drawn evenly from [0, 1).

    >>> bernoulli_leaves()(["a", "b"], 3, torch.Generator().manual_seed(0))
    Input(2, 3)
    """
    return lambda variables, width, generator: Bernoulli(variables, _even(variables, width, generator))


def categorical_leaves(states: int) -> Leaves:
    """Categorical units over 0..states-1, whose probabilities are the softmax of standard normal numbers.

    >>> categorical_leaves(256)(range(4), 8, torch.Generator().manual_seed(0))
    Input(4, 8)
    """
    count = integer(states, "states", least=1)

    def make(variables: Sequence[Variable], width: int, generator: torch.Generator) -> Units:
        return Categorical(variables, random_simplices((len(variables), width, count), generator))

    return make


def normal_leaves(centre: float = 0.0, spread: float = 1.0) -> Leaves:
    """Normal units with locations drawn from N(centre, spread²), and with scales of `spread`.

    >>> normal_leaves(centre=0.5, spread=0.2)(["x", "y", "z"], 4, torch.Generator().manual_seed(0))
    Input(3, 4)
    """

    def make(variables: Sequence[Variable], width: int, generator: torch.Generator) -> Units:
        z = standard_normal((len(variables), width), torch.empty(0), generator)
        return Normal(variables, centre + spread * z, torch.full_like(z, spread))

    return make


def discretized_normal_leaves(levels: int, scale: float = 0.1, share: float = 0.0) -> Leaves:
    """`DiscretizedNormal` units with locations drawn evenly from [0, 1); `share` is that of a uniform distribution.

    >>> discretized_normal_leaves(256)(range(4), 8, torch.Generator().manual_seed(0))
    Input(4, 8)
    """

    def make(variables: Sequence[Variable], width: int, generator: torch.Generator) -> Units:
        loc = _even(variables, width, generator)
        return DiscretizedNormal(variables, loc, torch.full_like(loc, scale), levels, share)

    return make


def discretized_logistic_leaves(levels: int, scale: float = 0.1, share: float = 0.0) -> Leaves:
    """`DiscretizedLogistic` units with locations drawn evenly from [0, 1); `share` is that of a uniform distribution.

    >>> discretized_logistic_leaves(256)(range(4), 8, torch.Generator().manual_seed(0))
    Input(4, 8)
    """

    def make(variables: Sequence[Variable], width: int, generator: torch.Generator) -> Units:
        loc = _even(variables, width, generator)
        return DiscretizedLogistic(variables, loc, torch.full_like(loc, scale), levels, share)

    return make


def _even(variables: Sequence[Variable], width: int, generator: torch.Generator) -> torch.Tensor:
    return uniform((len(variables), width), torch.empty(0), generator)
