"""The indicator family: all mass on one state, which is a parameter that is never trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pcircuits.errors import ParameterError
from pcircuits.families.interface import AbstractUnivariate, Parameters, ParameterSpec
from pcircuits.parameters import fixed

__all__ = ["Indicator"]


@dataclass(frozen=True)
class Indicator(AbstractUnivariate):
    """p(x) = 1 where x = state, else 0. How many other states there are is left to the variable's other leaves.

    Its state must be one of those that the other leaves declare: else the circuit is not homogeneous.

    >>> Indicator().log_density(torch.tensor([0.0, 1.0]), {"state": torch.tensor(1.0)}).tolist()
    [-inf, 0.0]
    """

    name: ClassVar[str] = "Indicator"
    base: ClassVar[Literal["counting", "lebesgue"]] = "counting"

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return {"state": ParameterSpec(fixed, trainable=False)}

    def validate(self, parameters: Parameters) -> None:
        state = parameters["state"]
        bad = (state < 0) | (state != state.floor())
        if bool(bad.any()):
            raise ParameterError(f"state of Indicator is {state[bad][0].item()!r}: it must be an integer >= 0")

    def support_sizes(self, parameters: Parameters) -> Tensor:
        return parameters["state"] + 1

    def log_density(self, x: Tensor, parameters: Parameters) -> Tensor:
        return _log_of(x == parameters["state"], parameters)

    def log_interval(self, lower: Tensor, upper: Tensor, parameters: Parameters) -> Tensor:
        state = parameters["state"]
        return _log_of((lower <= state) & (state <= upper), parameters)

    def argmax(self, parameters: Parameters) -> Tensor:
        return parameters["state"]

    def log_max(self, parameters: Parameters) -> Tensor:
        return torch.zeros_like(parameters["state"])

    def draw(self, parameters: Parameters, generator: torch.Generator | None) -> Tensor:
        return parameters["state"]

    def raw_moment(self, order: int, parameters: Parameters) -> Tensor:
        return parameters["state"] ** order

    def central_second_moment(self, parameters: Parameters) -> Tensor:
        return torch.zeros_like(parameters["state"])

    def integral(self, f: Callable[[Tensor], Tensor], parameters: Parameters) -> Tensor:
        return f(parameters["state"])


def _log_of(mask: Tensor, parameters: Parameters) -> Tensor:
    """0 where the mask holds, else -inf, in the parameters' dtype."""
    zero = torch.zeros((), dtype=parameters["state"].dtype, device=mask.device)
    return torch.where(mask, zero, -torch.inf)
