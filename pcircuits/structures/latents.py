"""Points of a latent space with a standard normal density: quasi-Monte Carlo lattices, and points that are trained."""

from __future__ import annotations

import warnings
from typing import Any, Self

import torch
from scipy.stats import qmc
from torch import Tensor, nn

from pcircuits.errors import CircuitError
from pcircuits.families.fields import integer

__all__ = ["FreePoints", "SobolPoints"]


class SobolPoints(nn.Module):
    """N points of a latent space of L dimensions, spread evenly with respect to N(0, 1): Φ⁻¹((u_n + s) mod 1).

    u are the first N points of a Sobol sequence and s is a shift, by default that by half of 1/N. With s drawn anew, the
    mean of f over the points is an unbiased estimate of E[f(z)], whose error falls faster than 1/√N for smooth f.

    **Arguments**

    - `points`: N; powers of two are spread best.
    - `dimensions`: L, the length of z.

    **Raises** `ParameterError` for numbers below 1.

    Owen (1997), *Monte Carlo Variance of Scrambled Net Quadrature*; Cranley and Patterson (1976), *Randomization of Number
    Theoretic Methods for Multiple Integration*.

    >>> SobolPoints(4, 1)().flatten().sort().values.exp().log().round(decimals=2).tolist()
    [-1.15, -0.32, 0.32, 1.15]
    """

    cube: Tensor
    shift: Tensor

    def __init__(self, points: int, dimensions: int) -> None:
        super().__init__()
        self.points, self.dimensions = integer(points, "points", least=1), integer(dimensions, "dimensions", least=1)
        sobol = qmc.Sobol(self.dimensions, scramble=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # which advises powers of two
            cube = torch.from_numpy(sobol.random(self.points))
        self.register_buffer("cube", cube)
        self.register_buffer("shift", torch.full((self.dimensions,), 0.5 / self.points, dtype=torch.float64))

    def forward(self) -> Tensor:
        """The points, (N, L)."""
        edge = torch.finfo(self.cube.dtype).eps
        points: Tensor = torch.special.ndtri(((self.cube + self.shift) % 1.0).clamp(edge, 1 - edge))
        return points

    @torch.no_grad()
    def shift_by(self, shift: Tensor | None) -> None:
        """Shift the points, before they are made normal, by (L,) numbers in [0, 1); None is the shift that is not random."""
        self.shift.copy_(torch.full_like(self.shift, 0.5 / self.points) if shift is None else shift)

    def to_config(self) -> dict[str, Any]:
        """The sizes."""
        return {"points": self.points, "dimensions": self.dimensions}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Points of these sizes."""
        return cls(**config)


class FreePoints(nn.Module):
    """N points of a latent space that are trained, beginning with those of a tensor (N, L).

    **Raises** `CircuitError` for a tensor of another number of axes.

    >>> FreePoints(SobolPoints(4, 2)()).z.shape
    torch.Size([4, 2])
    """

    def __init__(self, z: Tensor) -> None:
        super().__init__()
        if z.ndim != 2 or not len(z):
            raise CircuitError(f"latent points are a tensor (N, L), not of shape {tuple(z.shape)}")
        self.z = nn.Parameter(z.detach().clone())

    def forward(self) -> Tensor:
        """The points, (N, L)."""
        return self.z

    def to_config(self) -> dict[str, Any]:
        """The sizes."""
        return {"shape": list(self.z.shape)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Points of this shape."""
        return cls(torch.zeros(*config["shape"], dtype=torch.float64))
