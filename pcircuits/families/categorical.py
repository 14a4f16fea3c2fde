"""The categorical family: any distribution over 0..S-1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pcircuits.errors import ParameterError
from pcircuits.families.fields import integer
from pcircuits.families.finite import AbstractFinite
from pcircuits.families.interface import Parameters, ParameterSpec
from pcircuits.families.numerics import safe_log
from pcircuits.parameters import simplex

__all__ = ["Categorical"]


@dataclass(frozen=True)
class Categorical(AbstractFinite):
    """p(s) = probs[s].

    **Arguments**

    - `num_states`: S >= 1, the length of `probs`.

    **Raises** `ParameterError` for another number of states, and in `validate` for `probs` of another length.

    >>> import torch
    >>> Categorical(3).log_table({"probs": torch.tensor([0.5, 0.5, 0.0])}).exp().tolist()
    [0.5, 0.5, 0.0]
    """

    num_states: int
    name: ClassVar[str] = "Categorical"
    table_of: ClassVar[str | None] = "probs"

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_states", integer(self.num_states, "num_states of Categorical", least=1))

    @property
    def states(self) -> int:
        return self.num_states

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return {"probs": ParameterSpec(simplex, event_ndim=1)}

    def validate(self, parameters: Parameters) -> None:
        shape = tuple(parameters["probs"].shape)
        if not shape or shape[-1] != self.num_states:
            raise ParameterError(
                f"probs of {self} has shape {shape}: its last axis must hold the {self.num_states} states"
            )

    def log_table(self, parameters: Parameters) -> Tensor:
        return safe_log(parameters["probs"])
