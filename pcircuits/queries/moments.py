"""Means, variances, moments and expectations of univariate functions: flows of leaf units times what they expect."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pcircuits.arguments import whole_number
from pcircuits.evidence import Evidence
from pcircuits.families.expectations import elementwise
from pcircuits.families.interface import AbstractFamily, Parameters
from pcircuits.program.layers.layer import Flows, LeafUnits
from pcircuits.program.state import State
from pcircuits.queries.conditional import Conditional

__all__ = ["expectation", "mean", "moment", "spread", "variance", "weighed"]

CANCELLED = 1e-6
"""A sum of float64 terms that is this much smaller than they are has lost nine digits or more to them."""

OfUnits = Callable[[AbstractFamily, Tensor, Tensor, Parameters], Tensor]


class _Weighted(Flows):
    """Σ_u flow_u · q_u for each variable, (B, D): q is what a leaf unit expects."""

    def __init__(self, known: Evidence, quantity: OfUnits) -> None:
        self.known, self.quantity = known, quantity
        self.total = torch.zeros_like(known.x)

    def leaves(
        self, state: State, own: LeafUnits, begin: int, columns: Tensor, parameters: Parameters, flow: Tensor
    ) -> None:
        family = own.family
        regions, arity, size = columns.shape
        if size == 1:
            nothing = torch.zeros((1, 1, 1, 1), dtype=self.total.dtype, device=self.total.device)
            units = self.quantity(family, nothing, nothing > 0, parameters)[..., 0].to(flow.dtype)
            units = units.expand(regions, arity, flow.shape[-1])
            part = weighed(flow, units).permute(1, 0, 2).flatten(1)
        else:
            x, observed = (
                t[:, columns[:, 0]].transpose(0, 1).unsqueeze(2) for t in (self.known.x, self.known.observed)
            )
            units = self.quantity(family, x, observed, parameters).to(flow.dtype)
            part = (flow.unsqueeze(-1) * units).sum(2).transpose(0, 1).flatten(1)
        self.total.index_add_(1, columns.flatten(), part)


def weighed(flow: Tensor, units: Tensor) -> Tensor:
    """Σ_k flow (R, B, K) · units (R, A, K), (R, B, A); an infinite quantity of a unit without flow counts nothing."""
    finite = units.isfinite()
    if bool(finite.all()):
        return torch.matmul(flow, units.transpose(1, 2))
    total = torch.matmul(flow, torch.where(finite, units, 0.0).transpose(1, 2))
    used = (flow > 0).to(flow.dtype)
    for value in (torch.inf, -torch.inf, torch.nan):
        here = units.isnan() if value != value else units == value
        if bool(here.any()):
            total = total + torch.where(torch.matmul(used, here.to(flow.dtype).transpose(1, 2)) > 0, value, 0.0)
    return total


class _Spread(Flows):
    """Σ_u flow_u · (var_u + (mean_u − mean)²) for each variable, (B, D)."""

    def __init__(self, known: Evidence, mean: Tensor) -> None:
        self.known, self.mean = known, mean
        self.total = torch.zeros_like(mean)

    def leaves(
        self, state: State, own: LeafUnits, begin: int, columns: Tensor, parameters: Parameters, flow: Tensor
    ) -> None:
        family = own.family
        left = torch.ones(columns.shape[:2], dtype=torch.bool, device=columns.device)
        if columns.shape[2] == 1:
            left = self._by_products(family, columns[..., 0], parameters, flow)
        for region, factor in left.nonzero().tolist():
            of_unit = {name: value[region, factor] for name, value in parameters.items()}
            self._units(family, columns[region, factor], of_unit, flow[region])

    def _by_products(self, family: AbstractFamily, columns: Tensor, parameters: Parameters, flow: Tensor) -> Tensor:
        """All units (R, A, K) about a centre c of each variable, by matrix products in float64.

        Σ f (var + (m − M)²) = Σ f (var + (m − c)²) − 2 (M − c) Σ f (m − c) + (M − c)² Σ f. Returns which (R, A) are left
        to be computed one by one, since these terms cancel in them.
        """
        x = torch.zeros((1, 1, 1, 1), dtype=flow.dtype, device=flow.device)
        shape = (*columns.shape, flow.shape[-1])
        means = family.moment(1, x, x > 0, parameters)[..., 0].double().expand(shape)
        variances = family.variance(x, x > 0, parameters)[..., 0].double().expand(shape)
        wide, target = flow.double(), self.mean[:, columns].double().transpose(0, 1)  # (R, B, K), (R, B, A)
        centre = target.mean(1)
        distance = means - centre.unsqueeze(-1)
        second = torch.matmul(wide, (variances + distance**2).transpose(1, 2))
        offset = target - centre.unsqueeze(1)
        cross = offset * torch.matmul(wide, distance.transpose(1, 2))
        level = offset**2 * wide.sum(-1, keepdim=True)
        spread = second - 2 * cross + level
        kept = (spread >= CANCELLED * (second + 2 * cross.abs() + level)).all(1)
        part = torch.where(kept.unsqueeze(1), spread, 0.0).to(self.total.dtype)
        self.total.index_add_(1, columns.flatten(), part.permute(1, 0, 2).flatten(1))
        return ~kept

    def _units(self, family: AbstractFamily, columns: Tensor, parameters: Parameters, flow: Tensor) -> None:
        """One region of leaf units over the columns (size,), parameters (K, *event) and flow (B, K)."""
        if len(columns) == 1:
            x = torch.zeros((1, 1), dtype=flow.dtype, device=flow.device)
            observed = x > 0
        else:
            x, observed = self.known.x[:, None, columns], self.known.observed[:, None, columns]
        means = family.moment(1, x, observed, parameters).to(flow.dtype)
        variances = family.variance(x, observed, parameters).to(flow.dtype)
        spread = variances + (means - self.mean[:, None, columns]) ** 2
        self.total.index_add_(1, columns, (flow.unsqueeze(-1) * spread).sum(1))


def _weighted(given: Conditional, query: str, quantity: OfUnits, of_value: Callable[[Tensor], Tensor]) -> Tensor:
    """Σ_u flow_u · q_u for missing variables, and the function of its value for those that were observed."""

    def answer(state: State, known: Evidence, roots: Tensor) -> Tensor:
        wide = Evidence(known.x.to(state.dtype), known.observed)
        reader = _Weighted(wide, quantity)
        given.program.down(state, given.flow(roots), reader)
        if not bool(known.observed.any()):
            return reader.total
        return reader.total.masked_scatter(known.observed, of_value(wide.x[known.observed]).to(reader.total.dtype))

    with torch.no_grad():
        return given.each(query, answer)


def mean(given: Conditional) -> Tensor:
    """E[X_v | given], (B, D)."""
    return _weighted(given, "mean", lambda f, x, o, p: f.moment(1, x, o, p), lambda x: x)


def moment(given: Conditional, order: int) -> Tensor:
    """E[X_v ** order | given], (B, D)."""
    k = whole_number(order, "the order of a moment", least=1)
    return _weighted(given, "moment", lambda f, x, o, p: f.moment(k, x, o, p), lambda x: x**k)


def expectation(given: Conditional, f: Callable[[Tensor], Tensor]) -> Tensor:
    """E[f(X_v) | given] for each variable, (B, D); `f` acts elementwise."""
    g = elementwise(f)
    return _weighted(given, "expectation", lambda family, x, o, p: family.expectation(g, x, o, p), g)


def variance(given: Conditional) -> Tensor:
    """Var[X_v | given], (B, D): Σ_u flow_u · (var_u + (mean_u − mean)²), never a difference of moments."""

    with torch.no_grad():
        return given.each("variance", lambda state, known, roots: spread(given, state, known, roots))


def spread(given: Conditional, state: State, known: Evidence, roots: Tensor) -> Tensor:
    """The variances (B, D) of the rows of a pass; those of what was observed are 0."""
    wide, flow = Evidence(known.x.to(state.dtype), known.observed), given.flow(roots)
    first = _Weighted(wide, lambda f, x, o, p: f.moment(1, x, o, p))
    given.program.down(state, flow, first)
    reader = _Spread(wide, first.total)
    given.program.down(state, flow, reader)
    return torch.where(known.observed, 0.0, reader.total)
