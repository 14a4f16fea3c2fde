"""Stochastic beam search: a sample of codes without replacement, at the cost of a beam."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float64
from torch import Tensor

from vq_sources.codes import CodeSet
from vq_sources.errors import SelectionError
from vq_sources.priors import AutoregressivePrior
from vq_sources.priors.gumbel import gumbel, log1mexp
from vq_sources.selection.shared import Found, account, best, check_agreement, check_count

__all__ = ["log_inclusion", "perturb", "stochastic_beam"]


@torch.no_grad()
def stochastic_beam(prior: AutoregressivePrior, n: int, *, generator: torch.Generator | None = None) -> CodeSet:
    """n codes sampled without replacement: those with the n largest G_z = log p(z) + Gumbel noise.

    A prefix's perturbed log-probability is the largest of its codes', G_S ~ Gumbel(log p(S)), so the noise is drawn
    from the root down, each prefix's children conditioned on their maximum, and only the n best prefixes are followed:
    N·P·K symbol probabilities in all. The codes come in decreasing perturbed order, in which any prefix of the set is
    itself a sample without replacement. The set's `perturbed` holds G, its `kappa` the largest G that was left out:
    every pruned prefix carries the maximum of its codes, so that is the largest one pruned at any position.
    The root is drawn from Gumbel(0) (the paper sets it to 0, which leaves the codes' law but not that of κ).
    Codes of probability zero are never kept, so fewer than n may be reached.

    Kool, van Hoof, Welling (2019), "Stochastic Beams and Where to Find Them", arXiv 1903.06059, algorithm 1.

    **Arguments**

    - `prior`: with classes or without; codes are drawn from the class marginal.
    - `n`: how many codes.
    - `generator`: on any device; None takes torch's global one.

    **Raises** `SelectionError` where there are fewer than n codes, or the prior contradicts itself.

        >>> from vq_sources.priors import IndependentPrior
        >>> codes = stochastic_beam(IndependentPrior((1, 2), 2), 3, generator=torch.Generator().manual_seed(0))
        >>> len(codes), bool((codes.perturbed.diff() < 0).all()), codes.kappa < codes.perturbed[-1].item()
        (3, True, True)
    """
    check_count(prior, n)
    marginal = prior.marginal()
    state = marginal.start(1)
    running = torch.zeros(1, dtype=torch.float64, device=prior.device)
    perturbed = gumbel((1,), generator, prior.device)
    kappa = -torch.inf
    for cardinality in prior.cardinalities:
        scores = running[:, None] + marginal.next_from(state)
        children = perturb(scores, perturbed, gumbel(scores.shape, generator, prior.device)).flatten()
        ranked = best(children, n + 1)
        if len(ranked) > n:
            kappa = max(kappa, float(children[ranked[n]]))
        chosen = ranked[:n]
        state = marginal.extend(marginal.reorder(state, chosen // cardinality), chosen % cardinality)
        running, perturbed = scores.flatten()[chosen], children[chosen]
    found = Found.at(state, running)
    check_agreement(prior, marginal, found)
    return replace(account(prior, found, n, "stochastic_beam", generator), perturbed=perturbed, kappa=kappa)


def perturb(
    log_probs: Float64[Tensor, "B K"], maximum: Float64[Tensor, " B"], noise: Float64[Tensor, "B K"]
) -> Float64[Tensor, "B K"]:
    """Gumbels with locations `log_probs`, given that the largest of each row is `maximum`.

    With G = log p + noise and Z = max G:  v = T - G + log(1 - e^{G - Z}),  G' = T - max(0, v) - log(1 + e^{-|v|}),
    which neither overflows nor cancels; the largest child is T itself, and probability zero stays -inf.

    Kool, van Hoof, Welling (2019), appendix B.3.
    """
    free = log_probs + noise
    target = maximum[:, None]
    v = target - free + log1mexp(free - free.max(1, keepdim=True).values)
    return target - F.relu(v) - torch.log1p(torch.exp(-v.abs()))


def log_inclusion(codes: CodeSet) -> Float64[Tensor, " N"]:
    """log P(G_z > κ) = log(1 - exp(-exp(log p(z) - κ))) of each code of a stochastic beam.

    Σ_n p(z_n) / P(G_{z_n} > κ) · f(z_n) is an unbiased estimate of E[f(z)].
    Kool, van Hoof, Welling (2019), equation (10).

    **Raises** `SelectionError` for a set that is not a stochastic beam (or a prefix of one).
    """
    if codes.kappa is None:
        raise SelectionError(
            f"a set made by {codes.provenance.method} has no threshold: inclusion probabilities need stochastic_beam"
        )
    return log1mexp(-(codes.log_weights - codes.kappa).exp())
