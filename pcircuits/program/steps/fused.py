"""Steps over products of input units: alone, or streamed under the dense sum that alone reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pcircuits.program.fetch import Visits
from pcircuits.program.numbers import log_matmul
from pcircuits.program.operations import FusedOp, MixtureOp
from pcircuits.program.pools import Pools
from pcircuits.program.steps.leaf_products import LeafColumns, LeafProducts
from pcircuits.program.steps.step import Choice, Reader, State, Step, value_of
from pcircuits.program.steps.sums import DenseWeights, edge_flows, reduce_logs

__all__ = ["FusedStep", "MixtureStep"]


class FusedStep(Step):
    """Products over input units of one family."""

    def __init__(
        self, index: int, op: FusedOp, pools: Pools, source: nn.Module | None, device: torch.device | None
    ) -> None:
        super().__init__(index, op.count, op.width)
        self.product = LeafProducts(op, pools, source, device)

    def up(self, state: State) -> Tensor:
        return self.product.values(state, self.product.columns_of(0, self.width, state.memory))

    def down(self, state: State, flow: Tensor, flows: list[Tensor | None], reader: Reader) -> None:
        self.product.read(reader, self.product.columns_of(0, self.width, state.memory), flow)

    def choose(self, state: State, visits: Visits, choice: Choice) -> None:
        self.product.settle(visits.row, visits.column, visits.sample, choice)

    def live(self) -> int:
        return self.count * (4 * self.product.arity + 2 * self.width)


class MixtureStep(Step):
    """Dense sums over products of input units, streamed: log Σ_k w_ok Π_a leaf_ak.

    Ranges of columns are the outer loop and rows of data the inner one, so that (B, K) values and the parameters that
    a source makes are never all in memory; a backward pass makes each range again.
    """

    def __init__(
        self,
        index: int,
        op: MixtureOp,
        pools: Pools,
        source: nn.Module | None,
        device: torch.device | None,
        chunked: bool,
    ) -> None:
        super().__init__(index, op.count, op.width)
        self.inputs = op.inputs
        self.product = LeafProducts(op.product, pools, source, device)
        self.weights = DenseWeights(pools.view(op.weights))
        self.chunked = chunked

    def _ranges(self, state: State) -> list[tuple[int, int]]:
        """Ranges of columns whose parameters fit a share of the bound on memory."""
        if not self.chunked:
            return [(0, self.inputs)]
        per_column = 8 * 8 * self.count * (self.product.arity + 8)
        step = max(1, min(self.inputs, state.memory // (4 * per_column)))
        return [(begin, min(begin + step, self.inputs)) for begin in range(0, self.inputs, step)]

    def _rows(self, state: State) -> list[tuple[slice, State]]:
        """The pass in slices of rows whose (B, n) values fit a share of the bound on memory; cut once for each pass."""
        found = state.saved.get((self, "rows"))
        if isinstance(found, list):
            return found
        batch = state.report.rows
        width = self._ranges(state)[0][1]
        rows = max(1, state.memory // (4 * 6 * 8 * self.count * width)) if self.chunked else batch
        if rows >= batch:
            return [(slice(None), state)]
        cuts = [slice(begin, min(begin + rows, batch)) for begin in range(0, batch, rows)]
        parts = [(cut, State(state.report.take(cut), [], state.maximise, state.memory)) for cut in cuts]
        state.saved[self, "rows"] = parts
        return parts

    def up(self, state: State) -> Tensor:
        logs = self.weights.logs()
        recompute = self.chunked and torch.is_grad_enabled()
        parts = []
        for begin, end in self._ranges(state):
            run: Callable[[], Tensor] = self._partial(state, logs, begin, end)
            parts.append(checkpoint(run, use_reentrant=False, preserve_rng_state=False) if recompute else run())
        partial = torch.stack(parts, -1)
        state.saved[self] = partial.detach()
        return partial[..., 0] if len(parts) == 1 else reduce_logs(partial, -1, state.maximise[self.index])

    def _partial(self, state: State, logs: Tensor, begin: int, end: int) -> Callable[[], Tensor]:
        def run() -> Tensor:
            columns = self.product.columns_of(begin, end, state.memory)
            maximise = state.maximise[self.index]
            out = []
            for _, part in self._rows(state):
                values = self._product_values(part, columns, begin)
                out.append(self._reduced(values, logs[:, :, begin:end], maximise))
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

    def _reduced(self, values: Tensor, logs: Tensor, maximise: bool | Tensor) -> Tensor:
        """(R, B, n) and weights (R, O, n) to (R, B, O)."""
        if maximise is False and self.width > 1 and self.weights.level():
            shift = logs.detach().amax((-1, -2), keepdim=True)
            return log_matmul(values, (logs - shift).exp()) + shift
        return torch.stack([reduce_logs(values + logs[:, o, None], -1, maximise) for o in range(self.width)], -1)

    def down(self, state: State, flow: Tensor, flows: list[Tensor | None], reader: Reader) -> None:
        logs, total = self.weights.logs(), value_of(state, self)
        for begin, end in self._ranges(state):
            columns = self.product.columns_of(begin, end, state.memory)
            below = []
            for rows, part in self._rows(state):
                values = self._product_values(part, columns, begin)
                share = self._shares(values, logs[:, :, begin:end], total[:, rows], flow[:, rows])
                reader.edges(self.index, rows, begin, lambda s=share: torch.stack(list(s()), 2))  # type: ignore[misc]
                below.append(_added(share()))
            self.product.read(reader, columns, torch.cat(below, 1))

    def _shares(self, values: Tensor, logs: Tensor, total: Tensor, flow: Tensor) -> Callable[[], Iterator[Tensor]]:
        """The flows (R, B, n) into the inputs, one output after the other."""

        def outputs() -> Iterator[Tensor]:
            for o in range(self.width):
                yield edge_flows(values + logs[:, o, None], total[:, :, o, None], flow[:, :, o, None])

        return outputs

    def choose(self, state: State, visits: Visits, choice: Choice) -> None:
        partial = state.saved[self]
        assert isinstance(partial, Tensor)
        batch = choice.row_of[visits.sample]
        ranges = self._ranges(state)
        chosen = choice.chooser.pick(partial[visits.row, batch, visits.column])
        logs = self.weights.logs()
        for number, (begin, end) in enumerate(ranges):
            here = chosen == number
            if bool(here.any()):
                self._choose_within(state, visits.where(here), batch[here], choice, (begin, end), logs)

    def _choose_within(
        self, state: State, visits: Visits, batch: Tensor, choice: Choice, span: tuple[int, int], logs: Tensor
    ) -> None:
        begin, end = span
        rows, place = torch.unique(batch, return_inverse=True)
        asked = State(state.report.take(rows), [], state.maximise, state.memory)
        columns = self.product.columns_of(begin, end, state.memory)
        at = 0
        for _, part in self._rows(asked):
            size = part.report.rows
            here = (place >= at) & (place < at + size)
            values = self.product.values(part, columns)
            some = visits.where(here)
            scores = values[some.row, place[here] - at] + logs[some.row, some.column, begin:end]
            picked = begin + choice.chooser.pick(scores)
            self.product.settle(some.row, picked, some.sample, choice)
            at += size

    def live(self) -> int:
        return self.count * (4 * self.product.arity + 2 * self.width)


def _added(parts: Iterator[Tensor]) -> Tensor:
    total = next(parts)
    for part in parts:
        total = total + part
    return total
