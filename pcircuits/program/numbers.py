"""Log-space arithmetic that keeps −inf exact, in values and in gradients."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["log", "log_matmul", "logsumexp", "unflatten"]


def log(values: Tensor) -> Tensor:
    """log with log 0 = -inf, and a gradient of zero there."""
    positive = values > 0
    return torch.where(positive, torch.where(positive, values, 1.0).log(), -torch.inf)


def _finite(maximum: Tensor) -> Tensor:
    """A maximum that can be subtracted: 0 where everything is -inf (or something is +inf)."""
    return torch.where(torch.isfinite(maximum), maximum, 0.0)


def logsumexp(values: Tensor, dim: int) -> Tensor:
    """log Σ exp along an axis; all -inf gives -inf with zero gradients, and +inf stays +inf."""
    if not (torch.is_grad_enabled() and values.requires_grad):
        return torch.logsumexp(values, dim)
    shift = _finite(values.detach().amax(dim, keepdim=True))
    return log((values - shift).exp().sum(dim)) + shift.squeeze(dim)


def log_matmul(values: Tensor, weights: Tensor) -> Tensor:
    """log (exp(values) @ weightsᵀ) in float64, for (R, B, K) and (R or 1, O, K) weights that share a maximum safely."""
    shift = _finite(values.detach().amax(-1, keepdim=True))
    return log(torch.matmul((values - shift).exp(), weights.transpose(-1, -2))).double() + shift


def unflatten(values: Tensor, axis: int, sizes: tuple[int, ...]) -> Tensor:
    """One axis as several."""
    split: Tensor = torch.unflatten(values, axis, sizes)
    return split
