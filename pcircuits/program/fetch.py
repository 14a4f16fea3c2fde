"""Wiring at run time: slices where rows lie together, one gather for each source where they do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pcircuits.program.numbers import unflatten
from pcircuits.program.operations import Index, Reads
from pcircuits.program.values import Computed, Values

__all__ = ["Fetch", "Locations", "Visits"]


@dataclass(frozen=True)
class Visits:
    """Units that samples pass through: for each visit its sample, its row of a step, and its column."""

    sample: Tensor
    row: Tensor
    column: Tensor

    def where(self, mask: Tensor) -> Visits:
        """The visits that a mask selects."""
        return Visits(self.sample[mask], self.row[mask], self.column[mask])

    def batches(self, size: int) -> Iterator[Visits]:
        """The visits, at most `size` at a time."""
        if len(self.sample) <= size:
            yield self
            return
        for begin in range(0, len(self.sample), size):
            some = slice(begin, begin + size)
            yield Visits(self.sample[some], self.row[some], self.column[some])

    @staticmethod
    def join(parts: Sequence[Visits]) -> Visits:
        """Several lists of visits as one."""
        if len(parts) == 1:
            return parts[0]
        return Visits(
            torch.cat([p.sample for p in parts]),
            torch.cat([p.row for p in parts]),
            torch.cat([p.column for p in parts]),
        )


@dataclass(frozen=True)
class Locations:
    """For each row of a program, the step that computes it and its place there; for each step, its width."""

    step: Index
    row: Index
    widths: tuple[int, ...]

    def firsts(self) -> Index:
        """For each step, its first row in the program."""
        counts = np.bincount(self.step, minlength=len(self.widths))
        return np.asarray(counts.cumsum() - counts)


class Fetch(nn.Module):
    """Reads whole rows (n) or single units (n, K), from the values of earlier steps, as (n, B, K).

    A unit-wise read from the step s is `values[s][row, :, column]`.
    """

    order: Tensor
    permutation: Tensor
    shared_rows: Tensor
    step: Tensor
    row: Tensor
    column: Tensor

    def __init__(self, reads: Reads, locations: Locations, device: torch.device | None) -> None:
        super().__init__()
        rows = reads.rows.reshape(-1)
        self.count = reads.rows.shape[0] * reads.rows.shape[1]
        self.width = reads.rows.shape[2] if reads.columns is not None else locations.widths[locations.step[rows[0]]]
        self.by_unit = reads.columns is not None
        columns = np.zeros_like(rows) if reads.columns is None else reads.columns.reshape(-1)
        step, row = locations.step[rows], locations.row[rows]
        self.sources = tuple(int(s) for s in np.unique(step))
        together = step.reshape(reads.rows.shape).reshape(len(reads.rows), -1)
        self.combinations: tuple[tuple[int, ...], ...] = tuple(map(tuple, np.unique(together, axis=0).tolist()))
        """Which steps the reads of a row come from, each combination once."""
        self.slices: list[slice | None] = []
        order = []
        for number, source in enumerate(self.sources):
            here = np.flatnonzero(step == source)
            order.append(here)
            picked = row[here]
            straight = not self.by_unit and (np.diff(picked) == 1).all()
            self.slices.append(slice(int(picked[0]), int(picked[-1]) + 1) if straight else None)
            self._index(f"rows_{number}", picked, device)
            self._index(f"columns_{number}", columns[here], device)
        self.narrow = not self.by_unit and len(self.sources) > 1 and all(locations.widths[s] == 1 for s in self.sources)
        if self.narrow:
            self._index("shared_rows", rows, device)
        joined = np.concatenate(order)
        self.in_order = bool((np.diff(joined) == 1).all())
        self._index("permutation", np.argsort(joined, kind="stable"), device)
        self._index("order", joined, device)
        self._index("step", step, device)
        self._index("row", row, device)
        self._index("column", columns, device)

    def _index(self, name: str, values: Index, device: torch.device | None) -> None:
        self.register_buffer(name, torch.as_tensor(np.ascontiguousarray(values), device=device), persistent=False)

    def gather(self, values: Computed, scaled: bool = False) -> Values:
        """The units read, (n, B, K), as logs or scaled."""
        if self.narrow and values.shared is not None and not scaled:
            return Values(values.shared.index_select(0, self.shared_rows))
        parts = [self._part(number, values[source], scaled) for number, source in enumerate(self.sources)]
        joined = Values.join(parts)
        if not self.in_order:
            joined = joined.rows(self.permutation)
        if not self.by_unit:
            return joined
        units = unflatten(joined.numbers, 0, (self.count, self.width)).transpose(1, 2)
        return Values(units).scaled() if scaled else Values(units)

    def _part(self, number: int, source: Values | None, scaled: bool) -> Values:
        assert source is not None
        if self.by_unit:
            rows, columns = self._buffer("rows", number), self._buffer("columns", number)
            return Values(source.logs()[rows, :, columns])
        if scaled:
            source = source.scaled()
        elif source.exponent is not None:
            source = Values(source.logs())
        straight = self.slices[number]
        return source.rows(self._buffer("rows", number) if straight is None else straight)

    def rows_at(self, values: Computed, read: Tensor, batch: Tensor) -> Tensor:
        """Logs of whole rows read, for chosen rows of data: entry `read` of n at row `batch` of B, (V, K)."""
        if self.by_unit:
            columns = torch.arange(self.width, device=read.device)
            unit = (read.unsqueeze(1) * self.width + columns).flatten()
            return self._units(values, unit, batch.repeat_interleave(self.width), self.column[unit]).view(
                -1, self.width
            )
        return self._units(values, read, batch, slice(None))

    def numbers_at(self, values: Computed, read: Tensor, batch: Tensor) -> Tensor:
        """As `rows_at`, but numbers that the values of a row are in proportion to, and no logs."""
        if self.by_unit or len(self.sources) > 1:
            logs = self.rows_at(values, read, batch)
            return Values(logs).scaled().numbers
        held = values[self.sources[0]]
        assert held is not None
        return held.scaled().numbers[self.row[read], batch]

    def units_at(self, values: Computed, read: Tensor, batch: Tensor, column: Tensor) -> Tensor:
        """Logs of single units read, for chosen rows of data, (V,)."""
        if self.by_unit:
            unit = read * self.width + column
            return self._units(values, unit, batch, self.column[unit])
        return self._units(values, read, batch, column)

    def _units(self, values: Computed, entry: Tensor, batch: Tensor, column: Tensor | slice) -> Tensor:
        step, row = self.step[entry], self.row[entry]
        out: Tensor | None = None
        for source in self.sources:
            held = values[source]
            assert held is not None
            if len(self.sources) == 1:
                return held.at(row, batch, column)
            here = step == source
            some = held.at(row[here], batch[here], column if isinstance(column, slice) else column[here])
            out = some.new_empty((len(entry), *some.shape[1:])) if out is None else out
            out[here] = some
        assert out is not None
        return out

    def scatter(self, flow: Tensor, flows: list[Tensor | None], like: Computed) -> None:
        """Add the flow (n, B, K) of what was read to the flows of the steps it was read from."""
        flat = flow.transpose(1, 2).flatten(0, 1) if self.by_unit else flow
        begin = 0
        if not self.in_order:
            flat = flat.index_select(0, self.order)
        for number, source in enumerate(self.sources):
            rows = self._buffer("rows", number)
            part = flat[begin : begin + len(rows)]
            begin += len(rows)
            total = flows[source]
            if total is None:
                values = like[source]
                assert values is not None
                total = flows[source] = torch.zeros_like(values.numbers)
            straight = self.slices[number]
            if straight is not None:
                total[straight] += part
            elif self.by_unit:
                total.transpose(1, 2).index_put_((rows, self._buffer("columns", number)), part, accumulate=True)
            else:
                total.index_add_(0, rows, part)

    def route(self, sample: Tensor, read: Tensor, column: Tensor, visits: Sequence[list[Visits]]) -> None:
        """Hand visits of what was read (entry `read` of n, column of K) to the steps it was read from."""
        flat = read * self.width + column if self.by_unit else read
        step, row = self.step[flat], self.row[flat]
        unit = self.column[flat] if self.by_unit else column
        for source in self.sources:
            here = step == source if len(self.sources) > 1 else slice(None)
            part = Visits(sample[here], row[here], unit[here])
            if len(part.sample):
                visits[source].append(part)

    def _buffer(self, name: str, number: int) -> Tensor:
        return getattr(self, f"{name}_{number}")  # type: ignore[no-any-return]
