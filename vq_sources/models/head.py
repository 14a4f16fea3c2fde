"""From features to the location and scale of every pixel."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from vq_sources.data.pixels import scale

__all__ = [
    "AbstractLocationScale",
    "LocationScale",
    "LocationScaleHead",
    "Logits",
    "bounded_scale",
    "inverse_bounded_scale",
]


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


class AbstractLocationScale(nn.Module):
    """Numbers a, b of every pixel to its location and scale, in units of what the pixel does over all images.

    loc_v = m_v + g_v a_v,  scale_v = bounded_scale(s_v + b_v).

    m, g and s start at each pixel's mean and standard deviation, and are trained. So margins that stay black are right
    from the first step and stay so whatever the features do; without g, their small scales make every move of the
    features costly, and training starts by forgetting the codes.
    loc is left unconstrained: its gradient never fades at black or white pixels, and a discretised family can put all
    of its mass into an edge bin by moving its location past the edge.

    **Arguments**

    - `data_shape`: (H, W).
    - `min_std`: the smallest scale.
    """

    def __init__(self, data_shape: tuple[int, int], min_std: float) -> None:
        super().__init__()
        self.min_std = min_std
        self.mean = nn.Parameter(torch.zeros(data_shape))
        self.gain = nn.Parameter(torch.ones(data_shape))
        self.raw_scale = nn.Parameter(torch.zeros(data_shape))

    def of(self, location: Float[Tensor, "N D"], scale: Float[Tensor, "N D"]) -> dict[str, Float[Tensor, "N D"]]:
        """The parameters of every pixel for the numbers a and b."""
        return {
            "loc": self.mean.flatten() + self.gain.flatten() * location,
            "scale": bounded_scale(self.raw_scale.flatten() + scale, self.min_std),
        }

    @torch.no_grad()
    def initialise(self, images: Integer[Tensor, "n H W"], levels: int) -> None:
        """Start from each pixel's mean and standard deviation over training images, in units of [0, 1]."""
        values = scale(images, levels, self.mean.dtype)
        # Within the open range of scales: at its ends the inverse is infinite.
        std = values.std(0, correction=0).clamp(self.min_std**0.9, self.min_std**0.1)
        self.mean.copy_(values.mean(0))
        self.gain.copy_(std)
        self.raw_scale.copy_(inverse_bounded_scale(std, self.min_std))


class LocationScaleHead(AbstractLocationScale):
    """From features of an image: (a, b) = W * f(features), f = SiLU and W a 3 × 3 convolution.

    **Arguments**

    - `channels`: of the features.
    - `data_shape`, `min_std`: as of `AbstractLocationScale`.
    """

    def __init__(self, channels: int, data_shape: tuple[int, int], min_std: float) -> None:
        super().__init__(data_shape, min_std)
        self.body = nn.Sequential(nn.SiLU(), nn.Conv2d(channels, 2, 3, padding=1, bias=False))

    def forward(self, features: Float[Tensor, "N C H W"]) -> dict[str, Float[Tensor, "N D"]]:
        location, scale = self.body(features).flatten(2).unbind(1)
        return self.of(location, scale)


class LocationScale(AbstractLocationScale):
    """From the numbers (a, b) themselves, for a decoder that computes them for each pixel."""

    outputs = 2
    """How many numbers of every pixel it takes."""

    def forward(self, numbers: Float[Tensor, "N D 2"]) -> dict[str, Float[Tensor, "N D"]]:
        location, scale = numbers.unbind(-1)
        return self.of(location, scale)


class Logits(nn.Module):
    """Numbers a of every pixel and level to the probabilities of its levels: softmax over l of (m_vl + a_vl).

    m starts at the logarithms of the levels' frequencies over training images, and is trained.

    **Arguments**

    - `data_shape`: (H, W).
    - `levels`: L.
    """

    def __init__(self, data_shape: tuple[int, int], levels: int) -> None:
        super().__init__()
        self.outputs = levels
        self.mean = nn.Parameter(torch.zeros(data_shape[0] * data_shape[1], levels))

    def forward(self, numbers: Float[Tensor, "N D L"]) -> dict[str, Float[Tensor, "N D L"]]:
        return {"probs": torch.softmax(self.mean + numbers, -1)}

    @torch.no_grad()
    def initialise(self, images: Integer[Tensor, "n H W"], levels: int) -> None:
        """Start from the frequencies of each pixel's levels, with one image's worth of uniform levels added."""
        counts = torch.full_like(self.mean, 1 / levels)
        ones = torch.ones((), dtype=counts.dtype, device=counts.device).expand(len(images), counts.shape[0])
        counts.scatter_add_(1, images.flatten(1).long().T, ones.T)
        self.mean.copy_((counts / counts.sum(-1, keepdim=True)).log())
