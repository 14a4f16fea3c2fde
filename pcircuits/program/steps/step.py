"""What a step is, and what passes hand to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pcircuits.families.interface import AbstractFamily, Parameters
from pcircuits.program.fetch import Visits
from pcircuits.program.reports import Report

__all__ = ["Chooser", "Maximise", "Reader", "State", "Step"]

Maximise = bool | Tensor
"""Whether sums take the maximum: all of a step's rows, none, or a mask (R,)."""


@dataclass
class State:
    """What one pass over some rows of data holds: the question, and the values computed so far.

    `values[i]` is (R, B, K): the logs of step i's units. `keep` says that another pass over these values follows,
    and `saved` is for what a step keeps for it.
    """

    report: Report
    values: list[Tensor | None]
    maximise: list[Maximise]
    memory: int
    keep: bool = False
    saved: dict[object, object] = field(default_factory=dict)


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
    def pick(self, scores: Tensor) -> Tensor:
        """For log scores (V, K), one index each, (V,); never one whose score is -inf."""

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


class Step(nn.Module, ABC):
    """One operation made of tensors. `index` is its place in the program; its values are (R, B, K) logs."""

    def __init__(self, index: int, count: int, width: int) -> None:
        super().__init__()
        self.index, self.count, self.width = index, count, width

    @abstractmethod
    def up(self, state: State) -> Tensor:
        """The logs of the values, (R, B, K)."""

    @abstractmethod
    def down(self, state: State, flow: Tensor, flows: list[Tensor | None], reader: Reader) -> None:
        """Hand the flow (R, B, K) on to what the step reads, or to the reader."""

    @abstractmethod
    def choose(self, state: State, visits: Visits, choice: Choice) -> None:
        """Hand visits on to what the step reads, or settle them."""

    def live(self) -> int:
        """Numbers held for each row of data while the step runs, beside its values."""
        return 0


def value_of(state: State, step: Step) -> Tensor:
    """What the step computed on the way up."""
    value = state.values[step.index]
    assert value is not None
    return value
