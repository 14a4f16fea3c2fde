"""Fine-tuning: its gradient against that of the exact likelihood, that rounds raise it, and that they resume."""

import math

import pytest
import torch
from torch import nn

import pcircuits as pc
import vq_sources as vq
from pcircuits.errors import FileFormatError, ParameterError
from pcircuits.learning import FitSettings
from vq_sources.errors import ConfigError
from vq_sources.finetune import _Tuned

LEVELS, SHAPE, K = 5, (2, 4), 2


def images(n, seed=0):
    return torch.randint(LEVELS, (n, *SHAPE), generator=torch.Generator().manual_seed(seed))


def tiny(family=None):
    config = vq.VQVAEConfig(
        data_shape=SHAPE, levels=LEVELS, grid=(1, 2), num_codes=K, hidden=4, hidden_at_image=4, codebook_dim=2,
        family=family or pc.families.Normal(), min_std=0.1,
    )  # fmt: skip
    model = vq.VQVAE(config, torch.Generator().manual_seed(1)).double()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.prepare((images(60),))
    return model


def every():
    prior = vq.IndependentPrior((1, 2), K).double()
    with torch.no_grad():
        prior.logits.add_(torch.randn(prior.logits.shape, generator=torch.Generator().manual_seed(4)))
    return vq.selection.enumerate(prior)


def rows(n=12, seed=2):
    return (images(n, seed).flatten(1).double() + 0.5) / LEVELS


def exact(model, weights, x):
    """−log Σ_n w_n Π_v Normal(x_v; …), on average, written out."""
    made = model.likelihood(every().codes)
    loc, scale = made["loc"], made["scale"]
    logs = -0.5 * ((x[:, None] - loc) / scale) ** 2 - scale.log() - 0.5 * math.log(2 * math.pi)
    return -(logs.sum(2) + weights.log()).logsumexp(1).mean()


def test_with_all_codes_its_gradient_is_that_of_the_likelihood():
    model, x = tiny(), rows()
    tuned = _Tuned(model, every())
    index, shares, value = tuned.posterior(x, len(every()))
    loss, _ = tuned.loss((x, index, shares))
    loss.backward()
    weights = every().log_weights.softmax(0)
    wanted = exact(model, weights, x)
    wanted.backward()
    assert value == pytest.approx(wanted.item(), rel=1e-10)
    for (name, got), (_, own) in zip(tuned.source.named_parameters(), model.named_parameters(), strict=True):
        if own.grad is None:
            assert got.grad is None or not bool(got.grad.any()), name
        else:
            torch.testing.assert_close(got.grad, own.grad, rtol=1e-8, atol=1e-10, msg=name)


def test_rounds_raise_the_likelihood_that_they_say():
    model, x = tiny(), rows(60)
    settings = FitSettings(epochs=5, batch_size=60, learning_rate=2e-3)
    tuned = vq.finetune(model, every(), x, rows(20, 5), rounds=4, top=2, settings=settings)
    values = [one.train for one in tuned.rounds]
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0] - 0.05
    assert all(0.5 < one.covered <= 1 + 1e-12 for one in tuned.rounds)
    assert values[0] == pytest.approx(exact(model, every().log_weights.softmax(0), x).item(), rel=1e-10)
    assert values[-1] == pytest.approx(exact(tuned.source, tuned.weights, x).item(), rel=1e-10)
    circuit = vq.distil(tuned.source, every(), tuned.weights).compile(dtype=torch.float64)
    assert -circuit.log_prob(rows(20, 5)).mean().item() == pytest.approx(tuned.rounds[-1].validation, rel=1e-10)


def test_the_model_that_it_starts_from_stays():
    model = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tuned = vq.finetune(model.train(), every(), rows(), rounds=1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert tuned.source.training
    moved = [n for n, v in tuned.source.state_dict().items() if not torch.equal(v, before[n])]
    assert moved
    assert all(name.startswith(("decoder", "head")) for name in moved)


def test_it_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    options = {"top": 2, "settings": FitSettings(epochs=2, batch_size=6)}
    whole = vq.finetune(tiny(), every(), rows(), rounds=3, **options)
    vq.finetune(tiny(), every(), rows(), rounds=1, folder=tmp_path, **options)
    posterior, asked = _Tuned.posterior, []
    monkeypatch.setattr(_Tuned, "posterior", lambda *args: (asked.append(1), posterior(*args))[1])
    again = vq.finetune(tiny(), every(), rows(), rounds=3, folder=tmp_path, **options)
    assert len(asked) == 3  # of the two rounds that were missing, and of what came of them
    assert torch.equal(again.weights, whole.weights)
    assert again.rounds == whole.rounds
    for name, value in whole.source.state_dict().items():
        assert torch.equal(again.source.state_dict()[name], value), name


@pytest.mark.errors
def test_bad_requests_say_why(tmp_path):
    with pytest.raises(ParameterError, match=r"an nn\.Module"):
        vq.finetune(object(), every(), rows())
    with pytest.raises(ConfigError, match="rounds"):
        vq.finetune(tiny(), every(), rows(), rounds=0)
    vq.finetune(tiny(), every(), rows(), rounds=1, folder=tmp_path)
    with pytest.raises(FileFormatError, match="rounds of this model and these codes"):
        vq.finetune(Other(), every().prefix(2), rows(), rounds=2, folder=tmp_path)


class Other(nn.Module):
    """A decoder of other weights."""

    cardinalities, grid, data_shape, levels, family = (K, K), (1, 2), SHAPE, LEVELS, pc.families.Normal()

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(8, dtype=torch.float64))

    def likelihood(self, codes):
        loc = self.loc.expand(len(codes), -1)
        return {"loc": loc, "scale": torch.ones_like(loc)}
