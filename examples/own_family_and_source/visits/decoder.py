"""A source: a small network from points of a latent interval to Poisson rates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["RateDecoder"]


class RateDecoder(nn.Module):
    """rate_v(z) = softplus(network(z))_v at `points` evenly spaced z in [−1, 1], each a component of a mixture.

    **Arguments**

    - `days`: how many variables there are.
    - `points`: how many components.
    - `hidden`: the width of the hidden layer.
    - `generator`: for the initial weights.
    """

    grid: Tensor

    def __init__(self, days: int, points: int, hidden: int = 16, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.days, self.points, self.hidden = days, points, hidden
        self.inner = nn.Parameter(torch.randn(hidden, 2, generator=generator))
        self.outer = nn.Parameter(torch.randn(days, hidden, generator=generator) / hidden**0.5)
        self.level = nn.Parameter(torch.full((days,), 3.0))
        self.register_buffer("grid", torch.linspace(-1.0, 1.0, points))

    def parameters_for(self, columns: Tensor) -> dict[str, Tensor]:
        """The rates of every day for components (n,), each (days, n)."""
        z = self.grid[columns]
        hidden = torch.tanh(self.inner @ torch.stack([3.0 * z, torch.ones_like(z)]))  # (hidden, n)
        return {"rate": nn.functional.softplus(self.outer @ hidden + self.level[:, None]) + 1e-3}

    def to_config(self) -> dict[str, Any]:
        """What the constructor needs, so that circuits with this source can be saved."""
        return {"days": self.days, "points": self.points, "hidden": self.hidden}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RateDecoder:
        """A decoder of the same shape; its weights follow."""
        return cls(**config)
