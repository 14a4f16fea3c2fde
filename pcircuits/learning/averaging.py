"""How the counts of one batch become those of the next M-step, where a batch is not all of the data."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pcircuits.learning.errors import TrainingError
from pcircuits.program.counts import Counts

__all__ = ["AbstractAveraging", "AbstractStepSize", "Anemone", "Falling", "Memory", "PowerLaw", "Stepwise"]


def _require(holds: bool, name: str, value: float, range_: str) -> None:
    if not holds:
        raise TrainingError(f"{name} is {value!r}; it must be {range_}.")


class AbstractStepSize(ABC):
    """The share η_t in [0, 1] that step t = 0..T−1 gives to the new counts."""

    @abstractmethod
    def at(self, step: int, steps: int) -> float:
        """η_t of step t of T."""


@dataclass(frozen=True)
class PowerLaw(AbstractStepSize):
    """η_t = max(least, (t + offset)^−power): for 1/2 < power <= 1 and least = 0, averages converge.

    **Source**: Cappé and Moulines 2009, *On-line expectation-maximization algorithm for latent data models*, section 2.3.

    >>> PowerLaw(power=1.0, offset=2.0).at(0, 10)
    0.5
    """

    power: float = 0.6
    offset: float = 2.0
    least: float = 0.02

    def __post_init__(self) -> None:
        _require(0 <= self.power <= 1, "power", self.power, "in [0, 1]")
        _require(self.offset >= 1, "offset", self.offset, "at least 1, so that no step exceeds 1")
        _require(0 <= self.least <= 1, "least", self.least, "in [0, 1]")

    def at(self, step: int, steps: int) -> float:
        return float(max(self.least, (step + self.offset) ** -self.power))


@dataclass(frozen=True)
class Falling(AbstractStepSize):
    """η_t falls along half a cosine from `start` to `end`.

    >>> [Falling(0.4, 0.0).at(t, 3) for t in (0, 1, 2)]
    [0.4, 0.2, 0.0]
    """

    start: float = 0.4
    end: float = 0.02

    def __post_init__(self) -> None:
        _require(0 < self.start <= 1, "start", self.start, "in (0, 1]")
        _require(0 <= self.end <= self.start, "end", self.end, "in [0, start]")

    def at(self, step: int, steps: int) -> float:
        share = step / max(1, steps - 1)
        return round(self.end + (self.start - self.end) * 0.5 * (1 + math.cos(math.pi * min(1.0, share))), 15)


class Memory:
    """What an averaging keeps between steps: counts for one row of data."""

    def __init__(self) -> None:
        self.counts: Counts | None = None
        self.weight = 0.0
        """The weight that the counts have in all, of those that were averaged so far."""

    def state(self) -> dict[str, object]:
        """The memory, as tensors and numbers."""
        tensors = {} if self.counts is None else self.counts.tensors
        return {"tensors": dict(tensors), "weight": self.weight}

    def load(self, state: Mapping[str, object]) -> None:
        """Go back to what `state` said."""
        tensors, weight = state["tensors"], state["weight"]
        if not isinstance(tensors, Mapping) or not isinstance(weight, float):
            raise ValueError("no counts are in the checkpoint")
        self.counts, self.weight = (Counts(tensors) if tensors else None), weight


class AbstractAveraging(ABC):
    """Turns the counts of batches into counts for M-steps. Counts here are those of one row of data."""

    step_size: AbstractStepSize

    def rate(self, step: int, steps: int) -> float:
        """The share of the new counts in step t of T."""
        return self.step_size.at(step, steps)

    @abstractmethod
    def next(self, memory: Memory, batch: Counts, step: int, steps: int, prior: Callable[[], Counts]) -> Counts:
        """The counts for the M-step of step t of T; `prior` makes those that the model itself expects."""


@dataclass(frozen=True)
class Stepwise(AbstractAveraging):
    """S_t = (1 − η_t) S_(t−1) + η_t s_t, with s_t the counts of the batch.

    S_(−1) is what the model expects of its own samples, so that a start from data is not forgotten in the first step.

    **Source**: Cappé and Moulines 2009, equation (6).
    """

    step_size: AbstractStepSize = PowerLaw()

    def next(self, memory: Memory, batch: Counts, step: int, steps: int, prior: Callable[[], Counts]) -> Counts:
        rate = self.rate(step, steps)
        if memory.counts is None:
            memory.counts = prior()
        memory.counts = memory.counts.times(1 - rate).plus(batch, rate)
        return memory.counts


@dataclass(frozen=True)
class Anemone(AbstractAveraging):
    """S_t = (1 − η_t) P_t + η_t m_t: P_t are the counts that the model of step t expects of its own samples, so that a
    unit's step is small where it is used more often than this batch shows, and m_t a mean of the counts of batches,

    m_t = Σ_(i<=t) β^(t−i) s_i / Σ_(i<=t) β^(t−i).

    **Source**: Liu, Shao and Van den Broeck 2025, *Rethinking Probabilistic Circuit Parameter Learning*, arXiv
    2505.19982: the update that a KL term on the whole distribution leads to, with momentum on flows.
    """

    step_size: AbstractStepSize = Falling()
    momentum: float = 0.9

    def __post_init__(self) -> None:
        _require(0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")

    def next(self, memory: Memory, batch: Counts, step: int, steps: int, prior: Callable[[], Counts]) -> Counts:
        rate = self.rate(step, steps)
        if memory.counts is None:
            memory.counts, memory.weight = batch, 1.0
        else:
            memory.counts = memory.counts.times(self.momentum).plus(batch)
            memory.weight = self.momentum * memory.weight + 1.0
        return prior().times(1 - rate).plus(memory.counts, rate / memory.weight)
