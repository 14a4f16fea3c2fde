"""What VQ models of images are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from pcircuits.arguments import whole_number
from pcircuits.families import Categorical, Normal
from pcircuits.families.interface import AbstractUnivariate
from vq_sources.errors import ConfigError
from vq_sources.models.scaling import strides_between
from vq_sources.plain_numbers import pair, real_number

__all__ = ["AbstractImageConfig", "GMVQConfig", "GMVQDrawsConfig", "PatchVQVAEConfig", "VQVAEConfig"]


@dataclass(frozen=True)
class AbstractImageConfig:
    """What all VQ models of images are made of; each model documents its own fields."""

    whole: ClassVar[dict[str, int]] = {
        "levels": 2,
        "num_codes": 2,
        "hidden": 1,
        "hidden_at_image": 1,
        "codebook_dim": 1,
        "blocks": 0,
    }
    """The fields that are integers, and the smallest value of each."""
    real: ClassVar[tuple[str, ...]] = ("min_std",)
    """The fields that are real numbers."""

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

    def __post_init__(self) -> None:
        kind = type(self).__name__
        for name in ("data_shape", "grid"):
            object.__setattr__(self, name, pair(getattr(self, name), f"{kind}: {name}"))
        for name, smallest in self.whole.items():
            object.__setattr__(self, name, whole_number(getattr(self, name), f"{kind}: {name}", smallest, ConfigError))
        for name in self.real:
            object.__setattr__(self, name, real_number(getattr(self, name), f"{kind}: {name}"))
        self._require(0 < self.min_std < 1, "min_std", "in (0, 1): pixels are in units of their range")
        self._check_numbers()
        strides_between(self.data_shape, self.grid)
        self._check_family()

    @property
    def positions(self) -> int:
        """P = h · w."""
        return self.grid[0] * self.grid[1]

    def _check_numbers(self) -> None:
        """What a model asks of its own fields."""

    def _check_family(self) -> None:
        if not isinstance(self.family, AbstractUnivariate) or set(self.family.parameters) != {"loc", "scale"}:
            raise ConfigError(
                f"{type(self).__name__}: family is {self.family!r}; it must be a univariate family with the parameters loc "
                "and scale, such as Normal(), DiscretizedNormal(levels) or DiscretizedLogistic(levels)"
            )
        if self.family.base == "counting" and self.family.states != self.levels:
            raise ConfigError(
                f"{type(self).__name__}: family has {self.family.states} levels and the images {self.levels}: make them the "
                "same"
            )

    def _require(self, holds: bool, name: str, wants: str) -> None:
        if not holds:
            raise ConfigError(f"{type(self).__name__}: {name} is {getattr(self, name)!r}; it must be {wants}")


@dataclass(frozen=True)
class VQVAEConfig(AbstractImageConfig):
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

    real: ClassVar[tuple[str, ...]] = ("min_std", "commitment_weight", "decay", "dead_code_threshold")

    commitment_weight: float = 0.25
    decay: float = 0.95
    dead_code_threshold: float = 1.0

    def _check_numbers(self) -> None:
        for name in ("commitment_weight", "dead_code_threshold"):
            self._require(getattr(self, name) >= 0, name, "at least 0")
        self._require(0 < self.decay < 1, "decay", "in (0, 1)")


@dataclass(frozen=True)
class PatchVQVAEConfig(VQVAEConfig):
    """The architecture of a `PatchVQVAE`; the defaults suit scikit-learn's digits (8 × 8, 17 levels).

    The fields are those of `VQVAEConfig`, but for these:

    **Arguments**

    - `grid`: (h, w); the patch of a position has H/h · W/w pixels.
    - `family`: of every pixel: one with loc and scale, or `Categorical(levels)`, whose logits the decoder gives.
    - `decoder_hidden`: the width of the decoder's two hidden layers.
    - `blocks`: residual blocks of the encoder, which sees the whole image. The decoder has none.
    - `position_dim`: the decoder also gets a trained vector of so many numbers for the position, so that one code may look
      different at different places; 0 for none. Pixels have a mean and a scale of their own in either case.

    **Raises** `ConfigError` as `VQVAEConfig`.

    **Example**

    >>> PatchVQVAEConfig(data_shape=(28, 28), levels=256, grid=(7, 7), num_codes=64).patch_shape
    (4, 4)
    """

    whole: ClassVar[dict[str, int]] = {**AbstractImageConfig.whole, "decoder_hidden": 1, "position_dim": 0}

    grid: tuple[int, int] = (4, 4)
    decoder_hidden: int = 64
    position_dim: int = 0

    @property
    def patch_shape(self) -> tuple[int, int]:
        """(H/h, W/w), the shape of the pixels of one position."""
        return self.data_shape[0] // self.grid[0], self.data_shape[1] // self.grid[1]

    def _check_family(self) -> None:
        if self.family != Categorical(self.levels):
            super()._check_family()


@dataclass(frozen=True)
class GMVQConfig(AbstractImageConfig):
    """The architecture of a `GMVQ`; the defaults suit scikit-learn's digits (8 × 8, 17 levels).

    The first ten fields, up to `codebook_dim`, are those of `VQVAEConfig`.

    **Arguments**

    - `latent_weight`: γ of the latent term. It draws proxy latents and means together; 1 makes all codes one on the digits.
    - `kl_weight`: β of KL(q(c) ‖ uniform), q(c) aggregated over a batch and its positions.
    - `temperature`, `final_temperature`: of the Gumbel-softmax, at the first training step and after `anneal_steps`.
    - `anneal_steps`: how many training steps the temperature falls over, geometrically.

    **Raises** `ConfigError` as `VQVAEConfig`, for weights below 0 and for temperatures that are not positive.

    **Example**

    >>> GMVQConfig(kl_weight=0.5).final_temperature
    0.1
    """

    whole: ClassVar[dict[str, int]] = {**AbstractImageConfig.whole, "anneal_steps": 1}
    real: ClassVar[tuple[str, ...]] = (
        "min_std",
        "latent_weight",
        "kl_weight",
        "temperature",
        "final_temperature",
    )

    latent_weight: float = 0.1
    kl_weight: float = 1.0
    temperature: float = 2.0
    final_temperature: float = 0.1
    anneal_steps: int = 1000

    def _check_numbers(self) -> None:
        for name in ("latent_weight", "kl_weight"):
            self._require(getattr(self, name) >= 0, name, "at least 0")
        for name in ("temperature", "final_temperature"):
            self._require(getattr(self, name) > 0, name, "above 0")


@dataclass(frozen=True)
class GMVQDrawsConfig(GMVQConfig):
    """The architecture of a `GMVQDraws`: that of its `GMVQ`, and how many draws of the noise there are.

    **Arguments**

    - `draws`: S.

    **Raises** `ConfigError` as `GMVQConfig`.

    **Example**

    >>> GMVQDrawsConfig(draws=4).draws
    4
    """

    whole: ClassVar[dict[str, int]] = {**GMVQConfig.whole, "draws": 1}

    draws: int = 1
