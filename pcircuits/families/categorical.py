"""The categorical family: any distribution over 0..S-1."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pcircuits.errors import ParameterError
from pcircuits.families.draws import standard_normal, uniform
from pcircuits.families.fields import integer
from pcircuits.families.finite import AbstractFinite
from pcircuits.families.interface import AbstractFamily, Parameters, ParameterSpec, kept_where_unused
from pcircuits.families.numerics import safe_log
from pcircuits.parameters import simplex

__all__ = ["Categorical"]


_PARAMETERS = {"probs": ParameterSpec(simplex, event_ndim=1)}


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
    inferred: ClassVar[tuple[str, ...]] = ("num_states",)
    description: ClassVar[
        str
    ] = """Units over 0..S-1: P(x = s) = probs[s]; `probs` is (S,) for one unit, (K, S) for K units, or (R, K, S).

    >>> Categorical("c", [[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]).shape
    (1, 2)
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_states", integer(self.num_states, "num_states of Categorical", least=1))

    @classmethod
    def fields_from(cls, shapes: Mapping[str, torch.Size]) -> dict[str, Any]:
        if not shapes["probs"]:
            raise ParameterError("probs of Categorical is a single number where a vector of probabilities is needed")
        return {"num_states": shapes["probs"][-1]}

    @classmethod
    def members(cls, states: int) -> Collection[AbstractFamily]:
        return [cls(states)] if states > 0 else []

    def examples(
        self, shape: Collection[int], generator: torch.Generator, states: int = 2, extreme: bool = False
    ) -> dict[str, Tensor]:
        like, decades, table = torch.empty(0), 20.0 if extreme else 1.0, (*shape, self.num_states)
        value = 10.0 ** (decades * (2 * uniform(table, like, generator) - 1))
        chance = uniform(table, like, generator)
        kept = (chance > 0.15) | (chance == chance.max(-1, keepdim=True).values)
        value = torch.where(kept, value, 0.0)
        return {"probs": value / value.sum(-1, keepdim=True)}

    def initial(self, shape: Collection[int], generator: torch.Generator) -> dict[str, Tensor]:
        """The softmax of standard normal numbers."""
        return {"probs": torch.softmax(standard_normal((*shape, self.num_states), torch.empty(0), generator), -1)}

    def reference(self, values: Mapping[str, Any]) -> dict[int, float]:
        return {state: math.log(p) if p > 0 else -math.inf for state, p in enumerate(values["probs"])}

    @property
    def states(self) -> int:
        return self.num_states

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return _PARAMETERS

    def validate(self, parameters: Parameters) -> None:
        shape = tuple(parameters["probs"].shape)
        if not shape or shape[-1] != self.num_states:
            raise ParameterError(
                f"probs of {self} has shape {shape}: its last axis must hold the {self.num_states} states"
            )

    def log_table(self, parameters: Parameters) -> Tensor:
        return safe_log(parameters["probs"])

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
        """The shares of the states."""
        before = parameters["probs"]
        counts = torch.where(before > 0, statistics[0].double() + pseudocount, 0.0)
        total = counts.sum(-1, keepdim=True)
        used = torch.where(count > 0, total[..., 0], 0.0).unsqueeze(-1)
        return {"probs": kept_where_unused(counts / total, used, before)}
