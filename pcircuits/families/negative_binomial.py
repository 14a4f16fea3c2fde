"""The negative binomial family: counts that spread more than those of a Poisson distribution."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from scipy import special
from torch import Tensor

from pcircuits.families.counts import AbstractCounts
from pcircuits.families.densities import log_special
from pcircuits.families.draws import uniform
from pcircuits.families.gamma import fit_concentration
from pcircuits.families.interface import UNNOTICED, AbstractFamily, Parameters, ParameterSpec, kept_where_unused
from pcircuits.families.numerics import log_add
from pcircuits.parameters import positive
from pcircuits.scope import OPEN_ENDED

__all__ = ["NegativeBinomial"]


@dataclass(frozen=True)
class NegativeBinomial(AbstractCounts):
    """log P(k) = log Γ(k + r) - log Γ(r) - log k! + r log(r / (r + m)) + k log(m / (r + m)), for k = 0, 1, 2, ...

    m is the `mean` and r the `concentration`: a Poisson distribution whose rate has a Gamma distribution of this mean and
    concentration. The variance is m + m² / r.

    >>> one = {"mean": torch.tensor(1.0), "concentration": torch.tensor(1.0)}
    >>> [round(p, 6) for p in NegativeBinomial().log_density(torch.tensor([0.0, 1.0]), one).exp().tolist()]
    [0.5, 0.25]
    """

    name: ClassVar[str] = "NegativeBinomial"
    positive: ClassVar[bool] = True
    description: ClassVar[
        str
    ] = """Units over the counts 0, 1, 2, ..., of a `mean` > 0, and of variance mean + mean² / `concentration`.

    >>> NegativeBinomial("visits", [2.0, 8.0], 1.5).shape
    (1, 2)
    """

    @classmethod
    def members(cls, states: int) -> Collection[AbstractFamily]:
        return [cls()] if states == OPEN_ENDED else []

    def examples(
        self, shape: Collection[int], generator: torch.Generator, states: int = 2, extreme: bool = False
    ) -> dict[str, Tensor]:
        like, (low, high) = torch.empty(0), (-2.0, 1.3) if extreme else (-0.7, 0.7)
        return {
            "mean": 10.0 ** (low + (high - low) * uniform(shape, like, generator)),
            "concentration": 0.5 + (50.0 if extreme else 5.0) * uniform(shape, like, generator) ** 2,
        }

    def initial(self, shape: Collection[int], generator: torch.Generator, mean: float = 1.0) -> dict[str, Tensor]:
        """Means drawn evenly from the numbers between a half and three halves of `mean`, and concentrations of 2."""
        means = mean * (0.5 + uniform(shape, torch.empty(0), generator))
        return {"mean": means, "concentration": torch.full_like(means, 2.0)}

    def reference(self, values: Mapping[str, Any]) -> Any:
        from scipy import stats

        r, m = values["concentration"], values["mean"]
        return stats.nbinom(r, r / (r + m))

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return {"mean": ParameterSpec(positive), "concentration": ParameterSpec(positive)}

    def resolution(self, parameters: Parameters) -> Mapping[str, Tensor]:
        return {"mean": UNNOTICED * self.central_second_moment(parameters).sqrt()}

    def log_density(self, x: Tensor, parameters: Parameters) -> Tensor:
        m, r = parameters["mean"], parameters["concentration"]
        possible = self.support.contains(x)
        k = torch.where(possible, x, 0.0)
        choose = torch.lgamma(k + r) - torch.lgamma(r) - torch.lgamma(k + 1)
        value = choose - r * torch.log1p(m / r) - k * torch.log1p(r / m)
        return torch.where(possible, value, -torch.inf)

    def log_interval(self, lower: Tensor, upper: Tensor, parameters: Parameters) -> Tensor:
        m, r = parameters["mean"], parameters["concentration"]
        first, last, mean = torch.broadcast_tensors(lower.ceil().clamp(min=0.0), upper.floor(), m.detach())  # type: ignore[no-untyped-call]
        empty, open_end = ~(first <= last) | torch.isinf(first), torch.isinf(last)
        a = torch.where(empty, 0.0, first)
        b = torch.where(empty | open_end, a, last)
        above = torch.where(open_end, -torch.inf, log_special(_log_above, b + 1, m, r))
        below = torch.where(a > 0, log_special(_log_below, (a - 1).clamp(min=0.0), m, r), -torch.inf)
        high, low = a > mean, (b <= mean) & ~open_end
        from_a, upto_b = log_special(_log_above, a, m, r), log_special(_log_below, b, m, r)
        whole = torch.where(high, from_a, torch.where(low, upto_b, 0.0))
        taken = torch.where(high, above, torch.where(low, below, log_add(below, above)))
        some = (taken < whole) & (taken > -torch.inf)
        value = torch.where(some, whole + torch.log1p(-torch.where(some, taken - whole, -1.0).exp()), whole)
        value = torch.where((a == b) & ~open_end, self.log_density(a, parameters), value)
        return torch.where(empty, -torch.inf, value)

    def argmax(self, parameters: Parameters) -> Tensor:
        """The largest integer that is at most m (r - 1) / r, or 0."""
        m, r = parameters["mean"].detach(), parameters["concentration"].detach()
        return (m * (r - 1) / r).floor().clamp(min=0.0)

    def log_max(self, parameters: Parameters) -> Tensor:
        return self.log_density(self.argmax(parameters), parameters)

    def draw(self, parameters: Parameters, generator: torch.Generator | None) -> Tensor:
        m, r = (parameters[n].detach() for n in ("mean", "concentration"))
        device = m.device if generator is None else generator.device
        wide_m, wide_r = (t.expand(self.unit_shape(parameters)).double().to(device) for t in (m, r))
        rate = torch._standard_gamma(wide_r, generator=generator) * wide_m / wide_r
        return torch.poisson(rate, generator).to(m)

    def raw_moment(self, order: int, parameters: Parameters) -> Tensor:
        """E[X^n] = Σ_j S(n, j) E[X (X - 1) ... (X - j + 1)], Stirling numbers times (r)_j (m / r)^j."""
        m, r = parameters["mean"], parameters["concentration"]
        stirling = [1]
        for n in range(order):
            stirling = [
                (j * stirling[j] if j <= n else 0) + (stirling[j - 1] if j else 0) for j in range(n + 2)
            ]  # S(n + 1, j)
        total = torch.zeros(self.unit_shape(parameters), dtype=m.dtype, device=m.device)
        factor = torch.ones_like(total)
        for j, number in enumerate(stirling):
            total = total + number * factor
            factor = factor * (r + j) / r * m
        return total

    def central_second_moment(self, parameters: Parameters) -> Tensor:
        return parameters["mean"] + parameters["mean"] ** 2 / parameters["concentration"]

    @property
    def statistic_shapes(self) -> Sequence[Sequence[int]]:
        return [(), ()]

    def expected_statistics(
        self, x: Tensor, observed: Tensor, parameters: Parameters, centre: Tensor | None = None
    ) -> list[Tensor]:
        """What is expected of the Poisson rate that a count came from, and of its logarithm."""
        x, observed = x[..., 0], observed[..., 0]
        m, r = parameters["mean"], parameters["concentration"]
        k = torch.where(observed, x, 0.0)
        inverse = r / m + 1
        seen = [(r + k) / inverse, torch.digamma(r + k) - inverse.log()]
        expected = [m, torch.digamma(r) - (r / m).log()]
        return [torch.where(observed, one, other) for one, other in zip(seen, expected, strict=True)]

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
        """The Gamma distribution of largest likelihood for the expected rates, by Newton's method to convergence.

        The rate is a latent variable, so that this is one step of expectation-maximisation for a leaf alone, too: it never
        makes the likelihood smaller.
        """
        mean, log_mean = (statistic.double() / count for statistic in statistics)
        mean = mean.clamp(min=minimum_scale**2)
        found = {"mean": mean, "concentration": fit_concentration(mean.log() - log_mean).clamp(max=1e6)}
        return {name: kept_where_unused(value, count, parameters[name]) for name, value in found.items()}


def _log_above(k: np.ndarray, m: np.ndarray, r: np.ndarray) -> np.ndarray:
    """log P(X >= k); far above, its first terms."""
    value = special.betainc(np.maximum(k, 1), r, m / (m + r))
    found: np.ndarray = np.where(k > 0, np.where(value > 1e-290, np.log(value), _log_first(k, m, r, 1)), 0.0)
    return found


def _log_below(k: np.ndarray, m: np.ndarray, r: np.ndarray) -> np.ndarray:
    """log P(X <= k); far below, its last terms."""
    value = special.betainc(r, k + 1, r / (m + r))
    found: np.ndarray = np.where(value > 1e-290, np.log(value), _log_first(k, m, r, -1))
    return found


def _log_first(k: np.ndarray, m: np.ndarray, r: np.ndarray, step: int) -> np.ndarray:
    """log of Σ P(k), P(k + step), ..., of which each is smaller than the one before by a factor."""
    log = special.gammaln(k + r) - special.gammaln(r) - special.gammaln(k + 1)
    log = log - r * np.log1p(m / r) - k * np.log1p(r / m)
    term = total = np.ones_like(log)
    for n in range(400):
        here = k + n * step
        ratio = (here + r) / (here + 1) * m / (m + r) if step > 0 else here / (here - 1 + r) * (m + r) / m
        term = term * np.clip(ratio, 0.0, 1.0)
        total = total + term
    found: np.ndarray = log + np.log(total)
    return found
