"""The geometric family: how many trials fail before the first success."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pcircuits.families.counts import AbstractCounts
from pcircuits.families.draws import uniform
from pcircuits.families.interface import AbstractFamily, Parameters, ParameterSpec, kept_where_unused
from pcircuits.parameters import positive
from pcircuits.scope import OPEN_ENDED

__all__ = ["Geometric"]


@dataclass(frozen=True)
class Geometric(AbstractCounts):
    """log P(k) = k log q - log(1 + m), with q = m / (1 + m), for k = 0, 1, 2, ... and a mean m > 0.

    The probability of success is 1 / (1 + m): a mean can be trained without ever leaving its range.

    >>> Geometric().log_density(torch.tensor([0.0, 1.0]), {"mean": torch.tensor(1.0)}).exp().tolist()
    [0.5, 0.25]
    """

    name: ClassVar[str] = "Geometric"
    positive: ClassVar[bool] = True
    description: ClassVar[
        str
    ] = """Units over 0, 1, 2, ...: failures before the first success, of which there are `mean` > 0 on average.

    >>> Geometric("tries", [0.5, 3.0]).shape
    (1, 2)
    """

    @classmethod
    def members(cls, states: int) -> Collection[AbstractFamily]:
        return [cls()] if states == OPEN_ENDED else []

    def examples(
        self, shape: Collection[int], generator: torch.Generator, states: int = 2, extreme: bool = False
    ) -> dict[str, Tensor]:
        low, high = (-3.0, 1.5) if extreme else (-1.0, 0.7)
        return {"mean": 10.0 ** (low + (high - low) * uniform(shape, torch.empty(0), generator))}

    def initial(self, shape: Collection[int], generator: torch.Generator, mean: float = 1.0) -> dict[str, Tensor]:
        """Means drawn evenly from the numbers between a half and three halves of `mean`."""
        return {"mean": mean * (0.5 + uniform(shape, torch.empty(0), generator))}

    def reference(self, values: Mapping[str, Any]) -> Any:
        from scipy import stats

        return stats.geom(1 / (1 + values["mean"]), loc=-1)

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return {"mean": ParameterSpec(positive)}

    def _log_fail(self, parameters: Parameters) -> Tensor:
        """log q, also where q is nearly 1."""
        return -torch.log1p(1 / parameters["mean"])

    def log_density(self, x: Tensor, parameters: Parameters) -> Tensor:
        possible = self.support.contains(x)
        value = torch.where(possible, x, 0.0) * self._log_fail(parameters) - torch.log1p(parameters["mean"])
        return torch.where(possible, value, -torch.inf)

    def log_interval(self, lower: Tensor, upper: Tensor, parameters: Parameters) -> Tensor:
        """log (q^a - q^(b + 1)) = a log q + log(1 - q^(b + 1 - a))."""
        log_q = self._log_fail(parameters)
        first, last = torch.broadcast_tensors(lower.ceil().clamp(min=0.0), upper.floor())  # type: ignore[no-untyped-call]
        empty, open_end = ~(first <= last) | torch.isinf(first), torch.isinf(last)
        a = torch.where(empty, 0.0, first)
        count = torch.where(empty | open_end, 1.0, last - a + 1)
        share = (-torch.expm1(count * log_q)).log()
        return torch.where(empty, -torch.inf, a * log_q + torch.where(open_end, 0.0, share))

    def argmax(self, parameters: Parameters) -> Tensor:
        return torch.zeros_like(parameters["mean"])

    def log_max(self, parameters: Parameters) -> Tensor:
        return -torch.log1p(parameters["mean"])

    def draw(self, parameters: Parameters, generator: torch.Generator | None) -> Tensor:
        mean = parameters["mean"].detach()
        level = uniform(mean.shape, mean, generator)
        return (torch.log1p(-level) / self._log_fail({"mean": mean.double()})).floor().to(mean.dtype)

    def raw_moment(self, order: int, parameters: Parameters) -> Tensor:
        """E[X^n] = m Σ_k C(n, k) E[X^k] over k < n: all terms are positive."""
        mean = parameters["mean"]
        moments = [torch.ones_like(mean)]
        for n in range(1, order + 1):
            moments.append(mean * torch.stack([math.comb(n, k) * moments[k] for k in range(n)]).sum(0))
        return moments[order]

    def central_second_moment(self, parameters: Parameters) -> Tensor:
        return parameters["mean"] * (1 + parameters["mean"])

    @property
    def statistic_shapes(self) -> Sequence[Sequence[int]]:
        return [()]

    def expected_statistics(
        self, x: Tensor, observed: Tensor, parameters: Parameters, centre: Tensor | None = None
    ) -> list[Tensor]:
        """The value."""
        return [torch.where(observed[..., 0], torch.where(observed[..., 0], x[..., 0], 0.0), parameters["mean"])]

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
        """The weighted mean of the data, no less than `minimum_scale`²."""
        mean = (statistics[0].double() / count).clamp(min=minimum_scale**2)
        return {"mean": kept_where_unused(mean, count, parameters["mean"])}
