"""Products: elementwise, or over groups of regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import index

import numpy as np
import torch
from torch import Tensor

from pcircuits.circuit.kinds.input import Input
from pcircuits.circuit.kinds.interface import (
    AbstractProduct,
    Contents,
    Index,
    Ints,
    Numbering,
    Regions,
    Scopes,
    Supports,
    Unit,
    Units,
    common_shape,
    only_child,
)
from pcircuits.circuit.support import Support, product
from pcircuits.errors import CircuitError, FileFormatError
from pcircuits.parameters import Parameter, Sourced

__all__ = ["Product"]


class Product(AbstractProduct):
    """Products: elementwise over children of one shape ((1, 1) broadcasts), or over groups of regions of one child."""

    __slots__ = ("groups",)

    codes = (3, 4)

    def __init__(self, children: Sequence[Units], groups: tuple[tuple[int, ...], ...] | None = None) -> None:
        self.groups = groups
        shape = common_shape(children, "a product") if groups is None else (len(groups), children[0].width)
        super().__init__(shape, tuple(children))

    @classmethod
    def over_groups(cls, child: Units, groups: Sequence[Sequence[int]]) -> Product:
        """The product of the regions of each group."""
        kept = tuple(_regions_of(group, number) for number, group in enumerate(groups))
        if not kept or not all(kept):
            raise CircuitError("a product over groups needs at least one group, and a region in each")
        for number, group in enumerate(kept):
            if bad := [r for r in group if not 0 <= r < child.regions]:
                raise CircuitError(f"group {number} names regions {bad}; {child!r} has regions 0..{child.regions - 1}")
        return cls((child,), kept)

    def scopes(self, children: list[list[int]], scopes: Scopes) -> list[int]:
        if self.groups is None:
            return super().scopes(children, scopes)
        return [scopes.union(children[0][r] for r in group) for group in self.groups]

    def factors(self, region: int, children: list[list[int]]) -> list[int]:
        if self.groups is None:
            return super().factors(region, children)
        return [children[0][r] for r in self.groups[region]]

    def mark_used(self, wanted: Regions, children: list[Regions]) -> None:
        if self.groups is None:
            super().mark_used(wanted, children)
        else:
            for r in np.flatnonzero(wanted):
                children[0][list(self.groups[r])] = True

    def inputs_of(self, region: int, column: int) -> list[Unit]:
        if self.groups is None:
            return super().inputs_of(region, column)
        return [Unit(self.children[0], r, column) for r in self.groups[region]]

    def num_edges(self) -> int:
        return super().num_edges() if self.groups is None else sum(map(len, self.groups)) * self.width

    def log_values(self, children: list[Tensor], leaves: Callable[[Input], Tensor]) -> Tensor:
        if self.groups is None:
            return torch.stack([child.expand(self.shape) for child in children]).sum(0)
        return torch.stack([children[0][list(group)].sum(0) for group in self.groups])

    def supports(self, children: list[list[Support]], supports: Supports) -> list[Support]:
        if self.groups is not None:
            return [product([children[0][r] for r in group], self.width) for group in self.groups]
        spread = [c if len(c) == self.regions else c * self.regions for c in children]
        return [product(factors, self.width) for factors in zip(*spread, strict=True)]

    def rebuilt(
        self,
        children: Sequence[Units],
        parameter: Callable[[Parameter], Parameter],
        sourced: Callable[[Sourced], Sourced],
    ) -> Product:
        return Product(children, self.groups)

    def to_integers(self, numbering: Numbering) -> tuple[int, Ints]:
        """Nothing; or for groups their number, their sizes, then their regions."""
        if self.groups is None:
            return 3, []
        sizes = [len(group) for group in self.groups]
        return 4, [len(sizes), *sizes, *(region for group in self.groups for region in group)]

    @classmethod
    def from_integers(cls, code: int, children: list[Units], ints: Index, contents: Contents) -> Product:
        if code == 3:
            return cls(children)
        child = only_child(children)
        count = int(ints[0]) if len(ints) else 0
        sizes = ints[1 : 1 + max(count, 0)].tolist()
        members = ints[1 + max(count, 0) :].tolist()
        if count < 1 or len(sizes) != count or min(sizes) < 1 or sum(sizes) != len(members):
            raise FileFormatError("its groups do not add up")
        ends = np.cumsum(sizes).tolist()
        return cls.over_groups(child, [members[end - size : end] for end, size in zip(ends, sizes, strict=True)])


def _regions_of(group: Sequence[int], number: int) -> tuple[int, ...]:
    try:
        return tuple(map(index, group))
    except TypeError as error:
        raise CircuitError(f"group {number} is a sequence of regions, which are ints, not {group!r}") from error
