"""The gated PixelCNN: what each position sees, and what training changes."""

import itertools

import pytest
import torch

from vq_sources.errors import ConfigError
from vq_sources.priors import PixelCNN, PixelCNNConfig


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(grid: tuple[int, int], layers: int | None = None) -> PixelCNN:
    made = PixelCNN(grid, 3, num_classes=2, hidden=6, layers=layers, generator=seeded(0))
    return made.double()


def influence(prior: PixelCNN) -> torch.Tensor:
    """(P, P): the largest |∂ logits of position i / ∂ embedded input of position j| over a few random grids.

    A few, because at a single one the rectifiers of a position may all be off.
    """
    height, width = prior.grid
    embedded = torch.randn(4, height, width, 6, dtype=torch.float64, generator=seeded(2))
    label = torch.tensor([0, 1, 0, 1])
    jacobian = torch.autograd.functional.jacobian(lambda e: prior.logits(e, label).sum((0, 2)), embedded)
    return jacobian.abs().amax((1, 4)).flatten(1)


@pytest.mark.parametrize("grid", [(1, 1), (1, 5), (5, 1), (2, 2), (2, 5), (5, 2), (3, 4), (4, 4), (7, 7)])
def test_every_position_sees_its_whole_past_and_nothing_else(grid):
    seen = influence(network(grid))
    past = torch.ones_like(seen).tril(-1).bool()
    assert bool((seen[~past] == 0).all())
    assert bool((seen[past] > 0).all())


@pytest.mark.errors
@pytest.mark.parametrize("grid", [(2, 5), (5, 2), (4, 4), (7, 7), (6, 3)])
def test_the_depth_that_is_needed_is_enough_and_one_less_is_not(grid, monkeypatch):
    needed = PixelCNNConfig(grid, 3).layers_needed
    past = torch.ones(grid[0] * grid[1], grid[0] * grid[1]).tril(-1).bool()
    assert bool((influence(network(grid, needed))[past] > 0).all())
    with pytest.raises(ConfigError, match=f"only from {needed} layers on"):
        network(grid, needed - 1)
    monkeypatch.setattr("vq_sources.priors.pixelcnn._check", lambda config: None)
    assert bool((influence(network(grid, needed - 1))[past] == 0).any())


@pytest.mark.parametrize("grid", [(1, 3), (3, 1), (2, 3), (3, 2), (4, 5)])
def test_one_position_equals_the_whole_network(grid):
    prior = network(grid)
    codes = torch.randint(3, (9, grid[0] * grid[1]), generator=seeded(1))
    label = torch.arange(9) % 2
    whole = prior.logits(prior.embed(codes), label).log_softmax(-1)
    for t in range(codes.shape[1]):
        torch.testing.assert_close(prior.next_log_probs(codes[:, :t], label), whole[:, t], rtol=1e-12, atol=1e-12)


def test_float32_agrees_with_float64_and_answers_in_float64():
    single = PixelCNN((4, 4), 16, hidden=32, generator=seeded(0))
    codes = torch.randint(16, (50, 16), generator=seeded(1))
    answer = single.log_prob(codes)
    assert answer.dtype == torch.float64
    chain = sum(single.next_log_probs(codes[:, :t]).gather(1, codes[:, t : t + 1])[:, 0].detach() for t in range(16))
    torch.testing.assert_close(chain, answer.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(single.double().log_prob(codes), answer, rtol=1e-5, atol=1e-5)


def test_dropout_acts_in_the_training_loss_alone():
    prior = PixelCNN((2, 2), 3, hidden=8, dropout=0.5, generator=seeded(0))
    codes = torch.randint(3, (30, 4), generator=seeded(1))
    batch = (codes, torch.zeros(30, dtype=torch.int64))
    prior.eval()
    answer, loss = prior.log_prob(codes), prior.loss(batch)[0]
    prior.train()
    assert torch.equal(prior.log_prob(codes), answer)
    assert not torch.equal(prior.loss(batch)[0], prior.loss(batch)[0])
    prior.eval()
    assert torch.equal(prior.loss(batch)[0], loss)


def test_initial_weights_depend_on_the_generator_alone():
    state = torch.get_rng_state()
    one, same, other = (PixelCNN((2, 2), 3, hidden=4, generator=seeded(s)) for s in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert one.identity == same.identity != other.identity


def test_training_fits_codes_whose_symbols_depend_on_each_other_and_on_the_class():
    g = seeded(3)
    labels, first = torch.randint(2, (128,), generator=g), torch.randint(4, (128,), generator=g)
    codes = torch.stack([first, (first + labels) % 4, torch.full_like(first, 2), first], 1)
    prior = PixelCNN((2, 2), 4, num_classes=2, hidden=16, dropout=0.0, generator=g)
    optimiser = torch.optim.Adam(prior.parameters(), lr=2e-2)
    for _ in range(60):
        optimiser.zero_grad()
        loss, _ = prior.loss((codes, labels))
        loss.backward()
        optimiser.step()
    # Only the first symbol is random: log 4 nats, of which 128 codes show nearly all.
    assert loss.item() < 1.45
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in prior.parameters())
    assert all(bool(layer.by_class.grad.flatten(1).any(1).all()) for layer in prior.stack)


def test_unequal_alphabets_share_no_mass():
    prior = PixelCNN((1, 3), (2, 4, 1), hidden=5, generator=seeded(0))
    every = torch.tensor(list(itertools.product(range(2), range(4), range(1))))
    assert prior.log_prob(every).exp().sum().item() == pytest.approx(1, abs=1e-5)
    assert prior.next_log_probs(every[:, :2]).tolist() == [[0.0]] * 8


def test_a_configuration_rebuilds_the_prior():
    prior = PixelCNN((2, 3), 5, num_classes=4, hidden=7, layers=3, dropout=0.2, generator=seeded(0))
    again = PixelCNN.from_config(prior.config, seeded(0))
    assert again.config == prior.config
    assert again.identity == prior.identity


@pytest.mark.errors
@pytest.mark.parametrize(("option", "message"), [({"hidden": 0}, "hidden is 0"), ({"dropout": 1.0}, "dropout is 1.0")])
def test_impossible_sizes_are_refused(option, message):
    with pytest.raises(ConfigError, match=message):
        PixelCNN((2, 2), 3, **option)
