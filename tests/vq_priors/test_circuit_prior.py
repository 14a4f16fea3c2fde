"""Circuits over codes as priors: the suite for priors, selections against enumeration, and learning from codes."""

import itertools
import math

import pytest
import torch

import pcircuits as pc
import vq_sources as vq
from pcircuits import structures
from pcircuits.errors import ParameterError
from pcircuits.learning import EMSettings
from vq_sources.priors import CircuitPrior
from vq_sources.testing import check_prior

GRID, CARDINALITIES = (1, 3), (2, 3, 2)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def leaves(variables, width, generator):
    """Units over three states, of which the last is impossible where there are two codes."""
    probs = torch.rand((len(variables), width, 3), generator=generator, dtype=torch.float64) + 0.1
    for row, label in enumerate(variables):
        probs[row, :, CARDINALITIES[label] :] = 0.0
    return pc.Categorical(variables, probs / probs.sum(-1, keepdim=True))


def chain(roots=1):
    return structures.layered(structures.chain(range(3)), leaves, 2, roots=roots, generator=seeded(0))


def prepared(prior):
    """Class probabilities of 40, 15 and 5 codes."""
    codes = torch.stack([torch.randint(k, (60,), generator=seeded(1)) for k in CARDINALITIES], 1)
    prior.prepare((codes, torch.tensor([0] * 40 + [1] * 15 + [2] * 5)))
    return prior


def made(roots):
    return prepared(CircuitPrior(chain(roots), GRID, CARDINALITIES, dtype=torch.float64))


def deterministic():
    """A tree whose latents are the codes, counted without smoothing: most codes are impossible."""
    codes = torch.tensor([[0, 1, 1], [0, 1, 0], [1, 0, 1], [1, 0, 1]])
    start = structures.counted_start(codes, codes, pseudocount=0.0, rows=0.0)
    tree = structures.chow_liu_tree(codes)
    return codes, structures.hidden_tree(tree, structures.categorical_leaves(2), 2, start=start, generator=seeded(0))


@pytest.mark.parametrize("roots", [1, 3])
def test_it_conforms(roots):
    check_prior(made(roots), draws=1000)


def test_it_conforms_where_most_codes_are_impossible():
    check_prior(CircuitPrior(deterministic()[1], dtype=torch.float64), draws=1000)


def test_it_conforms_where_the_circuit_is_not_normalised():
    circuit = chain(3)
    scaled = pc.Circuit(circuit.root.sum(torch.diag(torch.tensor([2.0, 0.5, 1.0], dtype=torch.float64))), range(3))
    prior = prepared(CircuitPrior(scaled, GRID, CARDINALITIES, dtype=torch.float64))
    check_prior(prior, draws=200)
    codes = torch.tensor(list(itertools.product(*map(range, CARDINALITIES))))
    label = torch.arange(12) % 3
    torch.testing.assert_close(prior.log_prob(codes, label), made(3).log_prob(codes, label), rtol=0, atol=1e-12)


def test_float32_keeps_its_digits():
    check_prior(prepared(CircuitPrior(chain(3), GRID, CARDINALITIES, dtype=torch.float32)), draws=500, digits=1e-5)


@pytest.mark.parametrize("roots", [1, 3])
def test_selections_run_on_it(roots):
    prior = made(roots)
    every = vq.selection.enumerate(prior)
    assert every.covered_mass == pytest.approx(1.0, abs=1e-12)
    best = vq.selection.enumerate(prior, 4)
    beam = vq.selection.beam(prior, 12)
    assert torch.equal(beam.codes[:4], best.codes)
    assert len(vq.selection.stochastic_beam(prior, 5, generator=seeded(0))) == 5
    assert len(vq.selection.ancestral(prior, 5, generator=seeded(0))) == 5


def test_the_marginal_circuit_is_the_marginal():
    prior = made(3)
    codes = torch.tensor(list(itertools.product(*map(range, CARDINALITIES))))
    by_hand = [
        math.log(sum((40, 15, 5)[c] / 60 * math.exp(prior.log_prob(code[None], c).item()) for c in range(3)))
        for code in codes
    ]
    got = prior.marginal_circuit().compile(dtype=torch.float64).log_prob(codes.double()).detach()
    torch.testing.assert_close(got, torch.tensor(by_hand, dtype=torch.float64), rtol=0, atol=1e-12)


def test_composed_it_is_its_marginal_and_its_circuit_has_a_root_for_each_class():
    config = vq.PatchVQVAEConfig(
        data_shape=(1, 3), levels=3, grid=(1, 3), num_codes=3, hidden=4, hidden_at_image=4, codebook_dim=4, min_std=0.1
    )
    model = vq.PatchVQVAE(config, seeded(0)).double()
    with torch.random.fork_rng():
        model.prepare((torch.randint(3, (40, 1, 3), generator=seeded(0)),))
    prior, x = made(3), torch.rand((4, 3), generator=seeded(1), dtype=torch.float64)
    whole = vq.compose(model, prior).compile(dtype=torch.float64).log_prob(x)
    each = vq.compose(model, prior.to_circuit()).compile(dtype=torch.float64).log_prob(x)
    wanted = (each + torch.tensor([40 / 60, 15 / 60, 5 / 60], dtype=torch.float64).log()).logsumexp(1)
    torch.testing.assert_close(whole, wanted, rtol=0, atol=1e-12)


def test_it_learns_from_encoded_data_by_gradients():
    codes = torch.stack([torch.randint(2, (200,), generator=seeded(2))] * 3, 1)
    split = vq.data.encoded.EncodedSplit(codes, torch.zeros(200, dtype=torch.int64))
    data = vq.data.encoded.EncodedDataset("triples", (1, 3), (2, 2, 2), 1, split, split, split)
    leaves = structures.categorical_leaves(2)
    prior = CircuitPrior(structures.layered(structures.chain(range(3)), leaves, 2, generator=seeded(0)), GRID)
    vq.fit(prior, data, vq.FitSettings(epochs=30, batch_size=50, learning_rate=0.1))
    bits = -prior.log_prob(codes).mean().item() / math.log(2)
    assert bits == pytest.approx(1.0, abs=0.05)  # one fair coin, seen three times


def test_settings_tell_structures_apart_and_identities_tell_weights_apart():
    first, second = made(1), made(1)
    assert first.identity == second.identity
    with torch.no_grad():
        next(iter(second.parameters())).add_(torch.rand(1))
    assert first.identity != second.identity


@pytest.mark.errors
@pytest.mark.parametrize(
    ("circuit", "num_codes", "says"),
    [
        (pc.Circuit(pc.Normal([0, 1], [[0.0], [1.0]], 1.0).prod()), None, "the variable 0 is a real number"),
        (pc.Circuit(pc.Poisson([0, 1], [[1.0], [1.0]]).prod()), None, "no largest state"),
        (pc.Circuit(pc.Bernoulli([0, 1], [[0.5], [0.5]]).prod()), 3, "num_codes is 3 at position 0"),
        (pc.Circuit(pc.Indicator(0, 2) * pc.Bernoulli(1, 0.5)), 2, "num_codes is 2 at position 0"),
    ],
    ids=["Normal", "Poisson", "more codes", "fewer codes"],
)
def test_what_is_no_circuit_over_codes_says_why(circuit, num_codes, says):
    with pytest.raises(ParameterError, match=says):
        CircuitPrior(circuit, num_codes=num_codes)


def test_em_learns_each_class_from_its_own_codes():
    """Two classes that are each other's mirror: what EM finds gives each code the class it is of."""
    base = torch.randint(2, (300,), generator=seeded(3))
    codes = torch.stack([base, base, torch.randint(2, (300,), generator=seeded(4))], 1)
    labels = torch.arange(300) % 3 // 2  # two thirds are of the first class
    codes[labels == 1, 1] = 1 - codes[labels == 1, 1]
    split = vq.data.encoded.EncodedSplit(codes, labels)
    data = vq.data.encoded.EncodedDataset("pairs", (1, 3), (2, 2, 2), 2, split, split, split)
    tree = structures.chow_liu_tree(codes)
    circuit = structures.hidden_tree(tree, structures.categorical_leaves(2), 4, 2, generator=seeded(0))
    prior = CircuitPrior(circuit, GRID, dtype=torch.float64)
    history = prior.em(data, EMSettings(epochs=40, pseudocount=1e-6))
    losses = [epoch.train_loss for epoch in history.epochs]
    assert all(later <= earlier + 1e-6 for earlier, later in itertools.pairwise(losses))
    assert prior.class_probs.tolist() == pytest.approx([2 / 3, 1 / 3])
    every = torch.tensor(list(itertools.product(range(2), repeat=3)))
    for label in (0, 1):
        probs = prior.log_prob(every, label).detach().exp()
        frequencies = torch.stack([(codes[labels == label] == code).all(1).double().mean() for code in every])
        assert float((probs - frequencies).abs().max()) < 0.05
