"""The binomial family: how many of a number of trials succeed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pcircuits.families.draws import uniform
from pcircuits.families.fields import integer
from pcircuits.families.finite import AbstractFinite
from pcircuits.families.interface import AbstractFamily, Parameters, ParameterSpec, kept_where_unused
from pcircuits.families.numerics import safe_log, safe_log1m
from pcircuits.parameters import unit_interval

__all__ = ["Binomial"]


@dataclass(frozen=True)
class Binomial(AbstractFinite):
    """log P(k) = log C(n, k) + k log p + (n - k) log(1 - p), for k = 0..n.

    **Arguments**

    - `total_count`: n >= 1, the number of trials.

    >>> Binomial(2).log_table({"probs": torch.tensor(0.5)}).exp().tolist()
    [0.25, 0.5, 0.25]
    """

    total_count: int
    name: ClassVar[str] = "Binomial"
    description: ClassVar[
        str
    ] = """Units over 0..n: how many of `total_count` = n trials succeed, each with probability `probs`.

    >>> Binomial("heads", [0.2, 0.5], total_count=10).shape
    (1, 2)
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "total_count", integer(self.total_count, "total_count of Binomial", least=1))

    @classmethod
    def members(cls, states: int) -> Collection[AbstractFamily]:
        return [cls(states - 1)] if states > 1 else []

    def examples(
        self, shape: Collection[int], generator: torch.Generator, states: int = 2, extreme: bool = False
    ) -> dict[str, Tensor]:
        like = torch.empty(0)
        probs, edges = uniform(shape, like, generator), uniform(shape, like, generator)
        return {"probs": torch.where(edges < 0.15, (edges < 0.075).double(), probs)}

    def initial(self, shape: Collection[int], generator: torch.Generator) -> dict[str, Tensor]:
        """Probabilities drawn evenly from [0, 1)."""
        return {"probs": uniform(shape, torch.empty(0), generator)}

    def reference(self, values: Mapping[str, Any]) -> dict[int, float]:
        from scipy import stats

        return dict(enumerate(stats.binom(self.total_count, values["probs"]).logpmf(range(self.states)).tolist()))

    @property
    def states(self) -> int:
        return self.total_count + 1

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return {"probs": ParameterSpec(unit_interval)}

    def log_table(self, parameters: Parameters) -> Tensor:
        probs = parameters["probs"].unsqueeze(-1)
        k = torch.arange(self.states, dtype=probs.dtype, device=probs.device)
        n = float(self.total_count)
        choose = torch.lgamma(k.new_tensor(n + 1)) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
        hits, misses = safe_log(probs), safe_log1m(probs)
        return choose + torch.where(k > 0, k * hits, 0.0) + torch.where(k < n, (n - k) * misses, 0.0)

    def raw_moment(self, order: int, parameters: Parameters) -> Tensor:
        return self.total_count * parameters["probs"] if order == 1 else super().raw_moment(order, parameters)

    def central_second_moment(self, parameters: Parameters) -> Tensor:
        return self.total_count * parameters["probs"] * (1 - parameters["probs"])

    def m_step(
        self,
        statistics: Sequence[Tensor],
        count: Tensor,
        parameters: Parameters,
        *,
        pseudocount: float = 0.0,
        minimum_scale: float = 1e-3,
        centre: Tensor | None = None,
    ) -> Parameters:
        """The share of successes."""
        before = parameters["probs"]
        counts = statistics[0].double() + pseudocount
        states = torch.arange(self.states, dtype=counts.dtype, device=counts.device)
        probs = (counts * states).sum(-1) / counts.sum(-1) / self.total_count
        probs = torch.where((before > 0) & (before < 1), probs, before.double())
        return {"probs": kept_where_unused(probs, count, before)}
