"""Every code there is: the exact model."""

from __future__ import annotations

import math

import torch
from jaxtyping import Int64
from torch import Tensor

from vq_sources.codes import CodeSet
from vq_sources.errors import SelectionError
from vq_sources.priors import AutoregressivePrior
from vq_sources.selection.shared import Found, account, check_agreement, check_count

__all__ = ["all_codes", "enumerate"]

BLOCK = 2**17
"""How many prefixes are made at a time."""


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
    marginal = prior.marginal()
    found = _every(marginal).best_first()
    check_agreement(prior, marginal, found)
    every = account(prior, found, asked, "enumerate", None)
    return every if n is None else every.prefix(n)


def _every(prior: AutoregressivePrior) -> Found:
    """All codes in raster order, by the tree of prefixes: a prefix is evaluated once for all the codes it begins.

    The tree is walked depth first in blocks of prefixes, so that what is live fits a bound.
    """
    waiting = [(prior.start(1), torch.zeros(1, dtype=torch.float64, device=prior.device))]
    found = []
    while waiting:
        state, running = waiting.pop()
        if state.prefix.shape[1] == prior.positions:
            found.append(Found.at(state, running))
            continue
        if len(running) > 1 and len(running) * prior.cardinalities[state.prefix.shape[1]] > BLOCK:
            halves = torch.arange(len(running), device=prior.device).chunk(2)
            waiting.extend((prior.reorder(state, half), running[half]) for half in reversed(halves))
            continue
        scores = running[:, None] + prior.next_from(state)
        rows, symbols = torch.cartesian_prod(*(torch.arange(size, device=prior.device) for size in scores.shape)).T
        waiting.append((prior.extend(prior.reorder(state, rows), symbols), scores.flatten()))
    return Found.together(found)


def all_codes(prior: AutoregressivePrior) -> Int64[Tensor, "N P"]:
    """Every code in raster order, the last position fastest, (∏ K_i, P)."""
    number = torch.arange(math.prod(prior.cardinalities))
    columns = []
    for cardinality in reversed(prior.cardinalities):
        columns.append(number % cardinality)
        number = number // cardinality
    return torch.stack(columns[::-1], 1)
