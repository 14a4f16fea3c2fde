"""Product layers: elementwise over the units read, and Kronecker products within a row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcircuits.program.edges import Flow, Gather, Visits
from pcircuits.program.layers.layer import Build, Flows, Layer, Trace
from pcircuits.program.numbers import TINY, rebased, rescale, unflatten
from pcircuits.program.plan import Edges, Node
from pcircuits.program.rows import Rows, blocks
from pcircuits.program.state import State

__all__ = ["OuterLayer", "ProductLayer"]

FEW = 4
"""Up to so many factors are gathered one by one and multiplied before numbers are rescaled."""


def multiplied(state: State, layer: Layer, factors: Sequence[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor]:
    """The exponents and bounds of products, of which those of the factors are given, written where they belong."""
    exponent, slack = state.bounds(layer)
    for own, values in zip((exponent, slack), zip(*factors, strict=True), strict=True):
        if len(values) == 1:
            own.copy_(values[0])
        else:
            torch.add(values[0], values[1], out=own)
        for more in values[2:]:
            own.add_(more)
    slack[:, 1].mul_(2.0 ** (len(factors) - 1)).add_(TINY[state.dtype])
    return exponent, slack


class ProductLayer(Layer):
    """Products of the A units that each unit reads."""

    def __init__(self, index: int, node: Node, build: Build) -> None:
        super().__init__(index, node, build)
        (edges,) = node.edges()
        self.arity = edges.rows.shape[1]
        columns = edges.columns
        self.factors = nn.ModuleList()
        if self.arity <= FEW:
            for a in range(self.arity):
                own = Edges(edges.rows[:, a : a + 1], None if columns is None else columns[:, a : a + 1])
                self.factors.append(build.gather(own))
        else:
            self.factors.append(build.gather(edges.transposed()))

    def gathers(self) -> list[Gather]:
        return list(self.factors)  # type: ignore[arg-type]

    def up(self, state: State) -> None:
        if self.arity > FEW:
            self._many(state, *self.gathers()[0].gather(state))
            return
        read = [gather.read(state) for gather in self.gathers()]
        if state.logs:
            numbers, exponent, _ = read[0]
            total = numbers.whole()
            for more, raised, _ in read[1:]:
                total, exponent = total + more.whole(), exponent + raised
            total, raised = rebased(total)
            state.put(self, total, exponent + raised)
            return
        exponent, slack = multiplied(state, self, [(e, s) for _, e, s in read])
        made = slack.new_empty((self.count, state.leaf.rows, self.width))
        for begin, end in blocks(self.count, made, state.leaf.rows * self.width):
            own = made[begin:end]
            if self.arity == 1:
                own.copy_(read[0][0].block(begin, end))
            else:
                torch.mul(*(rows.block(begin, end) for rows, _, _ in read[:2]), out=own)
            for rows, _, _ in read[2:]:
                own.mul_(rows.block(begin, end))
            rescale(own, exponent[begin:end], slack[begin:end])
        state.numbers[self.index] = Rows(made)

    def _many(self, state: State, numbers: Tensor, exponent: Tensor, slack: Tensor | None) -> None:
        """Multiply halves until one is left, so that no product leaves the range of numbers."""
        numbers, exponent = (unflatten(t, 0, (self.arity, self.count)) for t in (numbers, exponent))
        if slack is None:
            numbers, raised = rebased(numbers.sum(0))
            state.put(self, numbers, exponent.sum(0) + raised)
            return
        slack = unflatten(slack, 0, (self.arity, self.count))
        while len(numbers) > 1:
            half = len(numbers) // 2
            made = numbers[:half] * numbers[half : 2 * half]
            loose = slack[:half] + slack[half : 2 * half]
            loose[:, :, 1].mul_(2).add_(TINY[state.dtype])
            pairs = exponent[:half] + exponent[half : 2 * half]
            rescale(made.flatten(0, 1), pairs.flatten(0, 1), loose.flatten(0, 1))
            odd = len(numbers) % 2
            numbers = torch.cat([made, numbers[-1:]]) if odd else made
            exponent = torch.cat([pairs, exponent[-1:]]) if odd else pairs
            slack = torch.cat([loose, slack[-1:]]) if odd else loose
        state.put(self, numbers[0], exponent[0], slack[0])

    def down(self, state: State, flow: Tensor, flows: list[Flow | None], to: Flows) -> None:
        if self.arity > FEW:
            flow = flow.expand(self.arity, *flow.shape).flatten(0, 1)
        for gather in self.gathers():
            gather.scatter(flow, flows)

    def choose(self, state: State, visits: Visits, trace: Trace) -> None:
        if self.arity <= FEW:
            for gather in self.gathers():
                gather.route(visits.sample, visits.row, visits.column, trace.visits)
            return
        factors = torch.arange(self.arity, device=visits.row.device)
        read = (visits.row.unsqueeze(1) + factors * self.count).flatten()
        sample, column = (v.repeat_interleave(self.arity) for v in (visits.sample, visits.column))
        self.gathers()[0].route(sample, read, column, trace.visits)

    def live(self) -> int:
        return 0 if self.arity <= FEW else 2 * self.count * self.arity * self.width


class OuterLayer(Layer):
    """Kronecker products of rows of differing widths; the last factor runs fastest."""

    def __init__(self, index: int, node: Node, build: Build) -> None:
        super().__init__(index, node, build)
        self.widths: tuple[int, ...] = node.facts["widths"]
        self.factors = nn.ModuleList([build.gather(edges) for edges in node.edges()])

    def gathers(self) -> list[Gather]:
        return list(self.factors)  # type: ignore[arg-type]

    def up(self, state: State) -> None:
        read = [gather.gather(state) for gather in self.gathers()]
        numbers, exponent, _ = read[0]
        for more, raised, _ in read[1:]:
            one, other = numbers.unsqueeze(-1), more.unsqueeze(-2)
            numbers = (one + other if state.logs else one * other).flatten(-2)
            exponent = exponent + raised
        if state.logs:
            numbers, raised = rebased(numbers)
            state.put(self, numbers, exponent + raised)
            return
        numbers = numbers.clone() if len(read) == 1 else numbers
        rescale(numbers, *multiplied(state, self, [(e, s) for _, e, s in read]))
        state.numbers[self.index] = Rows(numbers)

    def down(self, state: State, flow: Tensor, flows: list[Flow | None], to: Flows) -> None:
        spread = unflatten(flow, -1, self.widths)
        axes = range(2, 2 + len(self.widths))
        for number, gather in enumerate(self.gathers()):
            others = [axis for axis in axes if axis != 2 + number]
            gather.scatter(spread.sum(others) if others else flow, flows)

    def choose(self, state: State, visits: Visits, trace: Trace) -> None:
        column = visits.column
        for gather, width in zip(reversed(self.gathers()), reversed(self.widths), strict=True):
            gather.route(visits.sample, visits.row, column % width, trace.visits)
            column = column // width

    def live(self) -> int:
        return self.count * (self.width + sum(self.widths))
