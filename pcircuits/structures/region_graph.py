"""`RegionGraph`: which sets of variables a circuit models, and how each is split into smaller ones."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import networkx as nx

from pcircuits.errors import ScopeError
from pcircuits.scope import Variable, as_label, as_variables, is_label
from pcircuits.structures.exchange import read_networkx, write_networkx
from pcircuits.structures.validation import check_partitions, checked_scopes, only_root

__all__ = ["RegionGraph"]


@dataclass(frozen=True, init=False, eq=False)
class RegionGraph:
    """Regions, which are sets of variables, and partitions of regions into disjoint smaller regions that cover them.

    A region may have several partitions and be a part of several: the graph has one root and need not be a tree.
    Two regions may have the same scope. It never changes, and is checked when it is made.

    **Arguments**

    - `scopes`: for each region its variables, ints or strs. The names of regions are whatever hashes.
    - `partitions`: for each region that is split, its partitions; a partition is a sequence of two or more regions.
    - `variables`: the order of the data's columns; by default ints in order, anything else as in the root's scope.

    **Raises** `ScopeError` for empty scopes, parts that overlap, do not cover or are unknown, cycles and several roots,
    naming the region and the variables; and where `variables` does not fit. `CircuitError` where there is no region.

    Dennis and Ventura (2012), *Learning the Architecture of Sum-Product Networks Using Clustering on Variables*.

    >>> graph = RegionGraph(
    ...     {"abc": "a b c".split(), "ab": ["a", "b"], "a": "a", "b": "b", "c": "c"},
    ...     {"abc": [("ab", "c")], "ab": [("a", "b")]},
    ... )
    >>> graph, graph.root, graph.leaves
    (RegionGraph(3 variables, 5 regions, 2 partitions), 'abc', ('a', 'b', 'c'))
    """

    scopes: Mapping[Hashable, frozenset[Variable]]
    """For each region, its variables."""
    partitions: Mapping[Hashable, tuple[tuple[Hashable, ...], ...]]
    """For each region its partitions; none for a leaf."""
    root: Hashable
    """The region that is part of no other: all variables."""
    variables: tuple[Variable, ...]
    """The order of the data's columns."""

    def __init__(
        self,
        scopes: Mapping[Any, Iterable[Variable] | Variable],
        partitions: Mapping[Any, Sequence[Sequence[Any]]],
        variables: Sequence[Variable] | None = None,
    ) -> None:
        kept = checked_scopes(scopes)
        split = check_partitions(kept, partitions)
        root = only_root(kept, split)
        object.__setattr__(self, "scopes", MappingProxyType(kept))
        object.__setattr__(self, "partitions", MappingProxyType(split))
        object.__setattr__(self, "root", root)
        object.__setattr__(self, "variables", _ordered(kept[root], scopes[root], variables))

    @property
    def leaves(self) -> tuple[Hashable, ...]:
        """The regions without partitions."""
        return tuple(region for region, split in self.partitions.items() if not split)

    @classmethod
    def from_networkx(cls, graph: nx.DiGraph) -> RegionGraph:
        """The region graph that a bipartite networkx graph describes.

        Nodes have the attribute `kind`, "region" or "partition"; regions also have `scope`, their variables. Edges lead
        from a region to its partitions, and from a partition to its parts, in the order of the edges' attribute
        `position` where they have it. `graph.graph["variables"]` is the order of the columns, where it is there.

        **Raises** `ScopeError` naming the node that does not fit, and whatever `RegionGraph` raises.

        >>> import networkx as nx
        >>> graph = nx.DiGraph()
        >>> graph.add_edges_from([("ab", 0), (0, "a"), (0, "b")])
        >>> nx.set_node_attributes(graph, {"ab": "region", 0: "partition", "a": "region", "b": "region"}, "kind")
        >>> nx.set_node_attributes(graph, {"ab": ["a", "b"], "a": "a", "b": "b"}, "scope")
        >>> RegionGraph.from_networkx(graph)
        RegionGraph(2 variables, 3 regions, 1 partitions)
        """
        return cls(*read_networkx(graph))

    def to_networkx(self) -> nx.DiGraph:
        """The graph as `from_networkx` reads it; partition number i of a region r is the node ("partition", r, i).

        >>> graph = RegionGraph({"ab": ["a", "b"], "a": "a", "b": "b"}, {"ab": [("a", "b")]})
        >>> list(graph.to_networkx().edges)
        [('ab', ('partition', 'ab', 0)), (('partition', 'ab', 0), 'a'), (('partition', 'ab', 0), 'b')]
        """
        return write_networkx(self.scopes, self.partitions, self.variables)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RegionGraph):
            return NotImplemented
        return (self.scopes, self.partitions, self.variables) == (other.scopes, other.partitions, other.variables)

    def __hash__(self) -> int:
        return hash((self.root, self.variables, len(self.scopes)))

    def __repr__(self) -> str:
        count = sum(map(len, self.partitions.values()))
        return f"RegionGraph({len(self.variables)} variables, {len(self.scopes)} regions, {count} partitions)"


def _ordered(
    scope: frozenset[Variable], given: Iterable[Variable] | Variable, wanted: Sequence[Variable] | None
) -> tuple[Variable, ...]:
    """The columns' order: as wanted; ints in order; as the root's scope was given, or sorted where that was a set."""
    if wanted is not None:
        if len(wanted) != len(scope) or set(wanted) != scope:
            raise ScopeError(f"`variables` holds {list(wanted)}, and the root's scope is {sorted(scope, key=str)}")
        return as_variables(wanted)
    if all(isinstance(label, int) for label in scope):
        return tuple(sorted(scope, key=int))
    if is_label(given):
        return (as_label(given),)
    if isinstance(given, Sequence):
        return as_variables(given)
    return tuple(sorted(scope, key=str))
