"""The frequencies of the training codes, as a prior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from vq_sources.errors import ConfigError, SelectionError
from vq_sources.plain_numbers import real_number
from vq_sources.priors.interface import AutoregressivePrior
from vq_sources.protocols import check_codes

__all__ = ["EmpiricalPrior"]


class EmpiricalPrior(AutoregressivePrior):
    """p(z | c) = (1 - ε) n_{c,z} / n_c + ε ∏_i 1/K_i: how often each whole code was seen, and a uniform share.

    A share ε is additive smoothing over all ∏ K_i codes, with pseudo-count ε n_c / ((1 - ε) ∏ K_i) each. It is 0 by
    default: codes that were not seen have probability zero. A class without codes is uniform.
    Next-symbol probabilities come from the counted tree of prefixes: the distinct codes in lexicographic order, where
    the codes that share a prefix are neighbours.

    There is nothing to train: `fit_counts` (or `prepare`) is all.

    **Arguments**

    - `grid`: (H, W).
    - `num_codes`: K for all positions, or one for each.
    - `num_classes`: C, or None.
    - `uniform_share`: ε in [0, 1].

        >>> prior = EmpiricalPrior((1, 2), 2)
        >>> prior.fit_counts(torch.tensor([[0, 0], [0, 1], [0, 1], [1, 1]]))
        >>> prior.log_prob(torch.tensor([[0, 1], [1, 0]])).exp().tolist()
        [0.5, 0.0]
        >>> prior.next_log_probs(torch.tensor([[0]])).exp().mul(3).round(decimals=6).tolist()
        [[1.0, 2.0]]
    """

    keys: Tensor
    """(P, M): (node of the prefix before position t) · K_t + symbol, of the M distinct codes in lexicographic order."""
    nodes: Tensor
    """(P + 1, M): the number, among the distinct prefixes of length t, of each distinct code's."""
    cumulative: Tensor
    """(C, M + 1): how many training codes of a class come before each distinct code."""

    def __init__(
        self,
        grid: tuple[int, int],
        num_codes: int | Sequence[int],
        *,
        num_classes: int | None = None,
        uniform_share: float = 0.0,
    ) -> None:
        super().__init__(grid, num_codes, num_classes)
        uniform_share = real_number(uniform_share, "uniform_share")
        if not 0 <= uniform_share <= 1:
            raise ConfigError(f"uniform_share is {uniform_share}: a share is in [0, 1]")
        self.uniform_share = uniform_share
        tables = 1 if num_classes is None else num_classes
        self.register_buffer("keys", torch.empty((self.positions, 0), dtype=torch.int64))
        self.register_buffer("nodes", torch.empty((self.positions + 1, 0), dtype=torch.int64))
        self.register_buffer("cumulative", torch.zeros((tables, 1), dtype=torch.int64))

    @property
    def device(self) -> torch.device:
        return self.keys.device

    def fit_counts(self, codes: Int64[Tensor, "N P"], labels: Int64[Tensor, " N"] | None = None) -> None:
        """Count the codes of each class; class probabilities become the frequencies of the labels."""
        check_codes(codes, self.cardinalities)
        label = self._labels(labels, len(codes))
        if label is not None:
            super().prepare((codes, label))
        distinct, inverse = torch.unique(codes.to(self.device), dim=0, return_inverse=True)
        self.keys, self.nodes = _tree(distinct, self.cardinalities)
        classes, m = len(self.cumulative), len(distinct)
        flat = inverse if label is None else label * m + inverse
        counts = torch.bincount(flat, minlength=classes * m).view(classes, m)
        self.cumulative = torch.cat([torch.zeros_like(counts[:, :1]), counts.cumsum(1)], 1)

    def prepare(self, batch: tuple[Tensor, ...]) -> None:
        self.fit_counts(*self._of_training(batch))

    def settings(self) -> dict[str, object]:
        return {**super().settings(), "uniform_share": self.uniform_share}

    def _log_prob(self, codes: Tensor, label: Tensor | None) -> Tensor:
        self._check_fitted()
        *path, last = codes.T
        node = self._walk(path, len(codes))
        return self._log_mass(self.positions - 1, node, last[:, None], label)[:, 0]

    def _next_log_probs(self, prefix: Tensor, label: Tensor | None) -> Tensor:
        self._check_fitted()
        position = prefix.shape[1]
        symbols = torch.arange(self.cardinalities[position], device=self.device).expand(len(prefix), -1)
        log_mass = self._log_mass(position, self._walk(list(prefix.T), len(prefix)), symbols, label)
        total = log_mass.logsumexp(1, keepdim=True)
        return torch.where(total == -torch.inf, -math.log(self.cardinalities[position]), log_mass - total)

    def _walk(self, symbols: Sequence[Tensor], batch: int) -> Tensor:
        """The node of each prefix, (B,); -1 where it was never seen."""
        node = torch.zeros(batch, dtype=torch.int64, device=self.device)
        for position, symbol in enumerate(symbols):
            first, past = self._span(position, node[:, None], symbol[:, None])
            child = self.nodes[position + 1][first[:, 0].clamp_max(self.nodes.shape[1] - 1)]
            node = torch.where((past > first)[:, 0], child, -1)
        return node

    def _span(self, position: int, node: Tensor, symbols: Tensor) -> tuple[Tensor, Tensor]:
        """The range [first, past) of distinct codes below a node's children, (B, S) each; empty for node -1."""
        wanted = node * self.cardinalities[position] + symbols
        keys = self.keys[position]
        return torch.searchsorted(keys, wanted), torch.searchsorted(keys, wanted, right=True)

    def _log_mass(self, position: int, node: Tensor, symbols: Tensor, label: Tensor | None) -> Tensor:
        """log p(prefix and symbol), (B, S)."""
        first, past = self._span(position, node[:, None], symbols)
        table = torch.zeros_like(node) if label is None else label
        counts = (self.cumulative[table[:, None], past] - self.cumulative[table[:, None], first]).double()
        total = self.cumulative[table, -1][:, None].double()
        share = torch.where(total == 0, 1.0, torch.full_like(total, self.uniform_share))
        uniform = -sum(math.log(k) for k in self.cardinalities[: position + 1])
        seen = (1 - share).log() + (counts / total.clamp_min(1)).log()
        return torch.logaddexp(seen, share.log() + uniform)

    def _check_fitted(self) -> None:
        if self.keys.shape[1] == 0:
            raise SelectionError("this EmpiricalPrior has counted no codes yet: call fit_counts(codes, labels) first")

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # The tables are as long as there are distinct codes, which the stored state alone knows.
        for name in ("keys", "nodes", "cumulative"):
            stored, own = state_dict.get(prefix + name), getattr(self, name)
            if isinstance(stored, Tensor) and stored.ndim == 2 and len(stored) == len(own):
                setattr(self, name, own.new_zeros(stored.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _tree(distinct: Tensor, cardinalities: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Keys (P, M) and nodes (P + 1, M) of distinct codes (M, P) in lexicographic order."""
    nodes, keys = [torch.zeros(len(distinct), dtype=torch.int64, device=distinct.device)], []
    for position, cardinality in enumerate(cardinalities):
        keys.append(nodes[-1] * cardinality + distinct[:, position])
        nodes.append(torch.cat([nodes[0][:1], keys[-1].diff().ne(0).long().cumsum(0)]))
    return torch.stack(keys), torch.stack(nodes)
