"""Student's t family, a density with heavy tails."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from scipy import special
from torch import Tensor

from pcircuits.families.densities import AbstractDensity, log_between, log_special
from pcircuits.families.draws import standard_normal, uniform
from pcircuits.families.interface import UNNOTICED, AbstractFamily, Parameters, ParameterSpec, kept_where_unused
from pcircuits.families.numerics import over_scale
from pcircuits.parameters import positive, real
from pcircuits.scope import REAL

__all__ = ["StudentT"]

LEAST_DF, MOST_DF = 0.2, 1e4
"""Degrees of freedom stay between these in updates: at the upper end it is a Normal to four digits."""


@dataclass(frozen=True)
class StudentT(AbstractDensity):
    """log p(x) = log Γ((ν+1)/2) - log Γ(ν/2) - ½ log(ν π) - log scale - (ν+1)/2 log(1 + z²/ν), z = (x - loc) / scale.

    Moments of an order >= ν are infinite, or not defined (NaN).

    >>> one = {"df": torch.tensor(1.0), "loc": torch.tensor(0.0), "scale": torch.tensor(1.0)}
    >>> round(StudentT().log_density(torch.tensor(0.0), one).exp().item(), 4)  # 1 / π
    0.3183
    """

    name: ClassVar[str] = "StudentT"
    positive: ClassVar[bool] = True
    description: ClassVar[str] = """Student's t densities of `df` degrees of freedom, about `loc`, of width `scale`.

    >>> StudentT("return", 4.0, 0.0, [0.01, 0.1]).shape
    (1, 2)
    """

    @classmethod
    def members(cls, states: int) -> Collection[AbstractFamily]:
        return [cls()] if states == REAL else []

    def examples(
        self, shape: Collection[int], generator: torch.Generator, states: int = 2, extreme: bool = False
    ) -> dict[str, Tensor]:
        like, decades = torch.empty(0), 2.0 if extreme else 0.5
        scale = 10.0 ** (decades * (2 * uniform(shape, like, generator) - 1))
        df = 6 + 40 * uniform(shape, like, generator) ** 2
        return {"df": df, "loc": 3 * scale * standard_normal(shape, like, generator), "scale": scale}

    def initial(
        self, shape: Collection[int], generator: torch.Generator, centre: float = 0.0, spread: float = 1.0
    ) -> dict[str, Tensor]:
        """Five degrees of freedom, locations drawn from N(centre, spread²), and scales of `spread`."""
        z = standard_normal(shape, torch.empty(0), generator)
        return {"df": torch.full_like(z, 5.0), "loc": centre + spread * z, "scale": torch.full_like(z, spread)}

    def reference(self, values: Mapping[str, Any]) -> Any:
        from scipy import stats

        return stats.t(values["df"], values["loc"], values["scale"])

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return {"df": ParameterSpec(positive), "loc": ParameterSpec(real), "scale": ParameterSpec(positive)}

    def resolution(self, parameters: Parameters) -> Mapping[str, Tensor]:
        return {"loc": UNNOTICED * parameters["scale"]}

    def log_density(self, x: Tensor, parameters: Parameters) -> Tensor:
        df, scale = parameters["df"], parameters["scale"]
        inside = torch.isfinite(x)
        z = over_scale(torch.where(inside, x, 0.0) - parameters["loc"], scale)
        value = self._log_top(df) - scale.log() - 0.5 * (df + 1) * _log1p_square(z, df)
        return torch.where(inside, value, -torch.inf)

    def _log_top(self, df: Tensor) -> Tensor:
        return torch.lgamma(0.5 * (df + 1)) - torch.lgamma(0.5 * df) - 0.5 * (df * math.pi).log()

    def log_interval(self, lower: Tensor, upper: Tensor, parameters: Parameters) -> Tensor:
        df, loc, scale = (parameters[name] for name in ("df", "loc", "scale"))
        big = torch.finfo(scale.dtype).max ** 0.4

        def tail(x: Tensor) -> Tensor:
            """log P(X >= x): the derivative in x's place and scale is that of the density, so that z is what varies."""
            z = over_scale(x - loc, scale)
            near: Tensor = _LogTail.apply(z.clamp(-big, big), df)
            return near

        def other(x: Tensor) -> Tensor:
            z = over_scale(loc - x, scale)
            near: Tensor = _LogTail.apply(z.clamp(-big, big), df)
            return near

        spread = scale.expand(self.unit_shape(parameters))
        return log_between(lower, upper, other, tail, lambda x: self.log_density(x, parameters), loc, spread)

    def argmax(self, parameters: Parameters) -> Tensor:
        return parameters["loc"].expand(self.unit_shape(parameters))

    def log_max(self, parameters: Parameters) -> Tensor:
        return (self._log_top(parameters["df"]) - parameters["scale"].log()).expand(self.unit_shape(parameters))

    def draw(self, parameters: Parameters, generator: torch.Generator | None) -> Tensor:
        df, loc, scale = (parameters[name].detach() for name in ("df", "loc", "scale"))
        shape = self.unit_shape(parameters)
        z = standard_normal(shape, loc, generator)
        device = df.device if generator is None else generator.device
        half = (0.5 * df.double()).expand(shape).to(device)
        u = torch._standard_gamma(half, generator=generator).to(loc.device) / half.to(loc.device)
        return loc + scale * (z / u.clamp(min=1e-300).sqrt()).to(loc.dtype)

    def raw_moment(self, order: int, parameters: Parameters) -> Tensor:
        """Σ_k C(n, k) loc^(n-k) scale^k E[T^k] over even k, with E[T^k] = Π_j ν (2j - 1) / (ν - 2j), j = 1..k/2."""
        df, loc, scale = (
            p.expand(self.unit_shape(parameters)) for p in (parameters[n] for n in ("df", "loc", "scale"))
        )
        standard, total = torch.ones_like(loc), loc**order
        for k in range(2, order + 1, 2):
            finite = df > k
            standard = torch.where(finite, standard * df * (k - 1) / torch.where(finite, df - k, 1.0), torch.inf)
            total = total + math.comb(order, k) * loc ** (order - k) * scale**k * standard
        return torch.where(df > order, total, torch.inf if order % 2 == 0 else torch.nan)

    def central_second_moment(self, parameters: Parameters) -> Tensor:
        df = parameters["df"]
        finite = df > 2
        value = parameters["scale"] ** 2 * torch.where(finite, df / torch.where(finite, df - 2, 1.0), torch.inf)
        return value.expand(self.unit_shape(parameters))

    def warp(self, t: Tensor, parameters: Parameters) -> Tensor:
        """loc + scale sinh t: the tails of t are exponential."""
        return parameters["loc"] + parameters["scale"] * torch.sinh(t)

    def line(self, parameters: Parameters) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(parameters["loc"]), torch.ones_like(parameters["scale"])

    def log_weight(self, t: Tensor, parameters: Parameters) -> Tensor:
        df = parameters["df"]
        return self._log_top(df) - 0.5 * (df + 1) * _log1p_square(torch.sinh(t), df) + torch.cosh(t).log()

    @property
    def statistic_shapes(self) -> Sequence[Sequence[int]]:
        return [(), (), (), ()]

    def statistics(self, x: Tensor, parameters: Parameters, centre: Tensor) -> list[Tensor]:
        """u, u y, u y² and log u, as expected of the precision u that a value had: y = x - centre."""
        df, loc, scale = (parameters[name] for name in ("df", "loc", "scale"))
        finite = torch.where(torch.isfinite(x), x, centre)
        z = over_scale(finite - loc, scale)
        rate = 0.5 * (df + z**2)
        u, y = 0.5 * (df + 1) / rate, finite - centre
        return [u, u * y, u * y**2, torch.digamma(0.5 * (df + 1)) - rate.log()]

    def mean_statistics(self, parameters: Parameters, centre: Tensor) -> list[Tensor]:
        df, loc, scale = (
            p.expand(self.unit_shape(parameters)) for p in (parameters[n] for n in ("df", "loc", "scale"))
        )
        shift = loc - centre
        return [torch.ones_like(shift), shift, shift**2 + scale**2, torch.digamma(0.5 * df) - (0.5 * df).log()]

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
        """Weighted mean and variance, and the ν at which log(ν/2) - ψ(ν/2) + 1 + E[log u] - E[u] is zero, by bisection.

        **Source**: Lange, Little and Taylor 1989, *Robust statistical modeling using the t distribution*, section 4.
        """
        u, uy, uyy, log_u = (statistic.double() for statistic in statistics)
        shift = uy / u
        scale = ((uyy - shift * uy) / count).clamp(min=minimum_scale**2).sqrt()
        gap = 1 + (log_u - u) / count
        low = torch.full_like(gap, math.log(LEAST_DF))
        high = torch.full_like(gap, math.log(MOST_DF))
        for _ in range(60):
            middle = 0.5 * (low + high)
            half = 0.5 * middle.exp()
            larger = half.log() - torch.digamma(half) + gap > 0
            low, high = torch.where(larger, middle, low), torch.where(larger, high, middle)
        found = {"df": high.exp(), "loc": shift if centre is None else shift + centre, "scale": scale}
        return {name: kept_where_unused(value, count, parameters[name]) for name, value in found.items()}


def _log1p_square(z: Tensor, df: Tensor) -> Tensor:
    """log(1 + z²/ν), also where z² overflows."""
    large = z.abs() > 1e8 * df.detach().sqrt()
    far = 2 * torch.where(large, z, 1.0).abs().log() - df.log()
    return torch.where(large, far, torch.log1p(torch.where(large, 0.0, z) ** 2 / df))


class _LogTail(torch.autograd.Function):
    """log P(T >= z): its derivative in z is minus density over tail; that in ν is a difference of five points."""

    @staticmethod
    def forward(z: Tensor, df: Tensor) -> Tensor:
        return log_special(_log_above, z, df).to(z.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        z, df, value = ctx.saved_tensors
        one = {"df": df, "loc": torch.zeros_like(df), "scale": torch.ones_like(df)}
        slope = -(StudentT().log_density(z, one) - value).exp()
        with torch.enable_grad():
            leaf = df.detach().requires_grad_()
            (of_df,) = torch.autograd.grad(log_special(_log_above, z, leaf), leaf, grads[0])
        return (grads[0] * slope).sum_to_size(z.shape), of_df


def _log_above(z: np.ndarray, df: np.ndarray) -> np.ndarray:
    """log P(T >= z) = log ½ I(ν / (ν + z²); ν/2, ½) for z > 0, and of the other tail below."""
    far = 0.5 * special.betainc(0.5 * df, 0.5, 1 / (1 + z**2 / df))
    near = 0.5 * special.betainc(0.5, 0.5 * df, z**2 / (df + z**2))
    small = np.abs(z) ** 2 < df
    tail = np.where(small, 0.5 - near, far)
    found: np.ndarray = np.where(z > 0, np.log(tail), np.log1p(-tail))
    return found
