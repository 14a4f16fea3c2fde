"""Location and scale of largest likelihood by Newton's method, for families whose update has no closed form."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pcircuits.families.interface import Parameters

__all__ = ["fit_location_and_scale"]

STEPS = 25
"""How many steps are tried; most units need five."""


def fit_location_and_scale(
    log_table: Callable[[Parameters], Tensor], counts: Tensor, loc: Tensor, scale: Tensor, minimum_scale: float
) -> tuple[Tensor, Tensor]:
    """Location and scale that make Σ_s counts_s log P(s) larger, for n units at once; it is never made smaller.

    A step solves (λ |H| - H) step = gradient in the location, in units of the scale, and in the log of the scale. λ falls
    where a step succeeds, and grows where it does not (Levenberg, 1944; Marquardt, 1963).

    **Arguments**

    - `log_table`: log P(s), (n, S), of parameters loc and scale, (n,).
    - `counts`: (n, S) >= 0, of which any may be zero.
    - `minimum_scale`: no scale gets smaller, but for those that were from the start.

    **Returns** loc and scale, (n,).
    """
    total = counts.sum(-1)
    least = torch.minimum(scale, torch.full_like(scale, minimum_scale)).log()
    point, damping = torch.stack([loc, scale.log()], -1), torch.full_like(loc, 0.01)
    value, gradient, hessian = _expanded(log_table, counts, point)
    for _ in range(STEPS):
        width = torch.stack([point[:, 1].exp(), torch.ones_like(loc)], -1)  # the location moves in units of the scale
        slope, bend = gradient * width, hessian * width.unsqueeze(-1) * width.unsqueeze(-2)
        eigenvalue, vector = torch.linalg.eigh(bend)
        curve = eigenvalue.abs() + damping.unsqueeze(-1) * (eigenvalue.abs().amax(-1, keepdim=True) + 1e-12)
        step = (vector @ ((vector.mT @ slope.unsqueeze(-1)) / curve.unsqueeze(-1))).squeeze(-1).clamp(-2.0, 2.0)
        tried = point + step * width
        tried[:, 1] = torch.maximum(tried[:, 1], least)
        new, new_gradient, new_hessian = _expanded(log_table, counts, tried)
        better = (new > value) & new_gradient.isfinite().all(-1) & new_hessian.isfinite().all(-1).all(-1)
        gain = torch.where(better, new - value, 0.0)
        damping = torch.where(better, 0.1 * damping, 10 * damping)
        point, gradient = (
            torch.where(better.unsqueeze(-1), a, b) for a, b in ((tried, point), (new_gradient, gradient))
        )
        hessian = torch.where(better.unsqueeze(-1).unsqueeze(-1), new_hessian, hessian)
        value = torch.where(better, new, value)
        if bool(((gain <= 1e-13 * total) & (better | (damping > 1e6))).all()):
            break
    return point[:, 0], point[:, 1].exp()


def _expanded(
    log_table: Callable[[Parameters], Tensor], counts: Tensor, point: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The log-likelihood (n,) at (location, log of the scale), its gradient (n, 2) and its Hessian (n, 2, 2)."""
    with torch.enable_grad():
        at = point.detach().requires_grad_()
        log = log_table({"loc": at[:, 0], "scale": at[:, 1].exp()})
        value = torch.where(counts > 0, counts * torch.where(counts > 0, log, 0.0), 0.0).sum(-1)
        (gradient,) = torch.autograd.grad(value.sum(), at, create_graph=True)
        rows = [torch.autograd.grad(gradient[:, i].sum(), at, retain_graph=True)[0] for i in range(2)]
    return value.detach(), gradient.detach(), torch.stack(rows, -2)
