"""The selection that the paper's repository runs: per class, beams from sampled first codes, reranked by p(z | c)."""

from __future__ import annotations

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from vq_sources.codes import CodeSet, code_keys, first_occurrences
from vq_sources.errors import SelectionError
from vq_sources.priors import AutoregressivePrior, ClassMarginal
from vq_sources.priors.gumbel import gumbel
from vq_sources.selection.beam_search import grow
from vq_sources.selection.shared import Found, account, best, check_agreement, check_count

__all__ = ["paper_beam"]


@torch.no_grad()
def paper_beam(
    prior: AutoregressivePrior, n: int, *, generator: torch.Generator | None = None, first_codes: int = 16
) -> CodeSet:
    """For each class, sample `first_codes` first symbols, grow a beam from each, and rank the pool by p(z | c).

    First symbols are drawn without replacement from p(z_0); each beam is ⌈n / first_codes⌉ wide and ranked by the class
    marginal. Classes then take turns to give their next best code that is not there yet, until there are n. A prior
    without classes counts as one class.

    The repository that comes with Hadžić et al. (2025), arXiv 2509.01400, puts the classes one after another and keeps
    a code once for each class; here a prefix serves all classes, codes are distinct, and where the beams hold fewer
    than n distinct codes, `provenance.reached` says so.

    **Arguments**

    - `prior`: with classes or without.
    - `n`: how many codes.
    - `generator`: on any device; None takes torch's global one.
    - `first_codes`: how many first symbols each class starts from.

    **Raises** `SelectionError` where there are fewer than n codes, or `first_codes` is below 1.

        >>> from vq_sources.priors import IndependentPrior
        >>> prior = IndependentPrior((1, 2), 4, num_classes=2)
        >>> codes = paper_beam(prior, 6, generator=torch.Generator().manual_seed(0), first_codes=2)
        >>> len(codes), codes.log_joint.shape
        (6, torch.Size([6, 2]))
    """
    check_count(prior, n)
    if first_codes < 1:
        raise SelectionError(f"first_codes is {first_codes}: each class starts from at least one")
    marginal = prior.marginal()
    first = marginal.next_from(marginal.start(1))[0]
    classes = marginal.classes if isinstance(marginal, ClassMarginal) else 1
    starts = [best(first + gumbel(first.shape, generator, first.device), first_codes) for _ in range(classes)]
    # Beams follow the class marginal, so classes that start alike share theirs.
    width = -(-n // min(first_codes, len(first)))
    pool = Found.together([_beam_from(marginal, symbol, first, width) for symbol in torch.unique(torch.cat(starts))])
    check_agreement(prior, marginal, pool)
    log_joint = pool.log_prob[:, None] if pool.log_joint is None else pool.log_joint
    own = torch.stack([torch.isin(pool.codes[:, 0], symbols) for symbols in starts], 1)
    ranked = _in_turn(log_joint.masked_fill(~own, -torch.inf))
    distinct = first_occurrences(code_keys(pool.codes[ranked], prior.cardinalities))
    details = {"first_codes": first_codes, "width": width}
    return account(prior, pool.rows(ranked[distinct[:n]]), n, "paper_beam", generator, details)


def _beam_from(
    prior: AutoregressivePrior, symbol: Int64[Tensor, ""], first: Float64[Tensor, " K"], width: int
) -> Found:
    state = prior.extend(prior.start(1), symbol[None])
    return grow(prior, state, first[symbol][None], width)


def _in_turn(scores: Float64[Tensor, "N C"]) -> Int64[Tensor, " M"]:
    """Rows in the order: the best of each column, then the second of each, …; only finite scores count."""
    ranked, order = torch.sort(scores, dim=0, descending=True, stable=True)
    return order[ranked > -torch.inf]
