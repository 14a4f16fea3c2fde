"""Putting operations into a new order: rows are numbered again, and what reads them follows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pcircuits.program.operations import Index, Lowered, Operation

__all__ = ["reordered"]


def reordered(lowered: Lowered, operations: Sequence[Operation], moved: Sequence[Index]) -> Lowered:
    """The program with these operations, where row i of operation o held row `moved[o][i]` before.

    Rows that no operation holds any more are numbered -1: nothing may compute with them.
    """
    new = np.full(lowered.total_rows, -1, np.int64)
    first = 0
    starts = []
    for old in moved:
        starts.append(first)
        new[old] = np.arange(first, first + len(old))
        first += len(old)
    kept = [op.moved(start, new) for op, start in zip(operations, starts, strict=True)]
    now = np.where(lowered.now < 0, -1, new[lowered.now])
    return Lowered(kept, lowered.root.renumbered(new), lowered.places, now, lowered.shift)
