"""The Bernoulli family: P(x = 1) = p over {0, 1}."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pcircuits.families.finite import AbstractFinite
from pcircuits.families.interface import Parameters, ParameterSpec
from pcircuits.families.numerics import safe_log, safe_log1m
from pcircuits.parameters import unit_interval

__all__ = ["Bernoulli"]


@dataclass(frozen=True)
class Bernoulli(AbstractFinite):
    """p(1) = probs, p(0) = 1 - probs.

    >>> Bernoulli().log_table({"probs": torch.tensor([0.5, 1.0])}).exp().tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """

    name: ClassVar[str] = "Bernoulli"

    @property
    def states(self) -> int:
        return 2

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return {"probs": ParameterSpec(unit_interval)}

    def log_table(self, parameters: Parameters) -> Tensor:
        probs = parameters["probs"]
        return torch.stack([safe_log1m(probs), safe_log(probs)], -1)
