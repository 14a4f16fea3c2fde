"""Prune: rows that nothing reads on the way to the root are left out, always."""

from __future__ import annotations

import numpy as np

from pcircuits.program.operations import Lowered
from pcircuits.program.rewrites.renumber import reordered

__all__ = ["prune"]


def prune(lowered: Lowered) -> Lowered:
    """The same program without the rows that the root does not depend on."""
    used = np.zeros(lowered.total_rows, bool)
    used[lowered.root.rows.ravel()] = True
    operations, moved = [], []
    for op in reversed(lowered.operations):
        keep = np.flatnonzero(used[op.first : op.first + op.count])
        if len(keep):
            kept = op if len(keep) == op.count else op.take(keep)
            for reads in kept.reads():
                used[reads.rows.ravel()] = True
            operations.append(kept)
            moved.append(op.first + keep)
    if used.all():
        return lowered
    return reordered(lowered, operations[::-1], moved[::-1])
