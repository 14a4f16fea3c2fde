"""What a VQ-VAE is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from pcircuits.arguments import whole_number
from pcircuits.families import Normal
from pcircuits.families.interface import AbstractUnivariate
from vq_sources.errors import ConfigError
from vq_sources.models.scaling import strides_between
from vq_sources.plain_numbers import pair, real_number

__all__ = ["VQVAEConfig"]

_WHOLE = {"levels": 2, "num_codes": 2, "hidden": 1, "hidden_at_image": 1, "codebook_dim": 1, "blocks": 0}
"""The fields that are integers, and the smallest value of each."""


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
    levels, and numbers of another kind or out of range. Lists are taken for pairs, as JSON gives them.

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
        for name in ("data_shape", "grid"):
            object.__setattr__(self, name, pair(getattr(self, name), f"VQVAEConfig: {name}"))
        for name, smallest in _WHOLE.items():
            object.__setattr__(
                self, name, whole_number(getattr(self, name), f"VQVAEConfig: {name}", smallest, ConfigError)
            )
        for name in ("min_std", "commitment_weight", "decay", "dead_code_threshold"):
            object.__setattr__(self, name, real_number(getattr(self, name), f"VQVAEConfig: {name}"))
        for name in ("commitment_weight", "dead_code_threshold"):
            self._require(getattr(self, name) >= 0, name, "at least 0")
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
