"""`check_prior`: whether a prior over codes keeps the laws of `AutoregressivePrior`, by enumeration."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pcircuits.testing.chi_square import chi_square
from vq_sources.errors import SelectionError
from vq_sources.priors.interface import AutoregressivePrior

__all__ = ["check_prior"]

MANY = 5000
"""How many codes may be enumerated."""


def check_prior(prior: AutoregressivePrior, *, draws: int = 4000, seed: int = 0, digits: float = 1e-9) -> None:
    """Check a prior over a small grid: its laws given each class, and those of its class marginal.

    Use unequal cardinalities, a grid that is not square, and unequal class probabilities: mistakes hide behind equal ones.

    **Arguments**

    - `prior`: with at most 5,000 codes, its parameters in float64 where it computes in its parameters' dtype.
    - `draws`: samples to count; the tests, one for each class and the marginal, reject one correct prior in 10,000.
    - `seed`: of the samples, and of the prefixes that states are tested on.
    - `digits`: how far logs of probabilities may be off, in nats; more than rounding for priors in float32.

    **Raises** `AssertionError` that names the law and the values that differ; `SelectionError` for too many codes.

    >>> from vq_sources.priors import IndependentPrior
    >>> prior = IndependentPrior((1, 3), (2, 3, 2), num_classes=2)
    >>> prior.prepare((torch.tensor([[0, 1, 1], [1, 2, 0], [1, 0, 0]]), torch.tensor([0, 1, 1])))
    >>> check_prior(prior)
    """
    if prior.log_num_codes > math.log(MANY):
        raise SelectionError(f"check_prior enumerates all codes, at most {MANY:,}: give it a smaller grid")
    every = torch.tensor(list(itertools.product(*(range(k) for k in prior.cardinalities))), device=prior.device)
    was_training = prior.training
    try:
        with torch.no_grad():
            labels = [None] if prior.num_classes is None else list(range(prior.num_classes))
            tests = len(labels) if prior.num_classes is None else len(labels) + 1
            for label in labels:
                _laws(_Case(prior, label, every, digits, tests), draws, seed)
            if prior.num_classes is not None:
                _labels_may_differ_by_row(prior, every, digits)
                _marginal_is_the_sum(prior, every, digits)
                _laws(_Case(prior.marginal(), None, every, digits, tests), draws, seed)
        _log_prob_is_differentiable(_Case(prior, labels[-1], every, digits, tests))
    finally:
        prior.train(was_training)


@dataclass(frozen=True)
class _Case:
    """A prior under one label, and every code (N, P)."""

    prior: AutoregressivePrior
    label: int | None
    every: Tensor
    digits: float
    tests: int
    """How many such cases there are, which share the chance of an error."""

    def log_prob(self) -> Tensor:
        return self.prior.log_prob(self.every, self.label)

    def next(self, prefix: Tensor) -> Tensor:
        return self.prior.next_log_probs(prefix, self.label)

    def close(self, got: Tensor, want: Tensor, what: str) -> None:
        """Equal within `digits`, infinite in the same places, and float64."""
        given = "" if self.label is None else f" given class {self.label}"
        what = f"{what} of {type(self.prior).__name__}{given}"
        if got.dtype != torch.float64 or got.shape != want.shape:
            raise AssertionError(f"{what} is {tuple(got.shape)} {got.dtype}, not {tuple(want.shape)} torch.float64")
        right = (got == want) | ((got - want).abs() <= self.digits)
        if not bool(right.all()):
            where = tuple((~right).nonzero()[0].tolist())
            raise AssertionError(f"{what} is {got[where].item()!r}, not {want[where].item()!r}, at {list(where)}")


def _laws(case: _Case, draws: int, seed: int) -> None:
    _probabilities_sum_to_one(case)
    _next_symbols_chain_to_log_prob(case)
    _states_answer_as_prefixes_do(case, seed)
    _modes_and_batches_change_nothing(case)
    _samples_follow(case, draws, seed)


def _probabilities_sum_to_one(case: _Case) -> None:
    total = case.log_prob().exp().sum(0)
    case.close(total, torch.ones_like(total), "the probability of all codes")


def _next_symbols_chain_to_log_prob(case: _Case) -> None:
    """Σ_k p(k | prefix) = 1 for every prefix, also an impossible one, and log p(z) = Σ_t log p(z_t | z_<t)."""
    chain = torch.zeros(len(case.every), dtype=torch.float64, device=case.every.device)
    for t, cardinality in enumerate(case.prior.cardinalities):
        following = case.next(case.every[:, :t])
        if following.shape != (len(case.every), cardinality):
            raise AssertionError(
                f"next_log_probs at position {t} is {tuple(following.shape)}, with {cardinality} symbols"
            )
        case.close(following.exp().sum(1), torch.ones_like(chain), f"the probability of all symbols at position {t}")
        chain = chain + following.gather(1, case.every[:, t : t + 1])[:, 0]
    case.close(chain, case.log_prob(), "the chain of next_log_probs, against log_prob,")


def _states_answer_as_prefixes_do(case: _Case, seed: int) -> None:
    """start, extend and reorder, with rows dropped and repeated; an old state stays good."""
    generator = torch.Generator().manual_seed(seed)
    prior, device = case.prior, case.every.device
    prefix = torch.empty((3, 0), dtype=torch.int64, device=device)
    state = prior.start(3, case.label)
    for t, cardinality in enumerate(prior.cardinalities):
        before = prior.next_from(state)
        case.close(before, case.next(prefix), f"next_from at position {t}, against next_log_probs,")
        index = torch.randint(len(prefix), (7,), generator=generator).to(device)
        symbols = torch.randint(cardinality, (7,), generator=generator).to(device)
        moved = prior.extend(prior.reorder(state, index), symbols)
        case.close(prior.next_from(state), before, f"next_from at position {t}, of a state that was extended,")
        state, prefix = moved, torch.cat([prefix[index], symbols[:, None]], 1)
        if not torch.equal(state.prefix, prefix):
            raise AssertionError(
                f"after extend and reorder a state's prefix is {state.prefix.tolist()}, not {prefix.tolist()}"
            )


def _modes_and_batches_change_nothing(case: _Case) -> None:
    """Train and eval, rows together, apart and in another order; asking moves no parameter and draws no number."""
    prior, whole = case.prior, case.log_prob()
    half = len(case.every) // 2
    identity, drawn = prior.identity, torch.get_rng_state()
    for mode in (True, False):
        prior.train(mode)
        case.close(case.log_prob(), whole, f"log_prob with training={mode}")
        apart = [prior.log_prob(part, case.label) for part in (case.every[half:], case.every[:half])]
        case.close(torch.cat(apart[::-1]), whole, "log_prob of rows apart")
        case.close(prior.log_prob(case.every.flip(0), case.label).flip(0), whole, "log_prob in another order")
    if prior.identity != identity or not torch.equal(torch.get_rng_state(), drawn):
        raise AssertionError(f"asking {type(prior).__name__} for log_prob changed its state, or drew random numbers")
    nothing = case.every[:0]
    case.close(prior.log_prob(nothing, case.label), whole[:0], "log_prob of no codes")
    case.close(case.next(nothing[:, :0]), case.next(case.every[:, :0])[:0], "next_log_probs of no prefixes")


def _samples_follow(case: _Case, draws: int, seed: int) -> None:
    """Chi-square over all codes; int64; the seed decides."""
    prior, name = case.prior, type(case.prior).__name__
    drawn = prior.sample(draws, torch.Generator().manual_seed(seed), case.label)
    if drawn.dtype != torch.int64 or drawn.shape != (draws, prior.positions):
        raise AssertionError(f"samples of {name} are {tuple(drawn.shape)} {drawn.dtype}, not int64 (n, P)")
    torch.rand(1)
    if not torch.equal(prior.sample(draws, torch.Generator().manual_seed(seed), case.label), drawn):
        raise AssertionError(f"samples of {name} differ where the seed is the same")
    if prior.sample(0, torch.Generator(), case.label).shape != (0, prior.positions):
        raise AssertionError(f"no samples of {name} are not (0, P)")
    place = torch.zeros(draws, dtype=torch.int64, device=drawn.device)
    for t, cardinality in enumerate(prior.cardinalities):
        place = place * cardinality + drawn[:, t]
    counts = torch.bincount(place, minlength=len(case.every)).cpu().numpy()
    pvalue = chi_square(counts, case.log_prob().exp().cpu().numpy() * draws)
    if pvalue < 1e-4 / case.tests:
        raise AssertionError(f"samples of {name} do not follow log_prob (label {case.label}, p = {pvalue:.2g})")


def _labels_may_differ_by_row(prior: AutoregressivePrior, every: Tensor, digits: float) -> None:
    assert prior.num_classes is not None
    labels = torch.arange(len(every), device=every.device) % prior.num_classes
    case = _Case(prior, None, every, digits, 1)
    each = torch.stack([prior.log_prob(every, c) for c in range(prior.num_classes)], 1)
    case.close(
        prior.log_prob(every, labels), each.gather(1, labels[:, None])[:, 0], "log_prob with a label for each row"
    )
    if prior.positions > 1:
        following = torch.stack([prior.next_log_probs(every[:, :1], c) for c in range(prior.num_classes)], 1)
        chosen = following[torch.arange(len(every), device=every.device), labels]
        case.close(prior.next_log_probs(every[:, :1], labels), chosen, "next_log_probs with a label for each row")


def _marginal_is_the_sum(prior: AutoregressivePrior, every: Tensor, digits: float) -> None:
    """p(z) = Σ_c p(c) p(z | c), and p(z_t | z_<t) from sums over all codes with that prefix."""
    assert prior.num_classes is not None
    marginal = prior.marginal()
    case = _Case(marginal, None, every, digits, 1)
    case.close(prior.class_probs.sum(), torch.ones((), dtype=torch.float64, device=every.device), "the sum of p(c)")
    joint = torch.stack([prior.log_prob(every, c) for c in range(prior.num_classes)], 1) + prior.class_probs.log()
    log_probs = joint.logsumexp(1)
    case.close(marginal.log_prob(every), log_probs, "log_prob, against the sum over classes,")
    state = marginal.start(1)
    first = torch.stack([log_probs[every[:, 0] == k].logsumexp(0) for k in range(prior.cardinalities[0])])
    case.close(marginal.next_from(state)[0], first, "next_from at the start, against the sum over all codes,")


def _log_prob_is_differentiable(case: _Case) -> None:
    trained = [p for p in case.prior.parameters() if p.requires_grad]
    if not trained:
        return
    possible = case.log_prob().detach() > -torch.inf
    value = case.prior.log_prob(case.every[possible], case.label).mean()
    name = type(case.prior).__name__
    if not value.requires_grad:
        raise AssertionError(f"no gradient flows from log_prob of {name} to its parameters")
    found = [g for g in torch.autograd.grad(value, trained, allow_unused=True) if g is not None]
    if not all(bool(g.isfinite().all()) for g in found) or not any(bool(g.any()) for g in found):
        raise AssertionError(f"the gradients of log_prob of {name} are all zero, or not finite")
