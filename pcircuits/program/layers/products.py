"""Product layers: elementwise over the units read, and Kronecker products within a row."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pcircuits.program.edges import Flow, Gather, Visits
from pcircuits.program.layers.layer import Build, Flows, Layer, Trace
from pcircuits.program.numbers import TINY, rebased, rescaled, unflatten
from pcircuits.program.plan import Edges, Node
from pcircuits.program.state import State

__all__ = ["OuterLayer", "ProductLayer"]

FEW = 4
"""Up to so many factors are gathered one by one and multiplied before numbers are rescaled."""


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
            swapped = Edges(edges.rows.swapaxes(0, 1), None if columns is None else columns.swapaxes(0, 1))
            self.factors.append(build.gather(swapped))

    def gathers(self) -> list[Gather]:
        return list(self.factors)  # type: ignore[arg-type]

    def up(self, state: State) -> None:
        read = [gather.gather(state) for gather in self.gathers()]
        if self.arity > FEW:
            self._many(state, *read[0])
            return
        numbers, exponent, slack = read[0]
        for more, raised, loose in read[1:]:
            numbers = numbers + more if state.logs else numbers * more
            exponent = exponent + raised
            slack = None if slack is None or loose is None else slack + loose
        if slack is None:
            numbers, raised = rebased(numbers)
            state.put(self, numbers, exponent + raised)
            return
        if self.arity == 1:
            numbers, slack = numbers.clone(), slack.clone()
        slack[:, 1].mul_(2.0 ** (self.arity - 1)).add_(TINY[state.dtype])
        state.put(self, *rescaled(numbers, exponent, slack))

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
            flat = made.flatten(0, 1), pairs.flatten(0, 1), loose.flatten(0, 1)
            made, pairs, loose = (unflatten(t, 0, (half, self.count)) for t in rescaled(*flat))
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
        return self.count * (1 if self.arity <= FEW else 2 * self.arity) * self.width


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
        numbers, exponent, slack = read[0]
        for more, raised, loose in read[1:]:
            one, other = numbers.unsqueeze(-1), more.unsqueeze(-2)
            numbers = (one + other if state.logs else one * other).flatten(-2)
            exponent = exponent + raised
            slack = None if slack is None or loose is None else slack + loose
        if slack is None:
            numbers, raised = rebased(numbers)
            state.put(self, numbers, exponent + raised)
            return
        if len(read) == 1:
            numbers, slack = numbers.clone(), slack.clone()
        slack[:, 1].mul_(2.0 ** (len(read) - 1)).add_(TINY[state.dtype])
        state.put(self, *rescaled(numbers, exponent, slack))

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
