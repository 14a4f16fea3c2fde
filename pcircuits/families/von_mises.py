"""The von Mises family, a density over angles."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from pcircuits.families.densities import flattened
from pcircuits.families.draws import uniform
from pcircuits.families.expectations import integrate
from pcircuits.families.interface import (
    UNNOTICED,
    AbstractFamily,
    AbstractUnivariate,
    Parameters,
    ParameterSpec,
    kept_where_unused,
)
from pcircuits.families.support import Support
from pcircuits.parameters import positive, real
from pcircuits.scope import REAL

__all__ = ["VonMises"]

CORE = [math.pi * i / 32 for i in range(-32, 33)]
NODES, WEIGHTS = (torch.as_tensor(a) for a in np.polynomial.legendre.leggauss(16))
PANELS = 96
"""Panels of an interval whose mass is integrated: enough up to a concentration of 1e4."""


@dataclass(frozen=True)
class VonMises(AbstractUnivariate):
    """log p(x) = κ cos(x - loc) - log(2π I0(κ)), for angles x in [-π, π] and κ = `concentration`.

    Means, variances and intervals are those of the number x in [-π, π], in which the circle is cut at π.

    >>> flat = {"loc": torch.tensor(0.0), "concentration": torch.tensor(1e-6)}
    >>> round(VonMises().log_density(torch.tensor(3.0), flat).exp().item() * 2 * math.pi, 5)
    1.0
    """

    name: ClassVar[str] = "VonMises"
    base: ClassVar[Literal["counting", "lebesgue"]] = "lebesgue"
    description: ClassVar[
        str
    ] = """Densities over angles in [-π, π] about `loc`, the narrower the larger `concentration` > 0.

    >>> VonMises("wind", [0.0, 3.0], 2.0).shape
    (1, 2)
    """

    @classmethod
    def members(cls, states: int) -> Collection[AbstractFamily]:
        return [cls()] if states == REAL else []

    def examples(
        self, shape: Collection[int], generator: torch.Generator, states: int = 2, extreme: bool = False
    ) -> dict[str, Tensor]:
        like, (low, high) = torch.empty(0), (-2.0, 2.0) if extreme else (-0.7, 0.7)
        return {
            "loc": math.pi * (2 * uniform(shape, like, generator) - 1),
            "concentration": 10.0 ** (low + (high - low) * uniform(shape, like, generator)),
        }

    def initial(self, shape: Collection[int], generator: torch.Generator) -> dict[str, Tensor]:
        """Locations drawn evenly from the circle, and concentrations of 1."""
        loc = math.pi * (2 * uniform(shape, torch.empty(0), generator) - 1)
        return {"loc": loc, "concentration": torch.ones_like(loc)}

    @property
    def support(self) -> Support:
        return Support(integers=False, least=-math.pi, most=math.pi)

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return {"loc": ParameterSpec(real), "concentration": ParameterSpec(positive)}

    def resolution(self, parameters: Parameters) -> Mapping[str, Tensor]:
        return {"loc": UNNOTICED / (1 + parameters["concentration"].sqrt())}

    def log_density(self, x: Tensor, parameters: Parameters) -> Tensor:
        loc, kappa = parameters["loc"], parameters["concentration"]
        inside = self.support.contains(x)
        half = torch.sin(0.5 * (torch.where(inside, x, 0.0) - loc))
        return torch.where(inside, -2 * kappa * half**2 + self._log_top(kappa), -torch.inf)

    def _log_top(self, kappa: Tensor) -> Tensor:
        top: Tensor = -(2 * math.pi * torch.special.i0e(kappa)).log()
        return top

    def log_interval(self, lower: Tensor, upper: Tensor, parameters: Parameters) -> Tensor:
        """By nodes on panels between the ends: all terms are positive."""
        lower, upper = lower.clamp(-math.pi, math.pi), upper.clamp(-math.pi, math.pi)
        lower, upper = torch.broadcast_tensors(lower, upper)  # type: ignore[no-untyped-call]
        width = (upper - lower).clamp(min=0.0)
        panel = torch.arange(PANELS, dtype=torch.float64, device=lower.device).unsqueeze(-1)
        t = ((panel + 0.5 * (1 + NODES.to(lower.device))) / PANELS).reshape(-1)
        weights = (0.5 / PANELS * WEIGHTS.to(lower.device)).log().repeat(PANELS)
        wide = {name: value.double().unsqueeze(-1) for name, value in parameters.items()}
        x = (lower.double().unsqueeze(-1) + width.double().unsqueeze(-1) * t).clamp(-math.pi, math.pi)
        value = torch.logsumexp(self.log_density(x, wide) + weights, -1).to(parameters["loc"].dtype)
        whole = (lower <= -math.pi) & (upper >= math.pi)
        some = torch.where(width > 0, value + torch.where(width > 0, width, 1.0).log(), -torch.inf)
        return torch.where(whole, 0.0, some)

    def argmax(self, parameters: Parameters) -> Tensor:
        loc = parameters["loc"].detach()
        return torch.atan2(loc.sin(), loc.cos()).clamp(-math.pi, math.pi).expand(self.unit_shape(parameters))

    def log_max(self, parameters: Parameters) -> Tensor:
        return self._log_top(parameters["concentration"]).expand(self.unit_shape(parameters))

    def draw(self, parameters: Parameters, generator: torch.Generator | None) -> Tensor:
        """By rejection from a wrapped Cauchy density, Best and Fisher (1979)."""
        shape, flat = flattened(self, parameters)
        loc, kappa = flat["loc"].detach(), flat["concentration"].detach()
        tau = 1 + (1 + 4 * kappa**2).sqrt()
        rho = (tau - (2 * tau).sqrt()) / (2 * kappa)
        r = torch.where(kappa < 1e-4, 1 / kappa + kappa, (1 + rho**2) / (2 * rho))
        found, left = torch.zeros_like(loc), torch.arange(len(loc), device=loc.device)
        while len(left):
            u, v, w = uniform((3, len(left)), loc, generator)
            z = torch.cos(math.pi * u)
            f = ((1 + r[left] * z) / (r[left] + z)).clamp(-1.0, 1.0)
            c = kappa[left] * (r[left] - f)
            taken = (c * (2 - c) > v) | ((c / v).log() + 1 - c >= 0)
            angle = torch.where(w > 0.5, 1.0, -1.0) * torch.arccos(f) + loc[left]
            found[left[taken]] = torch.remainder(angle + math.pi, 2 * math.pi)[taken] - math.pi
            left = left[~taken]
        return found.reshape(shape).to(parameters["loc"].dtype).clamp(-math.pi, math.pi)

    def raw_moment(self, order: int, parameters: Parameters) -> Tensor:
        return self.integral(lambda x: x**order, parameters)

    def central_second_moment(self, parameters: Parameters) -> Tensor:
        wide = {name: value.double() for name, value in parameters.items()}
        mean = self.integral(lambda x: x, wide)
        return (self.integral(lambda x: x**2, wide) - mean**2).clamp(min=0.0).to(parameters["loc"].dtype)

    def integral(self, f: Callable[[Tensor], Tensor], parameters: Parameters) -> Tensor:
        shape, flat = flattened(self, parameters)
        fixed = {name: value.detach() for name, value in flat.items()}

        def of_units(x: Tensor, unit: Tensor, values: Mapping[str, Tensor] = fixed) -> Tensor:
            return self.log_density(x.clamp(-math.pi, math.pi), {n: v[unit].unsqueeze(-1) for n, v in values.items()})

        log_density = None
        if torch.is_grad_enabled() and any(value.requires_grad for value in flat.values()):

            def log_density(x: Tensor, unit: Tensor) -> Tensor:
                return of_units(x, unit, flat)

        start = torch.zeros_like(fixed["loc"])
        value = integrate(f, start, start + 1, of_units, CORE, (), log_density)
        return value.reshape(shape).to(parameters["loc"].dtype)

    @property
    def statistic_shapes(self) -> Sequence[Sequence[int]]:
        return [(), ()]

    def expected_statistics(
        self, x: Tensor, observed: Tensor, parameters: Parameters, centre: Tensor | None = None
    ) -> list[Tensor]:
        """cos x and sin x."""
        x, observed = x[..., 0], observed[..., 0]
        at = torch.where(observed & torch.isfinite(x), x, 0.0)
        loc, kappa = parameters["loc"], parameters["concentration"]
        length = torch.special.i1e(kappa) / torch.special.i0e(kappa)
        return [torch.where(observed, f(at), length * f(loc)) for f in (torch.cos, torch.sin)]

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
        """The direction of the mean vector, and the κ at which I1(κ) / I0(κ) is its length, by bisection."""
        cosine, sine = (statistic.double() / count for statistic in statistics)
        length = torch.hypot(cosine, sine)
        low = torch.full_like(length, math.log(1e-8))
        high = torch.full_like(length, math.log(min(1e4, 1 / minimum_scale**2)))
        for _ in range(60):
            middle = 0.5 * (low + high)
            kappa = middle.exp()
            more = torch.special.i1e(kappa) / torch.special.i0e(kappa) < length
            low, high = torch.where(more, middle, low), torch.where(more, high, middle)
        found = {"loc": torch.atan2(sine, cosine), "concentration": high.exp()}
        return {name: kept_where_unused(value, count, parameters[name]) for name, value in found.items()}
