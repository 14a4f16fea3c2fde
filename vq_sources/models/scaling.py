"""Convolutional steps between an image and a grid that divides it, whatever the two factors are."""

from __future__ import annotations

from torch import Tensor, nn

from vq_sources.errors import ConfigError

__all__ = ["ResidualBlock", "downsampling", "strides_between"]


def strides_between(data_shape: tuple[int, int], grid: tuple[int, int]) -> list[tuple[int, int]]:
    """The strides (rows, columns), from the image to the grid, whose product is data_shape / grid.

    Each axis takes the prime factors of its own ratio, smallest first; the shorter list waits at the image's end with
    strides of 1, so that the narrow layers near the image are the ones that keep an axis.

    **Raises** `ConfigError` where the grid does not divide the image.

    **Example**

    >>> strides_between((28, 28), (4, 4)), strides_between((8, 12), (2, 2))
    ([(7, 7)], [(2, 2), (2, 3)])
    """
    (height, width), (rows, columns) = data_shape, grid
    if height % rows or width % columns:
        raise ConfigError(
            f"a grid of {rows} × {columns} does not divide an image of {height} × {width}: "
            f"{height} / {rows} = {height / rows:g} and {width} / {columns} = {width / columns:g} must be whole; "
            f"take rows from {_divisors(height)} and columns from {_divisors(width)}"
        )
    vertical, horizontal = _prime_factors(height // rows), _prime_factors(width // columns)
    steps = max(len(vertical), len(horizontal))
    vertical = [1] * (steps - len(vertical)) + vertical
    horizontal = [1] * (steps - len(horizontal)) + horizontal
    return list(zip(vertical, horizontal, strict=True))


def downsampling(inputs: int, outputs: int, stride: tuple[int, int]) -> nn.Conv2d:
    """A strided convolution, (H, W) to (H, W) / stride, whose kernels overlap by one pixel on each side."""
    kernel = tuple(s + 2 if s > 1 else 3 for s in stride)
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=1)  # type: ignore[arg-type]


class ResidualBlock(nn.Module):
    """x + W₂ * f(W₁ * f(norm(x))), f = SiLU: two 3 × 3 convolutions.

    The norm is over the channels and positions of one image, so that no image's result depends on another's.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(1, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.body(x)
        return x + residual


def _prime_factors(n: int) -> list[int]:
    factors, p = [], 2
    while n > 1:
        while n % p == 0:
            factors.append(p)
            n //= p
        p += 1
    return factors


def _divisors(n: int) -> str:
    return ", ".join(str(d) for d in range(1, n + 1) if n % d == 0)
