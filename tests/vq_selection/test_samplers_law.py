"""Stochastic beam and ancestral selection against the enumerated law of sampling without replacement."""

import itertools
from collections import Counter

import pytest
import torch
from scipy.stats import chisquare, ks_2samp

from vq_sources import selection
from vq_sources.priors.gumbel import gumbel
from vq_sources.selection.enumeration import all_codes
from vq_sources.selection.stochastic_beam_search import perturb

SAMPLERS = [selection.ancestral, selection.stochastic_beam]
RUNS = 1000


def ordered_law(probs: list[float], size: int) -> dict[tuple[int, ...], float]:
    """P(the first `size` distinct draws are these, in this order) = ∏_j p_j / (1 - Σ_{i<j} p_i)."""
    law = {}
    for order in itertools.permutations(range(len(probs)), size):
        left, chance = 1.0, 1.0
        for code in order:
            chance *= probs[code] / left
            left -= probs[code]
        law[order] = chance
    return law


def pvalue(counts: Counter, law: dict[tuple[int, ...], float]) -> float:
    """Chi-square, with the rare outcomes taken together."""
    total = sum(counts.values())
    assert set(counts) <= set(law)
    common = [outcome for outcome in law if law[outcome] * total >= 5]
    observed = [counts[outcome] for outcome in common]
    expected = [law[outcome] * total for outcome in common]
    if len(common) < len(law):
        observed.append(total - sum(observed))
        expected.append(total - sum(expected))
    return float(chisquare(observed, expected).pvalue)


def orders(sampler, prior, n: int, runs: int, seed: int) -> Counter:
    every = all_codes(prior).tolist()
    generator = torch.Generator().manual_seed(seed)
    chosen = (sampler(prior, n, generator=generator).codes.tolist() for _ in range(runs))
    return Counter(tuple(every.index(code) for code in codes) for codes in chosen)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.__name__)
def test_ordered_triples_follow_sampling_without_replacement(sampler, uneven):
    probs = uneven.log_prob(all_codes(uneven)).exp().tolist()
    assert pvalue(orders(sampler, uneven, 3, RUNS, seed=1), ordered_law(probs, 3)) > 1e-3


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.__name__)
def test_ordered_pairs_follow_the_class_marginal(sampler, table_prior):
    table = torch.randn(2, 2, 2, 2, generator=torch.Generator().manual_seed(8))
    prior = table_prior(table, (1, 3), classes=True)
    probs = table.flatten(1).softmax(1) * table.flatten(1).logsumexp(1).softmax(0)[:, None]
    assert pvalue(orders(sampler, prior, 2, RUNS, seed=2), ordered_law(probs.sum(0).tolist(), 2)) > 1e-3


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.__name__)
def test_a_prefix_of_a_larger_sample_has_the_law_of_a_smaller_one(sampler, uneven):
    probs = uneven.log_prob(all_codes(uneven)).exp().tolist()
    counts: Counter = Counter()
    for order, count in orders(sampler, uneven, 5, RUNS, seed=3).items():
        counts[order[:2]] += count
    assert pvalue(counts, ordered_law(probs, 2)) > 1e-3


def test_stochastic_beam_and_ancestral_have_one_law(uneven):
    both = [orders(sampler, uneven, 2, RUNS, seed=4) for sampler in SAMPLERS]
    pooled = {order: (both[0][order] + both[1][order]) / (2 * RUNS) for order in both[0] | both[1]}
    common = [order for order in pooled if pooled[order] * RUNS >= 5]
    observed = [one[order] for one in both for order in common]
    expected = [pooled[order] * RUNS for _ in both for order in common]
    scale = sum(observed) / sum(expected)
    assert chisquare(observed, [scale * e for e in expected], ddof=len(common) - 1).pvalue > 1e-3


def test_inclusion_given_the_threshold_makes_estimates_unbiased(uneven):
    """E[Σ_n p(z_n) f(z_n) / P(G_n > κ)] = E[f(z)], for f = 1 and for the indicator of a rare code."""
    generator = torch.Generator().manual_seed(6)
    total, rare = [], []
    for _ in range(RUNS):
        codes = selection.stochastic_beam(uneven, 3, generator=generator)
        weights = (codes.log_weights - selection.log_inclusion(codes)).exp()
        total.append(weights.sum().item())
        rare.append(weights[(codes.codes == torch.tensor([0, 1])).all(1)].sum().item())
    for values, expected in ((total, 1.0), (rare, 0.05)):
        sample = torch.tensor(values)
        assert abs(sample.mean().item() - expected) < 4 * sample.std().item() / RUNS**0.5


def test_inclusion_frequencies_are_the_enumerated_ones(uneven):
    probs = uneven.log_prob(all_codes(uneven)).exp().tolist()
    law = ordered_law(probs, 3)
    expected = torch.tensor([sum(chance for order, chance in law.items() if code in order) for code in range(6)])
    counts = orders(selection.stochastic_beam, uneven, 3, RUNS, seed=7)
    found = torch.tensor([sum(k for order, k in counts.items() if code in order) / RUNS for code in range(6)])
    assert bool(((found - expected).abs() < 4 * (expected * (1 - expected) / RUNS).sqrt()).all())


def test_children_keep_the_maximum_and_have_the_law_of_conditioned_gumbels():
    """With the maximum drawn from Gumbel(log Σ p), children are independent Gumbels: their means are log p + γ."""
    log_probs = torch.tensor([[0.6, 0.3, 0.1]]).double().log().expand(20000, -1) - 2
    g = torch.Generator().manual_seed(0)
    maximum = gumbel((20000,), g, "cpu") - 2
    children = perturb(log_probs, maximum, gumbel((20000, 3), g, "cpu"))
    torch.testing.assert_close(children.max(1).values, maximum, rtol=0, atol=0)
    error = 4 * children.std(0) / 20000**0.5
    assert bool(((children.mean(0) - log_probs[0] - 0.5772156649).abs() < error).all())
    correlation = torch.corrcoef(children.T)
    assert (correlation - torch.eye(3)).abs().max().item() < 0.03


def test_perturbing_is_stable_where_probabilities_are_tiny_and_maxima_extreme():
    log_probs = torch.tensor([-1e3, -1e3 - 1e-9, -5e3, -1e5, -torch.inf]).double().expand(4, -1)
    maximum = torch.tensor([-1e4, -1e3, 0.0, 50.0]).double()
    children = perturb(log_probs, maximum, gumbel((4, 5), torch.Generator().manual_seed(0), "cpu"))
    assert not bool(children.isnan().any())
    assert torch.equal(children.max(1).values, maximum)
    assert bool((children[:, 4] == -torch.inf).all())
    assert bool(children[:, :4].isfinite().all())


def test_stochastic_beam_is_stable_at_log_probabilities_of_minus_a_thousand(table_prior):
    """One code has nearly everything; a thousand others have e^-1000 each and are drawn uniformly among themselves."""
    table = torch.full((32, 32), -1000.0)
    table[3, 4] = 0.0
    prior = table_prior(table, (1, 2))
    generator = torch.Generator().manual_seed(1)
    rows = []
    for _ in range(40):
        codes = selection.stochastic_beam(prior, 100, generator=generator)
        assert len(codes) == 100
        assert codes.codes[0].tolist() == [3, 4]
        assert bool(codes.perturbed.isfinite().all())
        assert codes.kappa < codes.perturbed[-1].item()
        assert bool((codes.perturbed.diff() < 0).all())
        rows.append(codes.codes[1:, 0])
    counts = torch.bincount(torch.cat(rows), minlength=32).double()
    share = torch.full((32,), 32 / 1023).double()
    share[3] = 31 / 1023
    assert chisquare(counts, share * counts.sum()).pvalue > 1e-3


def test_kappa_is_the_largest_value_left_out(uneven):
    """A beam of every code shows all values, and the same noise is not needed: a prefix's κ is the next value."""
    every = selection.stochastic_beam(uneven, 6, generator=torch.Generator().manual_seed(0))
    assert every.kappa == -torch.inf
    first = every.prefix(4)
    assert first.kappa == every.perturbed[4].item()
    assert first.prefix(2).kappa == every.perturbed[2].item()
    assert torch.equal(first.perturbed, every.perturbed[:4])


def test_kappa_has_the_law_of_the_next_perturbed_value_though_beams_prune_early(table_prior):
    """κ of a beam of 2 is distributed as the third largest of twelve independent Gumbels, by Kolmogorov and Smirnov."""
    prior = table_prior(torch.randn(6, 2, generator=torch.Generator().manual_seed(0)), (1, 2))
    generator = torch.Generator().manual_seed(12)
    found = [selection.stochastic_beam(prior, 2, generator=generator).kappa for _ in range(RUNS)]
    log_probs = prior.log_prob(all_codes(prior)).detach()
    third = (log_probs + gumbel((20000, 12), generator, "cpu")).sort(1, descending=True).values[:, 2]
    assert ks_2samp(found, third.numpy()).pvalue > 1e-3


def test_stochastic_beam_asks_for_n_times_p_times_k_symbols(table_prior):
    for n in (1, 4, 16, 64):
        prior = table_prior(torch.randn(4, 4, 4, 4, 4, generator=torch.Generator().manual_seed(0)), (1, 5))
        selection.stochastic_beam(prior, n, generator=torch.Generator().manual_seed(0))
        by_hand = sum(min(n, 4**t) * 4 for t in range(5))
        assert prior.evaluations == by_hand <= n * 5 * 4
