"""A VQ-VAE whose decoder is local: each code decides a patch of pixels, and composes with a circuit over codes."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from pcircuits.families import Categorical
from vq_sources.models.config import PatchVQVAEConfig
from vq_sources.models.head import LocationScale, Logits
from vq_sources.models.interface import AbstractImageVQ
from vq_sources.models.vqvae import commitment, quantizer_of
from vq_sources.quantizers import AbstractQuantizer, Quantized

__all__ = ["PatchVQVAE"]


class PatchVQVAE(AbstractImageVQ):
    """Images to a grid of codes by an encoder that sees the whole image; each code to the pixels of its own patch.

    p(x | z) = Π_i Π_{v in patch i} family(x_v; f(e_{z_i}, position i)_v): no code has a say in another patch, so that the
    sum over all K^P codes is a circuit (see `vq_sources.compose`). The network f is one for all positions.

    The loss is that of `VQVAE`.

    **Arguments**

    - `config`: the architecture.
    - `generator`: where the initial weights come from; None takes torch's global generator, as modules do.

    **Example**

    >>> model = PatchVQVAE(PatchVQVAEConfig(grid=(4, 4), num_codes=8), torch.Generator().manual_seed(0))
    >>> model.patches[:2]
    ((0, 1, 8, 9), (2, 3, 10, 11))
    >>> images = torch.randint(17, (40, 8, 8))
    >>> model.prepare((images,))
    >>> model.encode(images).shape, model.likelihood(model.encode(images))["loc"].shape
    (torch.Size([40, 16]), torch.Size([40, 64]))
    """

    config: PatchVQVAEConfig

    def __init__(self, config: PatchVQVAEConfig, generator: torch.Generator | None = None) -> None:
        super().__init__(config, generator)

    @property
    def patches(self) -> tuple[tuple[int, ...], ...]:
        """For each position the columns of its pixels, row by row."""
        return tuple(map(tuple, _patches(self.config).tolist()))

    def _parts(self) -> tuple[AbstractQuantizer, nn.Module, nn.Module]:
        config = self.config
        head: Logits | LocationScale
        if isinstance(config.family, Categorical):
            head = Logits(config.data_shape, config.levels)
        else:
            head = LocationScale(config.data_shape, config.min_std)
        return quantizer_of(config), _PatchDecoder(config, head.outputs), head

    def _decode(self, vectors: Tensor) -> dict[str, Tensor]:
        parameters: dict[str, Tensor] = self.head(self.decoder(vectors))
        return parameters

    def _added(self, vectors: Tensor, quantized: Quantized) -> tuple[Tensor, dict[str, float]]:
        return commitment(self.config, quantized)


class _PatchDecoder(nn.Module):
    """Vectors (N, P, d) to numbers of every pixel, (N, D, outputs), each position by itself."""

    columns: Tensor
    """(D,): where, among the pixels listed patch by patch, each pixel is."""

    def __init__(self, config: PatchVQVAEConfig, outputs: int) -> None:
        super().__init__()
        height, width = config.patch_shape
        self.outputs = outputs
        self.place = nn.Parameter(0.1 * torch.randn(config.positions, config.position_dim))
        self.body = nn.Sequential(
            nn.Linear(config.codebook_dim + config.position_dim, config.decoder_hidden),
            nn.SiLU(),
            nn.Linear(config.decoder_hidden, config.decoder_hidden),
            nn.SiLU(),
            nn.Linear(config.decoder_hidden, height * width * outputs),
        )
        self.register_buffer("columns", _patches(config).flatten().argsort(), persistent=False)

    def forward(self, vectors: Float[Tensor, "N P d"]) -> Float[Tensor, "N D outputs"]:
        place = self.place.expand(len(vectors), -1, -1)
        numbers: Tensor = self.body(torch.cat([vectors, place], -1))  # (N, P, pixels of a patch · outputs)
        return numbers.reshape(len(vectors), len(self.columns), self.outputs)[:, self.columns]


def _patches(config: PatchVQVAEConfig) -> Int64[Tensor, "P d"]:
    """The columns of the pixels of each patch."""
    (rows, columns), (height, width) = config.grid, config.patch_shape
    pixels = torch.arange(rows * height * columns * width).view(rows, height, columns, width)
    return pixels.transpose(1, 2).reshape(rows * columns, height * width)
