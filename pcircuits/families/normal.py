"""The Normal family, a density over the real line."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pcircuits.families.draws import locations_about, locations_and_scales, standard_normal
from pcircuits.families.expectations import integrate
from pcircuits.families.interface import (
    UNNOTICED,
    AbstractExponentialFamily,
    AbstractFamily,
    Parameters,
    ParameterSpec,
    kept_where_unused,
    no_smaller,
)
from pcircuits.families.numerics import HALF_LOG_TWO_PI, log_normal_mass, over_scale
from pcircuits.parameters import positive, real
from pcircuits.scope import REAL

__all__ = ["Normal"]

_FAR = [5.0, 6.0, 7.0, 8.0, 10.0, 12.0]
CORE = [*(-z for z in reversed(_FAR)), *(0.5 * i for i in range(-8, 9)), *_FAR]
"""Edges of the panels that expectations are integrated over, in standard deviations."""
OUTER = [[-38.0 + 2 * i for i in range(14)], [12.0 + 2 * i for i in range(14)]]
"""Edges beyond them, for functions that grow fast."""
_PARAMETERS = {"loc": ParameterSpec(real), "scale": ParameterSpec(positive)}


@dataclass(frozen=True)
class Normal(AbstractExponentialFamily):
    """log p(x) = -(x - loc)² / (2 scale²) - log scale - ½ log 2π.

    `integral(f)` refines itself until it is right to about 1e-9 of E|f|, at jumps and kinks too, or says that it cannot.

    >>> Normal().log_density(torch.tensor(1.0), {"loc": torch.tensor(1.0), "scale": torch.tensor(1.0)}).item()
    -0.9189385175704956
    """

    name: ClassVar[str] = "Normal"
    base: ClassVar[Literal["counting", "lebesgue"]] = "lebesgue"
    positive: ClassVar[bool] = True
    description: ClassVar[str] = """Normal densities with mean `loc` and standard deviation `scale` > 0.

    >>> import torch
    >>> Normal(range(784), torch.zeros(784, 16), torch.ones(784, 16)).shape
    (784, 16)
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

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return _PARAMETERS

    def log_density(self, x: Tensor, parameters: Parameters) -> Tensor:
        z = over_scale(x - parameters["loc"], parameters["scale"])
        beyond = ~(z.abs() < torch.finfo(z.dtype).max ** 0.5)  # z² overflows: as impossible as an infinite x
        value = -0.5 * z.masked_fill(beyond, 0.0) ** 2 + self.log_max(parameters)
        return value.masked_fill(beyond, -torch.inf)

    def log_interval(self, lower: Tensor, upper: Tensor, parameters: Parameters) -> Tensor:
        empty = ~(lower < upper)
        lower, upper = lower.masked_fill(empty, -1.0), upper.masked_fill(empty, 1.0)
        below, above = torch.isinf(lower), torch.isinf(upper)
        start, end = lower.masked_fill(below, 0.0), upper.masked_fill(above, 0.0)
        loc, scale = parameters["loc"], parameters["scale"]
        value = log_normal_mass(
            over_scale(start - loc, scale).masked_fill(below, -torch.inf),
            over_scale(end - loc, scale).masked_fill(above, torch.inf),
            over_scale(end - start, scale).masked_fill(below | above, torch.inf),
        )
        return value.masked_fill(empty, -torch.inf)

    def argmax(self, parameters: Parameters) -> Tensor:
        return parameters["loc"].expand(self.unit_shape(parameters))

    def log_max(self, parameters: Parameters) -> Tensor:
        value = -parameters["scale"].log() - HALF_LOG_TWO_PI
        return value.expand(self.unit_shape(parameters))

    def draw(self, parameters: Parameters, generator: torch.Generator | None) -> Tensor:
        loc, scale = parameters["loc"], parameters["scale"]
        z = standard_normal(self.unit_shape(parameters), loc, generator)
        return loc + scale * z.to(loc.dtype)

    def raw_moment(self, order: int, parameters: Parameters) -> Tensor:
        """E[X^n] = loc E[X^(n-1)] + (n - 1) scale² E[X^(n-2)]; both terms have one sign, so nothing cancels."""
        loc = parameters["loc"].expand(self.unit_shape(parameters))
        if order == 1:
            return loc
        before, moment = torch.ones_like(loc), loc
        if order == 0:
            return before
        variance = self.central_second_moment(parameters)
        for n in range(2, order + 1):
            before, moment = moment, loc * moment + (n - 1) * variance * before
        return moment

    def central_second_moment(self, parameters: Parameters) -> Tensor:
        return (parameters["scale"] ** 2).expand(self.unit_shape(parameters))

    def integral(self, f: Callable[[Tensor], Tensor], parameters: Parameters) -> Tensor:
        shape = self.unit_shape(parameters)
        loc, scale = (parameters[name].expand(shape).reshape(-1).double() for name in ("loc", "scale"))
        log_density = None
        if torch.is_grad_enabled() and (loc.requires_grad or scale.requires_grad):

            def log_density(x: Tensor, unit: Tensor) -> Tensor:
                return self.log_density(x, {"loc": loc[unit].unsqueeze(-1), "scale": scale[unit].unsqueeze(-1)})

        value = integrate(f, loc, scale, _log_standard, CORE, OUTER, log_density)
        return value.reshape(shape).to(parameters["loc"].dtype)

    def resolution(self, parameters: Parameters) -> Mapping[str, Tensor]:
        return {"loc": UNNOTICED * parameters["scale"]}

    def sufficient_statistics(self, x: Tensor, centre: Tensor) -> list[Tensor]:
        y = x - centre
        return [y, y**2]

    def natural_parameters(self, parameters: Parameters, centre: Tensor) -> tuple[list[Tensor], Tensor]:
        shift, scale = parameters["loc"] - centre, parameters["scale"]
        precision = scale**-2
        log_normaliser = self.log_max(parameters) - 0.5 * (shift / scale) ** 2
        return [shift * precision, (-0.5 * precision).expand(self.unit_shape(parameters))], log_normaliser

    def mean_statistics(self, parameters: Parameters, centre: Tensor) -> list[Tensor]:
        shift = parameters["loc"] - centre
        return [shift.expand(self.unit_shape(parameters)), shift**2 + parameters["scale"] ** 2]

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
        """The weighted mean and variance of the data."""
        first, second = (statistic.double() / count for statistic in statistics)
        loc = first if centre is None else first + centre
        scale = no_smaller((second - first**2).clamp(min=0.0).sqrt(), parameters["scale"], minimum_scale)
        return {
            "loc": kept_where_unused(loc, count, parameters["loc"]),
            "scale": kept_where_unused(scale, count, parameters["scale"]),
        }

    def cancellation(self, parameters: Parameters, centre: Tensor) -> Tensor:
        """t = (loc - c)² / (2 scale²): at x = loc the three terms are 2t, -t and -t.

        It is infinite where the dtype does not hold the precision 1 / scale²: then there is no exponential form.
        """
        scale = parameters["scale"]
        least = torch.finfo(scale.dtype).smallest_normal ** 0.5
        held = (scale > least) & (scale < 1 / least)
        return torch.where(held, 0.5 * ((parameters["loc"] - centre) / scale) ** 2, torch.inf)

    def centre(self, parameters: Parameters) -> Tensor:
        """The mean of the locations, each weighted by its precision: it minimises the total of `cancellation`."""
        with torch.no_grad():
            shape = self.unit_shape(parameters)
            weight = torch.softmax(-2 * parameters["scale"].log().expand(shape), -1)
            mean: Tensor = (weight * parameters["loc"]).sum(-1)
        return mean


def _log_standard(z: Tensor, unit: Tensor) -> Tensor:
    return -0.5 * z**2 - HALF_LOG_TWO_PI
