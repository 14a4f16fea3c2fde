"""The Laplace family, a density with exponential tails on both sides."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pcircuits.families.densities import AbstractDensity
from pcircuits.families.draws import locations_about, locations_and_scales, uniform
from pcircuits.families.interface import UNNOTICED, AbstractFamily, Parameters, ParameterSpec, kept_where_unused
from pcircuits.families.numerics import over_scale
from pcircuits.parameters import positive, real
from pcircuits.scope import REAL

__all__ = ["Laplace"]

CLOSEST = 1e-6
"""Deviations from the location count as no smaller than this share of the scale: their reciprocals are weights."""


@dataclass(frozen=True)
class Laplace(AbstractDensity):
    """log p(x) = -|x - loc| / scale - log(2 scale).

    >>> round(Laplace().log_density(torch.tensor(1.0), {"loc": torch.tensor(0.0), "scale": torch.tensor(0.5)}).item(), 6)
    -2.0
    """

    name: ClassVar[str] = "Laplace"
    positive: ClassVar[bool] = True
    description: ClassVar[str] = """Laplace densities of mean `loc`; the mean distance from it is `scale` > 0.

    >>> Laplace("error", 0.0, [1.0, 5.0]).shape
    (1, 2)
    """

    @classmethod
    def members(cls, states: int) -> Collection[AbstractFamily]:
        return [cls()] if states == REAL else []

    def examples(
        self, shape: Collection[int], generator: torch.Generator, states: int = 2, extreme: bool = False
    ) -> dict[str, Tensor]:
        return locations_and_scales(shape, generator, decades=3.0 if extreme else 0.7)

    def initial(
        self, shape: Collection[int], generator: torch.Generator, centre: float = 0.0, spread: float = 1.0
    ) -> dict[str, Tensor]:
        """Locations drawn from N(centre, spread²), and scales of `spread`."""
        return locations_about(shape, generator, centre, spread)

    def reference(self, values: Mapping[str, Any]) -> Any:
        from scipy import stats

        return stats.laplace(values["loc"], values["scale"])

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return {"loc": ParameterSpec(real), "scale": ParameterSpec(positive)}

    def resolution(self, parameters: Parameters) -> Mapping[str, Tensor]:
        return {"loc": UNNOTICED * parameters["scale"]}

    def edges(self, parameters: Parameters) -> Tensor:
        """The density has a kink at the location, (..., 1)."""
        return parameters["loc"].expand(self.unit_shape(parameters)).unsqueeze(-1)

    def log_density(self, x: Tensor, parameters: Parameters) -> Tensor:
        inside = torch.isfinite(x)
        z = over_scale(torch.where(inside, x, 0.0) - parameters["loc"], parameters["scale"])
        return torch.where(inside, -z.abs() - (2 * parameters["scale"]).log(), -torch.inf)

    def log_interval(self, lower: Tensor, upper: Tensor, parameters: Parameters) -> Tensor:
        """On one side of the location e^(-a) (1 - e^(-width)) / 2 with a the nearer end; across it both sides' shares."""
        loc, scale = parameters["loc"], parameters["scale"]
        lower, upper = torch.broadcast_tensors(lower, upper)  # type: ignore[no-untyped-call]
        empty = ~(lower < upper)
        lower, upper = torch.where(empty, -1.0, lower), torch.where(empty, 1.0, upper)
        below, above = torch.isinf(lower), torch.isinf(upper)
        start, end = torch.where(below, 0.0, lower), torch.where(above, 0.0, upper)
        a, b = over_scale(start - loc, scale), over_scale(end - loc, scale)
        width = over_scale(end - start, scale)
        right, left = ~below & (a >= 0), ~above & (b <= 0)
        near = torch.where(right, a, torch.where(left, -b, 0.0)).clamp(min=0.0)
        open_end = torch.where(right, above, below)
        share = torch.where(open_end | ~(right | left), 0.0, (-torch.expm1(-torch.where(open_end, 1.0, width))).log())
        beside = -near + share - math.log(2)
        to_left = torch.where(below, 1.0, -torch.expm1(torch.where(below | right, -1.0, a).clamp(max=0.0)))
        to_right = torch.where(above, 1.0, -torch.expm1(-torch.where(above | left, 1.0, b).clamp(min=0.0)))
        across = (0.5 * (to_left + to_right)).clamp(min=torch.finfo(width.dtype).tiny).log()
        value = torch.where(right | left, beside, across)
        return torch.where(empty, -torch.inf, value)

    def argmax(self, parameters: Parameters) -> Tensor:
        return parameters["loc"].expand(self.unit_shape(parameters))

    def log_max(self, parameters: Parameters) -> Tensor:
        return -(2 * parameters["scale"]).log().expand(self.unit_shape(parameters))

    def draw(self, parameters: Parameters, generator: torch.Generator | None) -> Tensor:
        loc, scale = parameters["loc"], parameters["scale"]
        level = 2 * uniform(self.unit_shape(parameters), loc, generator) - 1
        return loc - scale * (level.sign() * torch.log1p(-level.abs())).to(loc.dtype)

    def raw_moment(self, order: int, parameters: Parameters) -> Tensor:
        """E[X^n] = Σ_k C(n, k) loc^(n-k) k! scale^k over even k."""
        loc, scale = parameters["loc"], parameters["scale"]
        terms = [math.perm(order, k) * loc ** (order - k) * scale**k for k in range(0, order + 1, 2)]
        return torch.stack(torch.broadcast_tensors(*terms)).sum(0)  # type: ignore[no-untyped-call]

    def central_second_moment(self, parameters: Parameters) -> Tensor:
        return (2 * parameters["scale"] ** 2).expand(self.unit_shape(parameters))

    def line(self, parameters: Parameters) -> tuple[Tensor, Tensor]:
        return parameters["loc"], parameters["scale"]

    def log_weight(self, t: Tensor, parameters: Parameters) -> Tensor:
        return self.log_density(t, parameters)

    @property
    def statistic_shapes(self) -> Sequence[Sequence[int]]:
        return [(), (), (), ()]

    def statistics(self, x: Tensor, parameters: Parameters, centre: Tensor) -> list[Tensor]:
        """w, w y, w y² and d, with y = x - centre, d = |x - loc| of before and w = 1 / d."""
        loc, scale = parameters["loc"], parameters["scale"]
        finite = torch.where(torch.isfinite(x), x, centre)
        distance = torch.maximum((finite - loc).abs(), CLOSEST * scale)
        y = finite - centre
        return [1 / distance, y / distance, y**2 / distance, distance]

    def mean_statistics(self, parameters: Parameters, centre: Tensor) -> list[Tensor]:
        """Those of values at a distance of the scale on either side: an update from them changes nothing."""
        shift, scale = (parameters["loc"] - centre).expand(self.unit_shape(parameters)), parameters["scale"]
        return [1 / scale + 0 * shift, shift / scale, (shift**2 + scale**2) / scale, scale + 0 * shift]

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
        """One step of iteratively reweighted means towards the weighted median: it never makes the likelihood smaller.

        |x - loc| <= (x - loc)² / 2d + d / 2 is an equality at the old location; the right hand side is minimised.
        """
        w, wy, wyy, d = (statistic.double() for statistic in statistics)
        shift = wy / w
        spread = (wyy - shift * wy).clamp(min=0.0)
        scale = (0.5 * (spread + d) / count).clamp(min=minimum_scale)
        found = {"loc": shift if centre is None else shift + centre, "scale": scale}
        return {name: kept_where_unused(value, count, parameters[name]) for name, value in found.items()}
