"""The two priors that are fitted by counting, and the class marginal's corners."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vq_sources.errors import ConfigError, SelectionError
from vq_sources.priors import ClassMarginal, EmpiricalPrior, IndependentPrior

CODES = torch.tensor([[0, 0], [0, 1], [0, 1], [2, 0]])


def test_independent_counts_by_hand():
    prior = IndependentPrior((1, 2), (3, 2)).double()
    prior.fit_counts(CODES, smoothing=1.0)
    first, second = [4 / 7, 1 / 7, 2 / 7], [3 / 6, 3 / 6]
    by_hand = [[math.log(a * b) for b in second] for a in first]
    answer = [[prior.log_prob(torch.tensor([[i, j]])).item() for j in range(2)] for i in range(3)]
    assert answer == [pytest.approx(row, abs=1e-12) for row in by_hand]


def test_counts_are_the_maximum_of_the_likelihood():
    prior = IndependentPrior((1, 2), (3, 2), num_classes=2).double()
    labels = torch.tensor([0, 0, 1, 1])
    prior.fit_counts(CODES, labels, smoothing=0.0)
    prior.loss((CODES, labels))[0].backward()
    gradient = prior.logits.grad
    assert bool(gradient.isfinite().all())
    assert gradient.abs().max().item() < 1e-12


def test_a_class_without_codes_is_uniform():
    labels = torch.zeros(4, dtype=torch.int64)
    for prior in (IndependentPrior((1, 2), (3, 2), num_classes=2), EmpiricalPrior((1, 2), (3, 2), num_classes=2)):
        prior.prepare((CODES, labels))
        assert prior.log_prob(CODES, 1).exp().tolist() == pytest.approx([1 / 6] * 4)
        assert prior.class_probs.tolist() == [1, 0]
        assert prior.marginal().log_prob(CODES).tolist() == pytest.approx(prior.log_prob(CODES, 0).tolist())


def test_empirical_frequencies_by_hand():
    prior = EmpiricalPrior((1, 2), (3, 2), uniform_share=0.3)
    prior.fit_counts(CODES)
    expected = {(0, 0): 0.25, (0, 1): 0.5, (2, 0): 0.25}
    for a in range(3):
        for b in range(2):
            by_hand = 0.7 * expected.get((a, b), 0.0) + 0.3 / 6
            assert prior.log_prob(torch.tensor([[a, b]])).exp().item() == pytest.approx(by_hand, abs=1e-12)


def test_after_an_unseen_prefix_the_next_symbol_is_uniform():
    prior = EmpiricalPrior((1, 2), (3, 2))
    prior.fit_counts(CODES)
    assert prior.next_log_probs(torch.tensor([[1], [2]])).exp().tolist() == [pytest.approx([0.5, 0.5]), [1, 0]]
    both = EmpiricalPrior((1, 2), (3, 2), num_classes=2)
    both.fit_counts(CODES, torch.tensor([0, 1, 1, 1]))
    marginal = both.marginal()
    assert marginal.next_log_probs(torch.tensor([[1]])).exp().tolist() == [pytest.approx([0.5, 0.5])]
    assert marginal.log_prob(torch.tensor([[1, 0]])).item() == -math.inf


def test_a_stored_empirical_prior_comes_back_into_a_fresh_one():
    prior = EmpiricalPrior((1, 2), (3, 2), num_classes=2)
    prior.fit_counts(CODES, torch.tensor([0, 1, 1, 1]))
    fresh = EmpiricalPrior((1, 2), (3, 2), num_classes=2)
    fresh.load_state_dict(prior.state_dict())
    assert fresh.identity == prior.identity
    assert torch.equal(fresh.log_prob(CODES, 1), prior.log_prob(CODES, 1))


@pytest.mark.errors
def test_an_uncounted_empirical_prior_says_so():
    with pytest.raises(SelectionError, match=r"call fit_counts\(codes, labels\) first"):
        EmpiricalPrior((1, 2), 3).log_prob(CODES)


@pytest.mark.errors
def test_shares_and_pseudo_counts_are_checked():
    with pytest.raises(ConfigError, match=r"uniform_share is 1\.5"):
        EmpiricalPrior((1, 2), 3, uniform_share=1.5)
    with pytest.raises(ConfigError, match="smoothing is -1"):
        IndependentPrior((1, 2), 3, smoothing=-1.0)


@pytest.mark.errors
def test_class_probabilities_may_be_given_and_are_checked():
    prior = IndependentPrior((1, 2), 3, num_classes=2)
    prior.fit_counts(CODES, torch.tensor([0, 0, 1, 1]))
    marginal = ClassMarginal(prior, torch.tensor([0.1, 0.9]))
    by_hand = 0.1 * prior.log_prob(CODES, 0).exp() + 0.9 * prior.log_prob(CODES, 1).exp()
    torch.testing.assert_close(marginal.log_prob(CODES).exp(), by_hand)
    with pytest.raises(ConfigError, match="class_probs must be"):
        ClassMarginal(prior, torch.tensor([0.1, 0.8]))
    with pytest.raises(SelectionError, match="no classes to sum out"):
        ClassMarginal(marginal)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 30), st.integers(0, 10**6), st.floats(0, 1)
)
def test_empirical_is_the_relative_frequency(height, width, symbols, rows, seed, share):
    g = torch.Generator().manual_seed(seed)
    codes = torch.randint(symbols, (rows, height * width), generator=g)
    prior = EmpiricalPrior((height, width), symbols, uniform_share=share)
    prior.fit_counts(codes)
    asked = torch.cat([codes, torch.randint(symbols, (5, height * width), generator=g)])
    frequency = (asked[:, None] == codes).all(2).double().mean(1)
    by_hand = (1 - share) * frequency + share / symbols ** (height * width)
    torch.testing.assert_close(prior.log_prob(asked).exp(), by_hand, rtol=1e-10, atol=1e-14)
