"""Poisson counts of a shop that is closed now and then: a family over counts without a largest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

import pcircuits as pc
from pcircuits.families import AbstractCounts, Parameters, ParameterSpec, Poisson
from pcircuits.families.draws import uniform
from pcircuits.families.numerics import log_add

__all__ = ["ZeroInflatedPoisson"]

OPEN = Poisson()


@dataclass(frozen=True)
class ZeroInflatedPoisson(AbstractCounts):
    """p(k) = closed [k = 0] + (1 − closed) rate^k e^(−rate) / k!, for rate > 0.

    Its methods take what is asked without the trailing axis of variables; shapes broadcast.

    **Arguments**

    - `closed`: the share of days without any visits, in (0, 1).
    """

    closed: float
    name: ClassVar[str] = "ZeroInflatedPoisson"

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return {"rate": ParameterSpec(pc.positive)}

    def reference(self, values: Mapping[str, Any]) -> dict[int, float]:
        """What the oracle answers with, by scipy, as far as rates of this example reach."""
        from scipy import stats

        probs = (1 - self.closed) * stats.poisson(values["rate"]).pmf(range(200))
        probs[0] += self.closed
        return {k: math.log(p) if p > 0 else -math.inf for k, p in enumerate(probs.tolist())}

    def log_density(self, x: Tensor, parameters: Parameters) -> Tensor:
        return self._mixed(OPEN.log_density(x, parameters), x == 0)

    def log_interval(self, lower: Tensor, upper: Tensor, parameters: Parameters) -> Tensor:
        return self._mixed(OPEN.log_interval(lower, upper, parameters), (lower <= 0) & (upper >= 0))

    def argmax(self, parameters: Parameters) -> Tensor:
        peak = OPEN.argmax(parameters)
        higher = self.log_density(peak, parameters) > self.log_density(torch.zeros_like(peak), parameters)
        return torch.where(higher, peak, 0.0)

    def log_max(self, parameters: Parameters) -> Tensor:
        return self.log_density(self.argmax(parameters), parameters)

    def draw(self, parameters: Parameters, generator: torch.Generator | None) -> Tensor:
        visits = OPEN.draw(parameters, generator)
        return torch.where(uniform(visits.shape, visits, generator) < self.closed, 0.0, visits)

    def raw_moment(self, order: int, parameters: Parameters) -> Tensor:
        moment = OPEN.raw_moment(order, parameters)
        return moment if order == 0 else (1 - self.closed) * moment

    def central_second_moment(self, parameters: Parameters) -> Tensor:
        rate = parameters["rate"]
        return (1 - self.closed) * rate * (1 + self.closed * rate)

    def _mixed(self, log_open: Tensor, zero: Tensor) -> Tensor:
        """log ((1 − closed) p + closed [zero])."""
        log_closed = torch.full_like(log_open, math.log(self.closed))
        return log_add(log_open + math.log1p(-self.closed), log_closed.masked_fill(~zero, -torch.inf))
