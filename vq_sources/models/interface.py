"""What all VQ models of images share: an encoder to a grid, a quantiser, and a decoder that is a source of circuits."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor, nn

from pcircuits.families.interface import AbstractUnivariate
from vq_sources.data.pixels import dequantise, scale
from vq_sources.errors import ConfigError
from vq_sources.models.config import AbstractImageConfig
from vq_sources.models.scaling import ResidualBlock, downsampling, strides_between
from vq_sources.models.usage import perplexity
from vq_sources.protocols import check_codes, check_images
from vq_sources.quantizers import AbstractQuantizer, Quantized
from vq_sources.quantizers.seeding import seeded

__all__ = ["AbstractImageVQ", "convolutional_encoder", "widths"]

_K_MEANS_VECTORS = 2**15
_CHUNK = 1024


class AbstractImageVQ(nn.Module, ABC):
    """Images to a grid of codes, and codes to a distribution of every pixel.

    The Normal family is fitted to x = (pixel + u) / levels with fresh u ~ U[0, 1) in training mode (from torch's global
    generator, which the training loop seeds) and with fixed u in eval mode, so that a validation loss is reproducible.
    Families over the levels are fitted to the pixels themselves.

    Members make a quantiser, a decoder and a head (`_parts`), say how vectors are decoded (`_decode`), and what is added to
    the negative log-likelihood (`_added`).

    **Arguments**

    - `config`: the architecture.
    - `generator`: where the initial weights come from; None takes torch's global generator, as modules do.
    """

    config: AbstractImageConfig
    encoder: nn.Module | None
    quantizer: AbstractQuantizer
    decoder: nn.Module
    head: nn.Module

    def __init__(self, config: AbstractImageConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        with seeded(generator):
            self.encoder = self._encoder()
            self.quantizer, self.decoder, self.head = self._parts()

    def _encoder(self) -> nn.Module:
        """Images (B, 1, H, W) in [−1, 1] to what the quantiser takes, (B, d, h, w)."""
        return convolutional_encoder(self.config, self.config.codebook_dim)

    @abstractmethod
    def _parts(self) -> tuple[AbstractQuantizer, nn.Module, nn.Module]:
        """The quantiser, the decoder and the head, new."""

    @abstractmethod
    def _decode(self, vectors: Float[Tensor, "N P d"]) -> dict[str, Tensor]:
        """Vectors of codes to parameters of the family, each (N, D, *event)."""

    @abstractmethod
    def _added(self, vectors: Float[Tensor, "B P d"], quantized: Quantized) -> tuple[Tensor, dict[str, float]]:
        """What the loss adds to the NLL, in nats for each image, and its parts."""

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w), the shape of the codes."""
        return self.config.grid

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """K at each of the P positions."""
        return (self.config.num_codes,) * self.config.positions

    @property
    def family(self) -> AbstractUnivariate:
        """The family of every pixel."""
        return self.config.family

    @property
    def data_shape(self) -> tuple[int, int]:
        """(H, W), the shape of the images."""
        return self.config.data_shape

    @property
    def levels(self) -> int:
        """L: pixels are integers 0..L−1."""
        return self.config.levels

    def encode(self, images: Integer[Tensor, "B H W"]) -> Int64[Tensor, "B P"]:
        """The codes of images, (B, P) int64, row-major; the codebook stays as it is, in training mode too.

        **Raises** `DataError` for images of another shape or with values outside 0..levels−1.
        """
        check_images(images, self.data_shape, self.levels)
        with torch.no_grad():
            return self.quantizer.encode(self._vectors(images))

    def likelihood(self, codes: Integer[Tensor, "N P"]) -> dict[str, Float[Tensor, "N D ..."]]:
        """The family's parameters of every pixel given codes, each (N, D, *event), differentiable in the weights.

        **Raises** `DataError` for codes of another shape or out of range.
        """
        check_codes(codes, self.cardinalities)
        return self._decode(self.quantizer.decode(codes))

    def decoder_alone(self) -> Any:
        """The model without its encoder, sharing its weights: what `likelihood` needs, and what a circuit copies."""
        alone = copy.copy(self)
        alone._modules = {**self._modules, "encoder": None}
        return alone

    def reconstruct(self, images: Integer[Tensor, "B H W"]) -> dict[str, Float[Tensor, "B D ..."]]:
        """`likelihood(encode(images))`."""
        return self.likelihood(self.encode(images))

    def loss(self, batch: tuple[Tensor, ...]) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """The loss of a batch (images (B, H, W),), and its parts: `nll`, what is added to it, `perplexity` of the batch.

        Gradients recorded in training mode also move the codebook.
        """
        images = batch[0]
        check_images(images, self.data_shape, self.levels)
        vectors = self._vectors(images)
        quantized = self.quantizer(vectors)
        parameters = self._decode(quantized.vectors)
        nll = -self.family.log_density(self._observations(images), parameters).sum(-1).mean()
        added, parts = self._added(vectors, quantized)
        used = perplexity(quantized.codes, self.config.num_codes)
        return nll + added, {"nll": float(nll.detach()), **parts, "perplexity": used}

    def prepare(self, batch: tuple[Tensor, ...]) -> None:
        """Start from the training images: the statistics of pixels in the head, the codebook by k-means.

        Only once: a model that has a codebook is left as it is.

        **Arguments**

        - `batch`: (images (n, H, W),), of the training split only. Draws come from torch's global generator.
        """
        images = batch[0]
        check_images(images, self.data_shape, self.levels)
        if self.quantizer.initialised:
            return
        self.head.initialise(images, self.levels)  # type: ignore[operator]
        kept = max(1, _K_MEANS_VECTORS // self.config.positions)
        chosen = images[torch.randperm(len(images))[:kept].to(images.device)]
        with torch.no_grad():
            vectors = torch.cat([self._vectors(chunk) for chunk in torch.split(chosen, _CHUNK)])
        self.quantizer.initialise(vectors.flatten(0, 1))

    def _vectors(self, images: Tensor) -> Tensor:
        """(B, H, W) to (B, P, d)."""
        if self.encoder is None:
            raise ConfigError(
                f"this is the decoder of a {type(self).__name__} alone, and encodes nothing: use the model it was taken from"
            )
        features: Tensor = self.encoder(2 * scale(images, self.levels, self._dtype).unsqueeze(1) - 1)  # (B, d, h, w)
        return features.flatten(2).transpose(1, 2)

    def _observations(self, images: Tensor) -> Tensor:
        """What the family is a distribution of, (B, D): pixels, or (pixel + u) / levels for a density."""
        pixels = images.flatten(1)
        if self.family.base == "counting":
            return pixels.to(self._dtype)
        generator = torch.default_generator if self.training else torch.Generator().manual_seed(0)
        return dequantise(pixels, self.levels, generator, self._dtype)

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.head.parameters()).dtype


def widths(config: AbstractImageConfig) -> list[int]:
    """Channels at each resolution, from the image to the grid."""
    steps = len(strides_between(config.data_shape, config.grid))
    return [max(config.hidden_at_image, config.hidden >> (steps - level)) for level in range(steps + 1)]


def convolutional_encoder(config: AbstractImageConfig, outputs: int) -> nn.Sequential:
    """Strided convolutions and residual blocks from an image (B, 1, H, W) to numbers (B, outputs, h, w)."""
    channels = widths(config)
    layers: list[nn.Module] = [nn.Conv2d(1, channels[0], 3, padding=1), nn.SiLU()]
    for level, stride in enumerate(strides_between(config.data_shape, config.grid)):
        layers.append(downsampling(channels[level], channels[level + 1], stride))
        layers += [ResidualBlock(channels[level + 1]) for _ in range(config.blocks)]
    layers += [nn.GroupNorm(1, channels[-1]), nn.SiLU(), nn.Conv2d(channels[-1], outputs, 1)]
    return nn.Sequential(*layers)
