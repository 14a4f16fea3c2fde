"""From features to the location and scale of every pixel."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["LocationScaleHead", "bounded_scale", "inverse_bounded_scale"]


def bounded_scale(raw: Float[Tensor, "..."], smallest: float) -> Float[Tensor, "..."]:
    """Any real number to a scale in (smallest, 1), smoothly.

    scale = smallest^t,  t = ½ − atan(raw) / π.

    Interpolating the logarithm gives small scales as much room as large ones. The arc tangent saturates as 1 / raw and
    not exponentially, as a sigmoid does (whose gradient is exactly 0 beyond raw = 17 in float32): no gradient is dead.

    **Example**

    >>> round(float(bounded_scale(torch.tensor(0.0), 0.01)), 6)
    0.1
    """
    return torch.exp(math.log(smallest) * (0.5 - torch.atan(raw) / math.pi))


def inverse_bounded_scale(scale: Float[Tensor, "..."], smallest: float) -> Float[Tensor, "..."]:
    """The inverse of `bounded_scale`."""
    return torch.tan(math.pi * (0.5 - torch.log(scale) / math.log(smallest)))


class LocationScaleHead(nn.Module):
    """The location and scale of every pixel, in units of what the pixel does over all images.

    loc_v = m_v + g_v a_v,  scale_v = bounded_scale(s_v + b_v),  (a, b) = W * f(features), f = SiLU.

    m, g and s start at each pixel's mean and standard deviation, and are trained. So margins that stay black are right
    from the first step and stay so whatever the features do; without g, their small scales make every move of the
    features costly, and training starts by forgetting the codes.
    loc is left unconstrained: its gradient never fades at black or white pixels, and a discretised family can put all
    of its mass into an edge bin by moving its location past the edge.

    **Arguments**

    - `channels`: of the features.
    - `data_shape`: (H, W).
    - `min_std`: the smallest scale.
    """

    def __init__(self, channels: int, data_shape: tuple[int, int], min_std: float) -> None:
        super().__init__()
        self.min_std = min_std
        self.body = nn.Sequential(nn.SiLU(), nn.Conv2d(channels, 2, 3, padding=1, bias=False))
        self.mean = nn.Parameter(torch.zeros(data_shape))
        self.gain = nn.Parameter(torch.ones(data_shape))
        self.raw_scale = nn.Parameter(torch.zeros(data_shape))

    def forward(self, features: Float[Tensor, "N C H W"]) -> dict[str, Float[Tensor, "N D"]]:
        location, scale = self.body(features).unbind(1)
        return {
            "loc": (self.mean + self.gain * location).flatten(1),
            "scale": bounded_scale(self.raw_scale + scale, self.min_std).flatten(1),
        }

    @torch.no_grad()
    def initialise(self, values: Float[Tensor, "n H W"]) -> None:
        """Start from each pixel's mean and standard deviation over training values in [0, 1]."""
        # Within the open range of scales: at its ends the inverse is infinite.
        std = values.std(0, correction=0).clamp(self.min_std**0.9, self.min_std**0.1)
        self.mean.copy_(values.mean(0))
        self.gain.copy_(std)
        self.raw_scale.copy_(inverse_bounded_scale(std, self.min_std))
