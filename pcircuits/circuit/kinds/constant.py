"""Constants: units of empty scope."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pcircuits.circuit.kinds.input import Input
from pcircuits.circuit.kinds.interface import (
    Contents,
    Index,
    Ints,
    Numbering,
    Scopes,
    Supports,
    Unit,
    Units,
    only_parameter,
)
from pcircuits.circuit.support import Support, tidy
from pcircuits.errors import ParameterError
from pcircuits.parameters import Parameter, Sourced, as_parameter, nonnegative

__all__ = ["Constant"]


class Constant(Units):
    """Units of empty scope: non-negative numbers, (R, K).

    **Raises** `ParameterError` for negative numbers, and for shapes other than () and (R, K).

    >>> Constant(0.5).shape, Constant([[1.0, 2.0, 3.0]]).shape
    ((1, 1), (1, 3))
    """

    __slots__ = ("value",)

    kind = "constant"
    codes = (2,)

    def __init__(self, value: object = 1.0) -> None:
        self.value = as_parameter(value, nonnegative, "the value of a constant")
        shape = tuple(self.value.shape) or (1, 1)
        if len(shape) != 2:
            raise ParameterError(f"a constant is a number or an (R, K) array, not of shape {shape}")
        super().__init__(shape, ())

    def scopes(self, children: list[list[int]], scopes: Scopes) -> list[int]:
        return [0] * self.regions

    def inputs_of(self, region: int, column: int) -> list[Unit]:
        return []

    def log_values(self, children: list[Tensor], leaves: Callable[[Input], Tensor]) -> Tensor:
        return self.value.log().cpu().expand(self.shape)

    def supports(self, children: list[list[Support]], supports: Supports) -> list[Support]:
        return [tidy({}, row) for row in (self.value.log() > -torch.inf).cpu().expand(self.shape).numpy()]

    def held_parameters(self) -> list[Parameter]:
        return [self.value]

    def rebuilt(
        self,
        children: Sequence[Units],
        parameter: Callable[[Parameter], Parameter],
        sourced: Callable[[Sourced], Sourced],
    ) -> Constant:
        return Constant(parameter(self.value))

    def to_integers(self, numbering: Numbering) -> tuple[int, Ints]:
        """Its parameter."""
        return 2, [numbering.parameter(self.value)]

    @classmethod
    def from_integers(cls, code: int, children: list[Units], ints: Index, contents: Contents) -> Constant:
        return cls(only_parameter(ints, contents))
