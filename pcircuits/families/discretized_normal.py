"""The discretised Normal family over levels 0..L-1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pcircuits.families.discretized import AbstractDiscretized
from pcircuits.families.numerics import SQRT_HALF, log_normal_mass

__all__ = ["DiscretizedNormal"]


@dataclass(frozen=True)
class DiscretizedNormal(AbstractDiscretized):
    """P(v) = Φ((v+1)/L; loc, scale) - Φ(v/L; loc, scale), edge bins to ±∞; see `AbstractDiscretized`.

    >>> two = {"loc": torch.tensor(0.5), "scale": torch.tensor(0.1)}
    >>> DiscretizedNormal(levels=2).log_table(two).exp().tolist()
    [0.5, 0.5]
    """

    name: ClassVar[str] = "DiscretizedNormal"
    description: ClassVar[
        str
    ] = """Normal densities integrated over the bins [v, v+1)/levels of integers 0..levels-1; edge bins take the tails.

    `loc` and `scale` are in units in which the whole range is [0, 1]; `uniform` is the share of a uniform distribution.

    >>> import torch
    >>> DiscretizedNormal(range(64), torch.full((64, 8), 0.5), 0.1, levels=17).shape
    (64, 8)
    """

    def _log_standard_mass(self, lower: Tensor, upper: Tensor, width: Tensor) -> Tensor:
        return log_normal_mass(lower, upper, width)

    def _standard_tail(self, z: Tensor) -> Tensor:
        return 0.5 * torch.erfc(SQRT_HALF * z)

    def _standard_quantile(self, probability: Tensor) -> Tensor:
        z: Tensor = torch.special.ndtri(probability)
        return z
