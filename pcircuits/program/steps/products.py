"""Product steps: elementwise over the units read, and Kronecker products within a row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pcircuits.program.fetch import Fetch, Visits
from pcircuits.program.numbers import unflatten
from pcircuits.program.operations import OuterOp, ProductOp
from pcircuits.program.steps.step import Build, Choice, Reader, Spans, State, Step
from pcircuits.program.values import Values

__all__ = ["OuterStep", "ProductStep"]


class ProductStep(Step):
    """Products of the A units that each unit reads."""

    def __init__(self, index: int, op: ProductOp, build: Build) -> None:
        super().__init__(index, op.count, op.width)
        self.arity = op.edges.rows.shape[1]
        self.edges = Fetch(op.edges, build.locations, build.device)

    def up(self, state: State) -> Values:
        scaled = state.scaled[self.index]
        read = self.edges.gather(state.values, scaled)
        factors = unflatten(read.numbers, 0, (self.count, self.arity))
        if read.exponent is None:
            return Values(factors.sum(1))
        exponent = unflatten(read.exponent, 0, (self.count, self.arity)).sum(1)
        numbers = _Multiplied.apply(factors) if self.arity > 1 else factors[:, 0]
        return Values(numbers, exponent).levelled()

    def down(self, state: State, flow: Tensor, flows: list[Tensor | None], reader: Reader) -> None:
        self.edges.scatter(flow.repeat_interleave(self.arity, 0), flows, state.values)

    def choose(self, state: State, visits: Visits, choice: Choice) -> None:
        factors = torch.arange(self.arity, device=visits.row.device)
        read = (visits.row.unsqueeze(1) * self.arity + factors).flatten()
        sample, column = (v.repeat_interleave(self.arity) for v in (visits.sample, visits.column))
        self.edges.route(sample, read, column, choice.visits)

    def reads(self) -> tuple[int, ...]:
        return self.edges.sources

    def live(self) -> int:
        return self.count * int(self.arity) * self.width

    def bound(self, spans: Spans, ratio: float) -> float:
        if self.edges.by_unit:
            return math.inf
        bound: float = max(sum(spans.bounds[s] for s in steps) for steps in self.edges.combinations)
        return bound

    def low(self, spans: Spans, ratio: float) -> float:
        return math.log(self.width)

    def needs(self, need: float, spans: Spans, ratio: float) -> Iterator[tuple[int, float]]:
        for steps in self.edges.combinations:
            for place, source in enumerate(steps):
                others = sum(spans.bounds[other] for other in (*steps[:place], *steps[place + 1 :]))
                yield source, math.inf if self.edges.by_unit else need + others

    def scales(self, need: float, spans: Spans, ratio: float) -> bool:
        if self.width == 1 or self.edges.by_unit:
            return False
        return all(self._fits(need, steps, spans) for steps in self.edges.combinations)

    def _fits(self, need: float, steps: Sequence[int], spans: Spans) -> bool:
        """The largest product of a row is at most all bounds but the largest below that of the largest factors."""
        bounds, low = sorted(spans.bounds[s] for s in steps), sum(spans.lows[s] for s in steps)
        return low + min(sum(bounds), sum(bounds[:-1]) + need) <= spans.reach


class _Multiplied(torch.autograd.Function):
    """Products (R, B, K) of factors (R, A, B, K), whose gradients are written where they belong."""

    @staticmethod
    def forward(ctx: Any, factors: Tensor) -> Tensor:
        ctx.save_for_backward(factors)
        return _product(factors.unbind(1))

    @staticmethod
    def backward(ctx: Any, flow: Tensor) -> Tensor:
        (factors,) = ctx.saved_tensors
        parts = factors.unbind(1)
        if torch.is_grad_enabled():  # for derivatives of derivatives
            return torch.stack([flow * _product(_without(parts, place)) for place in range(len(parts))], 1)
        made = torch.empty_like(factors)
        for place in range(len(parts)):
            torch.mul(flow, _product(_without(parts, place)), out=made[:, place])
        return made


def _without(parts: Sequence[Tensor], place: int) -> list[Tensor]:
    return [part for other, part in enumerate(parts) if other != place]


def _product(parts: Sequence[Tensor]) -> Tensor:
    total, *others = parts
    for other in others:
        total = total * other
    return total


class OuterStep(Step):
    """Kronecker products of rows of differing widths; the last factor runs fastest."""

    def __init__(self, index: int, op: OuterOp, build: Build) -> None:
        super().__init__(index, op.count, op.width)
        self.widths = op.widths
        self.factors = nn.ModuleList([Fetch(reads, build.locations, build.device) for reads in op.factors])

    def _fetches(self) -> list[Fetch]:
        return [f for f in self.factors if isinstance(f, Fetch)]

    def up(self, state: State) -> Values:
        scaled = state.scaled[self.index]
        first, *rest = (fetch.gather(state.values, scaled) for fetch in self._fetches())
        numbers, exponent = first.numbers, first.exponent
        for factor in rest:
            one, other = numbers.unsqueeze(-1), factor.numbers.unsqueeze(-2)
            numbers = (one * other if scaled else one + other).flatten(-2)
            if exponent is not None and factor.exponent is not None:
                exponent = exponent + factor.exponent
        return Values(numbers, exponent).levelled() if scaled else Values(numbers)

    def down(self, state: State, flow: Tensor, flows: list[Tensor | None], reader: Reader) -> None:
        spread = unflatten(flow, -1, self.widths)
        axes = range(2, 2 + len(self.widths))
        for number, fetch in enumerate(self._fetches()):
            others = [axis for axis in axes if axis != 2 + number]
            fetch.scatter(spread.sum(others) if others else spread, flows, state.values)

    def choose(self, state: State, visits: Visits, choice: Choice) -> None:
        column = visits.column
        for fetch, width in zip(reversed(self._fetches()), reversed(self.widths), strict=True):
            fetch.route(visits.sample, visits.row, column % width, choice.visits)
            column = column // width

    def reads(self) -> tuple[int, ...]:
        return tuple({source for fetch in self._fetches() for source in fetch.sources})

    def live(self) -> int:
        return self.count * (self.width + sum(self.widths))

    def bound(self, spans: Spans, ratio: float) -> float:
        if any(fetch.by_unit for fetch in self._fetches()):
            return math.inf
        return sum(max(spans.bounds[s] for s in fetch.sources) for fetch in self._fetches())

    def low(self, spans: Spans, ratio: float) -> float:
        return math.log(self.width)

    def needs(self, need: float, spans: Spans, ratio: float) -> Iterator[tuple[int, float]]:
        """The largest product is that of the largest factors: what is small in one is as small beside it."""
        for fetch in self._fetches():
            for source in fetch.sources:
                yield source, math.inf if fetch.by_unit else need

    def scales(self, need: float, spans: Spans, ratio: float) -> bool:
        low = sum(max(spans.lows[s] for s in fetch.sources) for fetch in self._fetches())
        return self.width > 1 and low + min(self.bound(spans, ratio), need) <= spans.reach
