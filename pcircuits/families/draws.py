"""Random numbers from an explicit generator: the same for a seed whatever the device and dtype of the model."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from pcircuits.arguments import as_generator

__all__ = ["standard_normal", "uniform"]


def uniform(shape: Collection[int], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Float64 numbers in [0, 1), drawn on the generator's device (where there is none: that of `like`) and moved.

    >>> uniform((2,), torch.zeros(()), torch.Generator().manual_seed(0)).shape
    torch.Size([2])
    """
    generator, device = _with_device(generator, like)
    return torch.rand(tuple(shape), generator=generator, dtype=torch.float64, device=device).to(like.device)


def standard_normal(shape: Collection[int], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Float64 numbers from N(0, 1), drawn as `uniform` does.

    >>> standard_normal((2,), torch.zeros(()), torch.Generator().manual_seed(0)).dtype
    torch.float64
    """
    generator, device = _with_device(generator, like)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64, device=device).to(like.device)


def _with_device(generator: torch.Generator | None, like: Tensor) -> tuple[torch.Generator | None, torch.device]:
    generator = as_generator(generator)
    return generator, like.device if generator is None else generator.device
