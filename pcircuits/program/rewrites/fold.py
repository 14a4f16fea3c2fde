"""Fold: operations of one kind, shape and depth become one, their rows stacked."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from pcircuits.parameters import Sourced
from pcircuits.program.operations import (
    ConstantOp,
    InputOp,
    Lowered,
    MixOp,
    Operation,
    OuterOp,
    ParameterRows,
    ProductOp,
    Reads,
    SumOp,
)
from pcircuits.program.pools import pool_key
from pcircuits.program.rewrites.renumber import reordered

__all__ = ["fold", "signature", "stack"]


def fold(lowered: Lowered) -> Lowered:
    """The same rows in fewer operations."""
    groups: dict[Hashable, list[Operation]] = {}
    for op in lowered.operations:
        groups.setdefault((op.depth, signature(op)), []).append(op)
    ordered = sorted(groups.values(), key=lambda group: group[0].depth)
    moved = [np.concatenate([np.arange(op.first, op.first + op.count) for op in group]) for group in ordered]
    return reordered(lowered, [stack(group) for group in ordered], moved)


def signature(op: Operation) -> Hashable:
    """What operations must agree in to be stacked."""
    shape = (type(op).__name__, op.width)
    if isinstance(op, InputOp):
        if isinstance(op.parameters, Sourced):
            return (*shape, id(op.parameters), op.first)
        return (*shape, op.family, tuple((name, _parameters(rows)) for name, rows in op.parameters.items()))
    if isinstance(op, ConstantOp):
        return (*shape, _parameters(op.value))
    if isinstance(op, ProductOp):
        return (*shape, _edges(op.edges))
    if isinstance(op, OuterOp):
        return (*shape, op.widths, tuple(_edges(reads) for reads in op.factors))
    if isinstance(op, MixOp | SumOp):
        return (*shape, _edges(op.edges), _parameters(op.weights))
    return (*shape, op.first)


def _edges(reads: Reads) -> Hashable:
    return reads.rows.shape[1:], reads.columns is None


def _parameters(rows: ParameterRows) -> Hashable:
    return pool_key(rows.owners[0]), rows.block


def stack(group: list[Operation]) -> Operation:
    """Operations of one signature as one."""
    first = group[0]
    if len(group) == 1:
        return first
    count = sum(op.count for op in group)
    header: Any = {"first": first.first, "count": count, "width": first.width, "depth": first.depth}
    if isinstance(first, InputOp):
        ops = [op for op in group if isinstance(op, InputOp)]
        assert isinstance(first.parameters, dict)
        packed = {
            name: ParameterRows.stack([op.parameters[name] for op in ops if isinstance(op.parameters, dict)])
            for name in first.parameters
        }
        columns = np.concatenate([op.columns for op in ops])
        return InputOp(**header, family=first.family, columns=columns, parameters=packed)
    if isinstance(first, ConstantOp):
        return ConstantOp(**header, value=ParameterRows.stack([op.value for op in group if isinstance(op, ConstantOp)]))
    if isinstance(first, ProductOp):
        return ProductOp(**header, edges=Reads.stack([op.edges for op in group if isinstance(op, ProductOp)]))
    if isinstance(first, OuterOp):
        outers = [op.factors for op in group if isinstance(op, OuterOp)]
        factors = tuple(Reads.stack(parts) for parts in zip(*outers, strict=True))
        return OuterOp(**header, factors=factors, widths=first.widths)
    assert isinstance(first, MixOp | SumOp)
    sums = [op for op in group if isinstance(op, MixOp | SumOp)]
    edges, weights = Reads.stack([op.edges for op in sums]), ParameterRows.stack([op.weights for op in sums])
    if isinstance(first, SumOp):
        return SumOp(**header, edges=edges, weights=weights, inputs=first.inputs)
    return MixOp(**header, edges=edges, weights=weights)
