"""Wiring: selecting, stacking and reordering units."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from pcircuits.circuit.kinds.input import Input
from pcircuits.circuit.kinds.interface import (
    Contents,
    Index,
    Ints,
    Numbering,
    Regions,
    Scopes,
    Supports,
    Unit,
    Units,
)
from pcircuits.circuit.support import Support, side_by_side
from pcircuits.errors import FileFormatError
from pcircuits.parameters import Parameter, Sourced

__all__ = ["Wiring"]


class Wiring(Units):
    """Regions and columns of other units in any order, any number of times. It computes nothing.

    `child` and `region` say where each region comes from, (R,); with `column`, all three are (R, K) and say where
    each unit comes from.
    """

    __slots__ = ("child", "column", "region")

    kind = "wiring"
    codes = (8, 9)

    def __init__(self, children: Sequence[Units], child: Index, region: Index, column: Index | None = None) -> None:
        self.child, self.region = (
            np.ascontiguousarray(child),
            np.ascontiguousarray(region),
        )  # torch takes no reversed views
        self.column = None if column is None else np.ascontiguousarray(column)
        shape = (len(child), children[0].width) if column is None else (child.shape[0], child.shape[1])
        super().__init__(shape, tuple(children))

    def scopes(self, children: list[list[int]], scopes: Scopes) -> list[int]:
        if self.column is None:
            return [children[c][r] for c, r in zip(self.child.tolist(), self.region.tolist(), strict=True)]
        return [scopes.union([children[c][r] for c, r in self._places(number)]) for number in range(self.regions)]

    def unalike(self, regions: Iterable[int], children: list[list[int]]) -> tuple[int, list[int], str] | None:
        for region in regions if self.column is not None else ():
            scopes = [children[c][r] for c, r in self._places(region)]
            if len(set(scopes)) > 1:
                return region, scopes, "a region is wired together from units of different scopes"
        return None

    def _places(self, region: int) -> list[tuple[int, int]]:
        """The distinct children and regions that a region is wired together from, as they first appear."""
        return list(dict.fromkeys(zip(self.child[region].tolist(), self.region[region].tolist(), strict=True)))

    def mark_used(self, wanted: Regions, children: list[Regions]) -> None:
        child, region = self.child[wanted], self.region[wanted]
        for number, used in enumerate(children):
            used[region[child == number]] = True

    def inputs_of(self, region: int, column: int) -> list[Unit]:
        """The one unit that a unit stands for."""
        if self.column is None:
            return [Unit(self.children[self.child[region]], int(self.region[region]), column)]
        place = (region, column)
        return [Unit(self.children[self.child[place]], int(self.region[place]), int(self.column[place]))]

    def num_edges(self) -> int:
        return 0

    def log_values(self, children: list[Tensor], leaves: Callable[[Input], Tensor]) -> Tensor:
        child, region = torch.as_tensor(self.child), torch.as_tensor(self.region)
        out = torch.empty(self.shape, dtype=torch.float64)
        for number, values in enumerate(children):
            here = child == number
            if self.column is None:
                out[here] = values[region[here]]
            else:
                out[here] = values[region[here], torch.as_tensor(self.column)[here]]
        return out

    def supports(self, children: list[list[Support]], supports: Supports) -> list[Support]:
        if self.column is None:
            return [children[c][r] for c, r in zip(self.child.tolist(), self.region.tolist(), strict=True)]
        rows = zip(self.child.tolist(), self.region.tolist(), self.column.tolist(), strict=True)
        return [_gather(children, c, r, k) for c, r, k in rows]

    def rebuilt(
        self,
        children: Sequence[Units],
        parameter: Callable[[Parameter], Parameter],
        sourced: Callable[[Sourced], Sourced],
    ) -> Wiring:
        return Wiring(children, self.child, self.region, self.column)

    def to_integers(self, numbering: Numbering) -> tuple[int, Ints]:
        """Of regions: child of each, then region. Of units: the number of regions, then child, region and column."""
        if self.column is None:
            return 8, np.concatenate([self.child, self.region])
        parts = [np.array([self.regions]), self.child.ravel(), self.region.ravel(), self.column.ravel()]
        return 9, np.concatenate(parts)

    @classmethod
    def from_integers(cls, code: int, children: list[Units], ints: Index, contents: Contents) -> Wiring:
        return cls._of_regions(children, ints) if code == 8 else cls._of_units(children, ints)

    @classmethod
    def _of_regions(cls, children: list[Units], ints: Index) -> Wiring:
        if not children or len({child.width for child in children}) > 1 or not len(ints) or len(ints) % 2:
            raise FileFormatError("its regions come from arrays of different widths, or from none")
        child, region = ints.reshape(2, -1)
        _within(child, np.array(len(children)))
        _within(region, np.array([c.regions for c in children])[child])
        return cls(children, child, region)

    @classmethod
    def _of_units(cls, children: list[Units], ints: Index) -> Wiring:
        regions = int(ints[0]) if len(ints) else 0
        if not children or regions < 1 or len(ints) < 4 or (len(ints) - 1) % (3 * regions):
            raise FileFormatError("its units do not make up whole regions")
        child, region, column = ints[1:].reshape(3, regions, -1)
        _within(child, np.array(len(children)))
        _within(region, np.array([c.regions for c in children])[child])
        _within(column, np.array([c.width for c in children])[child])
        return cls(children, child, region, column)


def _within(index: Index, size: Index) -> None:
    if ((index < 0) | (index >= size)).any():
        raise FileFormatError("it is wired to units that do not exist")


def _gather(children: list[list[Support]], child: list[int], region: list[int], column: list[int]) -> Support:
    """One region from the units it is wired to: runs from the same region are taken together."""
    places = list(zip(child, region, strict=True))
    starts = [i for i, place in enumerate(places) if i == 0 or place != places[i - 1]] + [len(places)]
    parts = []
    for begin, end in pairwise(starts):
        c, r = places[begin]
        parts.append(children[c][r].take(column[begin:end]))
    return side_by_side(parts)
