"""Numbers that a pass computes with: scaled by powers of two, or logarithms to base 2, beside an exponent for each row.

A row of K units holds numbers (..., K) and one exponent (...), an integer in float64: value = number · 2^exponent, or
log2 value = number + exponent. Powers of two scale without rounding and integers add without rounding, so what is common
to all units of a row, however large, cancels exactly. The exponent is -inf where a whole row is zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "FAR",
    "LOG2E",
    "TINY",
    "TOLERANCE",
    "from_logs",
    "log2",
    "logsumexp2",
    "power_of_two",
    "rebased",
    "rescale",
    "scale_of",
    "unflatten",
]

LOG2E = math.log2(math.e)

TINY = {torch.float32: 2.0**-120, torch.float64: 2.0**-1010}
"""What rounding to zero, or to numbers below the normal ones, can take from a number: the unit of the bounds on it."""

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
"""The largest relative error from numbers that became zero; rows of data beyond it are computed again in logarithms."""

FAR = 1e30
"""A bound on errors that says: compute this row of data again."""

_BITS = {torch.float32: (torch.int32, 23, 127), torch.float64: (torch.int64, 52, 1023)}


def power_of_two(total: Tensor) -> tuple[Tensor, Tensor]:
    """For totals t >= 0, the power of two s with 1 <= t · s < 2, and -log2 s in float64; -inf where t is 0.

    The exponent is read from the bits of the number; where t is below the normal numbers, t · s stays below 1.
    """
    integer, shift, bias = _BITS[total.dtype]
    exponent = ((total.view(integer) >> shift) - bias).to(torch.float64)
    return scale_of(total), exponent.masked_fill_(total == 0, -torch.inf)


def scale_of(total: Tensor) -> Tensor:
    """The scales of `power_of_two` alone."""
    integer, shift, bias = _BITS[total.dtype]
    return ((2 * bias - (total.view(integer) >> shift)) << shift).view(total.dtype)


def rescale(numbers: Tensor, exponent: Tensor, slack: Tensor) -> None:
    """Scale numbers (n, B, K) so that they add up to a number in [1, 2); all three are changed in place.

    A row that is zero because a row below it is (exponent -inf) is exactly zero. One that became zero here may have lost
    what it was: its bound says so, whatever becomes of its numbers. The error of a single unit is relative to itself.
    """
    integer, shift, bias = _BITS[numbers.dtype]
    total = numbers.sum(-1)
    bits = total.view(integer) >> shift
    scale, (relative, absolute) = scale_of(total), slack.unbind(1)
    zero = total == 0
    relative.masked_fill_(zero & (exponent > -torch.inf), FAR)
    absolute.mul_(scale).masked_fill_(zero, 0.0)
    if numbers.shape[-1] == 1:
        relative.add_(absolute)
        absolute.zero_()
    exponent.add_(bits - bias).masked_fill_(zero, -torch.inf)
    numbers.mul_(scale.unsqueeze(-1))


def _floor(logs: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The integer just above the largest of each row; and as exponents, without the axis: -inf where all are -inf."""
    top = (logs.detach().amax(dim, keepdim=True).floor() + 1).nan_to_num(0.0, posinf=0.0, neginf=-torch.inf)
    return top.clamp_min(torch.finfo(top.dtype).min), top.squeeze(dim).to(torch.float64)


def from_logs(logs: Tensor, dim: int = -1) -> tuple[Tensor, Tensor]:
    """Base-2 logarithms (..., K) as scaled numbers between 0 and 1, and exponents (...); `dim` is the axis of K."""
    shift, exponent = _floor(logs, dim)
    return torch.exp2(logs - shift), exponent


def rebased(logs: Tensor, dim: int = -1) -> tuple[Tensor, Tensor]:
    """Base-2 logarithms (..., K) as logarithms below 0, and exponents (...); `dim` is the axis of K."""
    shift, exponent = _floor(logs, dim)
    return logs - shift, exponent


def log2(values: Tensor) -> Tensor:
    """log2 with log2 0 = -inf, and a gradient of zero there; NaN stays NaN."""
    positive = ~(values <= 0)
    return torch.where(positive, torch.where(positive, values, 1.0).log2(), -torch.inf)


def logsumexp2(values: Tensor, dim: int) -> Tensor:
    """log2 Σ 2^values along an axis; all -inf gives -inf with zero gradients, and +inf stays +inf."""
    peak = values.detach().amax(dim, keepdim=True)
    shift = torch.where(torch.isfinite(peak), peak, 0.0)
    return log2(torch.exp2(values - shift).sum(dim)) + shift.squeeze(dim)


def unflatten(values: Tensor, axis: int, sizes: tuple[int, ...]) -> Tensor:
    """One axis as several."""
    split: Tensor = torch.unflatten(values, axis, sizes)
    return split
