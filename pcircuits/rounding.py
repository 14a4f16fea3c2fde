"""Sums of probabilities that miss 1 because their numbers were rounded: by a dtype, or to a few printed digits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["FURTHEST", "distance_from_one", "explains", "of_dtype", "rescaled"]

FURTHEST = 0.01 * (1 + 1e-9)
"""How far from 1 a sum may be at all, whatever explains it: 0.33 three times."""
DIGITS = range(2, 13)
"""The numbers of printed digits that are looked for: with one, nothing that is nearer to 1 than `FURTHEST` is lost."""


def distance_from_one(value: Tensor) -> Tensor:
    """|Σ value − 1| over the last axis, in float64."""
    return (value.sum(-1, dtype=torch.float64) - 1).abs()


def of_dtype(dtype: torch.dtype, size: int) -> float:
    """How far rounding to a dtype, and sums in it, can take the sum of `size` probabilities from 1.

    >>> of_dtype(torch.float64, 3), round(of_dtype(torch.float32, 4), 9)
    (1e-09, 1.907e-06)
    """
    return min(FURTHEST, max(1e-9, 8 * torch.finfo(dtype).eps * math.sqrt(max(1, size))))


def explains(value: Tensor) -> Tensor:
    """Whether rounding explains what the sums over the last axis miss of 1, (...).

    Three things do: the dtype; a narrower dtype, where it holds all numbers of a row, as lists of numbers from float16 or
    float32 arrays have no dtype; and printed digits. N numbers of d digits were each rounded by at most half a unit of
    the last digit, so that their sum misses 1 by k units with k < N / 2: [0.3333, 0.3333, 0.3333] by one, while two
    numbers that sum to 1 are rounded to two that do.

    >>> rows = torch.tensor([[0.3333, 0.3333, 0.3333], [0.5, 0.4, 0.0]], dtype=torch.float64)
    >>> explains(rows).tolist()
    [True, False]
    """
    gap, size = distance_from_one(value), value.shape[-1]
    found = gap <= of_dtype(value.dtype, size)
    if bool(found.all()):
        return found
    wide = value.to(torch.float64)
    precision = torch.full_like(gap, torch.finfo(value.dtype).eps)
    for narrow, allowed in ((torch.float32, of_dtype(torch.float32, size)), (torch.float16, 2.0**-10)):
        if torch.finfo(narrow).eps > torch.finfo(value.dtype).eps:
            held = (wide.to(narrow).to(torch.float64) == wide).all(-1)
            found = found | (held & (gap <= allowed))
            precision = torch.where(held, torch.finfo(narrow).eps, precision)
    for digits in DIGITS:
        scaled = wide * 10.0**digits
        printed = ((scaled - scaled.round()).abs() <= 2 * precision.unsqueeze(-1) * scaled).all(-1)
        units = (scaled.round().sum(-1) - 10.0**digits).abs()
        found = found | (printed & (2 * units < size) & (gap <= FURTHEST))
    return found


def rescaled(value: Tensor) -> Tensor:
    """Probabilities divided by their sums, in float64, where these miss 1 by more than float32 or float64 rounds them.

    Sums that the rounding to float32 explains stay as they are given, as do half their bytes: they are divided when the
    circuit is compiled.
    """
    keeps = value.dtype in (torch.float32, torch.float64)
    off = distance_from_one(value) > of_dtype(value.dtype if keeps else torch.float64, value.shape[-1])
    if not bool(off.any()):
        return value
    wide = value.to(torch.float64)
    return torch.where(off.unsqueeze(-1), wide / wide.sum(-1, keepdim=True), wide)
