"""Fuse: products over inputs of one family become one node, and a dense sum takes in the product below it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pcircuits.program.plan import Edges, Index, Node, Owned, Plan

__all__ = ["fuse"]


def fuse(plan: Plan) -> Plan:
    """Both fusions, one after the other: only rows that nothing else reads are taken in."""
    return _fuse_sums(_fuse_products(plan))


def _fuse_products(plan: Plan) -> Plan:
    readers, owner = plan.readers(), plan.owners()
    taken = np.zeros(plan.total_rows, bool)
    fused: dict[int, Node] = {}
    for number, node in enumerate(plan.nodes):
        if node.kind != "product" or node.edges()[0].columns is not None or node.edges()[0].rows.shape[1] == 1:
            continue
        rows = node.edges()[0].rows.ravel()
        leaves = _leaves(plan.nodes, owner, rows) if (readers[rows] == 1).all() else None
        if leaves is not None:
            taken[rows] = True
            arity = node.edges()[0].rows.shape[1]
            grouped = {name: value.grouped(arity) for name, value in leaves.rows.items()}
            facts = {**leaves.facts, "arity": arity, "made": node.first}  # what is fused stays a node of its own
            fused[number] = replace(node, kind="leaves", rows=grouped, facts=facts)
    nodes, moved = [], []
    for number, node in enumerate(plan.nodes):
        keep = np.flatnonzero(~taken[node.first : node.first + node.count])
        if len(keep):
            whole = len(keep) == node.count
            nodes.append(fused.get(number, node) if whole else node.take(keep))
            moved.append(node.first + keep)
    return plan.reordered(nodes, moved)


def _leaves(nodes: list[Node], owner: Index, rows: Index) -> Node | None:
    """The input units of these rows as one node in their order, where they are of one kind."""
    found = [nodes[number] for number in dict.fromkeys(owner[rows].tolist())]
    inputs = [n for n in found if n.kind == "input" and n.facts["family"].size == 1]
    if len(inputs) < len(found) or len({n.signature() for n in inputs}) > 1:
        return None
    joined: Node = inputs[0].stacked(inputs[1:])
    place = {row: i for i, row in enumerate(r for n in inputs for r in range(n.first, n.first + n.count))}
    return joined.take(np.array([place[row] for row in rows.tolist()]))


def _fuse_sums(plan: Plan) -> Plan:
    """Sums over one fused product become one, with all of their outputs; readers find theirs by column."""
    readers, owner = plan.readers(), plan.owners()
    mixtures: dict[int, Node] = {}
    gone: set[int] = set()
    row_of, shift = np.arange(plan.total_rows), np.zeros(plan.total_rows, np.int64)
    merged = np.zeros(plan.total_rows, bool)
    for number, node in enumerate(plan.nodes):
        if node.kind != "sum" or node.edges()[0].columns is not None:
            continue
        rows = node.edges()[0].rows.ravel()
        below, children = plan.nodes[owner[rows[0]]], np.unique(rows)
        sums = len(rows) // len(children)
        together = len(children) == below.count and (owner[rows] == owner[rows[0]]).all()
        if below.kind == "leaves" and together and (readers[children] == sums).all():
            gone.add(int(owner[rows[0]]))
            order = np.argsort(rows, kind="stable")
            mixtures[number] = _mixture(node, below.take(children - below.first), order, sums)
            place = np.empty(len(rows), np.int64)
            place[order] = np.arange(len(rows))
            own = slice(node.first, node.first + node.count)
            row_of[own], shift[own] = node.first + place // sums, place % sums * node.width
            merged[own] = sums > 1
    plan = _by_column(plan, row_of, shift, merged)
    kept = [(mixtures.get(n, node), node) for n, node in enumerate(plan.nodes) if n not in gone]
    moved = [np.arange(old.first, old.first + new.count) for new, old in kept]
    return plan.reordered([new for new, _ in kept], moved)


def _mixture(node: Node, below: Node, order: Index, sums: int) -> Node:
    """The node of sums over the rows of `below`, `sums` of the sums of `node` to each, in this order."""
    weights = node.rows["weights"].take(order)
    assert isinstance(weights, Owned)
    facts = {**below.facts, "inputs": node.facts["inputs"], "sums": sums}
    rows = {**below.rows, "weights": weights.grouped(sums)}
    return Node("mixture", node.first, below.count, sums * node.width, rows, facts)


def _by_column(plan: Plan, row_of: Index, shift: Index, merged: NDArray[np.bool_]) -> Plan:
    """The plan where row i is now row row_of[i]; of a merged row, the columns from shift[i] on."""
    widths = np.concatenate([np.full(node.count, node.width) for node in plan.nodes])

    def turned(edges: Edges) -> Edges:
        rows = edges.rows
        if not merged[rows].any():
            return Edges(row_of[rows], edges.columns)
        if edges.columns is not None:
            return Edges(row_of[rows], edges.columns + shift[rows])
        columns = np.arange(widths[rows.ravel()[0]])
        return Edges(np.repeat(row_of[rows][..., None], len(columns), -1), shift[rows][..., None] + columns)

    nodes = [node.reading(turned) for node in plan.nodes]
    gone = plan.now < 0
    now = np.where(gone, -1, row_of[plan.now])
    shifted = plan.shift + np.where(gone, 0, shift[plan.now])
    return Plan(nodes, turned(plan.root), plan.parameters, plan.places, now, shifted)
