"""Quantisation by a Gaussian mixture: a distribution over codes for each vector, and noise about their means."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Integer
from torch import Tensor, nn

from vq_sources.errors import QuantizerError
from vq_sources.priors.gumbel import gumbel
from vq_sources.quantizers.interface import AbstractQuantizer, Quantized

__all__ = ["GaussianMixtureQuantizer"]

_LEAST_WEIGHT = 1e-3
"""No dimension's weight falls below this: the codes of a vector that weighs nothing would be a matter of rounding."""


class GaussianMixtureQuantizer(AbstractQuantizer):
    """Vectors to codes by q(c | x) ∝ exp(−½ Σ_j w_j (ẑ_j − μ_cj)² / σ_z²), with means μ_c that are trained by gradients.

    An encoder gives 2d numbers at each position: the proxy latent ẑ, and what the weights w are the softplus of. Where these
    are 1, q is the posterior of ẑ under the mixture itself, of which σ_z is the standard deviation. In training,
    c is relaxed by a Gumbel-softmax y of temperature τ, and z = Σ_c y_c (μ_c + σ_c(x) ε) with ε ~ N(0, I) and

    σ_c²(x) = σ_z² s / (s + σ_z²),  s = ‖ẑ − μ_c‖² / d,

    so that noise grows with the distance and never exceeds that of p(z | c) = N(μ_c, σ_z² I). Otherwise c is the most
    probable code, and z = μ_c. τ falls geometrically from `temperature` to `final_temperature` over `anneal_steps` training
    steps and stays there. The means start from k-means of the proxy latents, and σ_z² is then the mean of s.

    The `parts` of a batch are, each for a vector and in nats, on average over the batch:

    - `latent`: E_q ‖ẑ − μ_c‖² / (2 σ_z²), which is also the `loss` of a forward pass;
    - `kl`: KL(q(c) ‖ uniform) = log K − H(q(c)), with q(c) the mean of q(c | x) over all vectors of the batch;
    - `entropy` and `conditional_entropy`: H(q(c)) and E H(q(c | x)). By concavity the first is the larger.

    **Arguments**

    - `dim`: d, of the means.
    - `num_codes`: K.
    - `temperature`, `final_temperature`, `anneal_steps`: τ at the first step, at the last, and how many steps are between.

    **Source**: Yan, Wu, Shah, Liu 2024, *Gaussian Mixture Vector Quantization with Aggregated Categorical Posterior*, arXiv
    2410.10180. The form of σ_c, its bound, σ_z and the latent term are ours: the paper leaves them open.

    **Example**

    >>> quantizer = GaussianMixtureQuantizer(dim=2, num_codes=3)
    >>> quantizer.initialise(torch.randn(50, 4, generator=torch.Generator().manual_seed(0)), torch.Generator().manual_seed(0))
    >>> codes = quantizer.encode(torch.zeros(1, 6, 4))
    >>> codes.shape, quantizer.decode(codes).shape
    (torch.Size([1, 6]), torch.Size([1, 6, 2]))
    """

    variance: Tensor
    """σ_z², a number; 0 until there is a codebook."""
    steps: Tensor
    """How many training steps there were."""

    def __init__(
        self,
        dim: int,
        num_codes: int,
        temperature: float = 2.0,
        final_temperature: float = 0.1,
        anneal_steps: int = 10_000,
    ) -> None:
        super().__init__()
        self.num_codes, self.dim = num_codes, 2 * dim
        self.start, self.end, self.anneal_steps = temperature, final_temperature, anneal_steps
        self.means = nn.Parameter(torch.zeros(num_codes, dim))
        self.register_buffer("variance", torch.zeros(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def initialised(self) -> bool:
        return bool(self.variance > 0)

    @property
    def temperature(self) -> float:
        """τ at this step."""
        passed = min(1.0, int(self.steps) / max(1, self.anneal_steps))
        return float(self.start * (self.end / self.start) ** passed)

    @torch.no_grad()
    def initialise(self, vectors: Float[Tensor, "n d"], generator: torch.Generator | None = None) -> None:
        if self.initialised:
            return
        if len(vectors) < self.num_codes:
            raise QuantizerError(
                f"cannot make a codebook of {self.num_codes} codes from {len(vectors)} training vectors: "
                f"give more images, or lower num_codes to at most {len(vectors)}"
            )
        from sklearn.cluster import KMeans

        proxy = vectors[:, : self.dim // 2].detach().cpu().double()
        device = "cpu" if generator is None else generator.device
        seed = int(torch.randint(2**31, (), generator=generator, device=device))
        found = KMeans(self.num_codes, n_init=1, random_state=seed).fit(proxy.numpy())
        self.means.copy_(torch.as_tensor(found.cluster_centers_))
        spread = found.inertia_ / proxy.numel()
        self.variance.fill_(spread if spread > 0 else 1.0)  # as many distinct vectors as codes: any unit will do

    def log_posterior(self, vectors: Float[Tensor, "B P d"]) -> Float[Tensor, "B P K"]:
        """log q(c | x) of each vector."""
        proxy, weights = self._proxy_and_weights(vectors)
        # Σ_j w_j (ẑ_j − μ_j)², multiplied out; what no code changes cancels in the softmax.
        logits = (weights * proxy) @ self.means.T - 0.5 * weights @ (self.means**2).T
        return (logits / self.variance).log_softmax(-1)

    def parts(self, vectors: Float[Tensor, "B P d"]) -> dict[str, Float[Tensor, ""]]:
        """The scalars `latent`, `kl`, `entropy` and `conditional_entropy` of a batch of vectors."""
        self._require_codebook()
        log_q = self.log_posterior(vectors)
        q = log_q.exp()
        entropy = torch.special.entr(q.flatten(0, -2).mean(0)).sum()
        return {
            "latent": (q * self._squared_distances(vectors)).sum(-1).mean() / (2 * self.variance),
            "kl": math.log(self.num_codes) - entropy,
            "entropy": entropy,
            "conditional_entropy": -(q * log_q).sum(-1).mean(),
        }

    def forward(self, vectors: Float[Tensor, "B P d"]) -> Quantized:
        self._require_codebook()
        log_q, latent = self.log_posterior(vectors), self.parts(vectors)["latent"]
        codes = log_q.argmax(-1)
        if not (self.training and torch.is_grad_enabled()):
            return Quantized(self.decode(codes), codes, latent)
        relaxed = ((log_q + gumbel(log_q.shape, None, log_q.device).to(log_q)) / self.temperature).softmax(-1)
        self.steps += 1
        squared = self._squared_distances(vectors)
        share = squared / (squared + self.variance * self.means.shape[1])  # s / (s + σ_z²)
        deviation = (relaxed * (self.variance * share.clamp(min=1e-12)).sqrt()).sum(-1, keepdim=True)
        mean = relaxed @ self.means
        return Quantized(mean + deviation * torch.randn_like(mean), codes, latent)

    def encode(self, vectors: Float[Tensor, "B P d"]) -> Int64[Tensor, "B P"]:
        self._require_codebook()
        with torch.no_grad():
            return self.log_posterior(vectors).argmax(-1)

    def decode(self, codes: Integer[Tensor, "B P"]) -> Float[Tensor, "B P d"]:
        self._require_codebook()
        return self.means[codes.long()]

    def _squared_distances(self, vectors: Tensor) -> Tensor:
        """‖ẑ − μ_c‖² of each vector and code, (B, P, K)."""
        proxy, _ = self._proxy_and_weights(vectors)
        means = self.means.expand(len(proxy), -1, -1)
        return torch.cdist(proxy, means, compute_mode="donot_use_mm_for_euclid_dist") ** 2

    def _proxy_and_weights(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """ẑ, and w: 1 where the encoder gives 0."""
        proxy, raw = vectors.chunk(2, -1)
        return proxy, F.softplus(raw + math.log(math.e - 1)) + _LEAST_WEIGHT

    def _require_codebook(self) -> None:
        if not self.initialised:
            raise QuantizerError(
                "the codebook is still empty: train the model (vq_sources.fit), load trained weights, "
                "or call prepare((images,)) with the training images"
            )
