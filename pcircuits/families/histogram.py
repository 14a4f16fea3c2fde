"""The histogram family: densities that are constant between fixed edges."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pcircuits.families.interface import AbstractFamily, Parameters
from pcircuits.families.piecewise import AbstractPiecewise
from pcircuits.scope import REAL

__all__ = ["Histogram"]


@dataclass(frozen=True)
class Histogram(AbstractPiecewise):
    """p(x) = probs_j / width_j in the bin j between two cuts; 0 outside of them all.

    **Arguments**

    - `cuts`: the ends of the S bins, S + 1 numbers in ascending order; a value on a cut belongs to the bin above it.

    >>> two = Histogram((0.0, 1.0, 3.0))
    >>> two.log_density(torch.tensor([0.5, 2.0, 4.0]), {"probs": torch.tensor([0.5, 0.5])}).exp().tolist()
    [0.5, 0.25, 0.0]
    """

    name: ClassVar[str] = "Histogram"
    description: ClassVar[
        str
    ] = """Densities that are constant between `cuts`; `probs` (S,), (K, S) or (R, K, S) are the masses of the S bins.

    >>> Histogram("x", [[0.5, 0.5], [0.1, 0.9]], cuts=(0.0, 1.0, 3.0)).shape
    (1, 2)
    """

    @classmethod
    def members(cls, states: int) -> Collection[AbstractFamily]:
        return [EXAMPLE] if states == REAL and cls is Histogram else []

    @property
    def parts(self) -> int:
        return len(self.cuts) - 1

    def heights(self, parameters: Parameters) -> tuple[Tensor, Tensor]:
        start, end = self._ends(parameters["probs"])
        height = parameters["probs"] / (end - start).to(parameters["probs"].dtype)
        return height, height

    def responsibilities(self, x: Tensor, parameters: Parameters) -> Tensor:
        bins = torch.arange(self.parts, device=x.device)
        return (self.piece(x).unsqueeze(-1) == bins).to(x.dtype)


EXAMPLE = Histogram((-1.0, 0.0, 0.5, 4.0))
