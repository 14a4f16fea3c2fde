"""Every code there is: the exact model."""

from __future__ import annotations

import math

import torch
from jaxtyping import Int64
from torch import Tensor

from vq_sources.codes import CodeSet
from vq_sources.errors import SelectionError
from vq_sources.priors import AutoregressivePrior
from vq_sources.selection.shared import account, best_first, check_count

__all__ = ["all_codes", "enumerate"]


@torch.no_grad()
def enumerate(
    prior: AutoregressivePrior, n: int | None = None, *, generator: torch.Generator | None = None, limit: int = 2**22
) -> CodeSet:
    """All ∏ K_i codes, the most probable first; or the n most probable of them, exactly.

    **Arguments**

    - `prior`: with classes or without; weights are log p(z) under its class marginal.
    - `n`: None for every code.
    - `generator`: unused, nothing is random.
    - `limit`: the number of codes that may be evaluated.

    **Raises** `SelectionError` where there are more codes than `limit`, or fewer than n.

        >>> from vq_sources.priors import IndependentPrior
        >>> codes = enumerate(IndependentPrior((2, 2), 3))
        >>> len(codes), round(codes.covered_mass, 6)
        (81, 1.0)
    """
    total = math.prod(prior.cardinalities)
    asked = total if n is None else n
    check_count(prior, asked)
    if total > limit:
        raise SelectionError(
            f"enumerating a grid {prior.grid[0]} by {prior.grid[1]} with {max(prior.cardinalities)} symbols means "
            f"{total:,} codes, more than the limit of {limit:,}: select with beam, stochastic_beam or ancestral, "
            "or raise limit="
        )
    codes = all_codes(prior).to(prior.device)
    every = best_first(account(prior, prior.marginal(), codes, asked, "enumerate", None))
    return every if n is None else every.prefix(n)


def all_codes(prior: AutoregressivePrior) -> Int64[Tensor, "N P"]:
    """Every code in raster order, the last position fastest, (∏ K_i, P)."""
    number = torch.arange(math.prod(prior.cardinalities))
    columns = []
    for cardinality in reversed(prior.cardinalities):
        columns.append(number % cardinality)
        number = number // cardinality
    return torch.stack(columns[::-1], 1)
