"""Patches of a grid, and the region graphs made by splitting them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pcircuits.families.fields import integer
from pcircuits.structures.region_graph import RegionGraph

__all__ = ["Patch", "across", "down", "half_side", "split_patches"]


class Patch(NamedTuple):
    """The rows top..bottom-1 and the columns left..right-1 of a grid."""

    top: int
    left: int
    bottom: int
    right: int


def half_side(patch: Patch) -> int:
    """Half of the smallest power of two that is no less than either side: where the patch is cut.

    >>> half_side(Patch(0, 0, 28, 28)), half_side(Patch(0, 0, 16, 8)), half_side(Patch(0, 0, 5, 3))
    (16, 8, 4)
    """
    side = max(patch.bottom - patch.top, patch.right - patch.left)
    return 1 << (side - 1).bit_length() >> 1


def down(patch: Patch, side: int) -> tuple[Patch, ...]:
    """The patch cut below its first `side` rows, if it has more."""
    if patch.bottom - patch.top <= side:
        return (patch,)
    cut = patch.top + side
    return patch._replace(bottom=cut), patch._replace(top=cut)


def across(patch: Patch, side: int) -> tuple[Patch, ...]:
    """The patch cut after its first `side` columns, if it has more."""
    if patch.right - patch.left <= side:
        return (patch,)
    cut = patch.left + side
    return patch._replace(right=cut), patch._replace(left=cut)


def split_patches(height: int, width: int, split: Callable[[Patch], Sequence[tuple[Patch, ...]]]) -> RegionGraph:
    """The region graph of a grid whose patches are split, down to single cells, into the partitions that `split` says.

    The cell at row r and column c is the variable r · width + c, and a region's name is its `Patch`.
    """
    root = Patch(0, 0, integer(height, "height", least=1), integer(width, "width", least=1))
    partitions: dict[Patch, Sequence[tuple[Patch, ...]]] = {}
    waiting = [root]
    while waiting:
        patch = waiting.pop()
        if patch not in partitions:
            partitions[patch] = split(patch) if patch.bottom - patch.top + patch.right - patch.left > 2 else ()
            waiting += [part for parts in partitions[patch] for part in parts]
    scopes = {
        patch: [r * root.right + c for r in range(patch.top, patch.bottom) for c in range(patch.left, patch.right)]
        for patch in partitions
    }
    return RegionGraph(scopes, partitions)
