"""Hidden Chow-Liu trees: a latent for each column, or each cell of columns, joined along a tree."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import networkx as nx
import torch

from pcircuits.circuit.algebra import concat
from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.units import Units
from pcircuits.errors import ScopeError
from pcircuits.families.fields import integer
from pcircuits.scope import Variable, as_label, as_labels, order
from pcircuits.structures.leaves import Leaves, check_leaves
from pcircuits.structures.tree_starts import RandomStart, TreeStart

__all__ = ["hidden_tree"]

_RANDOM = RandomStart()


def hidden_tree(
    tree: nx.Graph,
    leaves: Leaves,
    width: int,
    roots: int = 1,
    start: TreeStart = _RANDOM,
    *,
    generator: torch.Generator,
) -> Circuit:
    """The hidden Chow-Liu tree (HCLT): p(x) = Σ_z p(z_r) Π_v p(z_v | z_parent(v)) p(x_v | z_v), smooth and normalised.

    Each node v of the tree has a latent z_v of K = `width` states, and emits its columns by K units for each, independent
    given z_v. The tree is rooted in its centre, so that the circuit is as shallow as it can be. Every edge is a dense sum
    of K by K weights, and all edges at one distance from the root are one array.

    **Arguments**

    - `tree`: a connected networkx graph without cycles, such as `chow_liu_tree(data)`. A node is the label of a column, or
      has an attribute `scope`: the labels of a cell of columns that share a latent, such as a patch. The order of the
      circuit's variables is `tree.graph["variables"]` where that is given.
    - `leaves`: makes the input units of all columns; see `Leaves`.
    - `width`: K, the states of a latent.
    - `roots`: C, the roots of the circuit, such as one for each class: each has p(z_r) of its own.
    - `start`: what weights and input units are at first: `RandomStart()`, or `counted_start(data, latents)`.
    - `generator`: what leaves and weights are drawn from.

    **Raises** `ScopeError` for a graph that is no tree, and for columns that are in several nodes; `ParameterError` for a
    width or a number of roots below 1; `CircuitError` and `ScopeError` where `leaves` makes other units than those it is
    asked for.

    Liu and Van den Broeck (2021), *Tractable Regularization of Probabilistic Circuits*.

    >>> import networkx as nx
    >>> from pcircuits.structures import bernoulli_leaves
    >>> circuit = hidden_tree(nx.path_graph(5), bernoulli_leaves(), 3, generator=torch.Generator().manual_seed(0))
    >>> circuit.summary().parameters  # five leaves of 3 units, four edges of 3 by 3, and a root of 3
    54
    """
    width, roots = integer(width, "width", least=1), integer(roots, "roots", least=1)
    cells = _cells(tree)
    levels = _levels(tree)
    variables = order([label for cell in cells for label in cell], tree.graph.get("variables"))
    place = {label: number for number, label in enumerate(variables)}

    labels = [label for level in levels for node in level.nodes for label in cells[node]]
    emitted = leaves(labels, width, generator)
    check_leaves(emitted, labels, width)
    of_nodes = [node for level in levels for node in level.nodes for _ in cells[node]]
    emitted = start.emissions(emitted, of_nodes, [place[label] for label in labels])

    end = len(labels)
    messages: Units | None = None
    for number in reversed(range(len(levels))):
        level = levels[number]
        begin = end - sum(len(cells[node]) for node in level.nodes)
        units = _of_cells(emitted[begin:end], [len(cells[node]) for node in level.nodes], level.children, messages)
        if number:
            messages = units.sum(start.transitions(level.parents, level.nodes, width, generator))
        else:
            messages = units.sum(start.prior(level.nodes[0], roots, width, generator))
        end = begin
    assert messages is not None  # a tree has a root
    return Circuit(messages, variables)


@dataclass(frozen=True)
class _Level:
    """The nodes at one distance from the root, by their numbers in the tree; those that have children come first.

    - `parents`: the parent of each; none for the root.
    - `children`: for each of the nodes that have any, where its children stand in the next level.
    """

    nodes: list[int]
    parents: list[int]
    children: list[list[int]]


def _of_cells(emitted: Units, sizes: Sequence[int], children: list[list[int]], messages: Units | None) -> Units:
    """The units of the nodes of a level: products of what their columns emit and of the messages of their children."""
    firsts = list(accumulate(sizes, initial=0))[:-1]
    columns = [list(range(first, first + size)) for first, size in zip(firsts, sizes, strict=True)]
    groups = [
        columns[node] + [emitted.regions + place for place in (children[node] if node < len(children) else ())]
        for node in range(len(sizes))
    ]
    together = emitted if messages is None else concat([emitted, messages], axis="regions")
    several = [len(group) > 1 for group in groups]
    if not any(several):
        return emitted
    inner = sum(several) if several == sorted(several, reverse=True) else len(groups)
    products = together.prod(groups[:inner])
    if inner == len(groups):
        return products
    return concat([products, emitted[firsts[inner] :]], axis="regions")


def _cells(tree: nx.Graph) -> list[tuple[Variable, ...]]:
    """The columns of each node, in the order of the nodes; raises for what is no tree over disjoint cells."""
    if not isinstance(tree, nx.Graph) or tree.is_directed() or tree.is_multigraph():
        raise ScopeError(
            f"a hidden tree is built on a networkx.Graph without directions, not on a {type(tree).__name__}"
        )
    if not len(tree):
        raise ScopeError("a hidden tree needs a node at least, and the graph has none")
    if not nx.is_tree(tree):
        parts = nx.number_connected_components(tree)
        wrong = f"falls into {parts} parts: join them by edges" if parts > 1 else "has a cycle"
        raise ScopeError(f"the graph of {len(tree)} nodes and {tree.number_of_edges()} edges is no tree: it {wrong}")
    cells: list[tuple[Variable, ...]] = []
    first: dict[Variable, Hashable] = {}
    for node, scope in tree.nodes(data="scope"):
        try:
            labels = (as_label(node),) if scope is None else as_labels(scope)
        except ScopeError as error:
            raise ScopeError(
                f"node {node!r} needs to be a column, or to have columns as its `scope`: {error}"
            ) from error
        if not labels:
            raise ScopeError(f"the `scope` of node {node!r} is empty")
        for label in labels:
            if label in first:
                raise ScopeError(f"column {label!r} is in the nodes {first[label]!r} and {node!r}: it can be in one")
            first[label] = node
        cells.append(labels)
    return cells


def _levels(tree: nx.Graph) -> list[_Level]:
    """The nodes by their distance from the centre."""
    number = {node: i for i, node in enumerate(tree)}
    root = _centre(tree, number)
    below = {number[node]: [number[child] for child in children] for node, children in nx.bfs_successors(tree, root)}
    levels = []
    nodes, parents = [number[root]], list[int]()
    while nodes:
        above = {child: node for node in nodes for child in below.get(node, ())}
        following = sorted(above, key=lambda child: child not in below)  # stable: those that have children come first
        place = {child: i for i, child in enumerate(following)}
        children = [[place[child] for child in below[node]] for node in nodes if node in below]
        levels.append(_Level(nodes, parents, children))
        nodes, parents = following, [above[child] for child in following]
    return levels


def _centre(tree: nx.Graph, number: Mapping[Hashable, int]) -> Hashable:
    """The middle of a longest path; of the two where there are two, the one that comes first in the tree.

    The node farthest from any node is an end of a longest path, and so is the one farthest from that: linear in the nodes,
    where `networkx.center` measures all pairs.
    """
    start = next(iter(tree))
    for _ in range(2):
        paths = nx.single_source_shortest_path_length(tree, start)
        end, start = start, max(paths, key=paths.__getitem__)
    path = nx.shortest_path(tree, start, end)
    middle: Hashable = min(path[(len(path) - 1) // 2], path[len(path) // 2], key=number.__getitem__)
    return middle
