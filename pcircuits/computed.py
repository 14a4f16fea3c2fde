"""Weights of sums that a source makes: parameters without numbers of their own."""

from __future__ import annotations

import itertools
from typing import Any, cast

import torch
from torch import Tensor, nn

from pcircuits.errors import ParameterError
from pcircuits.parameters import Parameter, Source, Sourced, check, nonnegative, simplex

__all__ = ["SourcedWeights", "columns_of"]

LOGS, VALUES = "log_weights", "weights"


def columns_of(source: nn.Module, width: int) -> Tensor:
    """The columns 0..width-1, where the source's own tensors are."""
    like = next(itertools.chain(source.parameters(), source.buffers()), torch.empty(0))
    return torch.arange(width, device=like.device)


class SourcedWeights(Parameter):
    """The weights of sums that a source makes: `parameters_for(columns)` is asked for the units `columns` of each region.

    The source returns one tensor (R, n, A), for n of the width's units with A inputs each: `weights`, which are >= 0; or
    `log_weights`, which may be any numbers, and whose softmax over the inputs the weights are. They have no number of
    their own: `value` asks the source, and a compiled circuit asks its copy of the source once for a pass.

    **Arguments**

    - `sourced`: the source, with the number of regions, or 1 where these share their weights, and of units in each.
    - `shape`: that of the weights, such as (R, O, K) of a dense sum.

    **Raises** `ParameterError` where the source makes neither, another shape, or weights that are negative or no numbers.

    >>> class Halves(nn.Module):
    ...     def parameters_for(self, columns):
    ...         return {"log_weights": torch.zeros(1, len(columns), 2)}
    >>> SourcedWeights(Sourced(Halves(), 1, 3), (1, 3, 2)).value.tolist()
    [[[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]]
    """

    sourced: Sourced

    def __init__(self, sourced: Sourced, shape: tuple[int, ...]) -> None:
        source, asked = cast(Source, sourced.source), (sourced.regions, 1, shape[-1])
        with torch.no_grad():
            made = source.parameters_for(columns_of(sourced.source, 1))
        name = f"the weights that {type(source).__name__} makes"
        if len(made) != 1 or next(iter(made)) not in (LOGS, VALUES):
            raise ParameterError(
                f"a source of weights returns `weights`, which are >= 0, or `log_weights`, whose softmax they are: "
                f"{type(source).__name__} returns {sorted(made)}"
            )
        key, first = next(iter(made.items()))
        if tuple(first.shape) != asked:
            raise ParameterError(f"{name} for one column have shape {tuple(first.shape)}; they need {asked}")
        if key == VALUES:
            check(first, nonnegative, name)
        elif bool((~(first < torch.inf)).any()):
            raise ParameterError(f"the logs of {name} are not all numbers below infinity")
        self.__setstate__({"sourced": sourced, "shape": torch.Size(shape), "key": key, "name": name})

    def __setstate__(self, state: dict[str, Any]) -> None:
        constraint = simplex if state["key"] == LOGS else nonnegative
        self.__dict__.update(
            sourced=state["sourced"],
            _shape=state["shape"],
            key=state["key"],
            name=state["name"],
            constraint=constraint,
            trainable=True,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        state = {"sourced": self.sourced, "shape": self._shape, "key": self.key, "name": self.name}
        return object.__new__, (type(self),), state

    _shape: torch.Size
    key: str

    @property
    def shape(self) -> torch.Size:
        """The weights' shape."""
        return self._shape

    def logs_from(self, source: nn.Module) -> Tensor:
        """The logs of the weights as a source makes them now, in their shape; a simplex is not normalised yet."""
        made = cast(Source, source).parameters_for(columns_of(source, self.sourced.width))[self.key]
        if self.key == VALUES:
            zero = made == 0
            made = torch.where(zero, -torch.inf, torch.where(zero, 1.0, made).log())
        return made.reshape(self._shape)

    @property
    def value(self) -> Tensor:
        """The weights that the source makes now."""
        log = self.log_value
        assert log is not None
        return log.exp()

    @property
    def log_value(self) -> Tensor | None:
        """Their logarithms in float64, of a simplex normalised over its last axis."""
        with torch.no_grad():
            log = self.logs_from(self.sourced.source).to(torch.float64)
        return torch.log_softmax(log, -1) if self.constraint is simplex else log

    def frozen(self) -> Parameter:
        return self.materialised().frozen()

    def materialised(self) -> Parameter:
        """A parameter with the numbers that the source makes now."""
        return Parameter.from_log(self.log_value, self.constraint, name="the weights of a sum")

    def of(self, sourced: Sourced) -> SourcedWeights:
        """The same weights from another source, such as a trained copy of this one."""
        twin = object.__new__(type(self))
        twin.__setstate__({"sourced": sourced, "shape": self._shape, "key": self.key, "name": self.name})
        return twin
