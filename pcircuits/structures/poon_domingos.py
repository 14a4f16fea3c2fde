"""The region graph of Poon and Domingos: every rectangle of a grid, split at every cut."""

from __future__ import annotations

from collections.abc import Sequence

from pcircuits.errors import ParameterError
from pcircuits.families.fields import integer
from pcircuits.structures.patches import Patch, across, down, split_patches
from pcircuits.structures.region_graph import RegionGraph

__all__ = ["poon_domingos"]


def poon_domingos(height: int, width: int, steps: int | Sequence[int] = 1) -> RegionGraph:
    """The region graph in which every rectangle is split at every cut through it, down and across.

    Cuts lie at the multiples of a step, counted from the top left of the image. A rectangle that no cut of the first step
    goes through is split by the next one; a leaf region is a rectangle that none of them splits. A grid of n by m squares
    of the first step has n (n + 1) m (m + 1) / 4 rectangles: choose large steps first. The cell at row r and column c is
    the variable r · width + c.

    **Arguments**

    - `height`, `width`: the sides of the image, at least 1.
    - `steps`: one step in cells, or several, from coarse to fine; with 1 as the last, leaf regions are single cells.

    **Raises** `ParameterError` for sides and steps below 1, for no steps, and for steps that do not fall.

    Poon and Domingos (2011), *Sum-Product Networks: A New Deep Architecture*; with several steps, Peharz et al.
    (2020), *Einsum Networks: Fast and Scalable Learning of Tractable Probabilistic Circuits*.

    >>> poon_domingos(2, 2), poon_domingos(28, 28, 7)
    (RegionGraph(4 variables, 9 regions, 6 partitions), RegionGraph(784 variables, 100 regions, 200 partitions))
    """
    given = [steps] if isinstance(steps, int) else list(steps)
    wanted = [integer(step, "a step", least=1) for step in given]
    if not wanted or wanted != sorted(set(wanted), reverse=True):
        raise ParameterError(
            f"steps are {given}: they fall, from the coarsest to the finest, and there is one at least"
        )

    def split(patch: Patch) -> list[tuple[Patch, ...]]:
        for step in wanted:
            rows = range(_after(patch.top, step), patch.bottom, step)
            columns = range(_after(patch.left, step), patch.right, step)
            cuts = [down(patch, row - patch.top) for row in rows]
            if cuts := cuts + [across(patch, column - patch.left) for column in columns]:
                return cuts
        return []

    return split_patches(height, width, split)


def _after(place: int, step: int) -> int:
    """The first multiple of a step behind a place."""
    return (place // step + 1) * step
