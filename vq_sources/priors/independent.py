"""A prior whose positions are independent given the class: the simplest member."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from vq_sources.errors import ConfigError
from vq_sources.plain_numbers import real_number
from vq_sources.priors.interface import AutoregressivePrior
from vq_sources.protocols import check_codes

__all__ = ["IndependentPrior"]


class IndependentPrior(AutoregressivePrior):
    """log p(z | c) = Σ_i log π_{c, i, z_i}; uniform until it is fitted.

    Maximum likelihood is closed form (`fit_counts`), and training by `loss` starts from it.

    **Arguments**

    - `grid`: (H, W).
    - `num_codes`: K for all positions, or one for each.
    - `num_classes`: C, or None.
    - `smoothing`: the pseudo-count of each symbol where training starts.

        >>> prior = IndependentPrior((1, 2), 2)
        >>> prior.fit_counts(torch.tensor([[0, 0], [0, 1]]), smoothing=0.0)
        >>> prior.log_prob(torch.tensor([[0, 1], [1, 1]])).exp().tolist()
        [0.5, 0.0]
    """

    def __init__(
        self,
        grid: tuple[int, int],
        num_codes: int | Sequence[int],
        *,
        num_classes: int | None = None,
        smoothing: float = 1.0,
    ) -> None:
        super().__init__(grid, num_codes, num_classes)
        smoothing = real_number(smoothing, "smoothing")
        if smoothing < 0:
            raise ConfigError(f"smoothing is {smoothing}: a pseudo-count is >= 0")
        self.smoothing = smoothing
        tables, symbols = (1 if num_classes is None else num_classes), max(self.cardinalities)
        exists = torch.arange(symbols) < torch.tensor(self.cardinalities)[:, None]
        # Impossible symbols are -inf for good: softmax gives them probability and gradient zero.
        uniform = torch.zeros(tables, self.positions, symbols).masked_fill(~exists, -torch.inf)
        self.logits = nn.Parameter(uniform)

    @property
    def device(self) -> torch.device:
        return self.logits.device

    @torch.no_grad()
    def fit_counts(
        self, codes: Int64[Tensor, "N P"], labels: Int64[Tensor, " N"] | None = None, *, smoothing: float = 1.0
    ) -> None:
        """Maximum likelihood with a pseudo-count: π_{c,i,s} = (n_{c,i,s} + a) / (n_c + a K_i).

        A class without codes stays uniform. Class probabilities become the frequencies of the labels.
        """
        check_codes(codes, self.cardinalities)
        label = self._labels(labels, len(codes))
        if label is not None:
            super().prepare((codes, label))
        classes = torch.zeros(len(codes), dtype=torch.int64, device=self.device) if label is None else label
        tables, _, symbols = self.logits.shape
        for position, cardinality in enumerate(self.cardinalities):
            flat = classes * symbols + codes[:, position].to(self.device)
            counts = torch.bincount(flat, minlength=tables * symbols).view(tables, symbols)[:, :cardinality].double()
            counts = counts + smoothing
            counts[counts.sum(1) == 0] = 1.0
            self.logits[:, position, :cardinality] = (counts / counts.sum(1, keepdim=True)).log().to(self.logits.dtype)

    def prepare(self, batch: tuple[Tensor, ...]) -> None:
        self.fit_counts(*self._of_training(batch), smoothing=self.smoothing)

    def settings(self) -> dict[str, object]:
        return {**super().settings(), "smoothing": self.smoothing}

    def _tables(self, label: Tensor | None) -> Tensor:
        """log π, (B or 1, P, K); zeros stay -inf and pass no gradient."""
        impossible = self.logits == -torch.inf
        kept = self.logits.double().masked_fill(impossible, torch.finfo(torch.float64).min)
        log_probs = kept.log_softmax(-1).masked_fill(impossible, -torch.inf)
        return log_probs if label is None else log_probs[label]

    def _log_prob(self, codes: Tensor, label: Tensor | None) -> Tensor:
        tables = self._tables(label).expand(len(codes), -1, -1)
        return tables.gather(2, codes[:, :, None])[:, :, 0].sum(1)

    def _next_log_probs(self, prefix: Tensor, label: Tensor | None) -> Tensor:
        position = prefix.shape[1]
        tables = self._tables(label).expand(len(prefix), -1, -1)
        return tables[:, position, : self.cardinalities[position]]
