"""covariance: of every pair of variables, by the law of total covariance."""

from __future__ import annotations

import torch
from torch import Tensor

from pcircuits.evidence import Evidence
from pcircuits.families.interface import AbstractFamily, Parameters
from pcircuits.program.layers.layer import Flows, LeafUnits
from pcircuits.program.leaf_functions import Tilted
from pcircuits.program.passes import passes
from pcircuits.program.state import State
from pcircuits.queries.conditional import Conditional
from pcircuits.queries.moments import spread, weighed

__all__ = ["covariance"]


def covariance(given: Conditional) -> Tensor:
    """Cov[X_v, X_w | given], (B, D, D); rows and columns of observed variables are zero.

    Within leaf units over several variables Σ_u flow_u · cov_u, and between units (E_q[X_w] − E[X_w]) · E[X_v − c_v],
    where q is the posterior tilted by X_v − c_v: one upward and one reverse pass for each v. The shift c_v lies so far below
    the means of all units of v that the tilt at most doubles a weight: nothing cancels but what differs.
    """

    def answer(state: State, known: Evidence, roots: Tensor) -> Tensor:
        flow = given.flow(roots)
        ends = _Ends(known)
        given.program.down(state, flow, ends)
        shift = ends.shift()
        first = _Centred(known, shift)
        given.program.down(state, flow, first)
        total = ends.within + _between(given, known, roots, shift, first.total)
        total = 0.5 * (total + total.mT)
        total.diagonal(dim1=1, dim2=2).copy_(spread(given, state, known, roots))
        missing = ~known.observed
        return torch.where(missing.unsqueeze(1) & missing.unsqueeze(2), total, 0.0)

    return given.each("covariance", answer)


def _between(given: Conditional, known: Evidence, roots: Tensor, shift: Tensor, first: Tensor) -> Tensor:
    """The covariance of what units of two variables expect, (B, D, D): row v by a pass that is tilted by v."""
    between = torch.zeros((*known.x.shape, known.x.shape[1]), dtype=torch.float64, device=known.x.device)
    row, column = (~known.observed).nonzero(as_tuple=True)
    if not len(row):
        return between
    tilted = torch.zeros((len(row), known.x.shape[1]), dtype=torch.bool, device=known.x.device)
    tilted[torch.arange(len(row), device=row.device), column] = True
    for part, values in passes(given.program, Tilted(known.x[row], known.observed[row], tilted, shift[row])):
        own = row[part.rows], column[part.rows]
        some = Evidence(known.x[own[0]], known.observed[own[0]])
        mean = _Centred(some, shift[own[0]])
        given.program.down(part, given.flow(roots[own[0]]), mean)
        made = first[own].unsqueeze(1) * (mean.total - first[own[0]])
        good = ~values.loose  # a loose row comes again
        between[own[0][good], own[1][good]] = made[good]
    return between


class _Ends(Flows):
    """The smallest and the largest finite mean of the units of each variable, (B, D), and Σ_u flow_u · cov_u."""

    def __init__(self, known: Evidence) -> None:
        self.known = known
        self.least = torch.full_like(known.x, torch.inf, dtype=torch.float64)
        self.most = torch.full_like(self.least, -torch.inf)
        self.within = torch.zeros((*known.x.shape, known.x.shape[1]), dtype=torch.float64, device=known.x.device)

    def leaves(
        self, state: State, own: LeafUnits, begin: int, columns: Tensor, parameters: Parameters, flow: Tensor
    ) -> None:
        family = own.family
        means = _means(self.known, family, columns, parameters)  # (R, B or 1, A, K, size)
        finite = means.isfinite()
        rows, index = self.known.rows, columns.flatten()
        for total, how, none in ((self.least, "amin", torch.inf), (self.most, "amax", -torch.inf)):
            ends = torch.where(finite, means, none)
            ends = (ends.amin(3) if how == "amin" else ends.amax(3)).transpose(0, 1).flatten(1)
            total.scatter_reduce_(1, index.expand(rows, -1), ends.expand(rows, -1), how)
        if columns.shape[2] > 1:
            x, observed, wide = _of_rows(self.known, columns, parameters)
            inside = family.covariance(x, observed, wide)
            inside = inside.expand(*inside.shape[:3], flow.shape[-1], *inside.shape[4:])
            weighed = torch.einsum("rbk,rbakvw->bravw", flow.double(), inside.expand(-1, rows, -1, -1, -1, -1))
            for region, factor in torch.cartesian_prod(*(torch.arange(n) for n in columns.shape[:2])).view(-1, 2):
                at = columns[region, factor]
                self.within[:, at.unsqueeze(1), at] += weighed[:, region, factor]

    def shift(self) -> Tensor:
        """As far below the least mean as that is below the largest, (B, D); in float64, whatever the passes compute in."""
        known = self.least <= self.most
        least, most = torch.where(known, self.least, 0.0), torch.where(known, self.most, 0.0)
        size = torch.maximum(least.abs(), most.abs())
        return least - torch.maximum(most - least, 1e-9 * size + torch.finfo(torch.float32).tiny)


class _Centred(Flows):
    """Σ_u flow_u · (mean_u − shift) for each missing variable, (B, D), in float64."""

    def __init__(self, known: Evidence, shift: Tensor) -> None:
        self.known, self.shift = known, shift.double()
        self.total = torch.zeros_like(self.shift)

    def leaves(
        self, state: State, own: LeafUnits, begin: int, columns: Tensor, parameters: Parameters, flow: Tensor
    ) -> None:
        family = own.family
        if columns.shape[2] == 1:
            self._by_products(family, columns[..., 0], parameters, flow)
            return
        means = _means(self.known, family, columns, parameters).transpose(0, 1)  # (B, R, A, K, size)
        distance = means - self.shift[:, columns].unsqueeze(3)
        distance = torch.where(self.known.observed[:, columns].unsqueeze(3), 0.0, distance)
        weights = flow.double().transpose(0, 1)[:, :, None, :, None]  # (B, R, 1, K, 1)
        part = torch.where(weights > 0, weights * distance, 0.0).sum(3)
        self.total.index_add_(1, columns.flatten(), part.flatten(1))

    def _by_products(self, family: AbstractFamily, columns: Tensor, parameters: Parameters, flow: Tensor) -> None:
        """Univariate units, columns (R, A), about the shift of the first row, from which others hardly differ."""
        wide = flow.double()
        means = _means(self.known, family, columns.unsqueeze(-1), parameters)[:, 0, ..., 0]
        base = self.shift[0, columns].unsqueeze(-1)
        part = weighed(wide, (means - base).expand(*columns.shape, flow.shape[-1])).permute(1, 0, 2)
        part = part + (base.squeeze(-1) - self.shift[:, columns]) * wide.sum(-1).t().unsqueeze(-1)
        part = torch.where(self.known.observed[:, columns], 0.0, part)
        self.total.index_add_(1, columns.flatten(), part.flatten(1))


def _of_rows(known: Evidence, columns: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Evidence (R, B, A, 1, size), and parameters (R, 1, A, K, *event) in float64, that broadcast to the units of each row."""
    x, observed = (t[:, columns].transpose(0, 1).unsqueeze(3) for t in (known.x.double(), known.observed))
    wide = {name: value.double().unsqueeze(1) for name, value in parameters.items()}
    return torch.where(observed, x, 0.0), observed, wide


def _means(known: Evidence, family: AbstractFamily, columns: Tensor, parameters: Parameters) -> Tensor:
    """What each unit expects of its variables, (R, B, A, K, size), or (R, 1, A, K, 1) of univariate ones."""
    if columns.shape[2] > 1:
        x, observed, wide = _of_rows(known, columns, parameters)
        return family.moment(1, x, observed, wide)
    wide = {name: value.double().unsqueeze(1) for name, value in parameters.items()}
    nothing = torch.zeros((1, 1, 1, 1, 1), dtype=torch.float64, device=columns.device)
    found = family.moment(1, nothing, nothing > 0, wide)
    return found.expand(columns.shape[0], 1, columns.shape[1], *found.shape[3:])
