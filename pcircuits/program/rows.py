"""Rows of units that are read a block at a time, and flows that come a span of rows at a time.

What a layer makes of a block of its rows is in the cache for the next operation on it, and memory for it need not be asked
for again: fresh memory costs more than the matrix products of narrow layers.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Rows", "Spans", "blocks"]

BLOCK = 2 * 2**20
"""Bytes of the numbers that a layer reads, or makes, together on a CPU."""


def blocks(count: int, like: Tensor, row: int) -> list[tuple[int, int]]:
    """Ranges of `count` rows of so many numbers such that a block of them stays in the cache; all of them on a GPU."""
    step = count if like.device.type != "cpu" else max(1, BLOCK // max(1, row * like.element_size()))
    return [(begin, min(begin + step, count)) for begin in range(0, count, step)]


class Rows:
    """Numbers (R, B, K) of rows of units: those of a tensor, or rows (U·S, K) of a table, at the entries (R, B).

    `index` (n,) says which rows of the tensor are meant, in which order; without it, all. `size` is S: what one row of
    units is looked up in, for all rows of data, are S rows of the table.
    """

    __slots__ = ("entry", "index", "size", "values")

    def __init__(self, values: Tensor, entry: Tensor | None = None, size: int = 1, index: Tensor | None = None) -> None:
        self.values, self.entry, self.size, self.index = values, entry, size, index

    def take(self, rows: Tensor | slice) -> Rows:
        """Some of the rows; those of a tensor are copied when they are read."""
        assert self.index is None
        if self.entry is not None:
            entry = self.entry[rows] if isinstance(rows, slice) else self.entry.index_select(0, rows)
            return Rows(self.values, entry, self.size)
        return Rows(self.values[rows]) if isinstance(rows, slice) else Rows(self.values, index=rows)

    def block(self, begin: int, end: int) -> Tensor:
        """The numbers (end - begin, B, K) of successive rows."""
        if self.entry is not None:
            entry = self.entry[begin:end]
            return self.values.index_select(0, entry.reshape(-1)).view(*entry.shape, -1)
        if self.index is not None:
            return self.values.index_select(0, self.index[begin:end])
        return self.values[begin:end]

    def whole(self) -> Tensor:
        """The numbers of all rows."""
        if self.entry is None and self.index is None:
            return self.values
        return self.block(0, len(self.entry if self.entry is not None else self.index))  # type: ignore[arg-type]

    def at(self, row: Tensor, batch: Tensor, column: Tensor | slice) -> Tensor:
        """The numbers of chosen rows, for chosen rows of data: (V, K), or (V,) of chosen columns."""
        if self.entry is not None:
            return self.values[self.entry[row, batch], column]
        return self.values[row if self.index is None else self.index[row], batch, column]


class Spans:
    """The flow of a layer whose rows are each read once: tensors (n, B, K), each of a span of rows, none of them copied."""

    __slots__ = ("parts",)

    def __init__(self) -> None:
        self.parts: list[tuple[int, int, Tensor]] = []

    def add(self, span: slice, flow: Tensor) -> None:
        """The flow of a span of rows."""
        self.parts.append((span.start, span.stop, flow))

    def at(self, row: int) -> Tensor:
        """The flow of one row, (B, K)."""
        begin, flow = next((begin, flow) for begin, end, flow in self.parts if begin <= row < end)
        return flow[row - begin]

    def fill(self, total: Tensor) -> Tensor:
        """The same flow as one tensor: what came so far is written into it."""
        for begin, end, flow in self.parts:
            total[begin:end] = flow
        return total

    def whole(self) -> Tensor:
        """The flow of all rows."""
        parts = sorted(self.parts, key=lambda part: part[0])
        return parts[0][2] if len(parts) == 1 else torch.cat([flow for _, _, flow in parts])
