"""Makers of input units: for variables, a width and a generator, one region of random units for each variable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.leaves import inputs
from pcircuits.circuit.units import Units
from pcircuits.errors import CircuitError, ScopeError
from pcircuits.families import Bernoulli, Categorical, DiscretizedLogistic, DiscretizedNormal, Normal
from pcircuits.families.fields import integer
from pcircuits.families.interface import AbstractFamily
from pcircuits.scope import Variable
from pcircuits.structures.validation import shown

__all__ = [
    "Leaves",
    "bernoulli_leaves",
    "categorical_leaves",
    "check_leaves",
    "discretized_logistic_leaves",
    "discretized_normal_leaves",
    "normal_leaves",
    "random_leaves",
]


class Leaves(Protocol):
    """Any callable that makes input units."""

    def __call__(self, variables: Sequence[Variable], width: int, generator: torch.Generator, /) -> Units:
        """Units (R, width) over R variables, which may come several times: region r is over `variables[r]` alone."""


def random_leaves(family: AbstractFamily, **options: float) -> Leaves:
    """Units of any family, with the parameters that its method `initial` draws.

    **Arguments**

    - `options`: those of the family's `initial`, such as `centre` and `spread` of a Normal.

    **Raises** `ParameterError` for a family without such a method.

    >>> from pcircuits import families
    >>> random_leaves(families.Normal(), centre=0.5, spread=0.2)(["x", "y"], 3, torch.Generator().manual_seed(0))
    Input(2, 3)
    """

    initial: Callable[..., Mapping[str, Tensor]] = family.initial

    def make(variables: Sequence[Variable], width: int, generator: torch.Generator) -> Units:
        return inputs(family, variables, initial((len(variables), width), generator, **options))

    return make


def bernoulli_leaves() -> Leaves:
    """Bernoulli units with probabilities drawn evenly from [0, 1).

    >>> bernoulli_leaves()(["a", "b"], 3, torch.Generator().manual_seed(0))
    Input(2, 3)
    """
    return random_leaves(Bernoulli())


def categorical_leaves(states: int) -> Leaves:
    """Categorical units over 0..states-1, whose probabilities are the softmax of standard normal numbers.

    >>> categorical_leaves(256)(range(4), 8, torch.Generator().manual_seed(0))
    Input(4, 8)
    """
    return random_leaves(Categorical(integer(states, "states", least=1)))


def normal_leaves(centre: float = 0.0, spread: float = 1.0) -> Leaves:
    """Normal units with locations drawn from N(centre, spread²), and with scales of `spread`.

    >>> normal_leaves(centre=0.5, spread=0.2)(["x", "y", "z"], 4, torch.Generator().manual_seed(0))
    Input(3, 4)
    """
    return random_leaves(Normal(), centre=centre, spread=spread)


def discretized_normal_leaves(levels: int, scale: float = 0.1, share: float = 0.0) -> Leaves:
    """`DiscretizedNormal` units with locations drawn evenly from [0, 1); `share` is that of a uniform distribution.

    >>> discretized_normal_leaves(256)(range(4), 8, torch.Generator().manual_seed(0))
    Input(4, 8)
    """
    return random_leaves(DiscretizedNormal(levels, share), scale=scale)


def discretized_logistic_leaves(levels: int, scale: float = 0.1, share: float = 0.0) -> Leaves:
    """`DiscretizedLogistic` units with locations drawn evenly from [0, 1); `share` is that of a uniform distribution.

    >>> discretized_logistic_leaves(256)(range(4), 8, torch.Generator().manual_seed(0))
    Input(4, 8)
    """
    return random_leaves(DiscretizedLogistic(levels, share), scale=scale)


def check_leaves(units: object, labels: Sequence[Variable], width: int) -> None:
    """Raise unless the units are (R, K), with region r over `labels[r]`."""
    if not isinstance(units, Units) or units.shape != (len(labels), width):
        raise CircuitError(f"`leaves` was asked for {(len(labels), width)} units and made {units!r}")
    made = Circuit(units.prod())
    for label, scope in zip(labels, made.region_scopes(units), strict=True):
        if made.labels(scope) != {label}:
            raise ScopeError(
                f"`leaves` was asked for units over {label!r} and made units over {shown(made.labels(scope))}: "
                "region r is over `variables[r]`"
            )
