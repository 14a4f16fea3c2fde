"""Families over the integers 0..S-1: everything follows from one table of log-probabilities."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import embedding

from pcircuits.families.draws import uniform
from pcircuits.families.expectations import defined
from pcircuits.families.interface import AbstractUnivariate, Parameters
from pcircuits.families.numerics import log_add

__all__ = ["AbstractFinite", "look_up"]

BLOCK = 2**20
"""How many entries of a table are made at a time, where they are only summed over."""


class AbstractFinite(AbstractUnivariate):
    """A family over 0..S-1; members give `states` and `log_table`, and override what has a closed form."""

    base: ClassVar[Literal["counting", "lebesgue"]] = "counting"
    tabulated: ClassVar[bool] = True
    """Whether one state costs as much as all of them: log_density looks its answer up in `log_table`."""
    table_of: ClassVar[str | None] = None
    """The parameter whose logs are the table, where there is one: then nobody needs to leave log space for it."""

    @property
    @abstractmethod
    def states(self) -> int:
        """The number of states, S."""

    @abstractmethod
    def log_table(self, parameters: Parameters) -> Tensor:
        """log p(s) of all the states, (..., S); where it is -inf the parameters' gradients are zero."""

    def state_statistics(self, x: Tensor) -> Tensor:
        """1 at the state of x and 0 at the others, (..., S); what is no state is 0 at all of them."""
        states = torch.arange(self.states, dtype=x.dtype, device=x.device)
        return (x.unsqueeze(-1) == states).to(x.dtype)

    def expected_statistics(
        self, x: Tensor, observed: Tensor, parameters: Parameters, centre: Tensor | None = None
    ) -> list[Tensor]:
        """The probability of each state, (..., S); of an observed value, 1 at its own."""
        probs = self.log_table(parameters).exp()
        return [torch.where(observed, self.state_statistics(x[..., 0]), probs)]

    def log_density(self, x: Tensor, parameters: Parameters) -> Tensor:
        possible = self._possible(x)
        value = look_up(self.log_table(parameters), torch.where(possible, x, 0).long())
        return torch.where(possible, value, -torch.inf)

    def log_interval(self, lower: Tensor, upper: Tensor, parameters: Parameters) -> Tensor:
        """The states between the bounds are cut into runs of 1, 2, 4, ... states, whose sums need no differences."""
        start, count = self._states_between(lower, upper)
        run = self.log_table(parameters)
        value = torch.full((), -torch.inf, dtype=run.dtype, device=run.device)
        length = 1
        while True:
            taken = count // length % 2 == 1
            value = log_add(value, torch.where(taken, look_up(run, torch.where(taken, start, 0)), -torch.inf))
            start = start + taken * length
            if 2 * length > self.states:
                return value
            run = log_add(run[..., :-length], run[..., length:])
            length *= 2

    def argmax(self, parameters: Parameters) -> Tensor:
        return self._over_table(parameters, lambda table, _: table.argmax(-1).to(table.dtype))

    def log_max(self, parameters: Parameters) -> Tensor:
        return self._over_table(parameters, lambda table, _: table.max(-1).values)

    def draw(self, parameters: Parameters, generator: torch.Generator | None) -> Tensor:
        shape = self.unit_shape(parameters)
        level = uniform((shape.numel(),), next(iter(parameters.values())), generator)

        def invert(table: Tensor, units: slice) -> Tensor:
            cumulative = table.double().exp().cumsum(-1)
            wanted = level[units].unsqueeze(-1) * cumulative[..., -1:]
            return (cumulative <= wanted).sum(-1).to(table.dtype)

        return self._over_table(parameters, invert)

    def raw_moment(self, order: int, parameters: Parameters) -> Tensor:
        return self.integral(lambda x: x**order, parameters)

    def central_second_moment(self, parameters: Parameters) -> Tensor:
        def spread(table: Tensor, _: slice) -> Tensor:
            p, states = table.exp(), _all_states(table)
            deviation = states - (p * states).sum(-1, keepdim=True)
            return (p * deviation**2).sum(-1)

        return self._over_table(parameters, spread)

    def integral(self, f: Callable[[Tensor], Tensor], parameters: Parameters) -> Tensor:
        """Σ_s p(s) f(s); an infinite f at a state of probability zero counts nothing."""

        def mean(table: Tensor, _: slice) -> Tensor:
            possible, states = table > -torch.inf, _all_states(table)
            values = defined(f(states), states, possible)
            return torch.where(possible, table.exp() * torch.where(possible, values, 0.0), 0.0).sum(-1)

        return self._over_table(parameters, mean)

    def _possible(self, x: Tensor) -> Tensor:
        return (x >= 0) & (x < self.states) & (x == x.floor())

    def _states_between(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """The first state within closed bounds, and how many there are (int64)."""
        first = lower.ceil().clamp(0, self.states).long()
        last = upper.floor().clamp(-1, self.states - 1).long()
        return first, (last - first + 1).clamp(min=0)

    def _over_table(self, parameters: Parameters, function: Callable[[Tensor, slice], Tensor]) -> Tensor:
        """`function(log_table, units)` for blocks of units, (n, S) -> (n,)."""
        return self._over_units(parameters, lambda block, units: function(self.log_table(block), units))

    def _over_units(self, parameters: Parameters, function: Callable[[Parameters, slice], Tensor]) -> Tensor:
        """`function(parameters, units)` for blocks of n units -> (n,), so that no large table is ever whole."""
        shape = self.unit_shape(parameters)
        count, size = shape.numel(), max(1, BLOCK // self.states)
        flat = {
            name: value.expand(*shape, *self._event(name, value)).reshape(count, *self._event(name, value))
            for name, value in parameters.items()
        }
        pieces = []
        for start in range(0, max(1, count), size):
            units = slice(start, start + size)
            pieces.append(function({name: value[units] for name, value in flat.items()}, units))
        return torch.cat(pieces).reshape(shape)

    def _event(self, name: str, value: Tensor) -> torch.Size:
        return value.shape[value.ndim - self.parameters[name].event_ndim :]


def look_up(table: Tensor, index: Tensor) -> Tensor:
    """Entry `index` of each unit's row: table (*units, S) and index (...) broadcast to (...), never to (..., S).

    >>> look_up(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0], [1], [1]])).tolist()
    [[1.0, 3.0], [2.0, 4.0], [2.0, 4.0]]
    """
    if index.ndim == 0 or index.shape[-1] != 1:
        return look_up(table.unsqueeze(-2), index.unsqueeze(-1)).squeeze(-1)
    *lead, width, states = (1, *table.shape) if table.ndim == 1 else table.shape
    rows = table.reshape(*lead, width, states).transpose(-1, -2).reshape(-1, width)
    offset = torch.arange(0, rows.shape[0], states, device=index.device).reshape(lead)
    return embedding(offset + index[..., 0], rows)


def _all_states(table: Tensor) -> Tensor:
    return torch.arange(table.shape[-1], dtype=table.dtype, device=table.device)
