"""Sum steps: dense over the width of a row, and elementwise mixtures of the units read."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pcircuits.program.fetch import Fetch, Visits
from pcircuits.program.held import Held
from pcircuits.program.numbers import logsumexp, unflatten
from pcircuits.program.operations import MixOp, SumOp
from pcircuits.program.pools import ParameterView
from pcircuits.program.steps.step import Build, Choice, Maximise, Reader, Spans, State, Step, value_of
from pcircuits.program.values import Values

__all__ = ["MixStep", "SumStep", "Weights", "edge_flows", "outputs_of", "reduce_logs"]


def reduce_logs(terms: Tensor, dim: int, maximise: Maximise) -> Tensor:
    """Σ or max of exp(terms) along an axis, in logs; a mask that broadcasts to the result chooses for each."""
    if maximise is True:
        return terms.amax(dim)
    total = logsumexp(terms, dim)
    return total if maximise is False else torch.where(maximise, terms.amax(dim), total)


def outputs_of(maximise: Maximise, outputs: slice) -> Maximise:
    """Of a mask (R, O), that of some outputs, for rows of data in the second axis: (R, 1, o)."""
    return maximise if isinstance(maximise, bool) else maximise[:, None, outputs]


def edge_flows(terms: Tensor, flow: Tensor, dim: int) -> Tensor:
    """flow · exp(terms) / Σ exp(terms) along an axis, which `flow` has with size 1; zero where the sum is zero."""
    peak = terms.amax(dim, keepdim=True)
    shares = (terms - torch.where(torch.isfinite(peak), peak, 0.0)).exp()
    total = shares.sum(dim, keepdim=True)
    return torch.where(total > 0, shares * (flow / torch.where(total > 0, total, 1.0)), 0.0)


class Weights(nn.Module):
    """Weights (R, O, K) of sums, in logs and relative to the largest of their row; a row may be made of several."""

    def __init__(self, view: ParameterView, joined: int = 1) -> None:
        super().__init__()
        self.view, self.joined = view, joined

    def logs(self, held: Held) -> Tensor:
        """log weights, (R, O, K)."""
        logs = self.view.logs(held)
        return logs if self.joined == 1 else logs.reshape(-1, self.joined * logs.shape[1], logs.shape[2])

    def relative(self, held: Held) -> tuple[Tensor, Tensor]:
        """Weights over the largest of each row, and the log of that, (R, 1, 1)."""
        return held.once((self, "relative"), lambda: self._relative(held))

    def _relative(self, held: Held) -> tuple[Tensor, Tensor]:
        logs = self.logs(held)
        largest = logs.detach().amax((-1, -2), keepdim=True)
        return (logs - torch.where(largest == -torch.inf, 0.0, largest)).exp(), largest

    def ratio(self, held: Held) -> Tensor:
        """The largest log-ratio of two weights of one row."""
        logs = self.logs(held).detach()
        largest = logs.amax((-1, -2))
        nothing = largest == -torch.inf  # a row of zeros has only zero outputs, and loses none
        return torch.where(nothing, 0.0, largest - logs.amin((-1, -2))).amax()


class SumStep(Step):
    """Dense sums over the width of the row that each row reads: log Σ_k w_ok exp(v_k)."""

    def __init__(self, index: int, op: SumOp, build: Build) -> None:
        super().__init__(index, op.count, op.width)
        self.inputs = op.inputs
        self.edges = Fetch(op.edges, build.locations, build.device)
        self.weights = Weights(build.pools.view(op.weights))

    def up(self, state: State) -> Values:
        maximise = state.maximise[self.index]
        if state.scaled[self.index] and maximise is False:
            read = self.edges.gather(state.values, scaled=True)
            weights, largest = self.weights.relative(state.held)
            assert read.exponent is not None
            made = Values(torch.matmul(read.numbers, weights.transpose(-1, -2)), read.exponent + largest)
            return Values(made.logs()) if self.width == 1 else made
        values, logs = self.edges.gather(state.values).numbers, self.weights.logs(state.held)
        parts = [
            reduce_logs(values.unsqueeze(2) + logs[:, None, begin:end], -1, outputs_of(maximise, slice(begin, end)))
            for begin, end in self._outputs(values, state.memory)
        ]
        return Values(torch.cat(parts, -1))

    def _outputs(self, values: Tensor, memory: int) -> list[tuple[int, int]]:
        """Ranges of outputs such that terms (R, B, o, K) fit the bound."""
        step = max(1, memory // max(1, 4 * values.numel() * values.element_size()))
        return [(begin, min(begin + step, self.width)) for begin in range(0, self.width, step)]

    def down(self, state: State, flow: Tensor, flows: list[Tensor | None], reader: Reader) -> None:
        total = value_of(state, self)

        def shares(begin: int, end: int) -> Tensor:
            values, logs = self.edges.gather(state.values).numbers, self.weights.logs(state.held)
            terms = values.unsqueeze(2) + logs[:, None, begin:end]
            return edge_flows(terms, flow[:, :, begin:end, None], -1)

        reader.edges(self.index, slice(None), 0, lambda: shares(0, self.width))
        if state.scaled[self.index]:
            below = self._scaled_down(state, total, flow)
        else:
            values = self.edges.gather(state.values).numbers
            below = torch.zeros_like(values)
            for begin, end in self._outputs(values, state.memory):
                below += shares(begin, end).sum(2)
        self.edges.scatter(below, flows, state.values)

    def _scaled_down(self, state: State, total: Values, flow: Tensor) -> Tensor:
        """v_k Σ_o w_ok · flow_o / y_o, with y in the exponent of v."""
        read = self.edges.gather(state.values, scaled=True)
        weights, _ = self.weights.relative(state.held)
        numbers = total.numbers if total.exponent is not None else torch.matmul(read.numbers, weights.transpose(-1, -2))
        alive = numbers > 0
        quotient = torch.where(alive, flow / torch.where(alive, numbers, 1.0), 0.0)
        return read.numbers * torch.matmul(quotient, weights)

    def choose(self, state: State, visits: Visits, choice: Choice) -> None:
        size = max(1, state.memory // (64 * self.inputs))
        for some in visits.batches(size):
            self.edges.route(some.sample, some.row, self._picked(state, some, choice), choice.visits)

    def _picked(self, state: State, visits: Visits, choice: Choice) -> Tensor:
        """The input that each visit goes on to, (V,)."""
        batch = choice.row_of[visits.sample]
        if state.scaled[self.index]:
            below = self.edges.numbers_at(state.values, visits.row, batch)
            weights, _ = self.weights.relative(state.held)
            return choice.chooser.pick_linear(below * weights[visits.row, visits.column])
        logs = self.weights.logs(state.held)[visits.row, visits.column]
        return choice.chooser.pick(self.edges.rows_at(state.values, visits.row, batch) + logs)

    def reads(self) -> tuple[int, ...]:
        return self.edges.sources

    def live(self) -> int:
        return 2 * self.count * (self.inputs + self.width)

    def ratio(self, held: Held) -> Tensor:
        return self.weights.ratio(held)

    def bound(self, spans: Spans, ratio: float) -> float:
        return ratio

    def low(self, spans: Spans, ratio: float) -> float:
        return ratio + max(spans.lows[s] for s in self.edges.sources) if ratio < math.inf else 0.0

    def needs(self, need: float, spans: Spans, ratio: float) -> Iterator[tuple[int, float]]:
        """All values of what is read unit by unit: the largest among those is not the largest of its row."""
        level = self.scales(need, spans, ratio) and not self.edges.by_unit
        for source in self.edges.sources:
            yield source, ratio + spans.spare if level else math.inf

    def scales(self, need: float, spans: Spans, ratio: float) -> bool:
        low = max(spans.lows[s] for s in self.edges.sources)
        return ratio + spans.spare + low <= spans.reach


class MixStep(Step):
    """Elementwise sums of the A units that each unit reads: log Σ_a w_a exp(v_a)."""

    def __init__(self, index: int, op: MixOp, build: Build) -> None:
        super().__init__(index, op.count, op.width)
        self.arity = op.edges.rows.shape[1]
        self.edges = Fetch(op.edges, build.locations, build.device)
        self.weights = Weights(build.pools.view(op.weights))

    def _scaled_terms(self, state: State) -> tuple[Tensor, Tensor]:
        """w_a · v_a, (R, A, B, K), in the largest exponent of the row, (R, B, 1)."""
        read = self.edges.gather(state.values, scaled=True)
        assert read.exponent is not None
        exponent = unflatten(read.exponent, 0, (self.count, self.arity))
        top = exponent.amax(1)
        shift = (exponent - torch.where(top == -torch.inf, 0.0, top).unsqueeze(1)).exp()
        weights, largest = self.weights.relative(state.held)
        numbers = unflatten(read.numbers, 0, (self.count, self.arity))
        spread = weights.transpose(1, 2).unsqueeze(2)
        return numbers * (shift * spread), top + largest

    def _terms(self, state: State) -> Tensor:
        """w_a · v_a in logs, (R, A, B, K)."""
        values = unflatten(self.edges.gather(state.values).numbers, 0, (self.count, self.arity))
        return values + self.weights.logs(state.held).transpose(1, 2).unsqueeze(2)

    def up(self, state: State) -> Values:
        maximise = state.maximise[self.index]
        if state.scaled[self.index] and maximise is False:
            terms, exponent = self._scaled_terms(state)
            return Values(terms.sum(1), exponent)
        return Values(reduce_logs(self._terms(state), 1, outputs_of(maximise, slice(None))))

    def down(self, state: State, flow: Tensor, flows: list[Tensor | None], reader: Reader) -> None:
        total = value_of(state, self)
        if total.exponent is not None:
            terms, _ = self._scaled_terms(state)
            alive = total.numbers > 0
            quotient = torch.where(alive, flow / torch.where(alive, total.numbers, 1.0), 0.0)
            shares = terms * quotient.unsqueeze(1)
        else:
            shares = edge_flows(self._terms(state), flow.unsqueeze(1), 1)
        reader.edges(self.index, slice(None), 0, lambda: shares.permute(0, 2, 3, 1))
        self.edges.scatter(shares.flatten(0, 1), flows, state.values)

    def choose(self, state: State, visits: Visits, choice: Choice) -> None:
        factors = torch.arange(self.arity, device=visits.row.device)
        read = visits.row.unsqueeze(1) * self.arity + factors
        rows = choice.row_of[visits.sample].unsqueeze(1).expand_as(read)
        column = visits.column.unsqueeze(1).expand_as(read)
        below = self.edges.units_at(state.values, read.flatten(), rows.flatten(), column.flatten()).view(read.shape)
        logs = self.weights.logs(state.held)
        picked = choice.chooser.pick(below + logs[visits.row, 0 if logs.shape[1] == 1 else visits.column])
        self.edges.route(visits.sample, visits.row * self.arity + picked, visits.column, choice.visits)

    def reads(self) -> tuple[int, ...]:
        return self.edges.sources

    def live(self) -> int:
        return 3 * self.count * int(self.arity) * self.width

    def ratio(self, held: Held) -> Tensor:
        return self.weights.ratio(held)

    def bound(self, spans: Spans, ratio: float) -> float:
        return math.inf if self.edges.by_unit else ratio + max(spans.bounds[s] for s in self.edges.sources)

    def low(self, spans: Spans, ratio: float) -> float:
        return ratio + max(spans.lows[s] for s in self.edges.sources) if ratio < math.inf else 0.0

    def needs(self, need: float, spans: Spans, ratio: float) -> Iterator[tuple[int, float]]:
        for source in self.edges.sources:
            yield source, need + ratio if self.scales(need, spans, ratio) else math.inf

    def scales(self, need: float, spans: Spans, ratio: float) -> bool:
        if self.width == 1 or self.edges.by_unit:
            return False
        return need + ratio + max(spans.lows[s] for s in self.edges.sources) <= spans.reach
