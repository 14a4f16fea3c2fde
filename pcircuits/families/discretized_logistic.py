"""The discretised logistic family over levels 0..L-1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pcircuits.families.discretized import AbstractDiscretized
from pcircuits.families.numerics import log_logistic_mass

__all__ = ["DiscretizedLogistic"]


@dataclass(frozen=True)
class DiscretizedLogistic(AbstractDiscretized):
    """P(v) = σ(((v+1)/L - loc) / scale) - σ((v/L - loc) / scale), edge bins to ±∞; see `AbstractDiscretized`.

    >>> two = {"loc": torch.tensor(0.5), "scale": torch.tensor(0.1)}
    >>> DiscretizedLogistic(levels=2).log_table(two).exp().tolist()
    [0.5, 0.5]
    """

    name: ClassVar[str] = "DiscretizedLogistic"
    description: ClassVar[
        str
    ] = """Logistic densities integrated over the bins [v, v+1)/levels of integers 0..levels-1; edge bins take the tails.

    `loc` and `scale` are in units in which the whole range is [0, 1]; `uniform` is the share of a uniform distribution.

    >>> DiscretizedLogistic(0, 0.5, 0.1, levels=256).shape
    (1, 1)
    """

    def _log_standard_mass(self, lower: Tensor, upper: Tensor, width: Tensor) -> Tensor:
        return log_logistic_mass(lower, upper, width)

    def _standard_tail(self, z: Tensor) -> Tensor:
        return torch.sigmoid(-z)

    def _standard_quantile(self, probability: Tensor) -> Tensor:
        return torch.logit(probability)
