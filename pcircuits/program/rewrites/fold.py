"""Fold: nodes of one kind, shape and depth become one, their rows stacked."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from pcircuits.program.plan import Node, Plan

__all__ = ["fold"]


def fold(plan: Plan) -> Plan:
    """The same rows in fewer nodes."""
    groups: dict[Hashable, list[Node]] = {}
    depth_of: dict[Hashable, int] = {}
    for number, (node, depth) in enumerate(zip(plan.nodes, plan.depths(), strict=True)):
        whole = "source" in node.rows or node.kind == "chain"  # a source is asked as a whole, and steps have an order
        own = number if whole else None
        key = (depth, node.signature(), own)
        groups.setdefault(key, []).append(node)
        depth_of[key] = depth
    ordered = [groups[key] for key in sorted(groups, key=lambda key: depth_of[key])]
    moved = [np.concatenate([np.arange(n.first, n.first + n.count) for n in group]) for group in ordered]
    return plan.reordered([first.stacked(others) for first, *others in ordered], moved)
