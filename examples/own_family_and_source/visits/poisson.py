"""The Poisson family, over counts without a largest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

import pcircuits as pc
from pcircuits.families import AbstractUnivariate, Parameters, ParameterSpec

__all__ = ["Poisson"]


@dataclass(frozen=True)
class Poisson(AbstractUnivariate):
    """log p(k) = k log rate − rate − log k!, for k = 0, 1, 2, ... and rate > 0.

    Its methods take what is asked without the trailing axis of variables; shapes broadcast.
    """

    name: ClassVar[str] = "Poisson"
    base: ClassVar[Literal["counting", "lebesgue"]] = "counting"

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return {"rate": ParameterSpec(pc.positive)}

    def log_density(self, x: Tensor, parameters: Parameters) -> Tensor:
        possible = (x >= 0) & (x == x.floor()) & torch.isfinite(x)
        k, rate = torch.where(possible, x, 0.0), parameters["rate"]
        return torch.where(possible, k * rate.log() - rate - torch.lgamma(k + 1), -torch.inf)

    def log_interval(self, lower: Tensor, upper: Tensor, parameters: Parameters) -> Tensor:
        """P(k <= X) and P(X <= k) are incomplete gamma functions: whichever tail is the smaller is differenced."""
        first, last, rate = lower.ceil().clamp(min=0.0), upper.floor(), parameters["rate"]
        first, last, rate = torch.broadcast_tensors(first, last, rate)
        empty, point = ~(first <= last) | torch.isinf(first), first == last
        open_end = torch.isinf(last)
        a = torch.where(empty, 0.0, first)
        b = torch.where(empty | open_end, a, last)
        below = torch.where(a > 0, torch.special.gammaincc(a.clamp(min=1.0), rate), 0.0)  # P(X < a)
        from_a = torch.where(a > 0, torch.special.gammainc(a.clamp(min=1.0), rate), 1.0)  # P(X >= a)
        upto_b = torch.where(open_end, 1.0, torch.special.gammaincc(b + 1, rate))
        above = torch.where(open_end, 0.0, torch.special.gammainc(b + 1, rate))
        mass = torch.where(a > rate.detach(), from_a - above, upto_b - below)
        some = mass > 0
        value = torch.where(some, torch.where(some, mass, 1.0).log(), -torch.inf)
        value = torch.where(point & ~empty, self.log_density(a, parameters), value)
        return torch.where(empty, -torch.inf, value)

    def argmax(self, parameters: Parameters) -> Tensor:
        return parameters["rate"].detach().floor()

    def log_max(self, parameters: Parameters) -> Tensor:
        return self.log_density(self.argmax(parameters), parameters)

    def draw(self, parameters: Parameters, generator: torch.Generator | None) -> Tensor:
        rate = parameters["rate"]
        device = rate.device if generator is None else generator.device
        return torch.poisson(rate.detach().to(device), generator).to(rate.device)

    def raw_moment(self, order: int, parameters: Parameters) -> Tensor:
        """E[X^(n+1)] = rate Σ_k C(n, k) E[X^k]."""
        rate = parameters["rate"]
        moments = [torch.ones_like(rate)]
        for n in range(order):
            total = sum((math.comb(n, k) * moment for k, moment in enumerate(moments)), torch.zeros_like(rate))
            moments.append(rate * total)
        return moments[order]

    def central_second_moment(self, parameters: Parameters) -> Tensor:
        return parameters["rate"].clone()

    def integral(self, f: Callable[[Tensor], Tensor], parameters: Parameters) -> Tensor:
        """Σ_k p(k) f(k), cut off at 40 standard deviations above the largest mean."""
        rate = parameters["rate"]
        largest = rate.detach().max().item() if rate.numel() else 0.0
        k = torch.arange(int(largest + 40 * math.sqrt(largest)) + 40, dtype=rate.dtype, device=rate.device)
        return (self.log_density(k, {"rate": rate.unsqueeze(-1)}).exp() * f(k)).sum(-1)
