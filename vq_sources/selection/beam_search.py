"""Deterministic beam search: the codes that look best at every position."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from vq_sources.codes import CodeSet
from vq_sources.priors import AutoregressivePrior, State
from vq_sources.selection.shared import Found, account, best, check_agreement, check_count

__all__ = ["beam", "grow"]


@torch.no_grad()
def beam(prior: AutoregressivePrior, n: int, *, generator: torch.Generator | None = None) -> CodeSet:
    """Keep the n most probable prefixes at every position; the codes come in exact decreasing order of log p(z).

    It is greedy: a code whose prefix fell out of the beam is lost, so these are n good codes and not the n best
    (`enumerate(prior, n)` finds those where it can), unless n is the number of all codes.
    Codes of probability zero are never kept, so fewer than n may be reached.

    **Arguments**

    - `prior`: with classes or without; prefixes are ranked by the class marginal.
    - `n`: how many codes, and the width of the beam.
    - `generator`: unused, nothing is random.

    **Raises** `SelectionError` where there are fewer than n codes, or the prior contradicts itself.

        >>> from vq_sources.priors import IndependentPrior
        >>> prior = IndependentPrior((1, 2), 3)
        >>> prior.fit_counts(torch.tensor([[0, 1], [0, 1], [2, 0]]))
        >>> beam(prior, 2).codes.tolist()
        [[0, 1], [0, 0]]
    """
    check_count(prior, n)
    marginal = prior.marginal()
    root = torch.zeros(1, dtype=torch.float64, device=prior.device)
    found = grow(marginal, marginal.start(1), root, n).best_first()
    check_agreement(prior, marginal, found)
    return account(prior, found, n, "beam", None)


def grow(prior: AutoregressivePrior, state: State, running: Float64[Tensor, " B"], width: int) -> Found:
    """Whole codes from B prefixes of log-probability `running`; the `width` best are kept at each position."""
    for cardinality in prior.cardinalities[state.prefix.shape[1] :]:
        scores = (running[:, None] + prior.next_from(state)).flatten()
        chosen = best(scores, width)
        state = prior.extend(prior.reorder(state, chosen // cardinality), chosen % cardinality)
        running = scores[chosen]
    return Found.at(state, running)
