"""The laws that every prior keeps, member by member, against enumeration."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from pcircuits.errors import CircuitError
from vq_sources.errors import ConfigError, DataError, SelectionError
from vq_sources.priors import AutoregressivePrior, ClassMarginal, EmpiricalPrior, IndependentPrior, PixelCNN

CARDINALITIES = (2, 3, 2, 3)
EVERY = torch.tensor(list(itertools.product(*(range(k) for k in CARDINALITIES))))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def training_split() -> tuple[torch.Tensor, torch.Tensor]:
    g = seeded(1)
    weights = torch.rand(len(EVERY), generator=g) ** 3
    codes = EVERY[torch.multinomial(weights, 90, replacement=True, generator=g)]
    return codes, (codes.sum(1) + torch.randint(2, (90,), generator=g)) % 3


def fitted(prior: AutoregressivePrior) -> AutoregressivePrior:
    prior.prepare(training_split())
    return prior


def pixelcnn(num_classes: int | None) -> AutoregressivePrior:
    return fitted(PixelCNN((2, 2), CARDINALITIES, num_classes=num_classes, hidden=6, generator=seeded(0)).double())


def independent(num_classes: int | None) -> AutoregressivePrior:
    return fitted(IndependentPrior((2, 2), CARDINALITIES, num_classes=num_classes).double())


def empirical(num_classes: int | None) -> AutoregressivePrior:
    return fitted(EmpiricalPrior((2, 2), CARDINALITIES, num_classes=num_classes))


def smoothed(num_classes: int | None) -> AutoregressivePrior:
    return fitted(EmpiricalPrior((2, 2), CARDINALITIES, num_classes=num_classes, uniform_share=0.1))


def marginal_of(member: Callable[[int | None], AutoregressivePrior]) -> Callable[[], AutoregressivePrior]:
    return lambda: member(3).marginal()


MEMBERS = [pixelcnn, independent, empirical, smoothed]
CASES = [(lambda m=m, c=c: m(c), 2 if c else None) for m in MEMBERS for c in (None, 3)]
CASES += [(marginal_of(m), None) for m in MEMBERS]
NAMES = [f"{m.__name__}-{c}" for m in MEMBERS for c in ("plain", "class")] + [f"{m.__name__}-marginal" for m in MEMBERS]
each = pytest.mark.parametrize(("make", "label"), CASES, ids=NAMES)


@each
def test_probabilities_of_all_codes_sum_to_one(make, label):
    assert make().log_prob(EVERY, label).exp().sum().item() == pytest.approx(1, abs=1e-12)


@each
def test_next_symbols_sum_to_one_and_chain_to_log_prob(make, label):
    prior = make()
    chain = torch.zeros(len(EVERY), dtype=torch.float64)
    for t, cardinality in enumerate(CARDINALITIES):
        following = prior.next_log_probs(EVERY[:, :t], label)
        assert following.shape == (len(EVERY), cardinality)
        torch.testing.assert_close(following.exp().sum(1), torch.ones(len(EVERY)).double(), rtol=0, atol=1e-12)
        chain = chain + following.gather(1, EVERY[:, t : t + 1])[:, 0]
    torch.testing.assert_close(chain, prior.log_prob(EVERY, label), rtol=1e-12, atol=1e-12)


@each
def test_states_answer_as_prefixes_do_through_reordering(make, label):
    prior, g = make(), seeded(3)
    prefix = torch.empty((1, 0), dtype=torch.int64)
    state = prior.start(1, label)
    for cardinality in CARDINALITIES:
        torch.testing.assert_close(prior.next_from(state), prior.next_log_probs(prefix, label), rtol=1e-12, atol=1e-12)
        index = torch.randint(len(prefix), (7,), generator=g)
        symbols = torch.randint(cardinality, (7,), generator=g)
        state = prior.extend(prior.reorder(state, index), symbols)
        prefix = torch.cat([prefix[index], symbols[:, None]], 1)
        assert state.prefix.tolist() == prefix.tolist()


@each
def test_answers_do_not_depend_on_the_blocks(make, label, monkeypatch):
    prior = make()
    whole, following = prior.log_prob(EVERY, label), prior.next_log_probs(EVERY[:, :2], label)
    for module in ("interface", "class_marginal", "pixelcnn"):
        monkeypatch.setattr(f"vq_sources.priors.{module}.BLOCK_NUMBERS", 1)
    torch.testing.assert_close(prior.log_prob(EVERY, label), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(prior.next_log_probs(EVERY[:, :2], label), following, rtol=1e-12, atol=1e-12)


@each
def test_samples_follow_the_density(make, label):
    prior = make()
    probs = prior.log_prob(EVERY, label).exp().detach()
    samples = prior.sample(4000, seeded(11), label)
    index = (samples[:, None] == EVERY).all(2).float().argmax(1)
    counts = torch.bincount(index, minlength=len(EVERY)).double()
    assert counts[probs == 0].sum() == 0
    common = probs * 4000 >= 5
    observed = torch.cat([counts[common], counts[~common].sum()[None]])
    expected = torch.cat([probs[common], probs[~common].sum()[None]]) * 4000
    kept = expected > 0
    assert chisquare(observed[kept], expected[kept] * (4000 / expected[kept].sum())).pvalue > 1e-3


@each
def test_samples_depend_on_the_seed_alone(make, label):
    prior = make()
    first = prior.sample(20, seeded(4), label)
    torch.rand(3)
    assert torch.equal(first, prior.sample(20, seeded(4), label))
    assert not torch.equal(first, prior.sample(20, seeded(5), label))


@each
def test_an_empty_batch_gives_empty_answers(make, label):
    prior = make()
    nothing = torch.empty((0, 4), dtype=torch.int64)
    assert prior.log_prob(nothing, label).shape == (0,)
    assert prior.next_log_probs(nothing[:, :1], label).shape == (0, 3)
    assert prior.sample(0, seeded(0), label).shape == (0, 4)


@each
def test_loss_is_the_mean_negative_log_likelihood(make, label):
    prior = make().eval()
    codes, labels = training_split()
    loss, metrics = prior.loss((codes, labels))
    mean = -prior.log_prob(codes, labels if label is not None else None).mean()
    torch.testing.assert_close(loss, mean)
    assert metrics["bits_per_symbol"].item() == pytest.approx(mean.item() / (4 * math.log(2)))


@each
def test_state_dict_and_identity_round_trip(make, label):
    prior, other = make(), make()
    assert prior.identity == other.identity
    other.load_state_dict(prior.state_dict())
    torch.testing.assert_close(other.log_prob(EVERY, label), prior.log_prob(EVERY, label))
    changed = {
        name: value + 1 if value.dtype.is_floating_point else value for name, value in prior.state_dict().items()
    }
    if any(value.dtype.is_floating_point for value in changed.values()):
        other.load_state_dict(changed)
        assert other.identity != prior.identity


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.__name__)
def test_marginal_is_the_sum_over_classes(member):
    prior = member(3)
    marginal = prior.marginal()
    _, labels = training_split()
    frequencies = torch.bincount(labels).double() / len(labels)
    torch.testing.assert_close(prior.class_probs, frequencies)
    by_hand = torch.stack([prior.log_prob(EVERY, c).exp() * frequencies[c] for c in range(3)], 1)
    torch.testing.assert_close(marginal.log_joint(EVERY).exp(), by_hand)
    torch.testing.assert_close(marginal.log_prob(EVERY).exp(), by_hand.sum(1))


@pytest.mark.errors
@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.__name__)
def test_labels_are_asked_for_and_checked(member):
    prior, codes = member(3), EVERY[:2]
    with pytest.raises(SelectionError, match=r"conditional on 3 classes.*prior\.marginal\(\)"):
        prior.log_prob(codes)
    with pytest.raises(SelectionError, match="without labels"):
        prior.sample(3, seeded(0))
    with pytest.raises(DataError, match="label 3"):
        prior.log_prob(codes, 3)
    with pytest.raises(DataError, match=r"labels must be int64 of shape \(2,\)"):
        prior.log_prob(codes, torch.tensor([0, 1, 2]))
    with pytest.raises(SelectionError, match="no classes"):
        member(None).log_prob(codes, 1)
    assert torch.equal(prior.log_prob(codes, 1), prior.log_prob(codes, torch.tensor([1, 1])))


@pytest.mark.errors
@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.__name__)
def test_codes_and_prefixes_are_checked(member):
    prior = member(None)
    with pytest.raises(DataError, match=r"position 1"):
        prior.log_prob(torch.tensor([[0, 3, 0, 0]]))
    with pytest.raises(DataError, match=r"shape"):
        prior.log_prob(torch.tensor([[0, 1, 0]]))
    with pytest.raises(DataError, match="a prefix is"):
        prior.next_log_probs(EVERY)


@pytest.mark.errors
@pytest.mark.parametrize("classes", [None, 2])
@pytest.mark.parametrize("n", [3.5, 3.0, "3", -1, None, True])
def test_numbers_of_samples_are_whole(n, classes):
    prior = IndependentPrior((1, 2), 2, num_classes=classes).marginal()
    with pytest.raises(DataError, match=r"n is .*: it must be an integer >= 0"):
        prior.sample(n)
    assert prior.sample(np.int64(3)).shape == (3, 2)
    with pytest.raises(CircuitError, match=r"generator is a torch\.Generator, not 7"):
        prior.sample(3, 7)


@pytest.mark.errors
def test_impossible_grids_are_refused():
    with pytest.raises(ConfigError, match="at least one position"):
        IndependentPrior((0, 2), 3)
    with pytest.raises(ConfigError, match="one number >= 1, or 4 of them"):
        IndependentPrior((2, 2), (3, 3))
    with pytest.raises(ConfigError, match="num_classes is 0"):
        IndependentPrior((2, 2), 3, num_classes=0)


def test_a_prior_without_classes_is_its_own_marginal():
    prior = IndependentPrior((2, 2), 3)
    assert prior.marginal() is prior


def test_class_probabilities_in_single_precision_sum_to_one() -> None:
    """Tenths in float32 add up to 1 + 4·10^-8, which all codes together would inherit."""
    prior = independent(3)
    probs = torch.tensor([0.1, 0.3, 0.6])
    marginal = ClassMarginal(prior, probs)
    assert probs.double().sum().item() != pytest.approx(1.0, abs=1e-9)
    assert marginal.log_prob(EVERY).exp().sum().item() == pytest.approx(1.0, abs=1e-12)
    assert marginal.class_probs.tolist() == pytest.approx([0.1, 0.3, 0.6], abs=1e-7)
