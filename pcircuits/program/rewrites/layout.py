"""Layout: rows are put into the order in which they are first read, so that reading them is a slice."""

from __future__ import annotations

import numpy as np

from pcircuits.program.operations import Index, Lowered
from pcircuits.program.rewrites.renumber import reordered

__all__ = ["layout"]


def layout(lowered: Lowered) -> Lowered:
    """The same operations with their rows permuted, from the root down: readers are in place before what they read."""
    operations = list(lowered.operations)
    owner = lowered.owners()
    wanted: dict[int, list[Index]] = {}
    moved = [np.arange(op.first, op.first + op.count) for op in operations]

    def note(rows: Index) -> None:
        flat = rows.ravel()
        for number in np.unique(owner[flat]).tolist():
            wanted.setdefault(number, []).append(flat[owner[flat] == number])

    note(lowered.root.rows)
    for number in reversed(range(len(operations))):
        op = operations[number]
        order = _first_seen(wanted.get(number, []), op.first, op.count)
        if (order != np.arange(op.count)).any():
            op = operations[number] = op.take(order)
            moved[number] = op.first + order
        for reads in op.reads():
            note(reads.rows)
    return reordered(lowered, operations, moved)


def _first_seen(reads: list[Index], first: int, count: int) -> Index:
    """Places 0..count-1 in the order in which they are read; those that are never read come last."""
    seen = np.concatenate([*reads, np.arange(first, first + count)]) - first
    places, where = np.unique(seen, return_index=True)
    order: Index = places[np.argsort(where, kind="stable")]
    return order
