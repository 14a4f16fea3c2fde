"""The piecewise linear family: densities that are linear between fixed knots, and continuous."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pcircuits.families.interface import AbstractFamily, Parameters
from pcircuits.families.piecewise import AbstractPiecewise
from pcircuits.scope import REAL

__all__ = ["PiecewiseLinear"]


@dataclass(frozen=True)
class PiecewiseLinear(AbstractPiecewise):
    """p(x) = Σ_j probs_j h_j(x) / ∫ h_j, where the hat h_j is 1 at knot j, and falls to 0 at the knots beside it.

    **Arguments**

    - `cuts`: the J knots, in ascending order.

    >>> tent = PiecewiseLinear((0.0, 1.0, 2.0))
    >>> tent.log_density(torch.tensor([0.5, 1.0]), {"probs": torch.tensor([0.0, 1.0, 0.0])}).exp().tolist()
    [0.5, 1.0]
    """

    name: ClassVar[str] = "PiecewiseLinear"
    description: ClassVar[
        str
    ] = """Densities that are linear between the knots `cuts`; `probs` (J,), (K, J) or (R, K, J) are the masses of their hats.

    >>> PiecewiseLinear("x", [[0.2, 0.6, 0.2]], cuts=(0.0, 1.0, 2.0)).shape
    (1, 1)
    """

    @classmethod
    def members(cls, states: int) -> Collection[AbstractFamily]:
        return [EXAMPLE] if states == REAL and cls is PiecewiseLinear else []

    @property
    def parts(self) -> int:
        return len(self.cuts)

    def _at_knots(self, parameters: Parameters) -> Tensor:
        """The density at the knots, (..., J)."""
        start, end = self._ends(parameters["probs"])
        half = 0.5 * (end - start)
        area = torch.nn.functional.pad(half, (0, 1)) + torch.nn.functional.pad(half, (1, 0))
        return parameters["probs"] / area.to(parameters["probs"].dtype)

    def heights(self, parameters: Parameters) -> tuple[Tensor, Tensor]:
        height = self._at_knots(parameters)
        return height[..., :-1], height[..., 1:]

    def responsibilities(self, x: Tensor, parameters: Parameters) -> Tensor:
        start, end = self._ends(x)
        piece = self.piece(x)
        t = ((x.double() - start[piece]) / (end - start)[piece]).to(x.dtype).unsqueeze(-1)
        knots = torch.arange(self.parts, device=x.device)
        hats = torch.where(knots == piece.unsqueeze(-1), 1 - t, torch.where(knots == piece.unsqueeze(-1) + 1, t, 0.0))
        terms = hats * self._at_knots(parameters)
        total = terms.sum(-1, keepdim=True)
        return torch.where(total > 0, terms / torch.where(total > 0, total, 1.0), hats)


EXAMPLE = PiecewiseLinear((-1.0, 0.0, 0.5, 4.0))
