"""Random numbers from an explicit generator: the same for a seed whatever the device and dtype of the model."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from pcircuits.arguments import as_generator

__all__ = ["locations_about", "locations_and_scales", "standard_normal", "uniform"]


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


def locations_and_scales(
    shape: Collection[int], generator: torch.Generator | None, decades: float
) -> dict[str, Tensor]:
    """Examples of `loc` and `scale`: scales of so many decades about 1, and locations a few of them from 0."""
    like = torch.empty(0)
    scale = 10.0 ** (decades * (2 * uniform(shape, like, generator) - 1))
    return {"loc": 3 * scale * standard_normal(shape, like, generator), "scale": scale}


def locations_about(
    shape: Collection[int], generator: torch.Generator | None, centre: float, spread: float
) -> dict[str, Tensor]:
    """A start for `loc`, drawn from N(centre, spread²), and for `scale`, which is `spread`."""
    z = standard_normal(shape, torch.empty(0), generator)
    return {"loc": centre + spread * z, "scale": torch.full_like(z, spread)}


def _with_device(generator: torch.Generator | None, like: Tensor) -> tuple[torch.Generator | None, torch.device]:
    generator = as_generator(generator)
    return generator, like.device if generator is None else generator.device
