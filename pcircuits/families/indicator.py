"""The indicator family: all mass on one state, which is a parameter that is never trained."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from pcircuits.errors import ParameterError
from pcircuits.families.draws import uniform
from pcircuits.families.interface import AbstractFamily, AbstractUnivariate, Parameters, ParameterSpec
from pcircuits.parameters import fixed

__all__ = ["Indicator"]


_PARAMETERS = {"state": ParameterSpec(fixed, trainable=False)}


@dataclass(frozen=True)
class Indicator(AbstractUnivariate):
    """p(x) = 1 where x = state, else 0. How many other states there are is left to the variable's other leaves.

    Its state must be one of those that the other leaves declare: else the circuit is not homogeneous.

    >>> Indicator().log_density(torch.tensor([0.0, 1.0]), {"state": torch.tensor(1.0)}).tolist()
    [-inf, 0.0]
    """

    name: ClassVar[str] = "Indicator"
    base: ClassVar[Literal["counting", "lebesgue"]] = "counting"
    description: ClassVar[str] = """Units that are 1 where the variable is in the state, and 0 in every other.

    >>> Indicator("rain", 0).shape
    (1, 1)
    """

    @classmethod
    def members(cls, states: int) -> Collection[AbstractFamily]:
        return [cls()] if states > 0 else []

    def examples(
        self, shape: Collection[int], generator: torch.Generator, states: int = 2, extreme: bool = False
    ) -> dict[str, Tensor]:
        return {"state": (states * uniform(shape, torch.empty(0), generator)).floor()}

    def reference(self, values: Mapping[str, Any]) -> dict[int, float]:
        return {int(values["state"]): 0.0}

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return _PARAMETERS

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
        """The state as it is."""
        return parameters

    def integral(self, f: Callable[[Tensor], Tensor], parameters: Parameters) -> Tensor:
        return f(parameters["state"])


def _log_of(mask: Tensor, parameters: Parameters) -> Tensor:
    """0 where the mask holds, else -inf, in the parameters' dtype."""
    zero = torch.zeros((), dtype=parameters["state"].dtype, device=mask.device)
    return torch.where(mask, zero, -torch.inf)
