"""The Beta family, a density over (0, 1)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from scipy import special
from torch import Tensor

from pcircuits.families.densities import AbstractDensity, log_between, log_special
from pcircuits.families.draws import uniform
from pcircuits.families.interface import AbstractFamily, Parameters, ParameterSpec, kept_where_unused
from pcircuits.families.support import Support
from pcircuits.parameters import positive
from pcircuits.scope import REAL

__all__ = ["Beta"]

STEPS = 200
"""Of Newton's method; most units need ten."""


@dataclass(frozen=True)
class Beta(AbstractDensity):
    """log p(x) = (a - 1) log x + (b - 1) log(1 - x) - log B(a, b), a = `concentration1` and b = `concentration0`.

    At 0 and 1 it is 0, but for the ends of a flat density: at single points any value would do.

    >>> flat = {"concentration1": torch.tensor(1.0), "concentration0": torch.tensor(1.0)}
    >>> Beta().log_density(torch.tensor([-1.0, 0.5]), flat).tolist()
    [-inf, 0.0]
    """

    name: ClassVar[str] = "Beta"
    description: ClassVar[
        str
    ] = """Beta densities over (0, 1), of mean `concentration1` / (`concentration1` + `concentration0`).

    >>> Beta("share", [1.0, 8.0], 2.0).shape
    (1, 2)
    """

    @classmethod
    def members(cls, states: int) -> Collection[AbstractFamily]:
        return [cls()] if states == REAL else []

    def examples(
        self, shape: Collection[int], generator: torch.Generator, states: int = 2, extreme: bool = False
    ) -> dict[str, Tensor]:
        like, largest = torch.empty(0), 100.0 if extreme else 8.0
        return {
            "concentration1": 1.0 + largest * uniform(shape, like, generator) ** 2,
            "concentration0": 1.0 + largest * uniform(shape, like, generator) ** 2,
        }

    def initial(self, shape: Collection[int], generator: torch.Generator) -> dict[str, Tensor]:
        """Concentrations drawn evenly from [1, 3)."""
        like = torch.empty(0)
        return {name: 1 + 2 * uniform(shape, like, generator) for name in ("concentration1", "concentration0")}

    def reference(self, values: Mapping[str, Any]) -> Any:
        from scipy import stats

        return stats.beta(values["concentration1"], values["concentration0"])

    @property
    def support(self) -> Support:
        return Support(integers=False, least=0.0, most=1.0)

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return {"concentration1": ParameterSpec(positive), "concentration0": ParameterSpec(positive)}

    def log_density(self, x: Tensor, parameters: Parameters) -> Tensor:
        a, b = parameters["concentration1"], parameters["concentration0"]
        inside = (x > 0) & (x < 1)
        at = torch.where(inside, x, 0.5)
        value = (a - 1) * at.log() + (b - 1) * torch.log1p(-at) - _log_beta(a, b)
        flat = ((x == 0) & (a == 1)) | ((x == 1) & (b == 1))
        return torch.where(inside, value, torch.where(flat, -_log_beta(a, b), -torch.inf))

    def log_interval(self, lower: Tensor, upper: Tensor, parameters: Parameters) -> Tensor:
        a, b = parameters["concentration1"], parameters["concentration0"]
        return log_between(
            lower.clamp(0.0, 1.0),
            upper.clamp(0.0, 1.0),
            lambda x: log_special(_log_below, x, a, b),
            lambda x: log_special(_log_above, x, a, b),
            lambda x: self.log_density(x, parameters),
            a / (a + b),
            self.central_second_moment(parameters).sqrt(),
            lambda low, high: torch.minimum(low, 1 - high),
        )

    def argmax(self, parameters: Parameters) -> Tensor:
        """(a - 1) / (a + b - 2); the end that is further from falling where a or b is at most 1."""
        a, b = (parameters[n].detach() for n in ("concentration1", "concentration0"))
        left, right = (a - 1).clamp(min=0.0), (b - 1).clamp(min=0.0)
        ends = torch.where((a <= 1) & (b <= 1), (a < b).to(a.dtype) * 0 + (b < a).to(a.dtype), 0.0)
        return torch.where(left + right > 0, left / torch.where(left + right > 0, left + right, 1.0), ends)

    def log_max(self, parameters: Parameters) -> Tensor:
        a, b = parameters["concentration1"], parameters["concentration0"]
        value = self.log_density(self.argmax(parameters), parameters)
        return torch.where((a < 1) | (b < 1), torch.inf, value)

    def draw(self, parameters: Parameters, generator: torch.Generator | None) -> Tensor:
        """X = G / (G + H) of two Gamma variables, in logarithms of their quotient."""
        a, b = (parameters[n].detach() for n in ("concentration1", "concentration0"))
        shape, device = self.unit_shape(parameters), a.device if generator is None else generator.device
        g, h = (
            torch._standard_gamma(c.expand(shape).double().to(device), generator=generator).clamp(min=1e-300)
            for c in (a, b)
        )
        eps = torch.finfo(a.dtype).eps
        return (g / (g + h)).clamp(eps * eps, 1 - eps).to(a)

    def raw_moment(self, order: int, parameters: Parameters) -> Tensor:
        """E[X^n] = Π_k (a + k) / (a + b + k), k < n."""
        a, b = parameters["concentration1"], parameters["concentration0"]
        value = torch.ones(self.unit_shape(parameters), dtype=a.dtype, device=a.device)
        for k in range(order):
            value = value * (a + k) / (a + b + k)
        return value

    def central_second_moment(self, parameters: Parameters) -> Tensor:
        a, b = parameters["concentration1"], parameters["concentration0"]
        return a / (a + b) * (b / (a + b)) / (a + b + 1)

    def warp(self, t: Tensor, parameters: Parameters) -> Tensor:
        return torch.sigmoid(t)

    def line(self, parameters: Parameters) -> tuple[Tensor, Tensor]:
        a, b = parameters["concentration1"], parameters["concentration0"]
        spread = torch.special.polygamma(1, a) + torch.special.polygamma(1, b)
        return torch.digamma(a) - torch.digamma(b), spread.sqrt()

    def log_weight(self, t: Tensor, parameters: Parameters) -> Tensor:
        a, b = parameters["concentration1"], parameters["concentration0"]
        sigmoid = torch.nn.functional.logsigmoid
        return a * sigmoid(t) + b * sigmoid(-t) - _log_beta(a, b)

    @property
    def statistic_shapes(self) -> Sequence[Sequence[int]]:
        return [(), ()]

    def statistics(self, x: Tensor, parameters: Parameters, centre: Tensor) -> list[Tensor]:
        """log x and log(1 - x)."""
        at = torch.where((x > 0) & (x < 1), x, 0.5)
        return [at.log(), torch.log1p(-at)]

    def mean_statistics(self, parameters: Parameters, centre: Tensor) -> list[Tensor]:
        a, b = parameters["concentration1"], parameters["concentration0"]
        both = torch.digamma(a + b)
        return [torch.digamma(a) - both, torch.digamma(b) - both]

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
        """Newton's method to convergence, of ψ(a) - ψ(a + b) = E[log x] and ψ(b) - ψ(a + b) = E[log(1 - x)].

        No concentration gets larger than where the standard deviation would be `minimum_scale`.

        **Source**: Minka 2000, *Estimating a Dirichlet distribution*, equations (13) to (18).
        """
        one, zero = (statistic.double() / count for statistic in statistics)
        most = 0.25 / minimum_scale**2
        a, b = (parameters[n].double().clamp(max=most) for n in ("concentration1", "concentration0"))
        a, b = _fitted(a, b, torch.where(count > 0, one, -1.0), torch.where(count > 0, zero, -1.0), most)
        found = {"concentration1": a, "concentration0": b}
        return {name: kept_where_unused(value, count, parameters[name]) for name, value in found.items()}


def _fitted(a: Tensor, b: Tensor, one: Tensor, zero: Tensor, most: float) -> tuple[Tensor, Tensor]:
    """The maximum of (a - 1) E[log x] + (b - 1) E[log(1 - x)] - log B(a, b), which is concave, by Newton's method."""

    def value(a: Tensor, b: Tensor) -> Tensor:
        return a * one + b * zero - _log_beta(a, b)

    a, b = torch.broadcast_tensors(a, b)  # type: ignore[no-untyped-call]
    now, share = value(a, b), torch.ones_like(a)
    for _ in range(STEPS):
        both, bend = torch.digamma(a + b), torch.special.polygamma(1, a + b)
        g, h = one - torch.digamma(a) + both, zero - torch.digamma(b) + both
        p, q = torch.special.polygamma(1, a), torch.special.polygamma(1, b)
        determinant = p * q - bend * (p + q)
        step_a = ((q - bend) * g + bend * h) / determinant
        step_b = ((p - bend) * h + bend * g) / determinant
        new_a = torch.maximum(a + share * step_a, 0.2 * a).clamp(1e-6, most)
        new_b = torch.maximum(b + share * step_b, 0.2 * b).clamp(1e-6, most)
        made = value(new_a, new_b)
        better = made >= now - 1e-14 * now.abs()
        moved = torch.where(better, (new_a - a).abs() / a + (new_b - b).abs() / b, torch.inf)
        a, b, now = torch.where(better, new_a, a), torch.where(better, new_b, b), torch.where(better, made, now)
        share = torch.where(better, (2 * share).clamp(max=1.0), 0.25 * share)
        if bool(((moved <= 1e-13) | (share < 1e-12)).all()):
            break
    return a, b


def _log_beta(a: Tensor, b: Tensor) -> Tensor:
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)


def _log_below(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """log P(X <= x); far below, the leading term of the series."""
    value = special.betainc(a, b, x)
    far = a * np.log(x) + b * np.log1p(-x) - np.log(a) - special.betaln(a, b)
    found: np.ndarray = np.where(value > 1e-290, np.log(value), far)
    return found


def _log_above(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    value = special.betaincc(a, b, x)
    far = a * np.log(x) + b * np.log1p(-x) - np.log(b) - special.betaln(a, b)
    found: np.ndarray = np.where(value > 1e-290, np.log(value), far)
    return found
