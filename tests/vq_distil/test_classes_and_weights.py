"""Roots for classes of which some have no images, and weights that no float holds."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

import pcircuits as pc
import vq_sources as vq
from pcircuits.testing.oracle import Oracle
from vq_sources.codes import CodeSet, Provenance
from vq_sources.errors import DataError, SelectionError

LEVELS, SHAPE, GRID, K = 5, (4, 4), (1, 2), 3


def seeded():
    return torch.Generator().manual_seed(0)


def teacher(grid=GRID, num_codes=K):
    config = vq.VQVAEConfig(data_shape=SHAPE, levels=LEVELS, grid=grid, num_codes=num_codes, hidden=8, min_std=0.1)
    model = vq.VQVAE(config, seeded()).double()
    model.prepare((torch.randint(LEVELS, (60, *SHAPE), generator=seeded()),))
    return model


def prior_without_class_1():
    prior = vq.IndependentPrior(GRID, K, num_classes=3)
    prior.fit_counts(torch.randint(K, (30, 2), generator=seeded()), torch.tensor([0, 2]).repeat(15))
    return prior


def rows(n=4):
    pixels = torch.randint(LEVELS, (n, SHAPE[0] * SHAPE[1]), generator=seeded())
    return vq.dequantise(pixels, LEVELS, seeded(), torch.float64)


def units(model, codes, x):
    """log p(x_b | z_n), (B, N), by torch.distributions."""
    made = {name: value.detach() for name, value in model.likelihood(codes).items()}
    return torch.distributions.Normal(made["loc"], made["scale"]).log_prob(x[:, None]).sum(-1).numpy()


def answers(circuit, x):
    with torch.no_grad():
        return circuit.compile(dtype=torch.float64).log_prob(x)


@pytest.mark.errors  # NumPy's integers are taken, though not announced
@pytest.mark.parametrize("chosen", [[0, 2], [2, 0], (np.int64(0), 2), torch.tensor([2])], ids=str)
def test_roots_of_chosen_classes_are_those_classes(chosen):
    model, prior = teacher(), prior_without_class_1()
    codes, x = vq.selection.enumerate(prior), rows()
    found = answers(vq.distil(model, codes, "prior", classes=chosen), x)
    table = units(model, codes.codes, x)
    wanted = np.stack([logsumexp(table + prior.log_prob(codes.codes, int(c)).detach().numpy(), 1) for c in chosen], 1)
    assert found.shape == (len(x), len(chosen)) or len(chosen) == 1
    assert found.flatten().tolist() == pytest.approx(wanted.flatten().tolist(), rel=1e-9)


@pytest.mark.errors
def test_a_class_without_images_alone_is_refused():
    model, codes = teacher(), vq.selection.enumerate(prior_without_class_1())
    with pytest.raises(SelectionError, match=r"class 1 cannot have a root .* Pass classes=\[0, 2\]"):
        vq.distil(model, codes, "prior", classes=True)
    with pytest.raises(SelectionError, match=r"class 1 cannot have a root"):
        vq.distil(model, codes, "prior", classes=[1, 2])


def test_the_bound_of_a_class_without_images_is_zero():
    model, codes, x = teacher(), vq.selection.enumerate(prior_without_class_1()), rows()
    found = answers(vq.distil(model, codes, "bound", classes=True), x)
    assert (found[:, 1] == -torch.inf).all()
    whole = answers(vq.distil(model, codes, "bound"), x)
    assert found.logsumexp(1).tolist() == pytest.approx(whole.tolist(), rel=1e-9)


@pytest.mark.errors
@pytest.mark.parametrize("wrong", [[3], [-1], [0, 0], [], ["0"], [0.5], 2.5, "all"], ids=str)
def test_classes_that_are_none_are_refused(wrong):
    with pytest.raises(SelectionError, match="classes"):
        vq.distil(teacher(), vq.selection.enumerate(prior_without_class_1()), "bound", classes=wrong)


@pytest.mark.errors
def test_labels_are_tensors_of_integers():
    prior = prior_without_class_1()
    codes = torch.zeros(2, 2, dtype=torch.int64)
    assert torch.equal(prior.log_prob(codes, np.int64(2)), prior.log_prob(codes, 2))
    assert torch.equal(prior.log_prob(codes, torch.tensor([2, 0], dtype=torch.uint8)), prior.log_prob(codes, torch.tensor([2, 0])))  # fmt: skip  # noqa: E501
    for wrong in ([0, 1], np.array([0, 1]), 0.5, "0", torch.zeros(2), torch.zeros(2, dtype=torch.bool)):
        with pytest.raises(DataError, match="label"):
            prior.log_prob(codes, wrong)
    with pytest.raises(DataError, match=r"codes must be a tensor of integers, not list: torch.as_tensor"):
        prior.log_prob([[0, 0]])


def code_set(log_weights):
    """Codes of a grid of two positions, with weights as if it were much larger."""
    n = len(log_weights)
    codes = torch.cartesian_prod(torch.arange(K), torch.arange(K))[:n]
    log = torch.tensor(log_weights, dtype=torch.float64)
    return CodeSet(codes, log, GRID, (K, K), Provenance("by hand", None, n, n, ""))


@pytest.mark.parametrize("low", [-50.0, -700.0, -1597.0, -20000.0])
def test_weights_renormalised_on_the_set_need_no_float_to_hold_them(low):
    model, x = teacher(), rows()
    codes = code_set([low, low - 1.0, low - 2.5])
    found = answers(vq.distil(model, codes, "prior"), x)
    log = codes.log_weights.numpy()
    wanted = logsumexp(units(model, codes.codes, x) + log - logsumexp(log), 1)
    assert found.tolist() == pytest.approx(wanted.tolist(), rel=1e-9)


@pytest.mark.parametrize("low", [-50.0, -1597.0, -20000.0])
def test_the_bound_needs_no_float_to_hold_its_weights(low):
    """Codes of a grid 16 by 16 with 512 codes each have log p(z) = -1597 under a uniform prior."""
    model, x = teacher(), rows()
    codes = code_set([low, low - 1.0, -torch.inf])
    circuit = vq.distil(model, codes, "bound", eager=True)
    assert circuit.root.weights.log().tolist() == codes.log_weights.tolist()
    parts = units(model, codes.codes, x)
    oracle = Oracle(circuit)
    for row, part in zip(x.tolist(), parts, strict=True):
        wanted = logsumexp(part + codes.log_weights.numpy())
        assert oracle.log_value(dict(enumerate(row))) == pytest.approx(wanted, rel=1e-12)
    found = answers(pc.normalise(circuit), x)
    wanted = logsumexp(parts[:, :2] + np.array([0.0, -1.0]), 1) - logsumexp([0.0, -1.0])
    assert found.tolist() == pytest.approx(wanted.tolist(), rel=1e-9)


@pytest.mark.errors
def test_codes_that_are_all_impossible_are_refused():
    with pytest.raises(SelectionError, match="every code of the set has probability zero"):
        vq.distil(teacher(), code_set([-torch.inf, -torch.inf]), "prior")


def test_weights_of_half_precision_that_sum_to_one_are_a_simplex():
    codes = code_set([-1.0] * 9)
    weights = torch.softmax(torch.linspace(0, 1, 9), 0)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        circuit = vq.distil(teacher(), codes, weights.to(dtype))
        assert circuit.check().normalised.holds
