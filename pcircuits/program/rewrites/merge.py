"""Merge: a product whose factors are products that nothing else reads becomes one product of all their factors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pcircuits.program.plan import Edges, Node, Plan
from pcircuits.program.rewrites.prune import prune

__all__ = ["merge"]


def merge(plan: Plan) -> Plan:
    """The plan in which chains such as `u * v * w` are single products; rows of one arity become one node."""
    readers = plan.readers()
    mergeable = np.zeros(plan.total_rows, bool)
    for node in plan.nodes:
        if node.kind == "product" and _whole(node) is not None:
            mergeable[node.first : node.first + node.count] = readers[node.first : node.first + node.count] == 1
    factors: dict[int, list[int]] = {}
    nodes, moved, changed = [], [], False
    for node in plan.nodes:
        edges = _whole(node) if node.kind == "product" else None
        if edges is None:
            nodes.append(node)
            moved.append(node.first + np.arange(node.count))
            continue
        lists = []
        for read in edges.rows.tolist():
            inner = [factors[row] if mergeable[row] else [row] for row in read]
            changed = changed or any(mergeable[row] for row in read)
            lists.append([row for some in inner for row in some])
        factors.update(zip(range(node.first, node.first + node.count), lists, strict=True))
        for arity in dict.fromkeys(map(len, lists)):
            here = [r for r, read in enumerate(lists) if len(read) == arity]
            made = Edges(np.array([lists[r] for r in here]))
            nodes.append(replace(node, count=len(here), rows={"edges": made}))
            moved.append(node.first + np.array(here))
    return prune(plan.reordered(nodes, moved)) if changed else plan


def _whole(node: Node) -> Edges | None:
    """The edges of a product, where they read whole rows."""
    (edges,) = node.edges()
    return edges if edges.columns is None else None
