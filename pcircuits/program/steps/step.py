"""What a step is, and what passes hand to it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pcircuits.families.interface import AbstractFamily, Parameters
from pcircuits.program.fetch import Locations, Visits
from pcircuits.program.held import Held
from pcircuits.program.numbers import log
from pcircuits.program.operations import InputOp
from pcircuits.program.pools import Pools
from pcircuits.program.reports import Report
from pcircuits.program.values import Computed, Values

__all__ = ["Build", "Choice", "Chooser", "Maximise", "Reader", "Spans", "State", "Step"]

Maximise = bool | Tensor
"""Whether sums take the maximum: all of a step's, none, or a mask (R, O)."""


@dataclass
class State:
    """What one pass over some rows of data holds: the question, and the values computed so far.

    `values[i]` are step i's units; `scaled[i]` says whether it may compute with numbers that reach no further than `forms`
    allows (what it hands on may still be logs). `keep` says that another pass over these values follows,
    and `saved` is for what a step keeps for it. `held` is what is derived from parameters.
    """

    report: Report
    held: Held
    values: Computed
    maximise: list[Maximise]
    scaled: list[bool]
    memory: int
    keep: bool = False
    saved: dict[object, object] = field(default_factory=dict)

    def about(self, report: Report) -> State:
        """The same pass over other rows, for a step that reads no other step."""
        return State(report, self.held, Computed(0), self.maximise, self.scaled, self.memory)


@dataclass(frozen=True)
class Spans:
    """How far apart values are, in nats: of the steps so far, and of the numbers that hold them. See `forms`."""

    bounds: list[float]
    lows: list[float]
    reach: float
    spare: float


@dataclass(frozen=True)
class Build:
    """What steps are made from."""

    pools: Pools
    locations: Locations
    source_of: Callable[[InputOp], nn.Module | None]
    device: torch.device | None
    chunked: bool


class Reader:
    """What a downward pass hands flows to."""

    def leaves(self, family: AbstractFamily, columns: Tensor, parameters: Parameters, flow: Tensor) -> None:
        """Leaf units of rows r and factors a over columns (R, A, size), parameters (R, A, K, *event), flow (R, B, K)."""

    def edges(self, step: int, rows: slice, begin: int, flows: Callable[[], Tensor]) -> None:
        """Flows into the inputs `begin`, `begin + 1`, ... of a step's sums, (R, B, O, n), made when called.

        `rows` says which of the pass's rows of data these are.
        """


class Chooser(ABC):
    """How a choosing pass settles: by drawing, or by the largest."""

    @abstractmethod
    def pick_within(self, scores: Tensor, group: Tensor | None) -> Tensor:
        """For log scores (G, K) and the group of each visit (V,), one index each, (V,); never one whose score is -inf.

        Without groups, each visit has scores of its own.
        """

    def pick(self, scores: Tensor) -> Tensor:
        """For log scores (V, K), one index each, (V,)."""
        return self.pick_within(scores, None)

    def pick_linear(self, scores: Tensor) -> Tensor:
        """For scores (V, K) that are not logs, one index each, (V,)."""
        return self.pick_within(log(scores), None)

    def pick_state(self, cumulative: Callable[[], Tensor], unit: Tensor) -> Tensor | None:
        """For visits (V,) of units whose states have cumulative probabilities (U, S), a state each; or None: settle them."""
        return None

    def pick_grouped(self, scores: Callable[[Tensor], Tensor], groups: int, group: Tensor, at_once: int) -> Tensor:
        """As `pick_within`, with the scores of some groups made when they are needed, at most `at_once` together."""
        picked = torch.empty_like(group)
        for begin in range(0, groups, at_once):
            some = torch.arange(begin, min(begin + at_once, groups), device=group.device)
            here = ((group >= begin) & (group < begin + len(some))).nonzero().squeeze(1)
            picked[here] = self.pick_within(scores(some), group[here] - begin)
        return picked

    @abstractmethod
    def settle(self, family: AbstractFamily, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        """Values of chosen leaf units, (V, size), with those that were observed in place."""


@dataclass
class Choice:
    """What a choosing pass carries: for each sample its row of data, and its assignment (S, D) so far."""

    row_of: Tensor
    assignment: Tensor
    observed: Tensor
    chooser: Chooser
    visits: list[list[Visits]]

    def write(self, family: AbstractFamily, sample: Tensor, columns: Tensor, parameters: Parameters) -> None:
        """Settle chosen leaf units (V,) over columns (V, size), and write their values down."""
        index = sample.unsqueeze(-1)
        x, observed = self.assignment[index, columns], self.observed[index, columns]
        values = self.chooser.settle(family, x, observed, parameters)
        self.assignment[index, columns] = torch.where(observed, x, values.to(x.dtype))

    def write_states(self, sample: Tensor, columns: Tensor, states: Tensor) -> None:
        """Write down the states (V,) of univariate leaf units over columns (V,), where nothing was observed."""
        x, observed = self.assignment[sample, columns], self.observed[sample, columns]
        self.assignment[sample, columns] = torch.where(observed, x, states.to(x.dtype))


class Step(nn.Module, ABC):
    """One operation made of tensors. `index` is its place in the program; its values are (R, B, K)."""

    def __init__(self, index: int, count: int, width: int) -> None:
        super().__init__()
        self.index, self.count, self.width = index, count, width

    @abstractmethod
    def up(self, state: State) -> Values:
        """The values, (R, B, K), in either form."""

    @abstractmethod
    def down(self, state: State, flow: Tensor, flows: list[Tensor | None], reader: Reader) -> None:
        """Hand the flow (R, B, K) on to what the step reads, or to the reader."""

    @abstractmethod
    def choose(self, state: State, visits: Visits, choice: Choice) -> None:
        """Hand visits on to what the step reads, or settle them."""

    def reads(self) -> tuple[int, ...]:
        """The steps that it reads; none, for leaves."""
        return ()

    def live(self) -> int:
        """Numbers held for each row of data while the step runs, beside its values."""
        return 0

    def live_down(self, memory: int) -> int:
        """Likewise on the way down, or kept for it; `memory` is the bound in bytes."""
        return 0

    def ratio(self, held: Held) -> Tensor | None:
        """log of its largest weight over its smallest, where it has weights."""
        return None

    def bound(self, spans: Spans, ratio: float) -> float:
        """log of the largest value over the smallest within any row, at most."""
        return math.inf

    def low(self, spans: Spans, ratio: float) -> float:
        """-log of the largest number of a row, at most, where the values are scaled."""
        return 0.0

    def needs(self, need: float, spans: Spans, ratio: float) -> Iterable[tuple[int, float]]:
        """What it needs of the steps that it reads, if `need` is needed of itself; inf allows no loss at all."""
        return ()

    def scales(self, need: float, spans: Spans, ratio: float) -> bool:
        """Whether scaled values lose nothing that counts here."""
        return False


def value_of(state: State, step: Step) -> Values:
    """What the step computed on the way up."""
    value = state.values[step.index]
    assert value is not None
    return value
