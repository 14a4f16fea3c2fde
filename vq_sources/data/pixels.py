"""Integer pixels as real numbers: spread over their bins at random, or put in the middle of them."""

from __future__ import annotations

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from pcircuits.arguments import whole_number
from vq_sources.errors import ConfigError
from vq_sources.protocols import check_integers

__all__ = ["dequantise", "scale"]


def dequantise(
    images: Integer[Tensor, "*shape"], levels: int, generator: torch.Generator, dtype: torch.dtype | None = None
) -> Float[Tensor, "*shape"]:
    """A point of each pixel's bin: (v + u) / L with u ~ U[0, 1), in [v/L, (v + 1)/L) also after rounding.

    E_u[log p((v + u) / L)] − D log L ≤ log P(v): a density of these points bounds the mass of the D pixels' bins.

    **Arguments**

    - `images`: integers v in 0..L−1, of any shape.
    - `levels`: L.
    - `generator`: where u comes from; it is drawn on the generator's device and moved.
    - `dtype`: of the result; None is torch's default.

    **Raises** `DataError` for images that are not integers.

    **Source**: Theis, van den Oord, Bethge 2016, *A note on the evaluation of generative models*, section 3.1.

    **Example**

    >>> x = dequantise(torch.tensor([0, 1, 3]), 4, torch.Generator().manual_seed(0))
    >>> (x * 4).floor().tolist()
    [0.0, 1.0, 3.0]
    """
    check_integers(images, "images", "they are real numbers already, or want rounding")
    levels = whole_number(levels, "levels", 1, ConfigError)
    u = torch.rand(images.shape, generator=generator, device=generator.device, dtype=dtype).to(images.device)
    images = images.long()  # a uint8 of 255 has no successor
    end = (images + 1).to(u.dtype) / levels
    return torch.minimum((images + u) / levels, torch.nextafter(end, torch.zeros_like(end)))


def scale(images: Integer[Tensor, "*shape"], levels: int, dtype: torch.dtype | None = None) -> Float[Tensor, "*shape"]:
    """The middle of each pixel's bin: (v + 1/2) / L, in (0, 1). For showing and comparing, never for likelihoods.

    **Arguments**

    - `images`: integers v in 0..L−1, of any shape.
    - `levels`: L.
    - `dtype`: of the result; None is torch's default.

    **Example**

    >>> scale(torch.tensor([0, 1, 3]), 4).tolist()
    [0.125, 0.375, 0.875]
    """
    check_integers(images, "images", "they are real numbers already, or want rounding")
    return (images.to(torch.get_default_dtype() if dtype is None else dtype) + 0.5) / levels
