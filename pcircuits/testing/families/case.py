"""A family with a few units, and the points that sums and integrals over them run over."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from pcircuits.families.interface import AbstractFamily, AbstractUnivariate, Parameters

__all__ = ["REACH", "Case", "flattened", "mass", "panels", "require_close"]

REACH = 40.0
"""Standard deviations on either side of the mean that densities are integrated over."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A family with n units, and the points and weights (M, n) that sums and integrals run over."""

    family: AbstractUnivariate
    parameters: dict[str, Tensor]
    points: Tensor
    weights: Tensor

    @classmethod
    def of(cls, family: AbstractUnivariate, parameters: Parameters) -> Case:
        family.validate(parameters)
        n, flat = flattened(family, parameters)
        if family.base == "counting":
            points = torch.arange(_largest(family, flat) + 1).double().unsqueeze(-1).expand(-1, n)
            return cls(family, flat, points, torch.ones_like(points))
        mean, deviation = family.raw_moment(1, flat), family.central_second_moment(flat).sqrt()
        z, weights = panels()
        inner = family.edges(flat)
        if inner is not None or math.isfinite(family.support.most):
            return cls(family, flat, *_between(_ends(family, inner, mean, deviation)))
        start = family.support.least + REACH * deviation if math.isfinite(family.support.least) else mean
        return cls(family, flat, start + deviation * z.unsqueeze(-1), weights.unsqueeze(-1) * deviation)

    @property
    def units(self) -> int:
        return self.points.shape[1]

    def log_prob(self, x: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        seen = torch.ones_like(x, dtype=torch.bool).unsqueeze(-1)
        return self.family.log_prob(x.unsqueeze(-1), seen, parameters or self.parameters)

    def missing(self, *shape: int) -> tuple[Tensor, Tensor]:
        x = torch.full((*shape, 1), torch.nan, dtype=torch.float64)
        return x, torch.zeros_like(x, dtype=torch.bool)

    def total(self, values: Tensor) -> Tensor:
        """Σ or ∫ p · values, (n,)."""
        p = self.log_prob(self.points).exp()
        return (torch.where(p > 0, values * p, 0.0) * self.weights).sum(0)

    def close(self, got: Tensor, want: Tensor, what: str, tolerance: float = 1e-8) -> None:
        """Equal up to `tolerance` · max(1, |want|), and infinite in the same places."""
        require_close(got, want, f"{what} of {self.family}", tolerance)


def _ends(family: AbstractUnivariate, inner: Tensor | None, mean: Tensor, deviation: Tensor) -> list[Tensor]:
    """The ends of the support, or places beyond the tails, and where the density is not smooth between them, each (n,)."""
    edges = [] if inner is None else list(inner.expand(*mean.shape, -1).unbind(-1))
    low = torch.full_like(mean, family.support.least)
    high = torch.full_like(mean, family.support.most)
    low = torch.where(low.isfinite(), low, mean - REACH * deviation)
    high = torch.where(high.isfinite(), high, mean + REACH * deviation)
    return [low, *edges, high]


def _between(ends: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Points and weights (M, n) of Gauss-Legendre rules on 400 panels between each two of the ends (n,)."""
    z, rule = panels()
    points, weights = [], []
    for a, b in pairwise(ends):
        half = 0.5 * (b - a).unsqueeze(0) / REACH
        points.append(0.5 * (a + b) + half * z.unsqueeze(-1))
        weights.append(half * rule.unsqueeze(-1))
    return torch.cat(points), torch.cat(weights)


def _largest(family: AbstractUnivariate, parameters: Parameters) -> int:
    """The largest state, or one that open-ended counts never reach."""
    if family.states is not None:
        return family.states - 1
    reach = family.raw_moment(1, parameters) + REACH * family.central_second_moment(parameters).sqrt()
    return int(reach.max().ceil().item())


def mass(family: AbstractFamily, lower: Tensor, upper: Tensor, parameters: Parameters) -> Tensor:
    """log P(lower <= X <= upper) with nothing observed."""
    nothing = torch.zeros_like(lower)
    return family.log_mass(lower, upper, nothing, nothing > 0, parameters)


def flattened(family: AbstractFamily, parameters: Parameters) -> tuple[int, dict[str, Tensor]]:
    """The number of units n, and their parameters (n, *event) in float64."""
    shape, flat = family.unit_shape(parameters), {}
    for name, value in parameters.items():
        event = value.shape[value.ndim - family.parameters[name].event_ndim :]
        flat[name] = value.detach().double().expand(*shape, *event).reshape(-1, *event)
    return shape.numel(), flat


def panels() -> tuple[Tensor, Tensor]:
    """Points and weights (6400,) of a Gauss-Legendre rule over [-REACH, REACH], with an edge at every 0.2."""
    edges = torch.linspace(-REACH, REACH, 401, dtype=torch.float64)
    nodes, weights = (torch.as_tensor(a) for a in np.polynomial.legendre.leggauss(16))
    half = 0.5 * (edges[1] - edges[0])
    return (edges[:-1, None] + half * (1 + nodes)).flatten(), (half * weights).repeat(400)


def require_close(got: Tensor, want: Tensor, what: str, tolerance: float) -> None:
    """Raise `AssertionError` unless equal up to `tolerance` · max(1, |want|), and infinite in the same places."""
    got, want = torch.broadcast_tensors(got, want)  # type: ignore[no-untyped-call]
    same = (got == want) | ((got - want).abs() <= tolerance * want.abs().clamp(min=1.0))
    if not bool(same.all()):
        where = tuple((~same).nonzero()[0].tolist())
        raise AssertionError(f"{what} is {got[where].item()!r}, not {want[where].item()!r}, at {list(where)}")
