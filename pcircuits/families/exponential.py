"""The exponential family of waiting times, a density over the numbers from 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from pcircuits.families.draws import uniform
from pcircuits.families.expectations import integrate
from pcircuits.families.interface import (
    AbstractExponentialFamily,
    AbstractFamily,
    Parameters,
    ParameterSpec,
    kept_where_unused,
    no_smaller,
)
from pcircuits.families.support import Support
from pcircuits.parameters import positive
from pcircuits.scope import REAL

__all__ = ["Exponential"]

CORE = [
    1e-300,
    *(2.0**-i for i in range(40, 1, -4)),
    *(0.5 * i for i in range(1, 9)),
    *(float(i) for i in range(5, 41)),
]
"""Edges of the panels that expectations are integrated over, in means; the first of them keeps a logarithm finite."""
OUTER = [[40.0 + 5 * i for i in range(133)]]


@dataclass(frozen=True)
class Exponential(AbstractExponentialFamily):
    """log p(x) = log rate - rate x, for x >= 0 and rate > 0; the mean is 1 / rate.

    >>> Exponential().log_density(torch.tensor([-1.0, 0.0, 1.0]), {"rate": torch.tensor(1.0)}).tolist()
    [-inf, 0.0, -1.0]
    """

    name: ClassVar[str] = "Exponential"
    base: ClassVar[Literal["counting", "lebesgue"]] = "lebesgue"
    description: ClassVar[str] = """Exponential densities over x >= 0, of mean 1 / `rate`.

    >>> Exponential("minutes", [0.1, 2.0]).shape
    (1, 2)
    """

    @classmethod
    def members(cls, states: int) -> Collection[AbstractFamily]:
        return [cls()] if states == REAL else []

    def examples(
        self, shape: Collection[int], generator: torch.Generator, states: int = 2, extreme: bool = False
    ) -> dict[str, Tensor]:
        decades = 3.0 if extreme else 0.7
        return {"rate": 10.0 ** (decades * (2 * uniform(shape, torch.empty(0), generator) - 1))}

    def initial(self, shape: Collection[int], generator: torch.Generator, mean: float = 1.0) -> dict[str, Tensor]:
        """Means drawn evenly from the numbers between a half and three halves of `mean`."""
        return {"rate": 1 / (mean * (0.5 + uniform(shape, torch.empty(0), generator)))}

    def reference(self, values: Mapping[str, Any]) -> Any:
        from scipy import stats

        return stats.expon(scale=1 / values["rate"])

    @property
    def support(self) -> Support:
        return Support(integers=False, least=0.0)

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return {"rate": ParameterSpec(positive)}

    def log_density(self, x: Tensor, parameters: Parameters) -> Tensor:
        possible, rate = self.support.contains(x), parameters["rate"]
        value = rate.log() - rate * torch.where(possible, x, 0.0)
        return torch.where(possible, value, -torch.inf)

    def log_interval(self, lower: Tensor, upper: Tensor, parameters: Parameters) -> Tensor:
        """log (e^(-rate a) - e^(-rate b)) = -rate a + log(1 - e^(-rate (b - a)))."""
        rate, a = parameters["rate"], lower.clamp(min=0.0)
        empty, open_end = ~(a < upper), torch.isinf(upper)
        start = torch.where(empty, 0.0, a)
        width = torch.where(empty | open_end, 1.0, upper - start)
        share = (-torch.expm1(-rate * width)).log()
        value = -rate * start + torch.where(open_end, 0.0, share)
        return torch.where(empty, -torch.inf, value)

    def argmax(self, parameters: Parameters) -> Tensor:
        return torch.zeros_like(parameters["rate"])

    def log_max(self, parameters: Parameters) -> Tensor:
        return parameters["rate"].log()

    def draw(self, parameters: Parameters, generator: torch.Generator | None) -> Tensor:
        rate = parameters["rate"]
        level = uniform(rate.shape, rate, generator)
        return (-torch.log1p(-level)).to(rate.dtype) / rate

    def raw_moment(self, order: int, parameters: Parameters) -> Tensor:
        """E[X^n] = n! / rate^n."""
        return math.factorial(order) / parameters["rate"] ** order

    def central_second_moment(self, parameters: Parameters) -> Tensor:
        return parameters["rate"] ** -2

    def integral(self, f: Callable[[Tensor], Tensor], parameters: Parameters) -> Tensor:
        rate = parameters["rate"].reshape(-1).double()
        log_density = None
        if torch.is_grad_enabled() and rate.requires_grad:

            def log_density(x: Tensor, unit: Tensor) -> Tensor:
                return self.log_density(x, {"rate": rate[unit].unsqueeze(-1)})

        value = integrate(f, torch.zeros_like(rate), 1 / rate, lambda z, _: -z, CORE, OUTER, log_density)
        return value.reshape(parameters["rate"].shape).to(parameters["rate"].dtype)

    def sufficient_statistics(self, x: Tensor, centre: Tensor) -> list[Tensor]:
        return [x]

    def log_base_measure(self, x: Tensor) -> Tensor:
        """0, and -inf below 0."""
        return torch.where(self.support.contains(x), 0.0, -torch.inf).to(x.dtype)

    def natural_parameters(self, parameters: Parameters, centre: Tensor) -> tuple[list[Tensor], Tensor]:
        return [-parameters["rate"]], parameters["rate"].log()

    def mean_statistics(self, parameters: Parameters, centre: Tensor) -> list[Tensor]:
        return [1 / parameters["rate"]]

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
        """One over the weighted mean of the data, which is no less than `minimum_scale`."""
        rate = 1 / no_smaller(statistics[0].double() / count, 1 / parameters["rate"].double(), minimum_scale)
        return {"rate": kept_where_unused(rate, count, parameters["rate"])}

    def cancellation(self, parameters: Parameters, centre: Tensor) -> Tensor:
        """Infinite: matrix products of leaves do not add `log_base_measure`, which is -inf below 0."""
        return torch.full_like(parameters["rate"], torch.inf)

    def centre(self, parameters: Parameters) -> Tensor:
        """Statistics have no location: 0."""
        rate = parameters["rate"]
        return torch.zeros(rate.shape[:-1], dtype=rate.dtype, device=rate.device)
