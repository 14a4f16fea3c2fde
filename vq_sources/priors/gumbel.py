"""Gumbel noise from an explicit generator, and the arithmetic of truncated Gumbels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from pcircuits.arguments import as_generator

__all__ = ["gumbel", "log1mexp"]


def gumbel(
    shape: Sequence[int], generator: torch.Generator | None, device: torch.device | str
) -> Float64[Tensor, "..."]:
    """Standard Gumbel noise, -log E with E ~ Exponential(1), drawn on the generator's device and moved."""
    generator = as_generator(generator)
    where = "cpu" if generator is None else generator.device
    exponential = torch.empty(tuple(shape), dtype=torch.float64, device=where).exponential_(generator=generator)
    # A draw of exactly 0 would be an infinite Gumbel, which no comparison survives.
    noise: Tensor = -exponential.clamp_min(torch.finfo(torch.float64).tiny).log()
    return noise.to(device)


def log1mexp(x: Float64[Tensor, "*S"]) -> Float64[Tensor, "*S"]:
    """log(1 - exp(x)) for x <= 0, without cancellation at either end; -inf at 0.

    Mächler (2012), "Accurately computing log(1 - exp(-|a|))", equation (7).

        >>> [f"{value:.3e}" for value in log1mexp(torch.tensor([-1e-20, -50.0], dtype=torch.float64)).tolist()]
        ['-4.605e+01', '-1.929e-22']
    """
    return torch.where(x > -math.log(2), (-torch.expm1(x)).log(), torch.log1p(-x.exp()))
