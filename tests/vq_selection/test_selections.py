"""Every selection: what it returns, in which order, and what it refuses."""

import pytest
import torch

from vq_sources import selection
from vq_sources.errors import DataError, SelectionError
from vq_sources.priors import EmpiricalPrior, IndependentPrior, PixelCNN
from vq_sources.selection.enumeration import all_codes


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def data(prior) -> torch.Tensor:
    return prior.marginal().sample(300, seeded(9))


def encoded(prior, n, *, generator=None):
    return selection.encoded(prior, n, data(prior), generator=generator)


def encoded_in_order(prior, n, *, generator=None):
    return selection.encoded_in_order(prior, n, data(prior), generator=generator)


METHODS = [
    selection.enumerate,
    selection.ancestral,
    selection.beam,
    selection.stochastic_beam,
    selection.paper_beam,
    encoded,
    encoded_in_order,
]
each = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.__name__)


@each
def test_codes_are_distinct_and_weights_are_the_class_marginal(method, by_class):
    codes = method(by_class, 20, generator=seeded(0))
    assert len(codes) == 20
    assert len({tuple(code) for code in codes.codes.tolist()}) == 20
    joint = torch.stack([by_class.log_prob(codes.codes, c) + by_class.class_probs[c].log() for c in range(3)], 1)
    torch.testing.assert_close(codes.log_joint, joint)
    torch.testing.assert_close(codes.log_weights, joint.logsumexp(1))
    assert codes.covered_mass == pytest.approx(joint.exp().sum().item())
    assert not codes.log_weights.requires_grad


@each
def test_provenance_names_method_seed_counts_and_prior(method, by_class):
    about = method(by_class, 20, generator=seeded(7)).provenance
    assert (about.method, about.asked, about.reached) == (method.__name__, 20, 20)
    assert about.prior == by_class.identity
    deterministic = (selection.enumerate, selection.beam, encoded, encoded_in_order)
    assert about.seed == (None if method in deterministic else 7)


@each
def test_the_same_seed_chooses_the_same_codes(method, by_class):
    one, two = (method(by_class, 15, generator=seeded(3)) for _ in range(2))
    torch.rand(1)
    assert torch.equal(one.codes, two.codes)
    assert torch.equal(one.log_weights, two.log_weights)


@each
def test_a_prior_without_classes_and_a_marginal_are_taken_as_they_are(method, by_class):
    plain = method(IndependentPrior((2, 2), 3), 10, generator=seeded(0))
    assert plain.log_joint is None
    assert plain.log_weights.exp().tolist() == pytest.approx([1 / 81] * 10)
    marginal = method(by_class.marginal(), 10, generator=seeded(0))
    assert torch.equal(marginal.codes, method(by_class, 10, generator=seeded(0)).codes)
    assert marginal.log_joint.shape == (10, 3)


@pytest.mark.errors
@each
def test_more_codes_than_there_are_is_refused(method, by_class):
    with pytest.raises(SelectionError, match=r"82 codes were asked for, but a grid 2 by 2 with 3 symbols has 81"):
        method(by_class, 82, generator=seeded(0))
    with pytest.raises(SelectionError, match="at least 1"):
        method(by_class, 0, generator=seeded(0))


@each
def test_the_prior_keeps_its_mode_and_parameters(method):
    prior = PixelCNN((2, 2), 3, num_classes=2, hidden=4, dropout=0.5, generator=seeded(0)).train()
    before = prior.identity
    codes = method(prior, 12, generator=seeded(0))
    assert prior.training
    assert prior.identity == before
    # The weights are the search's own chain in float32 networks, whose rounding depends on the batch.
    torch.testing.assert_close(codes.log_weights, prior.marginal().log_prob(codes.codes).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", [selection.beam, selection.stochastic_beam], ids=lambda m: m.__name__)
def test_a_beam_of_everything_is_the_enumeration(method, by_class):
    every, beam = selection.enumerate(by_class), method(by_class, 81, generator=seeded(0))
    assert len(beam) == len(every) == 81
    assert every.covered_mass == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(beam.log_weights.sort(descending=True).values, every.log_weights)
    if method is selection.beam:
        assert bool((beam.log_weights.diff() <= 0).all())
        torch.testing.assert_close(by_class.marginal().log_prob(beam.codes), every.log_weights)


def test_enumeration_is_best_first_and_its_prefix_the_best(by_class):
    every = selection.enumerate(by_class)
    assert bool((every.log_weights.diff() <= 0).all())
    by_hand = by_class.marginal().log_prob(all_codes(by_class)).sort(descending=True).values
    torch.testing.assert_close(selection.enumerate(by_class, 7).log_weights, by_hand[:7])
    assert torch.equal(selection.enumerate(by_class, 7).codes, every.prefix(7).codes)


def test_enumeration_does_not_depend_on_its_blocks(by_class, monkeypatch):
    whole = selection.enumerate(by_class)
    monkeypatch.setattr("vq_sources.selection.enumeration.BLOCK", 4)
    blocks = selection.enumerate(by_class)
    assert torch.equal(blocks.codes, whole.codes)
    torch.testing.assert_close(blocks.log_joint, whole.log_joint)
    assert (
        selection.enumerate(IndependentPrior((1, 3), (2, 3, 1))).codes.tolist()
        == all_codes(IndependentPrior((1, 3), (2, 3, 1))).tolist()
    )


def test_enumeration_keeps_codes_of_probability_zero():
    prior = EmpiricalPrior((1, 2), 3, num_classes=2)
    prior.fit_counts(torch.tensor([[0, 1], [2, 2], [2, 2]]), torch.tensor([0, 1, 1]))
    every = selection.enumerate(prior)
    assert every.log_weights.exp().tolist() == pytest.approx([2 / 3, 1 / 3] + [0.0] * 7)


@pytest.mark.errors
def test_enumeration_refuses_with_the_number():
    with pytest.raises(SelectionError, match=r"4 by 4 with 256 symbols means 340,282,366,920,938,463,\d+"):
        selection.enumerate(IndependentPrior((4, 4), 256))
    with pytest.raises(SelectionError, match=r"81 codes, more than the limit of 80"):
        selection.enumerate(IndependentPrior((2, 2), 3), limit=80)


def test_beam_takes_the_first_among_equals():
    codes = selection.beam(IndependentPrior((2, 2), 3), 5)
    assert codes.codes.tolist() == [[0, 0, 0, i] for i in range(3)] + [[0, 0, 1, i] for i in range(2)]


def test_beam_of_one_is_greedy(table_prior):
    prior = table_prior(torch.tensor([[0.3, 0.3], [0.4, 0.0]]).log(), (1, 2))
    assert selection.beam(prior, 1).codes.tolist() == [[0, 0]]
    assert selection.enumerate(prior, 1).codes.tolist() == [[1, 0]]
    assert selection.beam(prior, 2).codes.tolist() == [[1, 0], [0, 0]]


@pytest.mark.parametrize("method", [selection.beam, selection.stochastic_beam, selection.ancestral])
def test_codes_of_probability_zero_are_never_kept_and_the_account_says_so(method):
    prior = EmpiricalPrior((2, 2), 3)
    prior.fit_counts(torch.tensor([[0, 1, 2, 0], [0, 1, 2, 0], [1, 1, 1, 1], [2, 0, 2, 0]]))
    codes = method(prior, 10, generator=seeded(0))
    assert (codes.provenance.asked, codes.provenance.reached, len(codes)) == (10, 3, 3)
    assert codes.covered_mass == pytest.approx(1)


@pytest.mark.errors
def test_ancestral_ends_and_counts_its_draws(table_prior):
    table = torch.full((3, 3), -60.0)
    table[1, 1] = 0.0
    codes = selection.ancestral(table_prior(table, (1, 2)), 9, generator=seeded(0), max_draws=1000)
    assert len(codes) == 1
    assert codes.provenance.details == {"draws": 1000, "max_draws": 1000}
    assert (codes.provenance.asked, codes.provenance.reached) == (9, 1)
    with pytest.raises(SelectionError, match="max_draws is 0"):
        selection.ancestral(IndependentPrior((1, 2), 3), 2, max_draws=0)


def test_ancestral_keeps_the_order_of_the_draws(uneven):
    codes = selection.ancestral(uneven, 6, generator=seeded(5))
    draws = uneven.sample(64, seeded(5))
    seen = []
    for code in draws.tolist():
        if code not in seen:
            seen.append(code)
    assert codes.codes.tolist() == seen


@pytest.mark.parametrize("method", [selection.paper_beam, selection.ancestral, selection.stochastic_beam])
def test_a_prefix_serves_all_classes(method):
    prior = IndependentPrior((1, 3), 8, num_classes=4)
    codes = torch.arange(8).repeat_interleave(50)[:, None].expand(-1, 3)
    prior.fit_counts(codes, codes[:, 0] // 2, smoothing=2.0)
    first = method(prior, 64, generator=seeded(0)).prefix(16)
    served = first.log_joint.argmax(1).bincount(minlength=4)
    assert served.min().item() >= 2


def test_paper_beam_by_hand(table_prior):
    """Every first symbol is a start, and beams lose nothing: classes take turns to give codes in their own order."""
    prior = table_prior(torch.randn(3, 3, 3, 3, generator=seeded(2)), (1, 3), classes=True)
    codes = selection.paper_beam(prior, 27, generator=seeded(0))
    ranked = [prior.log_prob(all_codes(prior), c).sort(descending=True).indices.tolist() for c in range(3)]
    expected = list(dict.fromkeys(code for turn in zip(*ranked, strict=True) for code in turn))
    assert [9 * a + 3 * b + c for a, b, c in codes.codes.tolist()] == expected
    assert codes.provenance.details == {"first_codes": 16, "width": 9}


@pytest.mark.errors
def test_paper_beam_reports_what_its_beams_do_not_hold():
    prior = IndependentPrior((1, 2), (4, 2), num_classes=2)
    codes = selection.paper_beam(prior, 8, generator=seeded(0), first_codes=1)
    assert codes.provenance.asked == 8
    assert codes.provenance.reached == len(codes) <= 4
    with pytest.raises(SelectionError, match="first_codes is 0"):
        selection.paper_beam(prior, 2, first_codes=0)


@pytest.mark.errors
def test_encoded_by_frequency_and_in_order():
    prior = IndependentPrior((1, 2), 3)
    codes = torch.tensor([[2, 2], [0, 1], [1, 1], [0, 1], [1, 1], [0, 0], [1, 1]])
    assert selection.encoded(prior, 3, codes).codes.tolist() == [[1, 1], [0, 1], [2, 2]]
    assert selection.encoded_in_order(prior, 3, codes).codes.tolist() == [[2, 2], [0, 1], [1, 1]]
    few = selection.encoded(prior, 9, codes).provenance
    assert (few.asked, few.reached, few.details) == (9, 4, {"data": 7, "distinct": 4})
    with pytest.raises(DataError, match="position 1"):
        selection.encoded(prior, 2, torch.tensor([[0, 3]]))


@pytest.mark.errors
def test_a_prior_that_contradicts_itself_is_named(uneven, monkeypatch):
    right = uneven._next_log_probs
    monkeypatch.setattr(uneven, "_next_log_probs", lambda prefix, label: right(prefix, label) + 1e-6)
    for method in (selection.enumerate, selection.beam, selection.stochastic_beam, selection.paper_beam):
        with pytest.raises(SelectionError, match="contradicts itself"):
            method(uneven, 3, generator=seeded(0))


@pytest.mark.errors
def test_only_a_stochastic_beam_has_inclusion_probabilities(by_class):
    with pytest.raises(SelectionError, match="a set made by beam has no threshold"):
        selection.log_inclusion(selection.beam(by_class, 5))
    codes = selection.stochastic_beam(by_class, 5, generator=seeded(0))
    assert selection.log_inclusion(codes).shape == (5,)
    assert selection.log_inclusion(selection.stochastic_beam(by_class, 81, generator=seeded(0))).tolist() == [0.0] * 81


def test_enumeration_evaluates_each_prefix_once(table_prior):
    prior = table_prior(torch.randn(3, 3, 3, 3, generator=seeded(0)), (2, 2))
    assert len(selection.enumerate(prior)) == 81
    assert prior.evaluations == 3 + 9 + 27 + 81
