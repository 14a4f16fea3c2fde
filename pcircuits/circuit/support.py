"""Boxes of states that units can be positive on, and how they combine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["Mask", "Support", "everywhere", "outer", "product", "side_by_side", "union"]

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Support:
    """What the K units of a region can be positive on: for each constrained column, a mask (K, S) of its states.

    A column that is not listed is unconstrained. `exact` (K,) says that the unit is positive on the whole box, so that
    boxes that overlap show two units positive together; else the box only contains the support.
    """

    masks: dict[int, Mask]
    exact: Mask
    unbounded: bool = False
    """Known to be positive on all states, as most units are: then there is nothing to compute."""
    width: int = field(init=False)
    """K, the number of units."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", len(self.exact))

    def take(self, units: Sequence[int] | NDArray[np.int64]) -> Support:
        """The support of some of the units."""
        if self.unbounded:
            return everywhere(len(units))
        return tidy({column: mask[units] for column, mask in self.masks.items()}, self.exact[units])

    def spread(self, width: int) -> Support:
        """One unit repeated to a width; as it is, where it has that width."""
        return self if self.width == width else self.take(np.zeros(width, np.int64))


@cache
def everywhere(width: int) -> Support:
    """The support of units that are positive on all states."""
    exact = np.ones(width, bool)
    exact.setflags(write=False)  # all circuits share it
    return Support({}, exact, unbounded=True)


def tidy(masks: dict[int, Mask], exact: Mask) -> Support:
    """The support without columns that constrain no unit."""
    masks = {column: mask for column, mask in masks.items() if not mask.all()}
    return everywhere(len(exact)) if not masks and exact.all() else Support(masks, exact)


def side_by_side(supports: Sequence[Support]) -> Support:
    """Regions joined along their width."""
    if len(supports) == 1:
        return supports[0]
    if all(s.unbounded for s in supports):
        return everywhere(sum(s.width for s in supports))
    exact = np.concatenate([s.exact for s in supports])
    masks: dict[int, Mask] = {}
    for column in {c for s in supports for c in s.masks}:
        size = next(s.masks[column].shape[1] for s in supports if column in s.masks)
        masks[column] = np.concatenate(
            [s.masks[column] if column in s.masks else np.ones((s.width, size), bool) for s in supports]
        )
    return Support(masks, exact)


def union(inputs: Support) -> Support:
    """The box around the inputs of a sum; exact where they are, and differ in one column at most."""
    if inputs.width == 1 or (inputs.unbounded and inputs.width):
        return inputs.take([0])
    masks = {column: np.asarray(mask.any(0, keepdims=True)) for column, mask in inputs.masks.items()}
    differing = sum(bool((mask != mask[:1]).any()) for mask in inputs.masks.values())
    exact = bool(inputs.exact.all()) and differing <= 1 and inputs.width > 0
    return tidy(masks, np.array([exact]))


def product(factors: Sequence[Support], width: int) -> Support:
    """The intersection of boxes of so many units; a factor of one unit serves all of them."""
    bounded = [factor for factor in factors if not factor.unbounded]
    if not bounded:
        return everywhere(width)
    if len(bounded) == 1:
        return bounded[0].spread(width)
    masks: dict[int, Mask] = {}
    exact = np.ones(width, bool)
    for factor in bounded:
        exact = exact & factor.exact
        for column, mask in factor.spread(width).masks.items():
            masks[column] = masks[column] & mask if column in masks else mask
    return tidy(masks, exact)


def outer(factors: Sequence[Support]) -> Support:
    """The intersections of every unit of one factor with every unit of the next."""
    total = factors[0]
    for factor in factors[1:]:
        i, j = np.divmod(np.arange(total.width * factor.width), factor.width)
        total = product([total.take(i), factor.take(j)], len(i))
    return total
