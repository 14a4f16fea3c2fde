"""What every selection shares: the class marginal, the count that is asked for, and the account of what was reached."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from vq_sources.codes import CodeSet, Provenance
from vq_sources.errors import SelectionError
from vq_sources.priors import AutoregressivePrior, ClassMarginal

__all__ = ["account", "best", "best_first", "check_agreement", "check_count"]


def check_count(prior: AutoregressivePrior, n: int) -> None:
    """Raise `SelectionError` unless there are n codes to choose, 1 <= n <= ∏ K_i."""
    if n < 1:
        raise SelectionError(f"{n} codes were asked for: ask for at least 1")
    codes = math.prod(prior.cardinalities)
    if n > codes:
        raise SelectionError(
            f"{n:,} codes were asked for, but a grid {prior.grid[0]} by {prior.grid[1]} with "
            f"{max(prior.cardinalities)} symbols has {codes:,}: ask for at most that many"
        )


def account(
    prior: AutoregressivePrior,
    marginal: AutoregressivePrior,
    codes: Int64[Tensor, "N P"],
    asked: int,
    method: str,
    generator: torch.Generator | None,
    details: Mapping[str, int | float] | None = None,
) -> CodeSet:
    """The selected codes as a `CodeSet`, with log p(z) and log p(c, z) evaluated anew by the whole-code path."""
    log_joint = marginal.log_joint(codes) if isinstance(marginal, ClassMarginal) else None
    log_weights = marginal.log_prob(codes) if log_joint is None else log_joint.logsumexp(1)
    provenance = Provenance(method, seed_of(generator), asked, len(codes), prior.identity, dict(details or {}))
    return CodeSet(codes, log_weights, prior.grid, prior.cardinalities, provenance, log_joint)


def seed_of(generator: torch.Generator | None) -> int | None:
    """The generator's initial seed; None without one."""
    return None if generator is None else generator.initial_seed()


def best(scores: Float64[Tensor, " M"], n: int) -> Int64[Tensor, " N"]:
    """The indices of the n largest finite scores, decreasing; among equals the first index first.

    `torch.topk` leaves it open which of equal scores it takes; this does not.
    """
    n = min(n, int((scores > -torch.inf).sum()))
    if n == 0:
        return torch.empty(0, dtype=torch.int64, device=scores.device)
    threshold = scores.topk(n).values[-1]
    above = (scores > threshold).nonzero()[:, 0]
    equal = (scores == threshold).nonzero()[: n - len(above), 0]
    chosen = torch.cat([above, equal]).sort().values
    return chosen[scores[chosen].sort(descending=True, stable=True).indices]


def tolerance(prior: AutoregressivePrior) -> float:
    """How far incremental and whole-code log-probabilities may part, relative to max(1, |log p|)."""
    floats = {value.dtype for value in prior.parameters() if value.dtype.is_floating_point}
    return 1e-9 if floats <= {torch.float64} else 1e-4


def best_first(codes: CodeSet) -> CodeSet:
    """The set in decreasing order of its log-weights; equal ones keep their order."""
    order = codes.log_weights.sort(descending=True, stable=True).indices
    return replace(codes.subset(order), provenance=codes.provenance)


def check_agreement(codes: CodeSet, running: Float64[Tensor, " N"], prior: AutoregressivePrior) -> None:
    """Raise `SelectionError` where the chain of next-symbol probabilities is not log p(z)."""
    gap = (codes.log_weights - running).abs() / codes.log_weights.abs().clamp_min(1)
    if bool((gap > tolerance(prior)).any()):
        row = int(gap.argmax())
        raise SelectionError(
            f"{type(prior).__name__} contradicts itself: its next-symbol log-probabilities of code "
            f"{codes.codes[row].tolist()} add to {float(running[row]):.9g}, but log_prob is "
            f"{float(codes.log_weights[row]):.9g}: next_log_probs and log_prob must follow one chain rule"
        )
