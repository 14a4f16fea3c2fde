"""Sum steps: dense over the width of a row, and elementwise mixtures of the units read."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pcircuits.program.fetch import Fetch, Locations, Visits
from pcircuits.program.numbers import TINY_WEIGHT, log_matmul, logsumexp, unflatten
from pcircuits.program.operations import MixOp, SumOp
from pcircuits.program.pools import ParameterView, Pools
from pcircuits.program.steps.step import Choice, Maximise, Reader, State, Step, value_of

__all__ = ["DenseWeights", "MixStep", "SumStep", "edge_flows", "reduce_logs"]


def reduce_logs(terms: Tensor, dim: int, maximise: Maximise) -> Tensor:
    """Σ or max of exp(terms) along an axis, in logs; a mask (R,) chooses for each row of the first axis."""
    if maximise is True:
        return terms.amax(dim)
    total = logsumexp(terms, dim)
    if maximise is False:
        return total
    chosen = maximise.reshape(-1, *[1] * (total.ndim - 1))
    return torch.where(chosen, terms.amax(dim), total)


def edge_flows(terms: Tensor, total: Tensor, flow: Tensor) -> Tensor:
    """flow · exp(terms - total), and zero where the total is zero; all broadcast."""
    dead = total == -torch.inf
    share = (torch.where(terms == -torch.inf, -torch.inf, terms - torch.where(dead, 0.0, total))).exp()
    return torch.where(dead, 0.0, share * flow)


class DenseWeights(nn.Module):
    """Weights (R, O, K) of dense sums, and whether they are level enough for matrix products of shifted exponentials."""

    def __init__(self, view: ParameterView) -> None:
        super().__init__()
        self.view = view
        self._level: tuple[object, bool] | None = None

    def logs(self) -> Tensor:
        """log weights, (R, O, K)."""
        return self.view.logs()

    def level(self) -> bool:
        """Whether no weight is zero, or below `TINY_WEIGHT` times the largest of its row; looked at when they change."""
        version = self.view.version()
        if self._level is None or self._level[0] != version:
            with torch.no_grad():
                logs = self.view.logs()
                spread = logs.amax((-1, -2)) - logs.amin((-1, -2))
                level = bool((spread < -torch.log(torch.tensor(TINY_WEIGHT, dtype=torch.float64))).all())
            self._level = (version, level)
        return self._level[1]


class SumStep(Step):
    """Dense sums over the width of the row that each row reads: log Σ_k w_ok exp(v_k)."""

    def __init__(self, index: int, op: SumOp, pools: Pools, locations: Locations, device: torch.device | None) -> None:
        super().__init__(index, op.count, op.width)
        self.inputs = op.inputs
        self.edges = Fetch(op.edges, locations, device)
        self.weights = DenseWeights(pools.view(op.weights))

    def up(self, state: State) -> Tensor:
        values = self.edges.gather(state.values)
        logs = self.weights.logs()
        maximise = state.maximise[self.index]
        if maximise is False and self.weights.level():
            shift = logs.detach().amax((-1, -2), keepdim=True)
            return log_matmul(values, (logs - shift).exp()) + shift
        parts = [
            reduce_logs(values.unsqueeze(2) + logs[:, None, begin:end], -1, maximise)
            for begin, end in self._outputs(values, state.memory)
        ]
        return torch.cat(parts, -1)

    def _outputs(self, values: Tensor, memory: int) -> list[tuple[int, int]]:
        """Ranges of outputs such that terms (R, B, o, K) fit the bound."""
        step = max(1, memory // max(1, 4 * values.numel() * values.element_size()))
        return [(begin, min(begin + step, self.width)) for begin in range(0, self.width, step)]

    def down(self, state: State, flow: Tensor, flows: list[Tensor | None], reader: Reader) -> None:
        values, total, logs = self.edges.gather(state.values), value_of(state, self), self.weights.logs()

        def shares(begin: int, end: int) -> Tensor:
            terms = values.unsqueeze(2) + logs[:, None, begin:end]
            return edge_flows(terms, total[:, :, begin:end, None], flow[:, :, begin:end, None])

        reader.edges(self.index, slice(None), 0, lambda: shares(0, self.width))
        if self.weights.level():
            shift = values.amax(-1, keepdim=True)
            shift = torch.where(torch.isfinite(shift), shift, 0.0)
            largest = logs.amax((-1, -2), keepdim=True)
            scaled = edge_flows(shift + largest, total, flow)
            below = (values - shift).exp() * torch.matmul(scaled, (logs - largest).exp())
        else:
            below = torch.zeros_like(values)
            for begin, end in self._outputs(values, state.memory):
                below += shares(begin, end).sum(2)
        self.edges.scatter(below, flows, state.values)

    def choose(self, state: State, visits: Visits, choice: Choice) -> None:
        below = self.edges.rows_at(state.values, visits.row, choice.row_of[visits.sample])
        picked = choice.chooser.pick(below + self._row_logs(visits))
        self.edges.route(visits.sample, visits.row, picked, choice.visits)

    def _row_logs(self, visits: Visits) -> Tensor:
        return self.weights.logs()[visits.row, visits.column]

    def live(self) -> int:
        return 2 * self.count * (self.inputs + self.width)


class MixStep(Step):
    """Elementwise sums of the A units that each unit reads: log Σ_a w_a exp(v_a)."""

    def __init__(self, index: int, op: MixOp, pools: Pools, locations: Locations, device: torch.device | None) -> None:
        super().__init__(index, op.count, op.width)
        self.arity = op.edges.rows.shape[1]
        self.edges = Fetch(op.edges, locations, device)
        self.weights = pools.view(op.weights)

    def _terms(self, state: State) -> Tensor:
        """w_a · v_a in logs, (R, A, B, K)."""
        values = unflatten(self.edges.gather(state.values), 0, (self.count, self.arity))
        return values + self.weights.logs().transpose(1, 2).unsqueeze(2)

    def up(self, state: State) -> Tensor:
        return reduce_logs(self._terms(state), 1, state.maximise[self.index])

    def down(self, state: State, flow: Tensor, flows: list[Tensor | None], reader: Reader) -> None:
        shares = edge_flows(self._terms(state), value_of(state, self).unsqueeze(1), flow.unsqueeze(1))
        reader.edges(self.index, slice(None), 0, lambda: shares.permute(0, 2, 3, 1))
        self.edges.scatter(shares.flatten(0, 1), flows, state.values)

    def choose(self, state: State, visits: Visits, choice: Choice) -> None:
        factors = torch.arange(self.arity, device=visits.row.device)
        read = visits.row.unsqueeze(1) * self.arity + factors
        rows = choice.row_of[visits.sample].unsqueeze(1).expand_as(read)
        column = visits.column.unsqueeze(1).expand_as(read)
        below = self.edges.units_at(state.values, read.flatten(), rows.flatten(), column.flatten()).view(read.shape)
        logs = self.weights.logs()
        picked = choice.chooser.pick(below + logs[visits.row, 0 if logs.shape[1] == 1 else visits.column])
        self.edges.route(visits.sample, visits.row * self.arity + picked, visits.column, choice.visits)

    def live(self) -> int:
        return 3 * self.count * int(self.arity) * self.width
