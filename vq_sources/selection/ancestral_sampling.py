"""Distinct codes in the order in which ancestral samples first show them."""

from __future__ import annotations

import torch

from vq_sources.codes import CodeSet, code_keys, first_occurrences
from vq_sources.errors import SelectionError
from vq_sources.priors import AutoregressivePrior
from vq_sources.selection.shared import Found, account, check_count

__all__ = ["ancestral"]

SMALLEST_ROUND = 64


@torch.no_grad()
def ancestral(
    prior: AutoregressivePrior, n: int, *, generator: torch.Generator | None = None, max_draws: int | None = None
) -> CodeSet:
    """Draw z ~ p(z) until n distinct codes are there, or the draws are used up (DMRS).

    The order of first appearance is a sample without replacement, p(z_1) · p(z_2) / (1 - p(z_1)) · …, and so is any
    prefix of it. Where the prior's mass sits on few codes, the last ones take forever: `max_draws` ends it, and
    `provenance` then shows `reached` < `asked`, with the number of draws in `details["draws"]`.
    Distinct samples are the paper's DMRS: Hadžić et al. (2025), arXiv 2509.01400.

    **Arguments**

    - `prior`: with classes or without; codes are drawn from the class marginal.
    - `n`: how many distinct codes.
    - `generator`: on any device; None takes torch's global one.
    - `max_draws`: None for 32 n.

    **Raises** `SelectionError` where there are fewer than n codes, or `max_draws` is below 1.

        >>> from vq_sources.priors import IndependentPrior
        >>> codes = ancestral(IndependentPrior((1, 2), 2), 4, generator=torch.Generator().manual_seed(0))
        >>> sorted(codes.codes.tolist())
        [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    check_count(prior, n)
    most = 32 * n if max_draws is None else max_draws
    if most < 1:
        raise SelectionError(f"max_draws is {most}: at least one draw is needed")
    marginal = prior.marginal()
    codes = torch.empty((0, prior.positions), dtype=torch.int64, device=prior.device)
    draws = 0
    while len(codes) < n and draws < most:
        size = min(max(2 * (n - len(codes)), SMALLEST_ROUND), most - draws)
        codes = torch.cat([codes, marginal.sample(size, generator)])
        codes = codes[first_occurrences(code_keys(codes, prior.cardinalities))]
        draws += size
    details = {"draws": draws, "max_draws": most}
    return account(prior, Found.evaluated(marginal, codes[:n]), n, "ancestral", generator, details)
