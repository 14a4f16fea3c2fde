"""The Poisson family, over counts without a largest."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pcircuits.families.counts import AbstractCounts
from pcircuits.families.draws import uniform
from pcircuits.families.interface import (
    UNNOTICED,
    AbstractExponentialFamily,
    AbstractFamily,
    Parameters,
    ParameterSpec,
    kept_where_unused,
    no_smaller,
)
from pcircuits.families.numerics import log_add
from pcircuits.parameters import positive
from pcircuits.scope import OPEN_ENDED

__all__ = ["Poisson"]

UNDERFLOW = 1e-290
TERMS = 200
"""Of the series for tails below it: enough for any rate up to 1e5, and for larger ones all but a few digits."""


@dataclass(frozen=True)
class Poisson(AbstractCounts, AbstractExponentialFamily):
    """log p(k) = k log rate - rate - log k!, for k = 0, 1, 2, ... and rate > 0.

    >>> two = {"rate": torch.tensor(2.0)}
    >>> Poisson().log_density(torch.tensor([0.0, 1.0, 2.0]), two).exp()
    tensor([0.1353, 0.2707, 0.2707])
    """

    name: ClassVar[str] = "Poisson"
    positive: ClassVar[bool] = True
    description: ClassVar[
        str
    ] = """Units over the counts 0, 1, 2, ...: P(x = k) = rate^k e^(-rate) / k!, of mean `rate` > 0.

    >>> Poisson(["calls", "visits"], [[2.0, 5.0], [0.1, 40.0]]).shape
    (2, 2)
    """

    @classmethod
    def members(cls, states: int) -> Collection[AbstractFamily]:
        return [cls()] if states == OPEN_ENDED else []

    def examples(
        self, shape: Collection[int], generator: torch.Generator, states: int = 2, extreme: bool = False
    ) -> dict[str, Tensor]:
        low, high = (-6.0, 2.0) if extreme else (-1.0, 1.0)
        return {"rate": 10.0 ** (low + (high - low) * uniform(shape, torch.empty(0), generator))}

    def initial(self, shape: Collection[int], generator: torch.Generator, rate: float = 1.0) -> dict[str, Tensor]:
        """Rates drawn evenly from [0, 2 rate)."""
        return {"rate": (2 * rate * uniform(shape, torch.empty(0), generator)).clamp(min=1e-3 * rate)}

    def reference(self, values: Mapping[str, Any]) -> Any:
        from scipy import stats

        return stats.poisson(values["rate"])

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return {"rate": ParameterSpec(positive)}

    def resolution(self, parameters: Parameters) -> Mapping[str, Tensor]:
        return {"rate": UNNOTICED * parameters["rate"].sqrt()}

    def log_density(self, x: Tensor, parameters: Parameters) -> Tensor:
        possible = self.support.contains(x)
        k = torch.where(possible, x, 0.0)
        return torch.where(possible, _log_mass(k, parameters["rate"]), -torch.inf)

    def log_interval(self, lower: Tensor, upper: Tensor, parameters: Parameters) -> Tensor:
        first, last, rate = torch.broadcast_tensors(lower.ceil().clamp(min=0.0), upper.floor(), parameters["rate"])  # type: ignore[no-untyped-call]
        empty, open_end = ~(first <= last) | torch.isinf(first), torch.isinf(last)
        a = torch.where(empty, 0.0, first)
        b = torch.where(empty | open_end, a, last)
        value = _log_between(a, b, open_end, rate)
        return torch.where(empty, -torch.inf, value)

    def argmax(self, parameters: Parameters) -> Tensor:
        return parameters["rate"].detach().floor()

    def log_max(self, parameters: Parameters) -> Tensor:
        return self.log_density(self.argmax(parameters), parameters)

    def draw(self, parameters: Parameters, generator: torch.Generator | None) -> Tensor:
        rate = parameters["rate"].detach()
        device = rate.device if generator is None else generator.device
        return torch.poisson(rate.double().to(device), generator).to(rate)

    def raw_moment(self, order: int, parameters: Parameters) -> Tensor:
        """E[X^(n+1)] = rate Σ_k C(n, k) E[X^k]: all terms are positive."""
        rate = parameters["rate"]
        moments = [torch.ones_like(rate)]
        for n in range(order):
            terms = [math.comb(n, k) * moment for k, moment in enumerate(moments)]
            moments.append(rate * torch.stack(terms).sum(0))
        return moments[order]

    def central_second_moment(self, parameters: Parameters) -> Tensor:
        return parameters["rate"].clone()

    def sufficient_statistics(self, x: Tensor, centre: Tensor) -> list[Tensor]:
        return [x]

    def log_base_measure(self, x: Tensor) -> Tensor:
        """-log k!"""
        return -torch.lgamma(x + 1)

    def natural_parameters(self, parameters: Parameters, centre: Tensor) -> tuple[list[Tensor], Tensor]:
        rate = parameters["rate"]
        return [rate.log()], -rate

    def mean_statistics(self, parameters: Parameters, centre: Tensor) -> list[Tensor]:
        return [parameters["rate"]]

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
        """The weighted mean of the data; no less than `minimum_scale`², the least variance."""
        rate = no_smaller(statistics[0].double() / count, parameters["rate"], minimum_scale**2)
        return {"rate": kept_where_unused(rate, count, parameters["rate"])}

    def cancellation(self, parameters: Parameters, centre: Tensor) -> Tensor:
        """Infinite: matrix products of leaves do not add `log_base_measure`, so that they must not be taken."""
        return torch.full_like(parameters["rate"], torch.inf)

    def centre(self, parameters: Parameters) -> Tensor:
        """Statistics have no location: 0."""
        rate = parameters["rate"]
        return torch.zeros(rate.shape[:-1], dtype=rate.dtype, device=rate.device)


def _log_mass(k: Tensor, rate: Tensor) -> Tensor:
    """log p(k); for large k by the deviance, Loader (2000), in which no terms of the size of k cancel."""
    large = k > 16
    n = torch.where(large, k, 17.0)
    u = rate / n
    stirling = (1 / 12 - (1 / 360 - (1 / 1260 - 1 / 1680 / n**2) / n**2) / n**2) / n
    saddle = n * (u.log() - (u - 1)) - 0.5 * (2 * math.pi * n).log() - stirling
    few = torch.where(large, 0.0, k)
    return torch.where(large, saddle, few * rate.log() - rate - torch.lgamma(few + 1))


def _log_between(a: Tensor, b: Tensor, open_end: Tensor, rate: Tensor) -> Tensor:
    """log P(a <= X <= b), as one tail less another on the side of the mean where they are small, or 1 less both tails."""
    mean = rate.detach()
    above = torch.where(open_end, -torch.inf, _log_upper_tail(b + 1, rate))
    below = torch.where(a > 0, _log_lower_tail((a - 1).clamp(min=0.0), rate), -torch.inf)
    high, low = a > mean, (b <= mean) & ~open_end
    whole = torch.where(high, _log_upper_tail(a, rate), torch.where(low, _log_lower_tail(b, rate), 0.0))
    taken = torch.where(high, above, torch.where(low, below, log_add(below, above)))
    some = (taken < whole) & (taken > -torch.inf)
    rest = torch.log1p(-torch.where(some, taken - whole, -1.0).exp())
    value = torch.where(some, whole + rest, whole)
    return torch.where((a == b) & ~open_end, _log_mass(a, rate), value)


def _log_upper_tail(a: Tensor, rate: Tensor) -> Tensor:
    """log P(X >= a), with its derivative p(a - 1) / P(X >= a)."""
    some = a > 0
    value: Tensor = _LogTail.apply(torch.where(some, a, 1.0), rate, True)
    return torch.where(some, value, 0.0)


def _log_lower_tail(b: Tensor, rate: Tensor) -> Tensor:
    """log P(X <= b), with its derivative -p(b) / P(X <= b)."""
    value: Tensor = _LogTail.apply(b, rate, False)
    return value


class _LogTail(torch.autograd.Function):
    """log P(X >= k) or log P(X <= k): incomplete gamma functions, and series where those underflow."""

    @staticmethod
    def forward(k: Tensor, rate: Tensor, upper: bool) -> Tensor:
        n, mean = torch.broadcast_tensors(k.double(), rate.double())  # type: ignore[no-untyped-call]
        tail = torch.special.gammainc(n, mean) if upper else torch.special.gammaincc(n + 1, mean)
        value: Tensor = tail.log()
        lost = tail <= UNDERFLOW
        if bool(lost.any()):
            value[lost] = _log_mass(n[lost], mean[lost]) + _log_series(n[lost], mean[lost], upper)
        return value.to(rate.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, bool], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.upper = inputs[2]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        k, rate = ctx.saved_tensors
        if ctx.upper:
            slope = (_log_mass(k - 1, rate) - _log_upper_tail(k, rate)).exp()
        else:
            slope = -(_log_mass(k, rate) - _log_lower_tail(k, rate)).exp()
        return None, grads[0] * slope, None


def _log_series(k: Tensor, rate: Tensor, upper: bool) -> Tensor:
    """The log of a tail over its first term: 1 + rate/(k+1) + rate²/((k+1)(k+2)) + ..., or 1 + k/rate + k(k-1)/rate² + ..."""
    term, total = torch.ones_like(rate * k), torch.ones_like(rate * k)
    for step in range(TERMS):
        ratio = rate / (k + step + 1) if upper else (k - step).clamp(min=0.0) / rate
        term = term * ratio.clamp(max=1.0)  # it is larger only on the wrong side of the mean, where it is not used
        total = total + term
    return total.log()
