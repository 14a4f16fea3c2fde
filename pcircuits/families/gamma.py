"""The Gamma family, a density over positive numbers."""

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

__all__ = ["Gamma", "fit_concentration"]

STEPS = 60
"""Of Newton's method; most units need five."""


@dataclass(frozen=True)
class Gamma(AbstractDensity):
    """log p(x) = a log b + (a - 1) log x - b x - log Γ(a), for x > 0, a = `concentration` and b = `rate`.

    At 0 it is b for a = 1, and else 0: at a single point any value would do.

    >>> one = {"concentration": torch.tensor(2.0), "rate": torch.tensor(1.0)}
    >>> Gamma().log_density(torch.tensor([-1.0, 1.0]), one).tolist()
    [-inf, -1.0]
    """

    name: ClassVar[str] = "Gamma"
    description: ClassVar[str] = """Gamma densities over x > 0, of mean `concentration` / `rate`.

    >>> Gamma("minutes", [2.0, 9.0], 0.1).shape
    (1, 2)
    """

    @classmethod
    def members(cls, states: int) -> Collection[AbstractFamily]:
        return [cls()] if states == REAL else []

    def examples(
        self, shape: Collection[int], generator: torch.Generator, states: int = 2, extreme: bool = False
    ) -> dict[str, Tensor]:
        like, decades = torch.empty(0), 2.0 if extreme else 0.7
        concentration = 1.0 + 9 * uniform(shape, like, generator) ** 2
        return {
            "concentration": concentration * (10 if extreme else 1),
            "rate": 10.0 ** (decades * (2 * uniform(shape, like, generator) - 1)),
        }

    def initial(self, shape: Collection[int], generator: torch.Generator, mean: float = 1.0) -> dict[str, Tensor]:
        """Concentrations of 2, and means drawn evenly from the numbers between a half and three halves of `mean`."""
        means = mean * (0.5 + uniform(shape, torch.empty(0), generator))
        return {"concentration": torch.full_like(means, 2.0), "rate": 2.0 / means}

    def reference(self, values: Mapping[str, Any]) -> Any:
        from scipy import stats

        return stats.gamma(values["concentration"], scale=1 / values["rate"])

    @property
    def support(self) -> Support:
        return Support(integers=False, least=0.0)

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return {"concentration": ParameterSpec(positive), "rate": ParameterSpec(positive)}

    def log_density(self, x: Tensor, parameters: Parameters) -> Tensor:
        a, rate = parameters["concentration"], parameters["rate"]
        inside = (x > 0) & torch.isfinite(x)
        at = torch.where(inside, x, 1.0)
        value = a * rate.log() + (a - 1) * at.log() - rate * at - torch.lgamma(a)
        edge = torch.where((x == 0) & (a == 1), rate.log(), -torch.inf)
        return torch.where(inside, value, edge)

    def log_interval(self, lower: Tensor, upper: Tensor, parameters: Parameters) -> Tensor:
        a, rate = parameters["concentration"], parameters["rate"]
        return log_between(
            lower.clamp(min=0.0),
            upper,
            lambda x: log_special(_log_below, x, a, rate),
            lambda x: log_special(_log_above, x, a, rate),
            lambda x: self.log_density(x, parameters),
            a / rate,
            a.sqrt() / rate,
            lambda low, high: low,
        )

    def argmax(self, parameters: Parameters) -> Tensor:
        return ((parameters["concentration"] - 1).clamp(min=0.0) / parameters["rate"]).detach()

    def log_max(self, parameters: Parameters) -> Tensor:
        value = self.log_density(self.argmax(parameters), parameters)
        return torch.where(parameters["concentration"] < 1, torch.inf, value)

    def draw(self, parameters: Parameters, generator: torch.Generator | None) -> Tensor:
        a, rate = (parameters[n].detach() for n in ("concentration", "rate"))
        shape = self.unit_shape(parameters)
        device = a.device if generator is None else generator.device
        drawn = torch._standard_gamma(a.expand(shape).double().to(device), generator=generator)
        return drawn.to(a) / rate

    def raw_moment(self, order: int, parameters: Parameters) -> Tensor:
        """E[X^n] = a (a + 1) ... (a + n - 1) / b^n."""
        a, rate = parameters["concentration"], parameters["rate"]
        value = torch.ones(self.unit_shape(parameters), dtype=a.dtype, device=a.device)
        for n in range(order):
            value = value * (a + n) / rate
        return value

    def central_second_moment(self, parameters: Parameters) -> Tensor:
        return parameters["concentration"] / parameters["rate"] ** 2

    def warp(self, t: Tensor, parameters: Parameters) -> Tensor:
        return t.exp()

    def line(self, parameters: Parameters) -> tuple[Tensor, Tensor]:
        a = parameters["concentration"]
        return torch.digamma(a) - parameters["rate"].log(), torch.special.polygamma(1, a).sqrt()

    def log_weight(self, t: Tensor, parameters: Parameters) -> Tensor:
        a, rate = parameters["concentration"], parameters["rate"]
        shifted = t + rate.log()
        return a * shifted - shifted.exp() - torch.lgamma(a)

    @property
    def statistic_shapes(self) -> Sequence[Sequence[int]]:
        return [(), ()]

    def statistics(self, x: Tensor, parameters: Parameters, centre: Tensor) -> list[Tensor]:
        """x and log x."""
        inside = torch.where((x > 0) & torch.isfinite(x), x, 1.0)
        return [inside, inside.log()]

    def mean_statistics(self, parameters: Parameters, centre: Tensor) -> list[Tensor]:
        a, rate = parameters["concentration"], parameters["rate"]
        return [a / rate, torch.digamma(a) - rate.log()]

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
        """Newton's method to convergence, of log a - ψ(a) = log E[x] - E[log x]; the rate is a over the mean."""
        mean, log_mean = (statistic.double() / count for statistic in statistics)
        mean = mean.clamp(min=torch.finfo(torch.float64).tiny)
        a = fit_concentration(mean.log() - log_mean).minimum((mean / minimum_scale) ** 2)
        found = {"concentration": a, "rate": a / mean}
        return {name: kept_where_unused(value, count, parameters[name]) for name, value in found.items()}


def fit_concentration(gap: Tensor) -> Tensor:
    """The a at which log a - ψ(a) = gap, (...), by Newton's method in 1 / a; a gap of 0 or less gives 1e12.

    **Source**: Minka 2002, *Estimating a Gamma distribution*, equation (10).

    >>> wanted = torch.tensor(3.5, dtype=torch.float64)
    >>> round(fit_concentration(wanted.log() - torch.digamma(wanted)).item(), 9)
    3.5
    """
    s = gap.clamp(min=5e-13)
    a = (3 - s + ((s - 3) ** 2 + 24 * s).sqrt()) / (12 * s)
    for _ in range(STEPS):
        step = (a.log() - torch.digamma(a) - s) / (a**2 * (1 / a - torch.special.polygamma(1, a)))
        new = 1 / (1 / a + step)
        new = torch.where(new.isfinite() & (new > 0), new, a).clamp(1e-6, 1e12)
        done = bool(((new - a).abs() <= 1e-14 * a).all())
        a = new
        if done:
            break
    return a


def _log_below(x: np.ndarray, a: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """log P(X <= x); far below, the first terms of the series y^a e^-y Σ_n y^n / Γ(a + n + 1)."""
    y = np.maximum(x, 0) * rate
    value = special.gammainc(a, y)
    term = total = np.ones_like(y)
    for n in range(1, 30):
        term = term * y / (a + n)
        total = total + term
    far = a * np.log(y) - y - special.gammaln(a + 1) + np.log(total)
    found: np.ndarray = np.where(value > 1e-290, np.log(value), np.where(y > 0, far, -np.inf))
    return found


def _log_above(x: np.ndarray, a: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """log P(X >= x); far above, the continued fraction of Abramowitz and Stegun (1964), 6.5.31, from its tail."""
    y = np.maximum(x, 0) * rate
    value = special.gammaincc(a, y)
    fraction = np.ones_like(y)
    for n in range(60, 0, -1):
        fraction = y + 2 * n + 1 - a - (n + 1) * (n + 1 - a) / fraction if n < 60 else y + 2 * n + 1 - a
    fraction = y + 1 - a - (1 - a) / fraction
    far = a * np.log(y) - y - special.gammaln(a) - np.log(fraction)
    found: np.ndarray = np.where(value > 1e-290, np.log(value), far)
    return found
