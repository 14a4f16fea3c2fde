"""The codes that data have: by frequency, or in the order of their appearance."""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor

from vq_sources.codes import CodeSet, code_keys, first_occurrences
from vq_sources.priors import AutoregressivePrior
from vq_sources.protocols import check_codes
from vq_sources.selection.shared import Found, account, check_count

__all__ = ["encoded", "encoded_in_order"]


@torch.no_grad()
def encoded(
    prior: AutoregressivePrior, n: int, codes: Int64[Tensor, "M P"], *, generator: torch.Generator | None = None
) -> CodeSet:
    """The n most frequent of the data's codes; equally frequent ones in the order of their appearance.

    **Arguments**

    - `prior`: gives the weights log p(z).
    - `n`: how many distinct codes; where the data have fewer, `provenance.reached` says so.
    - `codes`: the data's, (M, P), repeats and all.
    - `generator`: unused, nothing is random.

    **Raises** `SelectionError` where the grid has fewer than n codes, `DataError` for codes that do not fit it.

        >>> from vq_sources.priors import IndependentPrior
        >>> data = torch.tensor([[0, 1], [1, 1], [0, 0], [1, 1]])
        >>> encoded(IndependentPrior((1, 2), 2), 2, data).codes.tolist()
        [[1, 1], [0, 1]]
    """
    rows, counts = _distinct(prior, n, codes)
    order = counts.sort(descending=True, stable=True).indices
    return _account(prior, n, codes, rows[order], "encoded")


@torch.no_grad()
def encoded_in_order(
    prior: AutoregressivePrior, n: int, codes: Int64[Tensor, "M P"], *, generator: torch.Generator | None = None
) -> CodeSet:
    """The first n distinct codes of the data, in the order of their appearance; arguments as for `encoded`.

    >>> from vq_sources.priors import IndependentPrior
    >>> data = torch.tensor([[0, 1], [1, 1], [0, 0], [1, 1]])
    >>> encoded_in_order(IndependentPrior((1, 2), 2), 2, data).codes.tolist()
    [[0, 1], [1, 1]]
    """
    rows, _ = _distinct(prior, n, codes)
    return _account(prior, n, codes, rows, "encoded_in_order")


def _distinct(prior: AutoregressivePrior, n: int, codes: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of each code's first appearance, and how often it is there."""
    check_count(prior, n)
    check_codes(codes, prior.cardinalities)
    keys = code_keys(codes, prior.cardinalities)
    rows = first_occurrences(keys)
    distinct, counts = torch.unique(keys, return_counts=True)
    return rows, counts[torch.searchsorted(distinct, keys[rows])]


def _account(prior: AutoregressivePrior, n: int, codes: Tensor, rows: Tensor, method: str) -> CodeSet:
    chosen = codes[rows[:n]].to(prior.device)
    found = Found.evaluated(prior.marginal(), chosen)
    return account(prior, found, n, method, None, {"data": len(codes), "distinct": len(rows)})
