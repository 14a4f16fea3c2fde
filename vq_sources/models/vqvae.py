"""A convolutional VQ-VAE whose decoder is a source of circuits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vq_sources.models.config import AbstractImageConfig, VQVAEConfig
from vq_sources.models.head import LocationScaleHead
from vq_sources.models.interface import AbstractImageVQ, widths
from vq_sources.models.scaling import ResidualBlock, strides_between
from vq_sources.quantizers import AbstractQuantizer, Quantized, ema_quantizer

__all__ = ["VQVAE", "commitment", "convolutional_decoder", "quantizer_of"]


class VQVAE(AbstractImageVQ):
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

    config: VQVAEConfig

    def __init__(self, config: VQVAEConfig, generator: torch.Generator | None = None) -> None:
        super().__init__(config, generator)

    def _parts(self) -> tuple[AbstractQuantizer, nn.Module, nn.Module]:
        config = self.config
        quantizer, decoder = quantizer_of(config), convolutional_decoder(config)
        return quantizer, decoder, LocationScaleHead(widths(config)[0], config.data_shape, config.min_std)

    def _decode(self, vectors: Tensor) -> dict[str, Tensor]:
        grid = vectors.transpose(1, 2).reshape(-1, self.config.codebook_dim, *self.grid)  # (N, d, h, w)
        parameters: dict[str, Tensor] = self.head(self.decoder(grid))
        return parameters

    def _added(self, vectors: Tensor, quantized: Quantized) -> tuple[Tensor, dict[str, float]]:
        return commitment(self.config, quantized)


def quantizer_of(config: VQVAEConfig) -> AbstractQuantizer:
    """The quantiser that a config describes."""
    return ema_quantizer(
        config.codebook_dim, config.num_codes, decay=config.decay, dead_code_threshold=config.dead_code_threshold
    )


def commitment(config: VQVAEConfig, quantized: Quantized) -> tuple[Tensor, dict[str, float]]:
    """β Σ_p ‖v_p − sg(e_{z_p})‖² of an image, on average; the part that is shown is without β."""
    distance = quantized.loss * config.positions * config.codebook_dim
    return config.commitment_weight * distance, {"commitment": float(distance.detach())}


def convolutional_decoder(config: AbstractImageConfig) -> nn.Sequential:
    """Residual blocks and transposed convolutions from vectors (N, d, h, w) to features (N, C, H, W)."""
    channels = widths(config)
    layers: list[nn.Module] = [nn.Conv2d(config.codebook_dim, channels[-1], 3, padding=1)]
    strides = strides_between(config.data_shape, config.grid)
    for level, stride in reversed(list(enumerate(strides))):
        layers += [ResidualBlock(channels[level + 1]) for _ in range(config.blocks)]
        layers.append(nn.ConvTranspose2d(channels[level + 1], channels[level], stride, stride))
    return nn.Sequential(*layers)
