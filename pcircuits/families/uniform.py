"""The uniform family, a constant density between two ends that are never trained."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pcircuits.errors import ParameterError
from pcircuits.families.draws import uniform
from pcircuits.families.expectations import integrate
from pcircuits.families.interface import AbstractFamily, AbstractUnivariate, Parameters, ParameterSpec
from pcircuits.parameters import fixed
from pcircuits.scope import REAL

__all__ = ["Uniform"]

CORE = [i / 16 for i in range(17)]


@dataclass(frozen=True)
class Uniform(AbstractUnivariate):
    """p(x) = 1 / (high - low) for low <= x <= high.

    Its ends are never trained: the likelihood has no gradient in them that would say anything, and the ends of largest
    likelihood are the least and the largest value, not weighted means.

    >>> Uniform().log_density(torch.tensor([0.5, 3.0]), {"low": torch.tensor(0.0), "high": torch.tensor(1.0)}).exp().tolist()
    [1.0, 0.0]
    """

    name: ClassVar[str] = "Uniform"
    base: ClassVar[Literal["counting", "lebesgue"]] = "lebesgue"
    description: ClassVar[str] = """Uniform densities between `low` and `high`, which are never trained.

    >>> Uniform("x", [0.0, 1.0], 2.0).shape
    (1, 2)
    """

    @classmethod
    def members(cls, states: int) -> Collection[AbstractFamily]:
        return [cls()] if states == REAL else []

    def examples(
        self, shape: Collection[int], generator: torch.Generator, states: int = 2, extreme: bool = False
    ) -> dict[str, Tensor]:
        like, decades = torch.empty(0), 3.0 if extreme else 0.7
        width = 10.0 ** (decades * (2 * uniform(shape, like, generator) - 1))
        return {
            "low": -width,
            "high": width * (0.1 + uniform(shape, like, generator)),
        }  # in order, however they are paired

    def initial(
        self, shape: Collection[int], generator: torch.Generator, low: float = 0.0, high: float = 1.0
    ) -> dict[str, Tensor]:
        """`low` and `high`."""
        whole = torch.zeros(tuple(shape), dtype=torch.float64)
        return {"low": whole + low, "high": whole + high}

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return {"low": ParameterSpec(fixed, trainable=False), "high": ParameterSpec(fixed, trainable=False)}

    def validate(self, parameters: Parameters) -> None:
        low, high = torch.broadcast_tensors(parameters["low"], parameters["high"])  # type: ignore[no-untyped-call]
        bad = ~(low < high)
        if bool(bad.any()):
            raise ParameterError(
                f"low of Uniform is {low[bad][0].item()!r}: it must be below high, {high[bad][0].item()!r}"
            )

    def resolution(self, parameters: Parameters) -> Mapping[str, Tensor]:
        width = 1e-3 * (parameters["high"] - parameters["low"])
        return {"low": width, "high": width}

    def edges(self, parameters: Parameters) -> Tensor:
        return torch.stack(torch.broadcast_tensors(parameters["low"], parameters["high"]), -1)  # type: ignore[no-untyped-call]

    def _width(self, parameters: Parameters) -> Tensor:
        return parameters["high"] - parameters["low"]

    def log_density(self, x: Tensor, parameters: Parameters) -> Tensor:
        inside = (x >= parameters["low"]) & (x <= parameters["high"])
        return torch.where(inside, -self._width(parameters).log(), -torch.inf)

    def log_interval(self, lower: Tensor, upper: Tensor, parameters: Parameters) -> Tensor:
        low, high = torch.maximum(lower, parameters["low"]), torch.minimum(upper, parameters["high"])
        return (high - low).clamp(min=0.0).log() - self._width(parameters).log()

    def argmax(self, parameters: Parameters) -> Tensor:
        return 0.5 * (parameters["low"] + parameters["high"])

    def log_max(self, parameters: Parameters) -> Tensor:
        return -self._width(parameters).log()

    def draw(self, parameters: Parameters, generator: torch.Generator | None) -> Tensor:
        low, high = torch.broadcast_tensors(parameters["low"], parameters["high"])  # type: ignore[no-untyped-call]
        level = uniform(low.shape, low, generator)
        return torch.minimum(low + level.to(low.dtype) * (high - low), high)

    def raw_moment(self, order: int, parameters: Parameters) -> Tensor:
        """Σ_k low^k high^(n-k) / (n + 1)."""
        low, high = parameters["low"], parameters["high"]
        terms = [low**k * high ** (order - k) for k in range(order + 1)]
        return torch.stack(torch.broadcast_tensors(*terms)).sum(0) / (order + 1)  # type: ignore[no-untyped-call]

    def central_second_moment(self, parameters: Parameters) -> Tensor:
        return self._width(parameters) ** 2 / 12

    def integral(self, f: Callable[[Tensor], Tensor], parameters: Parameters) -> Tensor:
        low, high = torch.broadcast_tensors(parameters["low"], parameters["high"])  # type: ignore[no-untyped-call]
        loc, scale = low.reshape(-1).double(), (high - low).reshape(-1).double()
        return integrate(f, loc, scale, lambda z, _: torch.zeros_like(z), CORE).reshape(low.shape).to(low.dtype)

    @property
    def statistic_shapes(self) -> Sequence[Sequence[int]]:
        return []

    def expected_statistics(
        self, x: Tensor, observed: Tensor, parameters: Parameters, centre: Tensor | None = None
    ) -> list[Tensor]:
        """None: there is nothing to learn."""
        return []

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
        """The ends as they are."""
        return parameters
