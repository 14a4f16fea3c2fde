"""Fuse: products over inputs of one family become one operation, and a dense sum takes in the product below it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pcircuits.program.operations import FusedOp, Index, InputOp, Lowered, MixtureOp, Operation, ProductOp, Reads, SumOp
from pcircuits.program.rewrites.renumber import reordered

__all__ = ["fuse"]


def fuse(lowered: Lowered) -> Lowered:
    """Both fusions, one after the other: only rows that nothing else reads are taken in."""
    return _fuse_sums(_fuse_products(lowered))


def _fuse_products(lowered: Lowered) -> Lowered:
    readers, owner = _readers(lowered), lowered.owners()
    taken = np.zeros(lowered.total_rows, bool)
    fused: dict[int, FusedOp] = {}
    for number, op in enumerate(lowered.operations):
        if isinstance(op, ProductOp) and op.edges.columns is None and op.edges.rows.shape[1] > 1:
            rows = op.edges.rows.ravel()
            leaves = _leaves(lowered.operations, owner, rows) if (readers[rows] == 1).all() else None
            if leaves is not None:
                taken[rows] = True
                fused[number] = FusedOp(
                    first=op.first, count=op.count, width=op.width, depth=0, leaves=leaves, arity=op.edges.rows.shape[1]
                )
    operations, moved = [], []
    for number, op in enumerate(lowered.operations):
        keep = np.flatnonzero(~taken[op.first : op.first + op.count])
        if len(keep):
            whole = len(keep) == op.count
            operations.append(fused.get(number, op) if whole else op.take(keep))
            moved.append(op.first + keep)
    return reordered(lowered, operations, moved)


def _leaves(operations: list[Operation], owner: Index, rows: Index) -> InputOp | None:
    """The input units of these rows as one operation in their order, where they are of one kind."""
    held = [operations[number] for number in dict.fromkeys(owner[rows].tolist())]
    inputs = [op for op in held if isinstance(op, InputOp) and op.family.size == 1]
    if len(inputs) < len(held) or len({op.signature() for op in inputs}) > 1:
        return None
    joined = inputs[0].stacked(inputs[1:])
    place = {row: i for i, row in enumerate(r for op in inputs for r in range(op.first, op.first + op.count))}
    return joined.take(np.array([place[row] for row in rows.tolist()]))


def _fuse_sums(lowered: Lowered) -> Lowered:
    """Sums over one fused product become one, with all of their outputs; readers find theirs by column."""
    readers, owner = _readers(lowered), lowered.owners()
    mixtures: dict[int, MixtureOp] = {}
    gone: set[int] = set()
    row_of, shift = np.arange(lowered.total_rows), np.zeros(lowered.total_rows, np.int64)
    merged = np.zeros(lowered.total_rows, bool)
    for number, op in enumerate(lowered.operations):
        if isinstance(op, SumOp) and op.edges.columns is None:
            rows = op.edges.rows.ravel()
            below, children = lowered.operations[owner[rows[0]]], np.unique(rows)
            sums = len(rows) // len(children)
            together = len(children) == below.count and (owner[rows] == owner[rows[0]]).all()
            if isinstance(below, FusedOp) and together and (readers[children] == sums).all():
                gone.add(int(owner[rows[0]]))
                order = np.argsort(rows, kind="stable")
                mixtures[number] = MixtureOp(
                    first=op.first, count=len(children), width=sums * op.width, depth=0,
                    product=below.take(children - below.first), weights=op.weights.take(order),
                    inputs=op.inputs, sums=sums,
                )  # fmt: skip
                place = np.empty(len(rows), np.int64)
                place[order] = np.arange(len(rows))
                own = slice(op.first, op.first + op.count)
                row_of[own], shift[own] = op.first + place // sums, place % sums * op.width
                merged[own] = sums > 1
    lowered = _by_column(lowered, row_of, shift, merged)
    kept = [(mixtures.get(n, op), op) for n, op in enumerate(lowered.operations) if n not in gone]
    moved = [np.arange(old.first, old.first + new.count) for new, old in kept]
    return reordered(lowered, [new for new, _ in kept], moved)


def _by_column(lowered: Lowered, row_of: Index, shift: Index, merged: NDArray[np.bool_]) -> Lowered:
    """The program where row i is now row row_of[i]; of a merged row, the columns from shift[i] on."""
    widths = np.concatenate([np.full(op.count, op.width) for op in lowered.operations])

    def turned(reads: Reads) -> Reads:
        rows = reads.rows
        if not merged[rows].any():
            return Reads(row_of[rows], reads.columns)
        if reads.columns is not None:
            return Reads(row_of[rows], reads.columns + shift[rows])
        columns = np.arange(widths[rows.ravel()[0]])
        return Reads(np.repeat(row_of[rows][..., None], len(columns), -1), shift[rows][..., None] + columns)

    operations = [op.reading(turned) for op in lowered.operations]
    gone = lowered.now < 0
    now = np.where(gone, -1, row_of[lowered.now])
    shifted = lowered.shift + np.where(gone, 0, shift[lowered.now])
    return Lowered(operations, turned(lowered.root), lowered.places, now, shifted)


def _readers(lowered: Lowered) -> Index:
    """How often each row is read; the root counts."""
    count = np.zeros(lowered.total_rows, np.int64)
    for reads in (lowered.root, *(reads for op in lowered.operations for reads in op.reads())):
        np.add.at(count, reads.rows.ravel(), 1)
    return count
