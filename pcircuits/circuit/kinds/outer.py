"""Outer products."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from pcircuits.circuit.kinds.input import Input
from pcircuits.circuit.kinds.interface import (
    AbstractProduct,
    Contents,
    Index,
    Ints,
    Numbering,
    Supports,
    Unit,
    Units,
)
from pcircuits.circuit.support import Support, outer
from pcircuits.errors import CircuitError, FileFormatError
from pcircuits.parameters import Parameter, Sourced

__all__ = ["Outer"]

WIDEST = 2**40
"""More units than any region has: beyond it, products of widths would overflow."""


class Outer(AbstractProduct):
    """Kronecker products within each region: widths K1, K2, ... give K1·K2·..., the last factor running fastest."""

    __slots__ = ()

    codes = (5,)

    def __init__(self, children: Sequence[Units]) -> None:
        regions = {child.regions for child in children}
        if len(regions) != 1:
            raise CircuitError(f"an outer product needs children with equally many regions, not {sorted(regions)}")
        super().__init__((regions.pop(), math.prod(child.width for child in children)), tuple(children))

    def inputs_of(self, region: int, column: int) -> list[Unit]:
        found = []
        for child in reversed(self.children):
            column, k = divmod(column, child.width)
            found.append(Unit(child, region, k))
        return found[::-1]

    def log_values(self, children: list[Tensor], leaves: Callable[[Input], Tensor]) -> Tensor:
        total = children[0]
        for child in children[1:]:
            total = (total.unsqueeze(-1) + child.unsqueeze(-2)).flatten(-2)
        return total

    def supports(self, children: list[list[Support]], supports: Supports) -> list[Support]:
        return [outer([c[r] for c in children]) for r in range(self.regions)]

    def rebuilt(
        self,
        children: Sequence[Units],
        parameter: Callable[[Parameter], Parameter],
        sourced: Callable[[Sourced], Sourced],
    ) -> Outer:
        return Outer(children)

    def to_integers(self, numbering: Numbering) -> tuple[int, Ints]:
        """Nothing."""
        return 5, []

    @classmethod
    def from_integers(cls, code: int, children: list[Units], ints: Index, contents: Contents) -> Outer:
        if math.prod(child.width for child in children) > WIDEST:
            raise FileFormatError("its outer product is wider than can be")
        return cls(children)
