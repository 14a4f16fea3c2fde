"""The Bernoulli family: P(x = 1) = p over {0, 1}."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pcircuits.families.draws import uniform
from pcircuits.families.finite import AbstractFinite
from pcircuits.families.interface import AbstractFamily, Parameters, ParameterSpec, kept_where_unused
from pcircuits.families.numerics import safe_log, safe_log1m
from pcircuits.parameters import unit_interval

__all__ = ["Bernoulli"]


_PARAMETERS = {"probs": ParameterSpec(unit_interval)}


@dataclass(frozen=True)
class Bernoulli(AbstractFinite):
    """p(1) = probs, p(0) = 1 - probs.

    >>> Bernoulli().log_table({"probs": torch.tensor([0.5, 1.0])}).exp().tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """

    name: ClassVar[str] = "Bernoulli"
    description: ClassVar[str] = """Units over {0, 1}: P(x = 1) = probs.

    Near 1, P(x = 0) is known only to the rounding of `probs` (`unit_interval`); a `Categorical` keeps both in full.

    >>> Bernoulli("wet", 0.1).shape
    (1, 1)
    """

    @classmethod
    def members(cls, states: int) -> Collection[AbstractFamily]:
        return [cls()] if states == 2 else []

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
        p = values["probs"]
        return {0: math.log1p(-p) if p < 1 else -math.inf, 1: math.log(p) if p > 0 else -math.inf}

    @property
    def states(self) -> int:
        return 2

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return _PARAMETERS

    def log_table(self, parameters: Parameters) -> Tensor:
        probs = parameters["probs"]
        return torch.stack([safe_log1m(probs), safe_log(probs)], -1)

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
        """The share of ones."""
        before = parameters["probs"]
        zeros, ones = (statistics[0].double() + pseudocount).unbind(-1)
        probs = torch.where((before > 0) & (before < 1), ones / (zeros + ones), before.double())
        return {"probs": kept_where_unused(probs, count, before)}
