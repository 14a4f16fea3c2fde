"""The support of a family: which values any of its members may be positive on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Support"]


@dataclass(frozen=True)
class Support:
    """The integers, or the real numbers, in [least, most].

    >>> Support(integers=True, least=0.0).wants, Support(integers=False).wants
    ('an integer >= 0', 'a finite number')
    """

    integers: bool
    least: float = -math.inf
    most: float = math.inf

    def contains(self, x: Tensor) -> Tensor:
        """A mask of the values that are in it; infinite ones never are.

        >>> Support(integers=True, least=0.0, most=3.0).contains(torch.tensor([-1.0, 0.0, 0.5, 3.0, torch.inf])).tolist()
        [False, True, False, True, False]
        """
        inside = torch.isfinite(x) & (x >= self.least) & (x <= self.most)
        return inside & (x == x.floor()) if self.integers else inside

    @property
    def wants(self) -> str:
        """The set in words, for errors: "an integer in 0..3"."""
        kind = "an integer" if self.integers else "a number"
        if math.isfinite(self.least) and math.isfinite(self.most):
            return (
                f"{kind} in {self.least:g}..{self.most:g}"
                if self.integers
                else f"{kind} in [{self.least:g}, {self.most:g}]"
            )
        if math.isfinite(self.least):
            return f"{kind} >= {self.least:g}"
        if math.isfinite(self.most):
            return f"{kind} <= {self.most:g}"
        return kind if self.integers else "a finite number"
