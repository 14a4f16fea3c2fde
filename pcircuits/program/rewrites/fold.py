"""Fold: operations of one kind, shape and depth become one, their rows stacked."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from pcircuits.program.operations import Lowered, Operation
from pcircuits.program.rewrites.renumber import reordered

__all__ = ["fold"]


def fold(lowered: Lowered) -> Lowered:
    """The same rows in fewer operations."""
    groups: dict[Hashable, list[Operation]] = {}
    for op in lowered.operations:
        groups.setdefault((op.depth, op.signature()), []).append(op)
    ordered = sorted(groups.values(), key=lambda group: group[0].depth)
    moved = [np.concatenate([np.arange(op.first, op.first + op.count) for op in group]) for group in ordered]
    return reordered(lowered, [first.stacked(others) for first, *others in ordered], moved)
