"""Densities integrated over the bins of integer levels: what pixels 0..L-1 are modelled with."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pcircuits.families.draws import uniform as draw_uniform
from pcircuits.families.fields import integer, share
from pcircuits.families.finite import BLOCK, AbstractFinite
from pcircuits.families.fitting import fit_location_and_scale
from pcircuits.families.interface import UNNOTICED, AbstractFamily, Parameters, ParameterSpec, kept_where_unused
from pcircuits.families.numerics import log_add, over_scale
from pcircuits.parameters import positive, real

__all__ = ["AbstractDiscretized"]


@dataclass(frozen=True)
class AbstractDiscretized(AbstractFinite):
    """A location-scale density over the bins [v, v+1)/levels of v = 0..levels-1; the edge bins take the tails.

    P(v) = (1 - uniform) ∫_bin p(t; loc, scale) dt + uniform / levels, with `loc` and `scale` in units in which the
    whole range is [0, 1]. Members are symmetric with one mode, and give the standard mass, tail and quantile.

    **Arguments**

    - `levels`: L >= 2.
    - `uniform`: the share of the uniform distribution, in [0, 1).

    **Raises** `ParameterError` for other levels and shares.
    """

    levels: int
    uniform: float = 0.0
    positive: ClassVar[bool] = True
    tabulated: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", integer(self.levels, f"levels of {self.name}", least=2))
        object.__setattr__(self, "uniform", share(self.uniform, f"uniform of {self.name}"))

    @classmethod
    def members(cls, states: int) -> Collection[AbstractFamily]:
        return [cls(states), cls(states, 0.05)] if states > 1 else []

    def examples(
        self, shape: Collection[int], generator: torch.Generator, states: int = 2, extreme: bool = False
    ) -> dict[str, Tensor]:
        like, low = torch.empty(0), -3.0 if extreme else -1.0
        scale = 10.0 ** (low + (0.5 - low) * draw_uniform(shape, like, generator))
        return {"loc": 2 * draw_uniform(shape, like, generator) - 0.5, "scale": scale}

    def initial(self, shape: Collection[int], generator: torch.Generator, scale: float = 0.1) -> dict[str, Tensor]:
        """Locations drawn evenly from [0, 1), all with one scale."""
        loc = draw_uniform(shape, torch.empty(0), generator)
        return {"loc": loc, "scale": torch.full_like(loc, scale)}

    def resolution(self, parameters: Parameters) -> Mapping[str, Tensor]:
        return {"loc": UNNOTICED * parameters["scale"].clamp(min=1 / self.levels)}

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
        """A better location and scale by Newton's steps, which have no closed form; see `fit_location_and_scale`."""
        shape = count.shape
        counts = (statistics[0].double() + pseudocount).expand(*shape, self.levels).reshape(-1, self.levels)
        loc, scale = (parameters[name].double().expand(shape).reshape(-1) for name in ("loc", "scale"))
        size = max(1, BLOCK // self.levels)
        blocks = []
        for start in range(0, max(1, len(counts)), size):
            of = slice(start, start + size)
            blocks.append(fit_location_and_scale(self.log_table, counts[of], loc[of], scale[of], minimum_scale))
        loc, scale = (torch.cat(parts).reshape(shape) for parts in zip(*blocks, strict=True))
        return {
            "loc": kept_where_unused(loc, count, parameters["loc"]),
            "scale": kept_where_unused(scale, count, parameters["scale"]),
        }

    @abstractmethod
    def _log_standard_mass(self, lower: Tensor, upper: Tensor, width: Tensor) -> Tensor:
        """log P(lower < Z <= upper) of the standard density; bounds may be infinite, `width` is their difference."""

    @abstractmethod
    def _standard_tail(self, z: Tensor) -> Tensor:
        """P(Z > z), to full relative precision."""

    @abstractmethod
    def _standard_quantile(self, probability: Tensor) -> Tensor:
        """The z with P(Z <= z) = probability."""

    @property
    def states(self) -> int:
        return self.levels

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return {"loc": ParameterSpec(real), "scale": ParameterSpec(positive)}

    def log_table(self, parameters: Parameters) -> Tensor:
        loc = parameters["loc"]
        states = torch.arange(self.levels, dtype=loc.dtype, device=loc.device)
        return self._log_bins(states, states, {name: value.unsqueeze(-1) for name, value in parameters.items()})

    def log_density(self, x: Tensor, parameters: Parameters) -> Tensor:
        possible = self._possible(x)
        state = torch.where(possible, x, 0.0)
        return torch.where(possible, self._log_bins(state, state, parameters), -torch.inf)

    def log_interval(self, lower: Tensor, upper: Tensor, parameters: Parameters) -> Tensor:
        start, count = self._states_between(lower, upper)
        some = count > 0
        first, last = torch.where(some, start, 0), torch.where(some, start + count - 1, 0)
        dtype = parameters["loc"].dtype
        return torch.where(some, self._log_bins(first.to(dtype), last.to(dtype), parameters), -torch.inf)

    def argmax(self, parameters: Parameters) -> Tensor:
        candidates = self._peaks(parameters)
        best = self._at(candidates, parameters).argmax(-1, keepdim=True)
        return candidates.gather(-1, best).squeeze(-1)

    def log_max(self, parameters: Parameters) -> Tensor:
        return self._at(self._peaks(parameters), parameters).max(-1).values

    def raw_moment(self, order: int, parameters: Parameters) -> Tensor:
        """E[X^n] = Σ_{v>=1} (v^n - (v-1)^n) P(X >= v), for n >= 1: all terms are positive."""
        if order == 0:
            return parameters["loc"].new_ones(self.unit_shape(parameters))

        def moment(block: Parameters, _: slice) -> Tensor:
            v = self._inner_edges(block["loc"])
            return ((v**order - (v - 1) ** order) * self._tails(v, torch.ones_like(v), block)).sum(-1)

        return self._over_units(parameters, moment)

    def central_second_moment(self, parameters: Parameters) -> Tensor:
        """E[(X - c)²] - (E[X] - c)², with c the integer next to the mean: the second term is at most half the first."""
        mean = self.raw_moment(1, parameters)
        centre = mean.detach().round()

        def spread(block: Parameters, units: slice) -> Tensor:
            v = self._inner_edges(block["loc"])
            distance = 2 * (v - centre.reshape(-1)[units].unsqueeze(-1)) - 1
            return (distance.abs() * self._tails(v, distance.sign(), block)).sum(-1)

        return self._over_units(parameters, spread) - (mean - centre) ** 2

    def draw(self, parameters: Parameters, generator: torch.Generator | None) -> Tensor:
        """By the inverse of the distribution: levels below `uniform` pick a bin evenly, the rest go to the density."""
        loc, scale = parameters["loc"], parameters["scale"]
        level = draw_uniform(self.unit_shape(parameters), loc, generator)
        z = self._standard_quantile(((level - self.uniform) / (1 - self.uniform)).clamp(min=0.0))
        value = (loc.detach().double() + scale.detach().double() * z) * self.levels
        if self.uniform > 0:
            value = torch.where(level < self.uniform, level / self.uniform * self.levels, value)
        return value.floor().clamp(0, self.levels - 1).to(loc.dtype)

    def _log_bins(self, first: Tensor, last: Tensor, parameters: Parameters) -> Tensor:
        """log P(first <= X <= last) for integers within 0..levels-1."""
        loc, scale = parameters["loc"], parameters["scale"]
        count = last - first + 1
        below, above = first == 0, last == self.levels - 1
        lower = over_scale(first / self.levels - loc, scale).masked_fill_(below, -torch.inf)
        upper = over_scale((last + 1) / self.levels - loc, scale).masked_fill_(above, torch.inf)
        width = over_scale(count / self.levels, scale).masked_fill_(below | above, torch.inf)
        value = self._log_standard_mass(lower, upper, width)
        if self.uniform == 0:
            return value
        return log_add(value + math.log1p(-self.uniform), (count * (self.uniform / self.levels)).log())

    def _inner_edges(self, like: Tensor) -> Tensor:
        return torch.arange(1, self.levels, dtype=like.dtype, device=like.device)

    def _tails(self, v: Tensor, side: Tensor, parameters: Parameters) -> Tensor:
        """P(X >= v) where `side` is 1, P(X < v) where it is -1: (n, ...) for n units, v within 1..levels-1."""
        z = over_scale(v / self.levels - parameters["loc"].unsqueeze(-1), parameters["scale"].unsqueeze(-1))
        even = 0.5 - side * (v / self.levels - 0.5)
        return (1 - self.uniform) * self._standard_tail(side * z) + self.uniform * even

    def _peaks(self, parameters: Parameters) -> Tensor:
        """The only states that can be a mode, (..., 3): the two edges, and the bin that holds the density's mode."""
        inside = (parameters["loc"].detach() * self.levels).floor().clamp(0, self.levels - 1)
        inside = inside.expand(self.unit_shape(parameters))
        return torch.stack([torch.zeros_like(inside), inside, torch.full_like(inside, self.levels - 1)], -1)

    def _at(self, states: Tensor, parameters: Parameters) -> Tensor:
        return self._log_bins(states, states, {name: value.unsqueeze(-1) for name, value in parameters.items()})
