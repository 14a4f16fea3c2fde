"""Steps over products of input units: alone, or streamed under the dense sum that alone reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pcircuits.program.fetch import Visits
from pcircuits.program.held import Held
from pcircuits.program.numbers import log_matmul
from pcircuits.program.operations import FusedOp, MixtureOp
from pcircuits.program.steps.inputs import PARAMETER_BYTES, again
from pcircuits.program.steps.leaf_products import PAIR_BYTES, TABLE_COLUMNS, LeafColumns, LeafProducts
from pcircuits.program.steps.step import Build, Choice, Maximise, Reader, Spans, State, Step
from pcircuits.program.steps.sums import Weights, outputs_of, reduce_logs
from pcircuits.program.values import Values

__all__ = ["FusedStep", "MixtureStep"]

STATISTIC_BYTES = 64
"""What one entry of data takes while its statistics are multiplied with natural parameters."""

VALUE_BYTES = 48
"""What the value of a product takes while it is summed over."""

LEVEL = 46.0
"""Nats between weights up to which sums may share a maximum among their outputs: a term that underflows beside it is
below rounding."""


class FusedStep(Step):
    """Products over input units of one family."""

    def __init__(self, index: int, op: FusedOp, build: Build) -> None:
        super().__init__(index, op.count, op.width)
        self.product = LeafProducts(op, build)
        self.chunked = build.chunked

    def up(self, state: State) -> Values:
        parts = [again(self._part(state, begin, end), self.product.leaves.source) for begin, end in self._ranges(state)]
        self.product.forget(state)
        return Values(parts[0] if len(parts) == 1 else torch.cat(parts, -1))

    def _part(self, state: State, begin: int, end: int) -> Callable[[], Tensor]:
        return lambda: self.product.values(state, self.product.columns_of(state, begin, end))

    def _ranges(self, state: State) -> list[tuple[int, int]]:
        """What a source makes is asked for in ranges of columns."""
        streamed = self.chunked and self.product.leaves.source is not None
        leaves = self.count * self.product.arity
        return self.product.leaves.ranges(state.memory // (4 * PARAMETER_BYTES * leaves) if streamed else None)

    def down(self, state: State, flow: Tensor, flows: list[Tensor | None], reader: Reader) -> None:
        for begin, end in self._ranges(state):
            self.product.read(reader, self.product.columns_of(state, begin, end), flow[..., begin:end])

    def choose(self, state: State, visits: Visits, choice: Choice) -> None:
        self.product.settle(state, visits.row, visits.column, visits.sample, choice)

    def live(self) -> int:
        return self.count * (4 * self.product.arity + 2 * self.width)


class MixtureStep(Step):
    """Dense sums over products of input units, streamed: log Σ_k w_ok Π_a leaf_ak.

    Ranges of columns are the outer loop and rows of data the inner one, so that (B, K) values and the parameters that
    a source makes are never all in memory; a backward pass makes each range again.
    """

    def __init__(self, index: int, op: MixtureOp, build: Build) -> None:
        super().__init__(index, op.count, op.width)
        self.inputs = op.inputs
        self.product = LeafProducts(op.product, build)
        self.weights = Weights(build.pools.view(op.weights), op.sums)
        self.chunked = build.chunked

    def _ranges(self, state: State) -> list[tuple[int, int]]:
        """Ranges of columns whose parameters, and with a table whose values too, fit a share of the bound on memory."""
        return self._cut(state)[0]

    def _rows(self, state: State) -> list[tuple[slice, State]]:
        """The pass in slices of rows whose (B, n) values fit a share of the bound on memory."""
        return self._cut(state)[1]

    def _cut(self, state: State) -> tuple[list[tuple[int, int]], list[tuple[slice, State]]]:
        """A pass cut into ranges of columns and slices of rows, once: where rows share the work of a table, there are
        more ranges rather than more slices."""
        found = state.saved.get((self, "cut"))
        if isinstance(found, tuple):
            return found
        batch, arity = state.report.rows, self.product.arity
        memory = state.memory // self.count
        columns, share, of_entry = memory // (4 * PARAMETER_BYTES * (arity + 8)), 4, STATISTIC_BYTES
        if self.product.by_table(state.report):
            share, of_entry = 2, PAIR_BYTES
            beside = memory // (share * max(1, batch)) - of_entry * arity
            columns = min(columns, max(1, beside // (VALUE_BYTES * TABLE_COLUMNS)) * TABLE_COLUMNS)
        ranges = self.product.leaves.ranges(columns if self.chunked else None)
        of_row = VALUE_BYTES * ranges[0][1] + of_entry * arity
        rows = max(1, memory // (share * of_row)) if self.chunked else batch
        parts = [(slice(None), state)]
        if rows < batch:
            cuts = [slice(begin, min(begin + rows, batch)) for begin in range(0, batch, rows)]
            parts = [(cut, state.about(state.report.take(cut))) for cut in cuts]
        state.saved[self, "cut"] = (ranges, parts)
        return ranges, parts

    def up(self, state: State) -> Values:
        logs = self.weights.logs(state.held)
        recompute = self.chunked and torch.is_grad_enabled()
        parts = []
        for begin, end in self._ranges(state):
            run: Callable[[], Tensor] = self._partial(state, logs, begin, end)
            parts.append(checkpoint(run, use_reentrant=False, preserve_rng_state=False) if recompute else run())
            if not state.keep:
                parts = [self._sum(state, parts)]
        total = self._sum(state, parts)
        if state.keep:
            state.saved[self] = torch.stack(parts, -1).detach()
            state.saved[self, "total"] = total.detach()
        else:
            for _, part in self._rows(state):
                self.product.forget(part)
        return Values(total.to(state.report.tensors()[0].dtype))

    def _sum(self, state: State, parts: list[Tensor]) -> Tensor:
        """The sum, or maximum, of ranges of columns."""
        if len(parts) == 1:
            return parts[0]
        return reduce_logs(torch.stack(parts, -1), -1, outputs_of(state.maximise[self.index], slice(None)))

    def _partial(self, state: State, logs: Tensor, begin: int, end: int) -> Callable[[], Tensor]:
        if self.product.leaves.source is None:  # what is held is made outside of what is checkpointed
            self.product.leaves.columns(state.held, begin, end, logs.device)

        def run() -> Tensor:
            columns = self.product.columns_of(state, begin, end)
            maximise = state.maximise[self.index]
            out = []
            for _, part in self._rows(state):
                values = self._product_values(part, columns, begin)
                level = self.width > 1 and maximise is False and state.scaled[self.index]
                out.append(_reduced(values, logs[:, :, begin:end], maximise, level))
            return torch.cat(out, 1)

        return run

    def _product_values(self, part: State, columns: LeafColumns, begin: int) -> Tensor:
        """The products of a range of columns, (R, B, n); kept for the way down where all of them fit a share of memory."""
        kept = part.saved.get((self, begin))
        if isinstance(kept, Tensor):
            return kept
        values = self.product.values(part, columns)
        size = self.count * part.report.rows * self.inputs * values.element_size()
        if part.keep and not values.requires_grad and 4 * size <= part.memory:
            part.saved[self, begin] = values
        return values

    def down(self, state: State, flow: Tensor, flows: list[Tensor | None], reader: Reader) -> None:
        logs, total = self.weights.logs(state.held), state.saved[self, "total"]
        assert isinstance(total, Tensor)
        for begin, end in self._ranges(state):
            columns = self.product.columns_of(state, begin, end)
            below = []
            for rows, part in self._rows(state):
                values = self._product_values(part, columns, begin)
                share = self._shares(values, logs[:, :, begin:end], total[:, rows], flow[:, rows])
                reader.edges(self.index, rows, begin, lambda s=share: torch.stack(list(s()), 2))  # type: ignore[misc]
                below.append(_added(share()))
            self.product.read(reader, columns, torch.cat(below, 1) if len(below) > 1 else below[0])

    def _shares(self, values: Tensor, logs: Tensor, total: Tensor, flow: Tensor) -> Callable[[], Iterator[Tensor]]:
        """The flows (R, B, n) into the inputs, one output after the other: flow · exp(term − total).

        A float64 total is taken off in two parts, so that shares add up to 1 however large it is.
        """
        near = total.to(values.dtype)
        rest = (total - torch.where(near == -torch.inf, 0.0, near)).to(values.dtype)
        dead = near == -torch.inf

        def outputs() -> Iterator[Tensor]:
            for o in range(self.width):
                gone = dead[:, :, o, None]
                terms = values + logs[:, o, None] - torch.where(gone, 0.0, near[:, :, o, None])
                share = (terms - torch.where(gone, 0.0, rest[:, :, o, None])).exp()
                yield torch.where(gone, 0.0, share * flow[:, :, o, None])

        return outputs

    def choose(self, state: State, visits: Visits, choice: Choice) -> None:
        partial = state.saved[self]
        assert isinstance(partial, Tensor)
        batch = choice.row_of[visits.sample]
        ranges = self._ranges(state)
        chosen = choice.chooser.pick(partial[visits.row, batch, visits.column])
        for number, (begin, end) in enumerate(ranges):
            here = chosen == number
            if bool(here.any()):
                self._choose_within(state, visits.where(here), batch[here], choice, (begin, end))

    def _choose_within(
        self, state: State, visits: Visits, batch: Tensor, choice: Choice, span: tuple[int, int]
    ) -> None:
        """Draw for visits within a range of columns: all of one row and output from the same scores."""
        begin, end = span
        columns = self.product.columns_of(state, begin, end)
        logs = self.weights.logs(state.held)
        for cut, part in self._rows(state):
            first, last, _ = cut.indices(state.report.rows)
            here = ((batch >= first) & (batch < last)).nonzero().squeeze(1)
            if not len(here):
                continue
            values = self._product_values(part, columns, begin)
            sample, row, column, at = visits.sample[here], visits.row[here], visits.column[here], batch[here] - first
            distinct, group = torch.unique((row * self.width + column) * (last - first) + at, return_inverse=True)
            unit, place = torch.div(distinct, last - first, rounding_mode="floor"), distinct % (last - first)
            owner, output = torch.div(unit, self.width, rounding_mode="floor"), unit % self.width
            picked = choice.chooser.pick_grouped(
                lambda g, v=values, r=owner, p=place, o=output: v[r[g], p[g]] + logs[r[g], o[g], begin:end],  # type: ignore[misc]
                len(distinct),
                group,
                max(1, state.memory // (32 * (end - begin))),
            )
            self.product.settle(state, row, begin + picked, sample, choice)

    def live(self) -> int:
        """Little for each row: it cuts rows of data itself."""
        return self.count * self.width

    def live_down(self, memory: int) -> int:
        """The flows into a range of columns, its products' pairs, and the sums of all ranges."""
        arity = self.product.arity
        columns = min(self.inputs, memory // self.count // (4 * PARAMETER_BYTES * (arity + 8)))
        sums = 2 * self.width * (self.inputs // TABLE_COLUMNS + 1)
        return self.count * (2 * columns + 4 * arity + sums)

    def ratio(self, held: Held) -> Tensor:
        return self.weights.ratio(held)

    def bound(self, spans: Spans, ratio: float) -> float:
        return ratio

    def scales(self, need: float, spans: Spans, ratio: float) -> bool:
        return ratio <= LEVEL


def _reduced(values: Tensor, logs: Tensor, maximise: Maximise, level: bool) -> Tensor:
    """(R, B, n) and weights (R, O, n) to (R, B, O), in float64: rounded, so large a sum would spoil the shares in it."""
    if level:
        shift = logs.detach().amax((-1, -2), keepdim=True)
        return log_matmul(values, (logs - shift).exp()) + shift
    made = []
    for o in range(logs.shape[1]):
        terms = values + logs[:, o, None]
        peak = terms.detach().amax(-1, keepdim=True)
        peak = torch.where(torch.isfinite(peak), peak, 0.0)
        of_output = maximise if isinstance(maximise, bool) else maximise[:, o, None]
        made.append(reduce_logs(terms - peak, -1, of_output).double() + peak.squeeze(-1))
    return torch.stack(made, -1)


def _added(parts: Iterator[Tensor]) -> Tensor:
    total = next(parts)
    for part in parts:
        total = total + part
    return total
