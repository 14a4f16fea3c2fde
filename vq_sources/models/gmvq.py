"""A VQ model whose latent space is a Gaussian mixture, and its decoder with fixed draws of the noise."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from pcircuits.arguments import as_generator, whole_number
from pcircuits.families.interface import AbstractUnivariate
from vq_sources.codes import CodeSet
from vq_sources.errors import ConfigError
from vq_sources.models.config import GMVQConfig, GMVQDrawsConfig
from vq_sources.models.head import LocationScaleHead
from vq_sources.models.interface import AbstractImageVQ, convolutional_encoder, widths
from vq_sources.models.vqvae import convolutional_decoder
from vq_sources.protocols import check_codes
from vq_sources.quantizers import AbstractQuantizer, GaussianMixtureQuantizer, Quantized

__all__ = ["GMVQ", "GMVQDraws", "with_draws"]


class GMVQ(AbstractImageVQ):
    """Gaussian mixture vector quantisation (GM-VQ): a distribution over codes, trained by gradients alone.

    objective = −Σ_v log p(x_v | z) + γ Σ_p E_q ‖ẑ_p − μ_c‖² / (2 σ_z²) + β P KL(q(c) ‖ uniform),

    in nats per image, averaged over the batch; q(c | x), z and the aggregated q(c) are those of
    `vq_sources.quantizers.GaussianMixtureQuantizer`. The last term is of the batch as a whole, in place of
    E KL(q(c | x) ‖ p(c)), which a confident q(c | x) would violate. So this objective (the paper's ALBO) bounds no
    likelihood, and nothing here reports it as if it did: what images cost is −log2 p(x) of the distilled circuit, or the
    bound by an image's own code, with the code paid for.

    Outside of training z = μ_c: `encode` takes the most probable code, `likelihood` decodes means, and a circuit that is
    distilled from the model has one product for each code. `with_draws` keeps the noise instead.

    **Arguments**

    - `config`: the architecture.
    - `generator`: where the initial weights come from; None takes torch's global generator, as modules do.

    **Source**: Yan, Wu, Shah, Liu 2024, *Gaussian Mixture Vector Quantization with Aggregated Categorical Posterior*, arXiv
    2410.10180. What it leaves open (the form of the latent term, σ_c and σ_z) is said in `GaussianMixtureQuantizer`.

    **Example**

    >>> model = GMVQ(GMVQConfig(num_codes=4), torch.Generator().manual_seed(0))
    >>> images = torch.randint(17, (40, 8, 8))
    >>> model.prepare((images,))
    >>> objective, parts = model.loss((images,))
    >>> sorted(parts)
    ['conditional_entropy', 'entropy', 'kl', 'latent', 'nll', 'perplexity', 'temperature']
    """

    config: GMVQConfig
    quantizer: GaussianMixtureQuantizer

    def __init__(self, config: GMVQConfig, generator: torch.Generator | None = None) -> None:
        super().__init__(config, generator)

    def _encoder(self) -> nn.Module:
        return convolutional_encoder(self.config, 2 * self.config.codebook_dim)

    def _parts(self) -> tuple[AbstractQuantizer, nn.Module, nn.Module]:
        config = self.config
        quantizer = GaussianMixtureQuantizer(
            config.codebook_dim,
            config.num_codes,
            config.temperature,
            config.final_temperature,
            config.anneal_steps,
        )
        decoder = convolutional_decoder(config)
        return quantizer, decoder, LocationScaleHead(widths(config)[0], config.data_shape, config.min_std)

    def _decode(self, vectors: Tensor) -> dict[str, Tensor]:
        grid = vectors.transpose(1, 2).reshape(-1, self.config.codebook_dim, *self.grid)  # (N, d, h, w)
        parameters: dict[str, Tensor] = self.head(self.decoder(grid))
        return parameters

    def _added(self, vectors: Tensor, quantized: Quantized) -> tuple[Tensor, dict[str, float]]:
        parts = self.quantizer.parts(vectors)
        latent, kl = (self.config.positions * parts[name] for name in ("latent", "kl"))
        shown = {name: float(value.detach()) for name, value in parts.items()}
        added = self.config.latent_weight * latent + self.config.kl_weight * kl
        return added, {**shown, "temperature": self.quantizer.temperature}


class GMVQDraws(nn.Module):
    """The decoder of a `GMVQ` with S fixed draws of the noise: one more position says which draw it is.

    p(x | z, s) decodes μ_{z_i} + σ_z ε_{s, z_i} at every position i: noise from p(z | c), one draw for each code and s. So
    its codes are (z, s), P + 1 positions of which the last has S codes, and N codes of the model are S · N products.

    **Arguments**

    - `config`: that of the model, with the number of draws.
    - `generator`: of initial weights, which `with_draws` replaces by the model's, and of the noise.
    """

    noise: Tensor
    """(S, K, d)."""

    def __init__(self, config: GMVQDrawsConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.model: GMVQ = GMVQ(config, generator).decoder_alone()
        shape = (config.draws, config.num_codes, config.codebook_dim)
        device = None if generator is None else generator.device
        self.register_buffer("noise", torch.randn(shape, generator=as_generator(generator), device=device))

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """K at each of the P positions, and S."""
        return (*self.model.cardinalities, self.config.draws)

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

    def likelihood(self, codes: Integer[Tensor, "N Q"]) -> dict[str, Float[Tensor, "N D"]]:
        """The parameters of every pixel given codes and the number of a draw, (N, P + 1).

        **Raises** `DataError` for codes of another shape or out of range.
        """
        check_codes(codes, self.cardinalities)
        of_grid, draw = codes[:, :-1].long(), codes[:, -1:].long()
        quantizer = self.model.quantizer
        vectors = quantizer.decode(of_grid) + quantizer.variance.sqrt() * self.noise[draw, of_grid]
        return self.model._decode(vectors)


def with_draws(
    model: GMVQ, codes: CodeSet, draws: int, generator: torch.Generator | None = None
) -> tuple[GMVQDraws, CodeSet]:
    """A decoder with S draws of the noise, and a set of codes with every draw: what `distil` takes for S · N products.

    p(x) = Σ_z p(z) 1/S Σ_s p(x | z, s): log p(z, s) = log p(z) − log S.

    **Arguments**

    - `model`: a fitted model; its decoder is copied.
    - `codes`: N codes of the model's grid.
    - `draws`: S.
    - `generator`: of the noise; None is torch's global one.

    **Raises** `ConfigError` for fewer than one draw.

    **Example**

    >>> from vq_sources import IndependentPrior, distil, selection
    >>> model = GMVQ(GMVQConfig(num_codes=2, hidden=8), torch.Generator().manual_seed(0))
    >>> model.prepare((torch.randint(17, (20, 8, 8), generator=torch.Generator().manual_seed(0)),))
    >>> codes = selection.enumerate(IndependentPrior(model.grid, num_codes=2))
    >>> decoder, every = with_draws(model, codes, 3, torch.Generator().manual_seed(0))
    >>> len(codes), len(every), bool(distil(decoder, every, "bound").check().normalised)
    (16, 48, True)
    """
    draws = whole_number(draws, "draws", 1, ConfigError)
    config = {field.name: getattr(model.config, field.name) for field in fields(model.config)}
    like = model.quantizer.means
    decoder = GMVQDraws(GMVQDrawsConfig(**config, draws=draws), generator).to(like.device, like.dtype)
    decoder.model.load_state_dict(model.decoder_alone().state_dict())
    count, number = len(codes), torch.arange(draws, device=codes.codes.device)
    repeated = codes.codes.repeat_interleave(draws, 0)
    joint = None if codes.log_joint is None else codes.log_joint.repeat_interleave(draws, 0) - math.log(draws)
    every = CodeSet(
        torch.cat([repeated, number.repeat(count)[:, None]], 1),
        codes.log_weights.repeat_interleave(draws) - math.log(draws),
        (1, len(decoder.cardinalities)),
        decoder.cardinalities,
        replace(codes.provenance, asked=codes.provenance.asked * draws, reached=count * draws),
        joint,
    )
    return decoder.train(model.training), every
