"""Product steps: elementwise over the units read, and Kronecker products within a row."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pcircuits.program.fetch import Fetch, Locations, Visits
from pcircuits.program.numbers import unflatten
from pcircuits.program.operations import OuterOp, ProductOp
from pcircuits.program.steps.step import Choice, Reader, State, Step

__all__ = ["OuterStep", "ProductStep"]


class ProductStep(Step):
    """Products of the A units that each unit reads."""

    def __init__(self, index: int, op: ProductOp, locations: Locations, device: torch.device | None) -> None:
        super().__init__(index, op.count, op.width)
        self.arity = op.edges.rows.shape[1]
        self.edges = Fetch(op.edges, locations, device)

    def up(self, state: State) -> Tensor:
        factors = unflatten(self.edges.gather(state.values), 0, (self.count, self.arity))
        return factors[:, 0] + factors[:, 1] if self.arity == 2 else factors.sum(1)

    def down(self, state: State, flow: Tensor, flows: list[Tensor | None], reader: Reader) -> None:
        self.edges.scatter(flow.repeat_interleave(self.arity, 0), flows, state.values)

    def choose(self, state: State, visits: Visits, choice: Choice) -> None:
        factors = torch.arange(self.arity, device=visits.row.device)
        read = (visits.row.unsqueeze(1) * self.arity + factors).flatten()
        sample, column = (v.repeat_interleave(self.arity) for v in (visits.sample, visits.column))
        self.edges.route(sample, read, column, choice.visits)

    def live(self) -> int:
        return self.count * int(self.arity) * self.width


class OuterStep(Step):
    """Kronecker products of rows of differing widths; the last factor runs fastest."""

    def __init__(self, index: int, op: OuterOp, locations: Locations, device: torch.device | None) -> None:
        super().__init__(index, op.count, op.width)
        self.widths = op.widths
        self.factors = nn.ModuleList([Fetch(reads, locations, device) for reads in op.factors])

    def _fetches(self) -> list[Fetch]:
        return [f for f in self.factors if isinstance(f, Fetch)]

    def up(self, state: State) -> Tensor:
        first, *rest = (fetch.gather(state.values) for fetch in self._fetches())
        for factor in rest:
            first = (first.unsqueeze(-1) + factor.unsqueeze(-2)).flatten(-2)
        return first

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

    def live(self) -> int:
        return self.count * (self.width + sum(self.widths))
