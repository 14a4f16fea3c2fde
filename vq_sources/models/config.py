"""What a VQ-VAE is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from pcircuits.families import Normal
from pcircuits.families.interface import AbstractUnivariate
from vq_sources.errors import ConfigError
from vq_sources.models.scaling import strides_between

__all__ = ["VQVAEConfig"]


@dataclass(frozen=True)
class VQVAEConfig:
    """The architecture of a `VQVAE`; the defaults suit scikit-learn's digits (8 × 8, 17 levels).

    **Arguments**

    - `data_shape`: (H, W) of the images.
    - `levels`: L; pixels are integers 0..L−1.
    - `grid`: (h, w) of the codes; it must divide `data_shape`.
    - `num_codes`: K, the size of the codebook that all positions share.
    - `family`: of every pixel, with parameters loc and scale: `Normal()`, `DiscretizedNormal(levels)` or
      `DiscretizedLogistic(levels)`.
    - `min_std`: the smallest scale, in units of the pixel range [0, 1]; scales are in [min_std, 1]. (A logistic's
      standard deviation is 1.81 scales.) Small values fit the images' own codes, larger ones forgive a wrong code.
    - `hidden`: channels at the grid; they halve with each step towards the image, down to `hidden_at_image`.
    - `hidden_at_image`: the fewest channels.
    - `blocks`: residual blocks at each resolution below the image's.
    - `codebook_dim`: the dimension of the codebook's vectors.
    - `commitment_weight`: β of Σ (v − e)² over an image's vectors, beside its NLL in nats.
    - `decay`: γ of the codebook's moving averages.
    - `dead_code_threshold`: a code that gets fewer vectors per batch than this, on average, is revived; 0 never.

    **Raises** `ConfigError` for a grid that does not divide the image, a family without loc and scale or with other
    levels, and numbers out of range.

    **Example**

    >>> VQVAEConfig(data_shape=(28, 28), levels=256, grid=(4, 4), num_codes=64).positions
    16
    """

    data_shape: tuple[int, int] = (8, 8)
    levels: int = 17
    grid: tuple[int, int] = (2, 2)
    num_codes: int = 16
    family: AbstractUnivariate = field(default_factory=Normal)
    min_std: float = 0.01
    hidden: int = 64
    hidden_at_image: int = 16
    blocks: int = 1
    codebook_dim: int = 16
    commitment_weight: float = 0.25
    decay: float = 0.95
    dead_code_threshold: float = 1.0

    def __post_init__(self) -> None:
        for name in ("levels", "num_codes"):
            self._require(getattr(self, name) >= 2, name, "at least 2")
        for name in ("hidden", "hidden_at_image", "codebook_dim"):
            self._require(getattr(self, name) >= 1, name, "at least 1")
        for name in ("data_shape", "grid"):
            pair = getattr(self, name)
            self._require(len(pair) == 2 and min(pair) >= 1, name, "two numbers (rows, columns), each at least 1")
        for name in ("blocks", "commitment_weight", "dead_code_threshold"):
            self._require(0 <= getattr(self, name) < math.inf, name, "at least 0 and finite")
        self._require(0 < self.min_std < 1, "min_std", "in (0, 1): pixels are in units of their range")
        self._require(0 < self.decay < 1, "decay", "in (0, 1)")
        strides_between(self.data_shape, self.grid)
        self._check_family()

    @property
    def positions(self) -> int:
        """P = h · w."""
        return self.grid[0] * self.grid[1]

    def _check_family(self) -> None:
        if not isinstance(self.family, AbstractUnivariate) or set(self.family.parameters) != {"loc", "scale"}:
            raise ConfigError(
                f"VQVAEConfig: family is {self.family!r}; it must be a univariate family with the parameters loc and "
                "scale, such as Normal(), DiscretizedNormal(levels) or DiscretizedLogistic(levels)"
            )
        if self.family.base == "counting" and self.family.states != self.levels:
            raise ConfigError(
                f"VQVAEConfig: family has {self.family.states} levels and the images {self.levels}: make them the same"
            )

    def _require(self, holds: bool, name: str, wants: str) -> None:
        if not holds:
            raise ConfigError(f"VQVAEConfig: {name} is {getattr(self, name)!r}; it must be {wants}")
