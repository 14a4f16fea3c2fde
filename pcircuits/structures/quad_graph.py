"""The quad graph of an image: every patch is split both ways."""

from __future__ import annotations

from pcircuits.structures.patches import Patch, across, down, half_side, split_patches
from pcircuits.structures.region_graph import RegionGraph

__all__ = ["quad_graph"]


def quad_graph(height: int, width: int) -> RegionGraph:
    """The region graph in which a patch is split into top and bottom, and also into left and right.

    Both halves of both splits are made of the same four quarters, which they share, so the graph is no tree. Patches are
    squares of 2^l cells a side, counted from the top left and cut off at the border; a patch that the border has cut
    down to one half is split one way. The cell at row r and column c is the variable r · width + c.

    **Arguments**

    - `height`, `width`: the sides of the image, at least 1.

    Mari, Vessio and Vergari (2023), *Unifying and Understanding Overparameterized Circuit Representations via Low-Rank
    Tensor Decompositions*.

    >>> quad_graph(2, 2)
    RegionGraph(4 variables, 9 regions, 6 partitions)
    """
    return split_patches(height, width, _both_ways)


def _both_ways(patch: Patch) -> list[tuple[Patch, ...]]:
    side = half_side(patch)
    return [parts for parts in (down(patch, side), across(patch, side)) if len(parts) > 1]
