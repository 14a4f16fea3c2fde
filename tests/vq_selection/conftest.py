"""A prior given by a table of joint log-probabilities: the tests' own, sharing no code with the members."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vq_sources.priors import AutoregressivePrior, IndependentPrior


class TablePrior(AutoregressivePrior):
    """log p(c, z) as a table (C, K_1, …, K_P), or log p(z) as (K_1, …, K_P); counts the probabilities it gives."""

    def __init__(self, table: Tensor, grid: tuple[int, int], classes: bool = False) -> None:
        joint = table if classes else table[None]
        joint = joint.double() - joint.double().flatten().logsumexp(0)
        super().__init__(grid, tuple(joint.shape[1:]), len(joint) if classes else None)
        log_class = joint.flatten(1).logsumexp(1)
        if classes:
            self.class_probs.copy_(log_class.exp())
        self.table = torch.nn.Parameter(joint - log_class.view(-1, *[1] * (joint.ndim - 1)))
        self.evaluations = 0

    @property
    def device(self) -> torch.device:
        return self.table.device

    def _log_prob(self, codes: Tensor, label: Tensor | None) -> Tensor:
        c = torch.zeros(len(codes), dtype=torch.int64) if label is None else label
        return self.table[(c, *codes.T)]

    def _next_log_probs(self, prefix: Tensor, label: Tensor | None) -> Tensor:
        c = torch.zeros(len(prefix), dtype=torch.int64) if label is None else label
        length = prefix.shape[1]
        mass = self.table.flatten(length + 2).logsumexp(-1) if length + 1 < self.positions else self.table
        rows = mass[(c, *prefix.T)]
        self.evaluations += rows.numel()
        return rows - rows.logsumexp(1, keepdim=True)


@pytest.fixture
def table_prior() -> Callable[..., TablePrior]:
    return TablePrior


@pytest.fixture
def uneven(table_prior: Callable[..., TablePrior]) -> TablePrior:
    """Six codes on a 1×2 grid with 2 and 3 symbols, probabilities between 0.05 and 0.35."""
    return table_prior(torch.tensor([[0.35, 0.05, 0.15], [0.10, 0.25, 0.10]]).log(), (1, 2))


@pytest.fixture
def by_class() -> IndependentPrior:
    """Three classes that prefer different codes, on a 2×2 grid with 3 symbols."""
    prior = IndependentPrior((2, 2), 3, num_classes=3)
    codes = torch.randint(3, (60, 4), generator=torch.Generator().manual_seed(5))
    labels = torch.arange(60) % 3
    codes[torch.arange(60), labels] = labels
    prior.fit_counts(codes, labels)
    return prior.double()
