"""Region graphs as bipartite networkx graphs, of region nodes and partition nodes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import networkx as nx

from pcircuits.errors import ScopeError
from pcircuits.scope import Variable

__all__ = ["read_networkx", "write_networkx"]

Described = tuple[dict[Hashable, Any], dict[Hashable, list[list[Hashable]]], Sequence[Variable] | None]


def read_networkx(graph: nx.DiGraph) -> Described:
    """Scopes, partitions and the order of the columns (None where it is not given); see `RegionGraph.from_networkx`."""
    if not isinstance(graph, nx.DiGraph):
        raise ScopeError(f"a region graph is read from a networkx.DiGraph, not from a {type(graph).__name__}")
    for node, kind in graph.nodes(data="kind"):
        if kind not in ("region", "partition"):
            raise ScopeError(f'node {node!r} has kind {kind!r}: it needs kind "region" or "partition"')
    kinds = dict(graph.nodes(data="kind"))
    for above, below in graph.edges:
        if kinds[above] == kinds[below]:
            raise ScopeError(
                f"an edge leads from {kinds[above]} {above!r} to {kinds[below]} {below!r}: "
                "regions lead to partitions, and partitions to regions"
            )
    scopes = {node: _scope(graph, node) for node, kind in kinds.items() if kind == "region"}
    partitions: dict[Hashable, list[list[Hashable]]] = {node: [] for node in scopes}
    for node in (node for node, kind in kinds.items() if kind == "partition"):
        above = list(graph.predecessors(node))
        if len(above) != 1:
            raise ScopeError(f"partition {node!r} belongs to the regions {above}: it needs exactly one")
    for node in scopes:
        partitions[node] = [_in_order(graph, partition) for partition in _in_order(graph, node)]
    return scopes, partitions, graph.graph.get("variables")


def _scope(graph: nx.DiGraph, node: Hashable) -> Any:
    scope = graph.nodes[node].get("scope")
    if scope is None:
        raise ScopeError(f"region {node!r} has no attribute `scope`: give it its variables")
    return scope


def _in_order(graph: nx.DiGraph, node: Hashable) -> list[Hashable]:
    below: list[Hashable] = sorted(
        graph.successors(node), key=lambda child: graph.edges[node, child].get("position", 0)
    )
    return below


def write_networkx(
    scopes: Mapping[Hashable, frozenset[Variable]],
    partitions: Mapping[Hashable, Sequence[Sequence[Hashable]]],
    variables: Sequence[Variable],
) -> nx.DiGraph:
    """The graph that `read_networkx` reads; see `RegionGraph.to_networkx`."""
    graph = nx.DiGraph(variables=tuple(variables))
    for region, scope in scopes.items():
        graph.add_node(region, kind="region", scope=scope)
    for region, split in partitions.items():
        for number, parts in enumerate(split):
            node = ("partition", region, number)
            if node in scopes:
                raise ScopeError(f"a region is named {node!r}, which is the name of a partition here: rename it")
            graph.add_node(node, kind="partition")
            graph.add_edge(region, node, position=number)
            for position, part in enumerate(parts):
                graph.add_edge(node, part, position=position)
    return graph
