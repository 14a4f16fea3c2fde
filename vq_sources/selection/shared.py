"""What every selection shares: the class marginal, the count that is asked for, and the account of what was reached."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from vq_sources.codes import CodeSet, Provenance
from vq_sources.errors import SelectionError
from vq_sources.priors import AutoregressivePrior, ClassMarginal, State
from vq_sources.priors.class_marginal import MarginalState

__all__ = ["Found", "account", "best", "check_agreement", "check_count"]


def check_count(prior: AutoregressivePrior, n: int) -> None:
    """Raise `SelectionError` unless there are n codes to choose, 1 <= n <= ∏ K_i."""
    try:
        whole = not isinstance(n, bool) and operator.index(n) is not None
    except TypeError:
        whole = False
    if not whole:
        raise SelectionError(f"{n!r} codes were asked for: the number is an integer")
    if n < 1:
        raise SelectionError(f"{n} codes were asked for: ask for at least 1")
    codes = math.prod(prior.cardinalities)
    if n > codes:
        raise SelectionError(
            f"{n:,} codes were asked for, but a grid {prior.grid[0]} by {prior.grid[1]} with "
            f"{max(prior.cardinalities)} symbols has {codes:,}: ask for at most that many"
        )


@dataclass(frozen=True)
class Found:
    """Whole codes (N, P), their log p(z) (N,), and their log p(c, z) (N, C) where there are classes."""

    codes: Int64[Tensor, "N P"]
    log_prob: Float64[Tensor, " N"]
    log_joint: Float64[Tensor, "N C"] | None

    @staticmethod
    def at(state: State, log_prob: Float64[Tensor, " N"]) -> Found:
        """What a search has found where it ends: its own chain of probabilities gives the weights."""
        if isinstance(state, MarginalState):
            return Found(state.prefix, state.log_joint.logsumexp(1), state.log_joint)
        return Found(state.prefix, log_prob, None)

    @staticmethod
    def evaluated(marginal: AutoregressivePrior, codes: Int64[Tensor, "N P"]) -> Found:
        """Codes that came without probabilities."""
        log_joint = marginal.log_joint(codes) if isinstance(marginal, ClassMarginal) else None
        return Found(codes, marginal.log_prob(codes) if log_joint is None else log_joint.logsumexp(1), log_joint)

    @staticmethod
    def together(parts: Sequence[Found]) -> Found:
        """All codes of several, one after another."""
        joints = [part.log_joint for part in parts if part.log_joint is not None]
        codes, log_prob = (torch.cat([getattr(part, name) for part in parts]) for name in ("codes", "log_prob"))
        return Found(codes, log_prob, torch.cat(joints) if joints else None)

    def rows(self, index: Int64[Tensor, " M"]) -> Found:
        """The codes at `index`, in that order."""
        log_joint = None if self.log_joint is None else self.log_joint[index]
        return Found(self.codes[index], self.log_prob[index], log_joint)

    def best_first(self) -> Found:
        """In decreasing order of log p(z); equal ones keep their order."""
        return self.rows(self.log_prob.sort(descending=True, stable=True).indices)


def account(
    prior: AutoregressivePrior,
    found: Found,
    asked: int,
    method: str,
    generator: torch.Generator | None,
    details: Mapping[str, int | float] | None = None,
) -> CodeSet:
    """The selected codes as a `CodeSet`."""
    seed = None if generator is None else generator.initial_seed()
    provenance = Provenance(method, seed, asked, len(found.codes), prior.identity, dict(details or {}))
    return CodeSet(found.codes, found.log_prob, prior.grid, prior.cardinalities, provenance, found.log_joint)


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


def check_agreement(prior: AutoregressivePrior, marginal: AutoregressivePrior, found: Found) -> None:
    """Raise `SelectionError` where the chain of next-symbol probabilities is not log p(z), on 64 codes at most."""
    some = torch.linspace(0, len(found.codes) - 1, min(64, len(found.codes))).round().long().to(found.codes.device)
    codes, chain = found.codes[some], found.log_prob[some]
    whole = marginal.log_prob(codes)
    # Equal infinities agree, and their difference is NaN.
    gap = torch.where(whole == chain, 0.0, (whole - chain).abs() / whole.abs().clamp_min(1))
    if bool((gap <= tolerance(prior)).all()):
        return
    row = int(gap.nan_to_num(torch.inf).argmax())
    raise SelectionError(
        f"{type(prior).__name__} contradicts itself: its next-symbol log-probabilities of code {codes[row].tolist()} "
        f"add to {float(chain[row]):.9g}, but log_prob is {float(whole[row]):.9g}: next_log_probs and log_prob must "
        "follow one chain rule"
    )
