"""What random circuits are made of: structure from single choices, which can shrink, and numbers in bulk."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcircuits.circuit.leaves import inputs
from pcircuits.circuit.units import Input
from pcircuits.families import FAMILIES, AbstractFamily
from pcircuits.parameters import Constraint, Parameter, nonnegative, simplex
from pcircuits.scope import OPEN_ENDED, REAL, Variable
from pcircuits.testing.drawing.choices import Choices

__all__ = ["Ingredients", "draw_variables"]

Array = NDArray[np.float64]
T = TypeVar("T")

MAX_ASSIGNMENTS = 128
"""Joint states of the finite variables: what a test can enumerate for every example."""


class Ingredients:
    """Choices, numbers, weights and leaves for one random circuit.

    **Arguments**

    - `choices`: where decisions come from.
    - `kinds`: for each variable its number of states, 0 for open-ended counts, or None for a density.
    """

    def __init__(self, choices: Choices, kinds: dict[Variable, int | None]) -> None:
        self.choices = choices
        self.kinds = kinds
        self.numbers = np.random.default_rng(self.integer(0, 2**32 - 1))
        self.extreme = self.integer(0, 3) == 3
        self._tied: dict[object, Parameter] = {}

    def integer(self, low: int, high: int) -> int:
        """An integer in [low, high]; shrinks to `low`."""
        return self.choices.integer(low, high)

    def flag(self) -> bool:
        """A coin; shrinks to False."""
        return self.choices.flag()

    def one_of(self, options: Sequence[T]) -> T:
        """One of the options; shrinks to the first."""
        return options[self.integer(0, len(options) - 1)]

    def columns(self, size: int, width: int) -> list[int]:
        """`width` positions below `size`, in any order, with repeats."""
        return [int(k) for k in self.numbers.integers(0, size, width)]

    def split(self, scope: tuple[Variable, ...], parts: int) -> list[tuple[Variable, ...]]:
        """The scope in so many parts, none of them empty."""
        order = [scope[i] for i in self.numbers.permutation(len(scope))]
        cuts = [0, *sorted(self.numbers.choice(np.arange(1, len(scope)), parts - 1, replace=False)), len(scope)]
        return [tuple(order[a:b]) for a, b in pairwise(cuts)]

    def weights(self, shape: tuple[int, ...]) -> Parameter:
        """Weights of sums over the last axis: a simplex or not, with zeros, very large or small ones, or tied."""
        value = self._positive(shape) * self._some_zeros(shape)
        if self.flag():
            return self._parameter("weights", value, nonnegative)
        return self._parameter("weights", value / value.sum(-1, keepdims=True), simplex)

    def number(self) -> float:
        """One weight of a combination."""
        return float(self._positive(())) if self.integer(0, 5) else 0.0

    def leaves(self, scope: Sequence[Variable], width: int) -> Input:
        """One array of input units over variables of one kind, a region for each."""
        kind = self.kinds[scope[0]]
        assert all(self.kinds[label] == kind for label in scope)
        states, generator = REAL if kind is None else kind, self.generator()
        simple_first = sorted(FAMILIES.values(), key=lambda f: f.base == "lebesgue" and not f.positive)
        options = [list(members) for f in simple_first if (members := f.members(states))]
        family = self.one_of(self.one_of(options))
        values = family.examples((len(scope), width), generator, states, self.extreme)
        return self._inputs(family, scope, **{name: value.numpy() for name, value in values.items()})

    def generator(self) -> torch.Generator:
        """A generator of torch with a seed of its own."""
        return torch.Generator().manual_seed(int(self.numbers.integers(2**31)))

    def _inputs(self, family: AbstractFamily, scope: Sequence[Variable], **values: Array) -> Input:
        form = self.integer(0, 3)
        given: dict[str, object] = {}
        for name, value in values.items():
            constraint = family.parameters[name].constraint
            if form == 0:
                given[name] = value
            elif form == 1:  # one value for all regions
                given[name] = torch.as_tensor(value[:1])
            elif form == 2:
                given[name] = self._parameter((type(family), name, self.kinds[scope[0]]), value, constraint)
            else:  # one value for everything, tied where it comes again
                given[name] = self._parameter((type(family), name, self.kinds[scope[0]]), value[0, 0], constraint)
        return inputs(family, tuple(scope), given)

    def _parameter(self, purpose: object, value: Array, constraint: Constraint) -> Parameter:
        """A parameter of its own, or the one that was made before for the same purpose and shape."""
        key = (purpose, constraint, value.shape)
        if key not in self._tied or not self.flag():
            tensor: Tensor = torch.as_tensor(value)
            dtype = torch.float32 if self.integer(0, 4) == 4 else torch.float64
            if bool(constraint.admits(tensor.to(dtype)).all()):
                tensor = tensor.to(dtype)
            self._tied[key] = Parameter(tensor, constraint, trainable=self.integer(0, 5) < 5)
        return self._tied[key]

    def _positive(self, shape: tuple[int, ...]) -> Array:
        decades = 20.0 if self.extreme else 1.0
        return np.asarray(10.0 ** self.numbers.uniform(-decades, decades, shape))

    def _rarely(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        return self.numbers.uniform(0, 1, shape) < 0.15

    def _some_zeros(self, shape: tuple[int, ...]) -> Array:
        """Ones with some zeros, never in a whole row."""
        kept = ~self._rarely(shape)
        keeper = self.numbers.integers(0, shape[-1], shape[:-1])
        np.put_along_axis(kept, np.asarray(keeper)[..., None], True, -1)
        return kept.astype(np.float64)


def draw_variables(
    choices: Choices, max_variables: int, max_states: int, densities: bool
) -> dict[Variable, int | None]:
    """Labels with their number of states (0: open-ended, None: a density), few enough for enumeration.

    `densities` is whether there may be variables that cannot be enumerated.
    """
    count, named = choices.integer(1, max_variables), choices.flag()
    labels: list[Variable] = [f"x{i}" if named else 3 * i - 2 for i in range(count)]
    kinds: dict[Variable, int | None] = {}
    assignments = 1
    for label in labels:
        states = OPEN_ENDED if choices.integer(0, 3) == 3 else None
        if not (densities and choices.flag()):
            states = min(choices.integer(2, max_states), max(2, MAX_ASSIGNMENTS // assignments))
            assignments *= states
        kinds[label] = states
    return kinds
