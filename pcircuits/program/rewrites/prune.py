"""Prune: rows that nothing reads on the way to the root are left out, always."""

from __future__ import annotations

import numpy as np

from pcircuits.program.plan import Plan

__all__ = ["prune"]


def prune(plan: Plan) -> Plan:
    """The same plan without the rows that the root does not depend on."""
    used = np.zeros(plan.total_rows, bool)
    used[plan.root.rows.ravel()] = True
    nodes, moved = [], []
    for node in reversed(plan.nodes):
        keep = np.flatnonzero(used[node.first : node.first + node.count])
        if len(keep):
            kept = node if len(keep) == node.count else node.take(keep)
            for edges in kept.edges():
                used[edges.rows.ravel()] = True
            nodes.append(kept)
            moved.append(node.first + keep)
    return plan if used.all() else plan.reordered(nodes[::-1], moved[::-1])
