"""Which regions of a graph share an array, and in which order, so that arrays are few and read in runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass

from pcircuits.structures.region_graph import RegionGraph

__all__ = ["Shelf", "arrange"]


@dataclass(frozen=True)
class Shelf:
    """Regions that share an array.

    - `regions`: one for each row; those that are parts of more partitions come first.
    - `arities`: for each of the partitions that every one of these regions has, its number of parts; () for leaves.
    - `uses`: for each row, how many partitions the region is a part of.
    """

    regions: tuple[Hashable, ...]
    arities: tuple[int, ...]
    uses: tuple[int, ...]

    def parts(self, graph: RegionGraph, arity: int) -> list[list[Hashable]]:
        """The first parts, second parts, ... of all partitions with so many parts: a partition's regions together."""
        numbers = [number for number, parts in enumerate(self.arities) if parts == arity]
        return [[graph.partitions[r][n][i] for n in numbers for r in self.regions] for i in range(arity)]


def arrange(graph: RegionGraph) -> list[Shelf]:
    """The shelves of a graph, parts before what they are part of.

    Regions share one where they have the same height (the longest way down to a leaf) and partitions of the same
    arities. From the root down, rows stand in the order in which the shelves above read them.
    """
    together: dict[tuple[int, tuple[int, ...]], list[Hashable]] = defaultdict(list)
    for region, height in _heights(graph).items():
        together[height, tuple(map(len, graph.partitions[region]))].append(region)
    uses: dict[Hashable, int] = dict.fromkeys(graph.scopes, 0)
    for split in graph.partitions.values():
        for part in (part for parts in split for part in parts):
            uses[part] += 1
    first_read: dict[Hashable, int] = {graph.root: 0}
    shelves = []
    for height, arities in sorted(together, reverse=True):
        regions = sorted(together[height, arities], key=lambda region: (-uses[region], first_read[region]))
        shelf = Shelf(tuple(regions), arities, tuple(uses[region] for region in regions))
        shelves.append(shelf)
        for arity in dict.fromkeys(arities):
            for part in (part for parts in shelf.parts(graph, arity) for part in parts):
                first_read.setdefault(part, len(first_read))
    return shelves[::-1]


def _heights(graph: RegionGraph) -> dict[Hashable, int]:
    """The longest way from each region down to a leaf; a part has a smaller scope, and so comes first."""
    heights: dict[Hashable, int] = {}
    for region in sorted(graph.scopes, key=lambda region: len(graph.scopes[region])):
        heights[region] = 1 + max((heights[part] for parts in graph.partitions[region] for part in parts), default=-1)
    return heights
