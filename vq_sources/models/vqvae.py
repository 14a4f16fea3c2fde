"""A convolutional VQ-VAE whose decoder is a source of circuits."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor, nn

from pcircuits.families.interface import AbstractUnivariate
from vq_sources.data.pixels import dequantise, scale
from vq_sources.errors import ConfigError
from vq_sources.models.config import VQVAEConfig
from vq_sources.models.head import LocationScaleHead
from vq_sources.models.scaling import ResidualBlock, downsampling, strides_between
from vq_sources.models.usage import perplexity
from vq_sources.protocols import check_codes, check_images
from vq_sources.quantizers import ema_quantizer
from vq_sources.quantizers.seeding import seeded

__all__ = ["VQVAE"]

_K_MEANS_VECTORS = 2**15
_CHUNK = 1024


class VQVAE(nn.Module):
    """Images to a grid of codes, and codes to a distribution of every pixel.

    loss = −Σ_v log p(x_v | e(z)) + β Σ_p ‖v_p − sg(e_{z_p})‖², in nats per image, averaged over the batch.

    The Normal family is fitted to x = (pixel + u) / levels with fresh u ~ U[0, 1) in training mode (from torch's global
    generator, which the training loop seeds) and with fixed u in eval mode, so that a validation loss is reproducible.
    Discretised families are fitted to the pixels themselves.

    **Arguments**

    - `config`: the architecture.
    - `generator`: where the initial weights come from; None takes torch's global generator, as modules do.

    **Source**: van den Oord, Vinyals, Kavukcuoglu 2017, *Neural Discrete Representation Learning*, equation (3), with
    the codebook by moving averages.

    **Example**

    >>> model = VQVAE(VQVAEConfig(), torch.Generator().manual_seed(0))
    >>> images = torch.randint(17, (40, 8, 8))
    >>> model.prepare((images,))  # the codebook, by k-means of training images
    >>> codes = model.encode(images)
    >>> codes.shape, model.likelihood(codes)["loc"].shape
    (torch.Size([40, 4]), torch.Size([40, 64]))
    """

    def __init__(self, config: VQVAEConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.encoder: nn.Module | None
        with seeded(generator):
            self.encoder = _encoder(config)
            self.quantizer = ema_quantizer(
                config.codebook_dim,
                config.num_codes,
                decay=config.decay,
                dead_code_threshold=config.dead_code_threshold,
            )
            self.decoder = _decoder(config)
            self.head = LocationScaleHead(_widths(config)[0], config.data_shape, config.min_std)

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

    def likelihood(self, codes: Integer[Tensor, "N P"]) -> dict[str, Float[Tensor, "N D"]]:
        """The parameters `loc` and `scale` of every pixel given codes, each (N, D), differentiable in the weights.

        **Raises** `DataError` for codes of another shape or out of range.
        """
        check_codes(codes, self.cardinalities)
        return self._decode(self.quantizer.decode(codes))

    def decoder_alone(self) -> VQVAE:
        """The model without its encoder, sharing its weights: what `likelihood` needs, and what a circuit copies."""
        alone = copy.copy(self)
        alone._modules = {**self._modules, "encoder": None}
        return alone

    def reconstruct(self, images: Integer[Tensor, "B H W"]) -> dict[str, Float[Tensor, "B D"]]:
        """`likelihood(encode(images))`."""
        return self.likelihood(self.encode(images))

    def loss(self, batch: tuple[Tensor, ...]) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """The loss of a batch (images (B, H, W),), and its parts: `nll`, `commitment`, `perplexity` of the batch.

        Gradients recorded in training mode also move the codebook.
        """
        images = batch[0]
        check_images(images, self.data_shape, self.levels)
        quantized = self.quantizer(self._vectors(images))
        parameters = self._decode(quantized.vectors)
        nll = -self.family.log_density(self._observations(images), parameters).sum(-1).mean()
        commitment = quantized.loss * self.config.positions * self.config.codebook_dim
        total = nll + self.config.commitment_weight * commitment
        used = perplexity(quantized.codes, self.config.num_codes)
        return total, {"nll": float(nll.detach()), "commitment": float(commitment.detach()), "perplexity": used}

    def prepare(self, batch: tuple[Tensor, ...]) -> None:
        """Start from the training images: pixel means and deviations in the head, the codebook by k-means.

        Only once: a model that has a codebook is left as it is.

        **Arguments**

        - `batch`: (images (n, H, W),), of the training split only. Draws come from torch's global generator.
        """
        images = batch[0]
        check_images(images, self.data_shape, self.levels)
        if self.quantizer.initialised:
            return
        self.head.initialise(self._unit(images))
        kept = max(1, _K_MEANS_VECTORS // self.config.positions)
        chosen = images[torch.randperm(len(images))[:kept].to(images.device)]
        with torch.no_grad():
            vectors = torch.cat([self._vectors(chunk) for chunk in torch.split(chosen, _CHUNK)])
        self.quantizer.initialise(vectors.flatten(0, 1))

    def _vectors(self, images: Tensor) -> Tensor:
        """(B, H, W) to (B, P, d)."""
        if self.encoder is None:
            raise ConfigError(
                "this is the decoder of a VQVAE alone, and encodes nothing: use the model it was taken from"
            )
        features: Tensor = self.encoder(2 * self._unit(images).unsqueeze(1) - 1)  # (B, d, h, w)
        return features.flatten(2).transpose(1, 2)

    def _decode(self, vectors: Tensor) -> dict[str, Tensor]:
        """(N, P, d) to parameters, each (N, D)."""
        grid = vectors.transpose(1, 2).reshape(-1, self.config.codebook_dim, *self.grid)  # (N, d, h, w)
        parameters: dict[str, Tensor] = self.head(self.decoder(grid))
        return parameters

    def _unit(self, images: Tensor) -> Tensor:
        return scale(images, self.levels, self.head.mean.dtype)

    def _observations(self, images: Tensor) -> Tensor:
        """What the family is a distribution of, (B, D): pixels, or (pixel + u) / levels for a density."""
        pixels, dtype = images.flatten(1), self.head.mean.dtype
        if self.family.base == "counting":
            return pixels.to(dtype)
        generator = torch.default_generator if self.training else torch.Generator().manual_seed(0)
        return dequantise(pixels, self.levels, generator, dtype)


def _widths(config: VQVAEConfig) -> list[int]:
    """Channels at each resolution, from the image to the grid."""
    steps = len(strides_between(config.data_shape, config.grid))
    return [max(config.hidden_at_image, config.hidden >> (steps - level)) for level in range(steps + 1)]


def _encoder(config: VQVAEConfig) -> nn.Sequential:
    widths = _widths(config)
    layers: list[nn.Module] = [nn.Conv2d(1, widths[0], 3, padding=1), nn.SiLU()]
    for level, stride in enumerate(strides_between(config.data_shape, config.grid)):
        layers.append(downsampling(widths[level], widths[level + 1], stride))
        layers += [ResidualBlock(widths[level + 1]) for _ in range(config.blocks)]
    layers += [nn.GroupNorm(1, widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], config.codebook_dim, 1)]
    return nn.Sequential(*layers)


def _decoder(config: VQVAEConfig) -> nn.Sequential:
    widths = _widths(config)
    layers: list[nn.Module] = [nn.Conv2d(config.codebook_dim, widths[-1], 3, padding=1)]
    strides = strides_between(config.data_shape, config.grid)
    for level, stride in reversed(list(enumerate(strides))):
        layers += [ResidualBlock(widths[level + 1]) for _ in range(config.blocks)]
        layers.append(nn.ConvTranspose2d(widths[level + 1], widths[level], stride, stride))
    return nn.Sequential(*layers)
