"""Chain layers: many steps that read only one another, each a dense sum times a factor."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from pcircuits.program.edges import Flow, Gather, Visits
from pcircuits.program.layers import recursion
from pcircuits.program.layers.bounds import Blocks, Rows
from pcircuits.program.layers.layer import Build, Flows, Layer, Trace
from pcircuits.program.layers.recursion import Steps
from pcircuits.program.layers.sums import Weights, quotient, reduce_logs
from pcircuits.program.numbers import TINY, rebased, rescale, unflatten
from pcircuits.program.plan import Edges, Node
from pcircuits.program.rows import Rows as UnitRows
from pcircuits.program.state import Maximise, Prepared, State

__all__ = ["ChainLayer"]

SPREAD = {torch.float32: 1e25, torch.float64: 1e250}
"""How far apart weights may be for a bound on the relative error of all outputs of a sum."""

AT_ONCE = 2**22
"""How many scores of inputs are made at once where all steps are decided together."""


class ChainLayer(Layer):
    """n steps of R rows, u_s = e_s · (W_s u_{s−1}): row s · R + r is row r after step s, and only the last R are read."""

    normal = True
    needs_own = needs_children = True

    def __init__(self, index: int, node: Node, build: Build) -> None:
        super().__init__(index, node, build)
        start, factors = node.rows["start"], node.rows["factors"]
        assert isinstance(start, Edges)
        assert isinstance(factors, Edges)
        self.parallel: int = node.facts["parallel"]
        self.steps = node.count // self.parallel
        self.start, self.factors = build.gather(start), build.gather(factors)
        self.weights = Weights(build.view("weights", node))

    def gathers(self) -> list[Gather]:
        return [self.start, self.factors]

    def parameters_in(self, prepared: Prepared) -> Mapping[str, Tensor]:
        return self.weights.parameters_in(prepared)

    def in_logs_of(self, found: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return self.weights.in_logs_of(found)

    def _by_step(self, values: Tensor) -> Tensor:
        """(N or 1, ...) as (n or 1, R or 1, ...)."""
        return values.unsqueeze(0) if len(values) == 1 else unflatten(values, 0, (self.steps, self.parallel))

    def _matrices(self, state: State) -> Tensor:
        """The weights by steps, (n or 1, R or 1, O, K)."""
        found = state.prepared.of(self)["weights"]
        if state.prepared.pure:
            return self._by_step(self.weights.of_rows(found))
        return self._by_step(state.prepared.ready(self, "rows", lambda: self.weights.of_rows(found)))

    def _reach(self, state: State) -> tuple[float, float]:
        """The largest Σ_k w_ok / min_k w_ok of all sums, and the largest Σ_k w_ok; the first is infinite beyond use."""

        def made() -> tuple[float, float]:
            weights = state.prepared.of(self)["weights"]
            total = weights.sum(-1)
            spread = float((total / weights.amin(-1)).max())
            return spread if spread < SPREAD[state.dtype] else torch.inf, float(total.max())

        return state.prepared.ready(self, "reach", made)

    def _steps(self, state: State, factors: Tensor) -> Steps:
        """Chains that share their weights are one, of more rows of data.

        Few rows are taken side by side, and in float64; so are those with weights of zero in float64, since there only
        numbers that never came near the smallest have a bound on their errors.
        """
        weights, made = self._matrices(state), self._by_step(factors)
        if weights.shape[1] == 1:
            made = made.flatten(1, 2).unsqueeze(1)
        bounded = self._reach(state)[0] < torch.inf
        side_by_side = bounded and recursion.suits(made)
        dtype = torch.float64 if side_by_side or not bounded else state.dtype
        return Steps(weights.to(dtype), made.to(dtype), side_by_side)

    def up(self, state: State) -> None:
        number, exponent, slack = self.start.gather(state)
        factors, raised, loose = self.factors.gather(state)
        if slack is None or loose is None:
            self._up_logs(state, number, exponent, factors, raised)
            return
        steps = self._steps(state, factors)
        number, exponent, slack = number.clone(), exponent.clone(), slack.clone()
        rescale(number, exponent, slack)
        shift = state.prepared.of(self).get("shift")
        if shift is not None:
            raised = raised + self.weights.of_rows(shift).unsqueeze(1)
        start = number.reshape(*steps.factors.shape[1:]).to(steps.factors.dtype)
        blocks = Blocks()
        made = recursion.up(steps, start, blocks, state.keep or self._reach(state)[0] == torch.inf)
        if state.keep:
            state.saved[self.index] = start, blocks.scales
        flat = steps.factors.shape[1:3]

        def rows(exponent: Tensor, slack: Tensor) -> Rows:
            return Rows(*(t.reshape(*t.shape[:-2], *flat) for t in (exponent, slack[..., 0, :], slack[..., 1, :])))

        of_factors = rows(self._by_step(raised), self._by_step(loose))
        found = blocks.bounds(
            steps, rows(exponent, slack), of_factors, self._reach(state), lambda: _joined(start, made)
        )
        relative, absolute = (t.reshape(self.parallel, -1).to(state.dtype) for t in (found.relative, found.absolute))
        if made.dtype != state.dtype:
            absolute = absolute + TINY[state.dtype]
        slack = torch.stack([relative, absolute], 1)
        self._put(state, made if state.keep else made[-1:], found.exponent.view(self.parallel, -1), slack)

    def _put(self, state: State, made: Tensor, exponent: Tensor, slack: Tensor | float) -> None:
        """Set the numbers of all steps, or of the last, and what readers need to know of the last."""
        rows = state.leaf.rows
        numbers = made.to(state.dtype).reshape(-1, rows, self.width)
        if len(numbers) == 1:
            numbers = numbers.expand(self.count, -1, -1)
        elif len(numbers) < self.count:
            highest, numbers = numbers, numbers.new_empty((self.count, rows, self.width))
            numbers[-self.parallel :] = highest
        if state.prepared.pure:
            inner = exponent.new_zeros((self.count - self.parallel, rows))
            state.put(self, numbers, torch.cat([inner, exponent]), slack)
            return
        state.numbers[self.index] = UnitRows(numbers)
        last = slice(self.first + self.count - self.parallel, self.first + self.count)
        state.exponent[last] = exponent
        if not state.logs:
            state.slack[last] = slack

    def _flags(self, state: State) -> list[Maximise]:
        """Whether sums take the maximum, for each step: all, none, or a mask (R, B or 1, O)."""
        maximise = state.maximise[self.index]
        if isinstance(maximise, bool):
            return [maximise] * self.steps
        masks = self._by_step(maximise if maximise.ndim == 3 else maximise.unsqueeze(1))
        every, some = masks.flatten(1).all(1).tolist(), masks.flatten(1).any(1).tolist()
        return [mask if a and not e else e for mask, e, a in zip(masks, every, some, strict=True)]

    def _up_logs(self, state: State, number: Tensor, exponent: Tensor, factors: Tensor, raised: Tensor) -> None:
        total = exponent + self._by_step(raised).sum(0)
        matrices, by_step, flags = self._matrices(state), self._by_step(factors), self._flags(state)
        if not state.prepared.pure and all(flag is True for flag in flags):
            if matrices.shape[1] == 1:
                by_step = by_step.flatten(1, 2).unsqueeze(1)
            made, more = recursion.largest(matrices, by_step, number.reshape(by_step.shape[1:]))
            self._put(state, made, total + more.view(self.parallel, -1), 0.0)
            return
        matrices, found = matrices.unsqueeze(2), []
        for s in range(self.steps):
            terms = number.unsqueeze(-2) + matrices[s if len(matrices) > 1 else 0]
            number = reduce_logs(terms, -1, flags[s]) + by_step[s]
            if s % recursion.REBASED == recursion.REBASED - 1 or s == self.steps - 1:
                number, more = rebased(number)
                total = total + more
            if state.keep or s == self.steps - 1:
                found.append(number)
        self._put(state, torch.stack(found), total, 0.0)

    def down(self, state: State, flow: Tensor, flows: list[Flow | None], to: Flows) -> None:
        last = flow[-self.parallel :]
        if state.logs:
            self._down_logs(state, last, flows, to)
            return
        steps = self._steps(state, self.factors.gather(state)[0])
        start, scales = state.saved[self.index]
        numbers = state.of(self).reshape(self.steps, *start.shape).to(start.dtype)
        above = quotient(last.reshape(start.shape).to(start.dtype), numbers[-1])
        found, sums, first = recursion.down(steps, above, scales)
        self._say(state, sums, start, numbers, to)
        below = found.mul_(numbers).reshape(self.count, -1, self.width)
        self.factors.scatter(below.to(state.dtype), flows)
        self.start.scatter((first * start).reshape(self.parallel, -1, self.width).to(state.dtype), flows)

    def _say(self, state: State, sums: Tensor, start: Tensor, numbers: Tensor, to: Flows) -> None:
        """Tell of the flows into sums: weight times what is above, (n, G, B, O), times what the sums read, (G, B, K)."""
        weights, place = state.prepared.of(self)["weights"], self.weights.view.place
        rows = state.leaf.rows
        above, after, before = (t.reshape(-1, rows, self.width).to(state.dtype) for t in (sums, numbers, start))

        def shares(row: int) -> Tensor:
            own = weights[0 if len(weights) == 1 else row if place is None else int(place[row])]
            under = before[row] if row < self.parallel else after[row - self.parallel]
            return above[row].unsqueeze(-1) * own * under.unsqueeze(1)

        to.edges(state, self, 0, shares, slice(None))
        gradients = to.gradients
        if gradients is None or not gradients.wants(self, "weights"):
            return
        if len(weights) == 1:
            flat, split = [t.reshape(-1, self.width) for t in (above, before, after)], start.numel() // self.width
            made = torch.mm(flat[0][:split].t(), flat[1])
            made = made.addmm_(flat[0][split:].t(), flat[2][: len(flat[0]) - split]).unsqueeze(0)
        else:
            under = torch.cat([before, after[: self.count - self.parallel]])
            made = self.weights.of_stored(torch.bmm(above.transpose(1, 2), under), len(weights))
        gradients.add(self, "weights", made)

    def _down_logs(self, state: State, flow: Tensor, flows: list[Flow | None], to: Flows) -> None:
        matrices, numbers = self._matrices(state).unsqueeze(2), self._by_step(state.of(self))
        start = self.start.gather(state)[0]

        def parts(s: int) -> Tensor:
            """The shares of the inputs in the sums of a step, (R, B, O, K)."""
            terms = (numbers[s - 1] if s else start).unsqueeze(-2) + matrices[s if len(matrices) > 1 else 0]
            top = terms.amax(-1, keepdim=True)
            made: Tensor = torch.exp2(terms - torch.where(torch.isfinite(top), top, 0.0))
            return made.div_(made.sum(-1, keepdim=True).clamp_min(torch.finfo(made.dtype).tiny))

        found = [flow]
        for s in reversed(range(self.steps)):
            found.append(torch.matmul(found[-1].unsqueeze(-2), parts(s)).squeeze(-2))

        def shares(row: int) -> Tensor:
            s, r = divmod(row, self.parallel)
            made: Tensor = parts(s)[r] * found[self.steps - 1 - s][r].unsqueeze(-1)
            return made

        to.edges(state, self, 0, shares, slice(None))
        self.start.scatter(found[-1], flows)
        self.factors.scatter(torch.cat(found[-2::-1]), flows)

    def choose(self, state: State, visits: Visits, trace: Trace) -> None:
        batch = trace.row_of[visits.sample]
        parallel = visits.row - (self.count - self.parallel)
        if len(batch) * self.steps * self.width**2 <= AT_ONCE:
            columns = self._decided_at_once(state, parallel, batch, visits.column, trace)
        else:
            columns = self._decided_in_turn(state, parallel, batch, visits.column, trace)
        steps = torch.arange(self.steps - 1, -1, -1, device=batch.device).unsqueeze(1)
        read = (steps * self.parallel + parallel).flatten()
        self.factors.route(visits.sample.repeat(self.steps), read, columns[:-1].flatten(), trace.visits)
        self.start.route(visits.sample, parallel, columns[-1], trace.visits)

    def _decided_in_turn(self, state: State, parallel: Tensor, batch: Tensor, column: Tensor, trace: Trace) -> Tensor:
        """The columns after each step from the last on, and before the first, (n + 1, V)."""
        own, columns = self._by_step(state.of(self)), [column]
        together = 8 * self.steps * len(batch) * self.width <= state.memory // 4
        read = self._logs(state, own[:-1, parallel, batch]).unbind(0) if together else None
        tables = self._by_step(self._logs(state, self.weights.of_rows(state.prepared.of(self)["weights"])))
        one = tables.shape[1] == 1
        for s in reversed(range(self.steps)):
            table = tables[s if len(tables) > 1 else 0]
            weights = table[0].index_select(0, columns[-1]) if one else table[parallel, columns[-1]]
            if s == 0:
                below = self.start.logs_at(state, parallel, batch)
            else:
                below = self._logs(state, own[s - 1, parallel, batch]) if read is None else read[s - 1]
            columns.append(trace.selector.pick(below + weights))
        return torch.stack(columns)

    @staticmethod
    def _logs(state: State, numbers: Tensor) -> Tensor:
        """Base-2 logs of numbers of the pass, in float64."""
        return numbers.double() if state.logs else torch.log2(numbers.double())

    def _decided_at_once(self, state: State, parallel: Tensor, batch: Tensor, column: Tensor, trace: Trace) -> Tensor:
        """The columns after each step from the last on, and before the first, (n + 1, V).

        All sums decide, also those that turn out not to be visited: with few visits that takes less time than step by step.
        """
        first = self.start.logs_at(state, parallel, batch).unsqueeze(0)
        inner = self._logs(state, self._by_step(state.of(self))[:-1, parallel, batch])
        tables = self._by_step(self._logs(state, self.weights.of_rows(state.prepared.of(self)["weights"])))
        weights = tables if tables.shape[1] == 1 else tables[:, parallel]
        scores = torch.cat([first, inner]).unsqueeze(2) + weights
        picked = trace.selector.pick(scores.reshape(-1, self.width)).clamp_max(self.width - 1)
        table = picked.view(scores.shape[:-1]).cpu().numpy()
        columns = np.empty((self.steps + 1, len(batch)), np.int64)
        columns[0] = column.cpu().numpy()
        everyone = np.arange(len(batch))
        for number, of_step in enumerate(table[::-1]):
            columns[number + 1] = of_step[everyone, columns[number]]
        return torch.as_tensor(columns, device=column.device)

    def live(self) -> int:
        return 2 * self.count * self.width

    def live_down(self, memory: int) -> int:
        return 4 * self.count * self.width


def _joined(start: Tensor, numbers: Tensor) -> Tensor:
    """The numbers before the first step, and after it."""
    return torch.cat([start.unsqueeze(0), numbers])
