"""Wiring at run time: slices where rows lie together, one gather for each layer read where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from pcircuits.program.numbers import TINY, from_logs, rebased, unflatten
from pcircuits.program.plan import Edges, Index, Plan
from pcircuits.program.rows import Rows, Spans
from pcircuits.program.state import State

__all__ = ["Flow", "Gather", "Locations", "Visits"]

Flow = Tensor | Spans


@dataclass(frozen=True)
class Visits:
    """Units that samples pass through: for each visit its sample, its row of a layer, and its column."""

    sample: Tensor
    row: Tensor
    column: Tensor

    def where(self, mask: Tensor) -> Visits:
        """The visits that a mask selects."""
        return Visits(self.sample[mask], self.row[mask], self.column[mask])

    @staticmethod
    def join(parts: Sequence[Visits]) -> Visits:
        """Several lists of visits as one."""
        if len(parts) == 1:
            return parts[0]
        fields = ("sample", "row", "column")
        return Visits(*(torch.cat([getattr(part, name) for part in parts]) for name in fields))


@dataclass(frozen=True)
class Locations:
    """For each row of a program, the layer that computes it and its place there; for each layer, what readers need.

    `sole` says that each of a layer's rows is read as a whole, and once (of a chain, each of the highest step);
    `by_unit` that single units of it are read;
    `logs` and `normal`, filled while layers are made, that its numbers are logarithms in every pass, and that scaled
    numbers of a row add up to a number near 1.
    """

    layer: Index
    row: Index
    widths: tuple[int, ...]
    counts: tuple[int, ...]
    sole: tuple[bool, ...]
    by_unit: tuple[bool, ...]
    logs: list[bool] = field(default_factory=list)
    normal: list[bool] = field(default_factory=list)

    @staticmethod
    def of(plan: Plan) -> Locations:
        """Where the rows of a plan are."""
        layer = plan.owners()
        row = np.concatenate([np.arange(node.count) for node in plan.nodes])
        readers = plan.readers()
        unit = np.zeros(len(plan.nodes), bool)
        for edges in (plan.root, *(edges for node in plan.nodes for edges in node.edges())):
            if edges.columns is not None:
                unit[layer[edges.rows.ravel()]] = True
        ends = [(n.first + n.count, n.facts.get("parallel", n.count)) for n in plan.nodes]
        once = [bool((readers[end - outer : end] == 1).all()) for end, outer in ends]
        return Locations(
            layer,
            row,
            tuple(n.width for n in plan.nodes),
            tuple(n.count for n in plan.nodes),
            tuple(o and not u for o, u in zip(once, unit.tolist(), strict=True)),
            tuple(unit.tolist()),
        )


class Gather(nn.Module):
    """Reads whole rows (n), or single units (n, K), of earlier layers."""

    order: Tensor
    permutation: Tensor
    layer: Tensor
    row: Tensor
    column: Tensor
    entries: Tensor

    def __init__(self, edges: Edges, locations: Locations, device: torch.device | None) -> None:
        super().__init__()
        rows = edges.rows.reshape(-1)
        self.count = edges.rows.shape[0] * edges.rows.shape[1]
        self.by_unit = edges.columns is not None
        self.width = edges.rows.shape[2] if self.by_unit else locations.widths[locations.layer[rows[0]]]
        columns = np.zeros_like(rows) if edges.columns is None else edges.columns.reshape(-1)
        layer, row = locations.layer[rows], locations.row[rows]
        self.sources = tuple(int(s) for s in np.unique(layer))
        self.counts = tuple(locations.counts[s] for s in self.sources)
        self.widths = tuple(locations.widths[s] for s in self.sources)
        self.sole = tuple(locations.sole[s] for s in self.sources)
        self.in_logs = tuple(locations.logs[s] for s in self.sources)
        self.span = _straight(rows)
        order = []
        self.spans: list[slice | None] = []
        for number, source in enumerate(self.sources):
            here = np.flatnonzero(layer == source)
            order.append(here)
            self.spans.append(None if self.by_unit else _straight(row[here]))
            self._index(f"rows_{number}", row[here], device)
            self._index(f"columns_{number}", columns[here], device)
        joined = np.concatenate(order)
        self.in_order = bool((np.diff(joined) == 1).all())
        for name, values in (("permutation", np.argsort(joined, kind="stable")), ("order", joined), ("entries", rows)):
            self._index(name, values, device)
        for name, values in (("layer", layer), ("row", row), ("column", columns)):
            self._index(name, values, device)

    def _index(self, name: str, values: Index, device: torch.device | None) -> None:
        self.register_buffer(name, torch.as_tensor(np.ascontiguousarray(values), device=device), persistent=False)

    def _buffer(self, name: str, number: int) -> Tensor:
        return getattr(self, f"{name}_{number}")  # type: ignore[no-any-return]

    def of_rows(self, values: Tensor) -> Tensor:
        """What belongs to rows of the program, (rows, B), for the rows read."""
        return values[self.span] if self.span is not None else values.index_select(0, self.entries)

    def read(self, state: State) -> tuple[Rows, Tensor, Tensor | None]:
        """As `gather`, with numbers that are copied a block at a time, where they are in one layer."""
        if self.by_unit or len(self.sources) > 1 or (not state.logs and self.in_logs[0]):
            numbers, exponent, slack = self.gather(state)
            return Rows(numbers), exponent, slack
        return self._rows(0, state), self.of_rows(state.exponent), None if state.logs else self.of_rows(state.slack)

    def gather(self, state: State) -> tuple[Tensor, Tensor, Tensor | None]:
        """Numbers (n, B, K), exponents (n, B), and bounds on the errors of numbers where they are scaled."""
        exponent = self.of_rows(state.exponent)
        slack = None if state.logs else self.of_rows(state.slack)
        convert = not state.logs and any(self.in_logs)
        parts = []
        for number in range(len(self.sources)):
            part = self._part(number, state)
            parts.append(torch.log2(part.double()) if convert and not self.in_logs[number] else part)
        numbers = self._joined(parts)
        if self.by_unit:
            return self._one_exponent(state, numbers, exponent, slack, state.logs or convert)
        if convert:
            numbers, raised = from_logs(numbers)
            assert slack is not None
            slack = slack.clone()
            slack[:, 1] += TINY[state.dtype]
            return numbers.to(state.dtype), exponent + raised, slack
        return numbers, exponent, slack

    def raw(self, state: State) -> tuple[Tensor, Tensor, Tensor]:
        """Base-2 logs of the units read, (B, n·K), in float64; their exponents and bounds on relative errors, likewise."""
        parts = []
        for number in range(len(self.sources)):
            part = self._part(number, state)
            parts.append(part.double() if state.logs or self.in_logs[number] else torch.log2(part.double()))
        numbers, exponent = self._joined(parts), self.of_rows(state.exponent)
        slack = exponent if state.logs else self._relative(state, numbers)
        if self.by_unit:
            return numbers.t(), exponent.t(), slack.t()
        if exponent.ndim < 3:
            exponent = exponent.unsqueeze(-1).expand_as(numbers)
        slack = exponent if state.logs else slack
        return numbers.transpose(0, 1).flatten(1), exponent.transpose(0, 1).flatten(1), slack.transpose(0, 1).flatten(1)

    def _relative(self, state: State, logs: Tensor) -> Tensor:
        """Bounds on the relative errors of numbers with these base-2 logs, (n, B, K) or (n·K, B)."""
        slack = self.of_rows(state.slack)
        relative, absolute = slack[:, 0], slack[:, 1]
        if not self.by_unit:
            relative, absolute = relative.unsqueeze(-1), absolute.unsqueeze(-1)
        return relative + absolute * torch.exp2(-logs.clamp_min(-1000.0))  # of an exact zero the bound is 0

    def _rows(self, number: int, state: State) -> Rows:
        """The rows read of one of the layers."""
        rows, span = state.numbers[self.sources[number]], self.spans[number]
        assert rows is not None
        if span is None:
            return rows.take(self._buffer("rows", number))
        return rows if (span.start, span.stop) == (0, self.counts[number]) else rows.take(span)

    def _part(self, number: int, state: State) -> Tensor:
        if not self.by_unit:
            return self._rows(number, state).whole()
        rows = state.numbers[self.sources[number]]
        assert rows is not None
        return rows.whole()[self._buffer("rows", number), :, self._buffer("columns", number)]

    def _joined(self, parts: list[Tensor]) -> Tensor:
        joined = parts[0] if len(parts) == 1 else torch.cat(parts)
        return joined if self.in_order else joined.index_select(0, self.permutation)

    def _one_exponent(
        self, state: State, numbers: Tensor, exponent: Tensor, slack: Tensor | None, logs: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Single units (n·K, B), brought to one exponent for each row of K of them."""
        shape = (self.count, self.width)
        numbers, exponents = (unflatten(t, 0, shape).transpose(1, 2) for t in (numbers, exponent))
        if slack is not None:
            slack = unflatten(slack, 0, shape).amax(1)
        if self.width == 1 and not logs:
            return numbers, exponents.squeeze(-1), slack
        top = exponents.amax(-1)
        base = torch.where(top == -torch.inf, 0.0, top)
        apart = exponents - base.unsqueeze(-1)
        if logs:
            numbers, raised = (rebased if state.logs else from_logs)(numbers + apart)
            numbers, top = numbers.to(state.dtype), base + raised
        else:
            numbers = numbers * torch.exp2(apart).to(numbers.dtype)
        if slack is not None:
            slack[:, 1] += TINY[state.dtype]
        return numbers, top, slack

    @property
    def one_by_one(self) -> bool:
        """Whether rows of one layer are read, so that their flow may come a block at a time."""
        return len(self.sources) == 1 and not self.by_unit

    @property
    def as_they_are(self) -> bool:
        """Whether the rows of one layer are read in their order, each once in the program: their flow is what it has."""
        return self.one_by_one and self.sole[0] and self.spans[0] is not None

    def scatter(self, flow: Tensor, flows: list[Flow | None], begin: int = 0) -> None:
        """Add the flow (n, B, K) of what was read, or of a block of it, to the flows of the layers it was read from."""
        if self.one_by_one:
            self._add(0, flow, flows, begin)
            return
        flat = flow.transpose(1, 2).flatten(0, 1) if self.by_unit else flow
        if not self.in_order:
            flat = flat.index_select(0, self.order)
        begin = 0
        for number in range(len(self.sources)):
            rows = self._buffer("rows", number)
            part = flat[begin : begin + len(rows)]
            begin += len(rows)
            if self.by_unit:
                self._add_units(self._total(number, flow, flows), rows, self._buffer("columns", number), part)
            else:
                self._add(number, part, flows, 0)

    @staticmethod
    def _add_units(total: Tensor, rows: Tensor, columns: Tensor, part: Tensor) -> None:
        """Add the flow (n, B) of single units of one layer."""
        total.transpose(1, 2).index_put_((rows, columns), part, accumulate=True)

    def _total(self, number: int, flow: Tensor, flows: list[Flow | None]) -> Tensor:
        """The flow of a layer that is read, as one tensor."""
        source = self.sources[number]
        found = flows[source]
        if isinstance(found, Tensor):
            return found
        shape = (self.counts[number], flow.shape[1], self.widths[number])
        total = flow.new_empty(shape) if self.sole[number] else flow.new_zeros(shape)
        flows[source] = total = total if found is None else found.fill(total)
        return total

    def _add(self, number: int, part: Tensor, flows: list[Flow | None], begin: int) -> None:
        """Add the flow of rows of one layer, from the one that is read as number `begin` on."""
        source, span = self.sources[number], self.spans[number]
        if span is not None:
            span = slice(span.start + begin, span.start + begin + len(part))
            if self.sole[number] and not isinstance(flows[source], Tensor):
                found = flows[source] = flows[source] or Spans()
                assert isinstance(found, Spans)
                found.add(span, part)
                return
            total = self._total(number, part, flows)
            if self.sole[number]:
                total[span] = part
            else:
                total[span] += part
            return
        total, rows = self._total(number, part, flows), self._buffer("rows", number)[begin : begin + len(part)]
        if self.sole[number]:
            total.index_copy_(0, rows, part)
        else:
            total.index_add_(0, rows, part)

    def route(self, sample: Tensor, read: Tensor, column: Tensor, visits: Sequence[list[Visits]]) -> None:
        """Hand visits of what was read (entry `read` of n, column of K) to the layers it was read from."""
        flat = read * self.width + column if self.by_unit else read
        layer, row = self.layer[flat], self.row[flat]
        unit = self.column[flat] if self.by_unit else column
        for source in self.sources:
            here = layer == source if len(self.sources) > 1 else slice(None)
            part = Visits(sample[here], row[here], unit[here])
            if len(part.sample):
                visits[source].append(part)

    def logs_at(self, state: State, read: Tensor, batch: Tensor) -> Tensor:
        """Base-2 logs of the rows read, for chosen rows of data: entry `read` of n at row `batch` of B, (V, K)."""
        if not self.by_unit:
            numbers = self._at(state, read, batch, slice(None))
            return numbers + state.exponent[self.entries[read], batch].unsqueeze(-1)
        columns = torch.arange(self.width, device=read.device)
        unit = (read.unsqueeze(1) * self.width + columns).flatten()
        entry, rows = (t.repeat_interleave(self.width) for t in (read, batch))
        return self.unit_logs_at(state, entry, rows, unit=unit).view(-1, self.width)

    def unit_logs_at(
        self, state: State, read: Tensor, batch: Tensor, column: Tensor | None = None, unit: Tensor | None = None
    ) -> Tensor:
        """Base-2 logs of single units read, for chosen rows of data, (V,)."""
        if self.by_unit:
            if unit is None:
                assert column is not None
                unit = read * self.width + column
            entry, column = unit, self.column[unit]
        else:
            entry = read
        assert column is not None
        return self._at(state, entry, batch, column) + state.exponent[self.entries[entry], batch]

    def _at(self, state: State, entry: Tensor, batch: Tensor, column: Tensor | slice) -> Tensor:
        """Base-2 logs of numbers, in float64."""
        layer, row = self.layer[entry], self.row[entry]
        out: Tensor | None = None
        for number, source in enumerate(self.sources):
            rows = state.numbers[source]
            assert rows is not None
            here = slice(None) if len(self.sources) == 1 else layer == source
            at = column if isinstance(column, slice) else column[here]
            some = rows.at(row[here], batch[here], at).double()
            if not state.logs and not self.in_logs[number]:
                some = torch.log2(some)
            if len(self.sources) == 1:
                return some
            out = some.new_empty((len(entry), *some.shape[1:])) if out is None else out
            out[here] = some
        assert out is not None
        return out


def _straight(rows: Index) -> slice | None:
    """The rows as a slice, where they follow each other."""
    if len(rows) > 1 and not (np.diff(rows) == 1).all():
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1)
