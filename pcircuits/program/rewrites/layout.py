"""Layout: rows are put into the order in which they are first read, and leaves next to the layers that read them."""

from __future__ import annotations

import numpy as np

from pcircuits.program.plan import Index, Plan

__all__ = ["layout"]

LEAVES = 1024
"""How many input units are computed together at least: with 256 rows of data their values take 1 MiB, and stay in the
cache until they are read."""


def layout(plan: Plan) -> Plan:
    """The same plan with its rows permuted, so that reading them is a slice, and leaves made shortly before their use."""
    return _ordered(_late(plan))


def _late(plan: Plan) -> Plan:
    """Input nodes that layers of several depths read are cut: each part comes just before its first reader."""
    first_use = np.full(plan.total_rows, len(plan.nodes), np.int64)
    for number in reversed(range(len(plan.nodes))):
        for edges in plan.nodes[number].edges():
            first_use[edges.rows.ravel()] = number
    nodes, moved, key = [], [], []
    for number, node in enumerate(plan.nodes):
        if node.kind != "input" or "source" in node.rows:
            nodes.append(node)
            moved.append(node.first + np.arange(node.count))
            key.append((number, 1))
            continue
        use = first_use[node.first : node.first + node.count]
        for rows in _cut(use, max(1, LEAVES // node.width)):
            nodes.append(node.take(rows) if len(rows) < node.count else node)
            moved.append(node.first + rows)
            key.append((int(use[rows].min()), 0))
    order = sorted(range(len(nodes)), key=key.__getitem__)
    return plan.reordered([nodes[i] for i in order], [moved[i] for i in order])


def _cut(use: Index, least: int) -> list[Index]:
    """The rows in the order of their use, in parts of at least so many, cut where the use changes."""
    order = np.argsort(use, kind="stable")
    cuts, begin = [], 0
    for place in (np.flatnonzero(np.diff(use[order])) + 1).tolist():
        if place - begin >= least and len(order) - place >= least:
            cuts.append(place)
            begin = place
    return [np.sort(part) for part in np.split(order, cuts)]


def _ordered(plan: Plan) -> Plan:
    """From the root down: readers are in place before what they read, and one factor is read after the other."""
    nodes = list(plan.nodes)
    owner = plan.owners()
    wanted: dict[int, list[Index]] = {}
    moved = [np.arange(node.first, node.first + node.count) for node in nodes]

    def note(rows: Index) -> None:
        flat = rows.swapaxes(0, 1).ravel()
        for number in np.unique(owner[flat]).tolist():
            wanted.setdefault(number, []).append(flat[owner[flat] == number])

    note(plan.root.rows)
    for number in reversed(range(len(nodes))):
        node = nodes[number]
        order = _first_seen(wanted.get(number, []), node.first, node.count)
        if node.kind != "chain" and (order != np.arange(node.count)).any():
            node = nodes[number] = node.take(order)
            moved[number] = node.first + order
        for edges in node.edges():
            note(edges.rows)
    return plan.reordered(nodes, moved)


def _first_seen(reads: list[Index], first: int, count: int) -> Index:
    """Places 0..count-1 in the order in which they are read; those that are never read come last."""
    seen = np.concatenate([*reads, np.arange(first, first + count)]) - first
    places, where = np.unique(seen, return_index=True)
    order: Index = places[np.argsort(where, kind="stable")]
    return order
