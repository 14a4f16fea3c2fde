"""Quad trees of an image: every patch is split into its quarters, at once or in two steps."""

from __future__ import annotations

from pcircuits.structures.patches import Patch, across, down, half_side, split_patches
from pcircuits.structures.region_graph import RegionGraph

__all__ = ["binary_quad_tree", "quad_tree"]


def quad_tree(height: int, width: int) -> RegionGraph:
    """The region tree in which a patch is split into its four quarters.

    Patches are those of `quad_graph`; one that the border has cut down to two quarters has two parts. The cell at row r
    and column c is the variable r · width + c.

    **Arguments**

    - `height`, `width`: the sides of the image, at least 1.

    Mari, Vessio and Vergari (2023), *Unifying and Understanding Overparameterized Circuit Representations via Low-Rank
    Tensor Decompositions*.

    >>> quad_tree(4, 4)
    RegionGraph(16 variables, 21 regions, 5 partitions)
    """
    return split_patches(height, width, _quarters)


def binary_quad_tree(height: int, width: int) -> RegionGraph:
    """The quad tree in two steps: a patch is split into top and bottom, and each half into left and right.

    Every partition has two parts, which keeps Tucker layers at the square of their width.

    >>> binary_quad_tree(4, 4)
    RegionGraph(16 variables, 31 regions, 15 partitions)
    """
    return split_patches(height, width, _halves)


def _quarters(patch: Patch) -> list[tuple[Patch, ...]]:
    side = half_side(patch)
    return [tuple(quarter for half in down(patch, side) for quarter in across(half, side))]


def _halves(patch: Patch) -> list[tuple[Patch, ...]]:
    side = half_side(patch)
    rows = down(patch, side)
    return [rows if len(rows) > 1 else across(patch, side)]
