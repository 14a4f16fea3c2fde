"""Every prior against the conformance suite, and the suite against priors that are broken on purpose."""

import math

import pytest
import torch

from vq_sources.errors import SelectionError
from vq_sources.priors import ClassMarginal, EmpiricalPrior, IndependentPrior, PixelCNN
from vq_sources.testing import check_prior

GRID, CARDINALITIES = (1, 3), (2, 3, 2)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def prepared(prior):
    """Fitted to 60 codes of unequal classes: 40, 15 and 5."""
    g = seeded(1)
    labels = torch.tensor([0] * 40 + [1] * 15 + [2] * 5)
    codes = torch.stack([torch.randint(k, (60,), generator=g) for k in CARDINALITIES], 1)
    codes[:, 1] = (codes[:, 0] + labels) % 3
    prior.prepare((codes, labels))
    return prior


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize(
    "member",
    [
        lambda c: PixelCNN(GRID, CARDINALITIES, num_classes=c, hidden=6, generator=seeded(0)).double(),
        lambda c: IndependentPrior(GRID, CARDINALITIES, num_classes=c).double(),
        lambda c: EmpiricalPrior(GRID, CARDINALITIES, num_classes=c),
        lambda c: EmpiricalPrior(GRID, CARDINALITIES, num_classes=c, uniform_share=0.1),
    ],
    ids=["pixelcnn", "independent", "empirical", "smoothed"],
)
def test_priors_conform(member, num_classes):
    check_prior(prepared(member(num_classes)), draws=1000)


def test_a_marginal_with_classes_of_its_own_conforms():
    prior = prepared(IndependentPrior(GRID, CARDINALITIES, num_classes=3).double())
    check_prior(ClassMarginal(prior, torch.tensor([0.7, 0.1, 0.2], dtype=torch.float64)))


def test_the_marginal_starts_from_unequal_classes():
    """p(z_0) = Σ_c p(c) p(z_0 | c), by hand: classes of 3/4 and 1/4, whose first symbols are 0 and 1."""
    prior = IndependentPrior((1, 2), 2, num_classes=2).double()
    codes, labels = torch.tensor([[0, 0], [0, 1], [0, 1], [1, 1]]), torch.tensor([0, 0, 0, 1])
    prior.prepare((codes, labels))
    prior.fit_counts(codes, labels, smoothing=0.0)
    marginal = prior.marginal()
    state = marginal.start(2)
    assert marginal.next_from(state).exp().tolist() == [pytest.approx([0.75, 0.25])] * 2
    state = marginal.extend(state, torch.tensor([0, 1]))
    assert marginal.next_from(state).exp().tolist() == [pytest.approx([1 / 3, 2 / 3]), pytest.approx([0.0, 1.0])]


class Unnormalised(IndependentPrior):
    def _log_prob(self, codes, label):
        return super()._log_prob(codes, label) + 1e-6


class ForgetsThePrefix(EmpiricalPrior):
    def _next_log_probs(self, prefix, label):
        return super()._next_log_probs(torch.zeros_like(prefix), label)


class LosesTheOrder(EmpiricalPrior):
    def reorder(self, state, index):
        return super().reorder(state, index.sort().values)


class DropsOut(IndependentPrior):
    def _log_prob(self, codes, label):
        value = super()._log_prob(codes, label)
        return value * 1.01 if self.training else value


class DependsOnTheBatch(IndependentPrior):
    def _log_prob(self, codes, label):
        value = super()._log_prob(codes, label)
        return value if len(codes) > 6 else value - value.mean()


class SamplesUniformly(IndependentPrior):
    def sample(self, n, generator=None, label=None):
        return torch.stack([torch.randint(k, (n,), generator=generator) for k in self.cardinalities], 1)


class FirstLabelForAll(IndependentPrior):
    def _log_prob(self, codes, label):
        return super()._log_prob(codes, None if label is None else label[:1].expand(len(codes)))


class EqualClasses(IndependentPrior):
    def marginal(self):
        return ClassMarginal(self, torch.full((3,), 1 / 3))


class Single(IndependentPrior):
    def _log_prob(self, codes, label):
        return super()._log_prob(codes, label).float()


class Detached(IndependentPrior):
    def _log_prob(self, codes, label):
        return super()._log_prob(codes, label).detach()


@pytest.mark.errors
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Unnormalised, "probability of all codes"),
        (ForgetsThePrefix, "chain of next_log_probs"),
        (LosesTheOrder, "extend and reorder|next_from"),
        (DropsOut, "log_prob with training=True"),
        (DependsOnTheBatch, "log_prob of rows apart"),
        (SamplesUniformly, "do not follow log_prob"),
        (FirstLabelForAll, "a label for each row"),
        (EqualClasses, "sum over classes"),
        (Single, "float32"),
        (Detached, "no gradient flows"),
    ],
)
def test_the_suite_finds_broken_priors(broken, message):
    with pytest.raises(AssertionError, match=message):
        check_prior(prepared(broken(GRID, CARDINALITIES, num_classes=3).double().eval()))


@pytest.mark.errors
def test_too_many_codes_are_refused():
    with pytest.raises(SelectionError, match="a smaller grid"):
        check_prior(IndependentPrior((4, 4), 8))
    assert math.isclose(IndependentPrior((4, 4), 8).log_num_codes, 16 * math.log(8))
