"""The log-normal family: numbers whose logarithms are normal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pcircuits.families.densities import AbstractDensity
from pcircuits.families.draws import standard_normal, uniform
from pcircuits.families.interface import UNNOTICED, AbstractFamily, Parameters, ParameterSpec, kept_where_unused
from pcircuits.families.normal import Normal
from pcircuits.families.support import Support
from pcircuits.parameters import positive, real
from pcircuits.scope import REAL

__all__ = ["LogNormal"]

NORMAL = Normal()


@dataclass(frozen=True)
class LogNormal(AbstractDensity):
    """log p(x) = log N(log x; loc, scale²) - log x, for x > 0.

    >>> LogNormal().log_density(torch.tensor([0.0, 1.0]), {"loc": torch.tensor(0.0), "scale": torch.tensor(1.0)}).tolist()
    [-inf, -0.9189385175704956]
    """

    name: ClassVar[str] = "LogNormal"
    description: ClassVar[
        str
    ] = """Log-normal densities over x > 0: log x is normal with mean `loc` and deviation `scale`.

    >>> LogNormal("income", [10.0, 11.0], 0.5).shape
    (1, 2)
    """

    @classmethod
    def members(cls, states: int) -> Collection[AbstractFamily]:
        return [cls()] if states == REAL else []

    def examples(
        self, shape: Collection[int], generator: torch.Generator, states: int = 2, extreme: bool = False
    ) -> dict[str, Tensor]:
        like = torch.empty(0)
        loc = (3.0 if extreme else 1.0) * standard_normal(shape, like, generator)
        return {"loc": loc, "scale": 0.05 + (0.7 if extreme else 0.3) * uniform(shape, like, generator)}

    def initial(
        self, shape: Collection[int], generator: torch.Generator, centre: float = 0.0, spread: float = 1.0
    ) -> dict[str, Tensor]:
        """Locations drawn from N(centre, spread²), and scales of `spread`, of the logarithms."""
        return NORMAL.initial(shape, generator, centre, spread)

    def reference(self, values: Mapping[str, Any]) -> Any:
        import math

        from scipy import stats

        return stats.lognorm(values["scale"], scale=math.exp(values["loc"]))

    @property
    def support(self) -> Support:
        return Support(integers=False, least=0.0)

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return {"loc": ParameterSpec(real), "scale": ParameterSpec(positive)}

    def resolution(self, parameters: Parameters) -> Mapping[str, Tensor]:
        return {"loc": UNNOTICED * parameters["scale"]}

    def log_density(self, x: Tensor, parameters: Parameters) -> Tensor:
        inside = (x > 0) & torch.isfinite(x)
        t = torch.where(inside, x, 1.0).log()
        return torch.where(inside, NORMAL.log_density(t, parameters) - t, -torch.inf)

    def log_interval(self, lower: Tensor, upper: Tensor, parameters: Parameters) -> Tensor:
        return NORMAL.log_interval(lower.clamp(min=0.0).log(), upper.clamp(min=0.0).log(), parameters)

    def argmax(self, parameters: Parameters) -> Tensor:
        return (parameters["loc"] - parameters["scale"] ** 2).exp().detach()

    def log_max(self, parameters: Parameters) -> Tensor:
        """At log x = loc - scale²."""
        return NORMAL.log_max(parameters) - parameters["loc"] + 0.5 * parameters["scale"] ** 2

    def draw(self, parameters: Parameters, generator: torch.Generator | None) -> Tensor:
        return NORMAL.draw(parameters, generator).exp()

    def raw_moment(self, order: int, parameters: Parameters) -> Tensor:
        """E[X^n] = e^(n loc + n² scale² / 2)."""
        return (order * parameters["loc"] + 0.5 * order**2 * parameters["scale"] ** 2).exp()

    def central_second_moment(self, parameters: Parameters) -> Tensor:
        spread = parameters["scale"] ** 2
        return torch.expm1(spread) * (2 * parameters["loc"] + spread).exp()

    def warp(self, t: Tensor, parameters: Parameters) -> Tensor:
        return t.exp()

    def line(self, parameters: Parameters) -> tuple[Tensor, Tensor]:
        return parameters["loc"], parameters["scale"]

    def log_weight(self, t: Tensor, parameters: Parameters) -> Tensor:
        return NORMAL.log_density(t, parameters)

    @property
    def statistic_shapes(self) -> Sequence[Sequence[int]]:
        return [(), ()]

    def statistics(self, x: Tensor, parameters: Parameters, centre: Tensor) -> list[Tensor]:
        """log x and its square."""
        t = torch.where((x > 0) & torch.isfinite(x), x, 1.0).log()
        return [t, t**2]

    def mean_statistics(self, parameters: Parameters, centre: Tensor) -> list[Tensor]:
        return NORMAL.mean_statistics(parameters, torch.zeros_like(centre))

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
        """The weighted mean and variance of the logarithms."""
        first, second = (statistic.double() / count for statistic in statistics)
        scale = (second - first**2).clamp(min=minimum_scale**2).sqrt()
        found = {"loc": first, "scale": scale}
        return {name: kept_where_unused(value, count, parameters[name]) for name, value in found.items()}
