"""Several copies of a region graph under one root."""

from __future__ import annotations

from collections.abc import Hashable

from pcircuits.families.fields import integer
from pcircuits.scope import Variable
from pcircuits.structures.region_graph import RegionGraph

__all__ = ["replicas"]


def replicas(graph: RegionGraph, count: int) -> RegionGraph:
    """The graph `count` times over: copies share the root alone, so that each has leaves and weights of its own.

    A circuit of the new graph mixes the copies at its root. With Tucker layers and random trees, or the splits of images
    by Poon and Domingos, it is an Einsum network. Region r of copy i has the name (i, r); the root keeps its own.

    **Arguments**

    - `graph`: a graph whose root is split.
    - `count`: the number of copies, at least 1.

    **Raises** `ParameterError` for a number below 1.

    Peharz et al. (2020), *Einsum Networks: Fast and Scalable Learning of Tractable Probabilistic Circuits*, §3.

    >>> graph = RegionGraph({"ab": ["a", "b"], "a": "a", "b": "b"}, {"ab": [("a", "b")]})
    >>> replicas(graph, 3)
    RegionGraph(2 variables, 7 regions, 3 partitions)
    """
    count = integer(count, "count", least=1)
    below = [region for region in graph.scopes if region != graph.root]

    def split(copy: int, region: Hashable) -> list[tuple[Hashable, ...]]:
        return [tuple((copy, part) for part in parts) for parts in graph.partitions[region]]

    scopes: dict[Hashable, frozenset[Variable]] = {graph.root: graph.scopes[graph.root]}
    scopes |= {(copy, region): graph.scopes[region] for copy in range(count) for region in below}
    partitions: dict[Hashable, list[tuple[Hashable, ...]]] = {}
    partitions |= {(copy, region): split(copy, region) for copy in range(count) for region in below}
    partitions[graph.root] = [parts for copy in range(count) for parts in split(copy, graph.root)]
    return RegionGraph(scopes, {region: parts for region, parts in partitions.items() if parts}, graph.variables)
