"""Logarithms of probabilities that keep their digits, and their gradients, at zeros and far in the tails."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pcircuits.evidence.transforms import is_transformed

__all__ = ["log_add", "log_logistic_mass", "log_normal_mass", "over_scale", "safe_log", "safe_log1m"]

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
SQRT_HALF = math.sqrt(0.5)
NARROW = 0.1
"""Below this width a power series has an error of 1e-14; above it a difference of tails loses one digit at most."""


def safe_log(probability: Tensor) -> Tensor:
    """log p; where p is 0 (or so small that 1/p overflows), the gradient is zero.

    >>> p = torch.tensor([0.0, 1.0], requires_grad=True)
    >>> safe_log(p).sum().backward()
    >>> p.grad.tolist()
    [0.0, 1.0]
    """
    normal = probability > 2 / torch.finfo(probability.dtype).max
    return torch.where(normal, torch.where(normal, probability, 1.0).log(), probability.detach().log())


def safe_log1m(probability: Tensor) -> Tensor:
    """log(1 - p); where p is 1, -inf with zero gradient.

    >>> safe_log1m(torch.tensor([0.5, 1.0])).tolist()
    [-0.6931471824645996, -inf]
    """
    below = probability < 1
    return torch.where(below, torch.log1p(-torch.where(below, probability, 0.0)), -torch.inf)


def log_add(a: Tensor, b: Tensor) -> Tensor:
    """log(exp a + exp b); zeros (-inf) on either side or both leave values and gradients right.

    >>> log_add(torch.tensor([0.0, -torch.inf]), torch.tensor([0.0, -torch.inf])).tolist()
    [0.6931471824645996, -inf]
    """
    both = (a > -torch.inf) & (b > -torch.inf)
    return torch.where(both, torch.logaddexp(torch.where(both, a, 0.0), torch.where(both, b, 0.0)), torch.maximum(a, b))


def over_scale(distance: Tensor, scale: Tensor) -> Tensor:
    """distance / scale, whose gradient in the scale overflows only where the true one does.

    The derivative of a quotient is (distance / scale) / scale, which torch computes before it multiplies by what comes
    from above: an overflow there times a zero is NaN. Here scale / scale0 is differentiated, with a constant scale0
    equal to the scale, so that the zero comes first. A quotient beyond the dtype is its largest number.

    >>> scale = torch.tensor(1e-20, requires_grad=True)
    >>> (0.0 * over_scale(torch.tensor(3.0), scale)).backward()
    >>> scale.grad.item() == 0.0
    True
    """
    constant = scale.detach()
    largest = torch.finfo(scale.dtype).max
    quotient = (distance / constant).clamp(-largest, largest)
    followed = (torch.is_grad_enabled() and scale.requires_grad) or is_transformed(scale)
    return quotient * (constant / scale) if followed else quotient


def log_logistic_mass(lower: Tensor, upper: Tensor, width: Tensor) -> Tensor:
    """log(σ(upper) - σ(lower)), as σ(b) - σ(a) = σ(b) σ(-a) (1 - e^(a-b)), in which nothing cancels.

    **Arguments**

    - `lower`, `upper`: standardised bounds, (...), with lower < upper; infinite ones get zero gradient.
    - `width`: upper - lower, (...), which the caller knows to more digits than the difference has; inf where a bound is.

    >>> log_logistic_mass(torch.tensor(-torch.inf), torch.tensor(0.0), torch.tensor(torch.inf)).exp().item()
    0.5
    """
    share = (-torch.expm1(-width)).log()
    return torch.nn.functional.logsigmoid(upper) + torch.nn.functional.logsigmoid(-lower) + share


def log_normal_mass(lower: Tensor, upper: Tensor, width: Tensor) -> Tensor:
    """log(Φ(upper) - Φ(lower)), with full precision in both tails and for bounds that nearly meet.

    By symmetry the interval is reflected to (a, b) with a + b <= 0. Then, whichever cancels nothing:

    - across the mean: 1 - (erfc(b/√2) + erfc(-a/√2)) / 2;
    - beside it: e^(-b²/2) (E(b) - E(a) e^(-(b - a) |a + b| / 2)) / 2, with E(t) = erfcx(-t/√2);
    - where narrow: the density at the midpoint, times the width, times a power series.

    **Arguments**

    - `lower`, `upper`: standardised bounds, (...), with lower < upper; infinite ones get zero gradient.
    - `width`: upper - lower, (...), which the caller knows to more digits than the difference has; inf where a bound is.

    >>> log_normal_mass(torch.tensor(-torch.inf), torch.tensor(0.0), torch.tensor(torch.inf)).exp().item()
    0.5
    """
    lower, upper, width = torch.broadcast_tensors(lower, upper, width)  # type: ignore[no-untyped-call]
    limit = torch.finfo(lower.dtype).max ** 0.45  # stands for infinity, and its square is finite
    width = width.clamp(max=limit)
    lower, upper = lower.clamp(-limit, limit), upper.clamp(-limit, limit)
    flip = lower + upper > 0
    near, far = torch.where(flip, -lower, upper), torch.where(flip, -upper, lower)
    offset = -0.5 * (near + far)
    drop = width * offset
    narrow = (width <= NARROW) & (drop <= NARROW)
    value, shape = _narrow(offset, width).flatten(), narrow.shape
    near, far, drop, wide = near.flatten(), far.flatten(), drop.flatten(), ~narrow.flatten()
    beside = (wide & (near <= 0)).nonzero().squeeze(1)
    across = (wide & (near > 0)).nonzero().squeeze(1)
    if len(beside):
        value = value.index_copy(0, beside, _beside(near[beside], far[beside], drop[beside]))
    if len(across):
        value = value.index_copy(0, across, _across(near[across], far[across]))
    return value.view(shape)


# The narrow form is cheap, and evaluated everywhere; its clamps bind only where it is not used, and keep its gradient
# finite there. (None may touch a value that is used: at the bound itself a clamp's gradient is zero.)


def _narrow(offset: Tensor, width: Tensor) -> Tensor:
    """log ∫ φ over `width` around m = `offset`: φ(m) w Σ_j He_2j(m) (w/2)^2j / (2j+1)!, up to j = 3."""
    half = 0.5 * width.clamp(max=2 * NARROW)
    a, h = (offset * half).clamp(max=NARROW) ** 2, half**2
    second = (a - h) / 6
    fourth = ((a - 6 * h) * a + 3 * h * h) / 120
    sixth = (((a - 15 * h) * a + 45 * h * h) * a - 15 * h**3) / 5040
    return torch.log1p(second + fourth + sixth) + width.log() - 0.5 * offset**2 - HALF_LOG_TWO_PI


def _beside(near: Tensor, far: Tensor, drop: Tensor) -> Tensor:
    """log(Φ(near) - Φ(far)) for far < near <= 0, where φ(far) / φ(near) = exp(-drop)."""
    tail: Tensor = torch.special.erfcx(-SQRT_HALF * near)
    ratio = torch.special.erfcx(-SQRT_HALF * far) * torch.exp(-drop) / tail
    return (0.5 * tail).log() - 0.5 * near**2 + torch.log1p(-ratio)


def _across(near: Tensor, far: Tensor) -> Tensor:
    """log(Φ(near) - Φ(far)) for far < 0 < near."""
    outside = torch.erfc(SQRT_HALF * near) + torch.erfc(-SQRT_HALF * far)
    return torch.log1p(-0.5 * outside)
