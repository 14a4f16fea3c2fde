"""Compiled circuits are fitted by maximum likelihood, without a loss of their own."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import pcircuits as pc
from pcircuits.learning import FitSettings, fit


def clusters(rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    centre = torch.randint(2, (rows, 1), generator=generator) * 4.0 - 2.0
    return centre + torch.randn(rows, 2, generator=generator, dtype=torch.float64)


def test_a_product_of_normals_reaches_the_closed_form() -> None:
    x = clusters(100)
    model = pc.Circuit(pc.Normal(0, 0.5, 1.0) * pc.Normal(1, -0.5, 1.0)).compile(dtype=torch.float64)
    asked = FitSettings(epochs=200, batch_size=100, learning_rate=0.1, final_fraction=0.0)
    history = fit(model, x, x, settings=asked)
    best = torch.distributions.Normal(x.mean(0), x.std(0, correction=0))
    assert history.best.validation_loss == pytest.approx(-float(best.log_prob(x).sum(1).mean()), abs=1e-6)
    torch.testing.assert_close(model.mean().detach(), x.mean(0), atol=1e-3, rtol=0)


def test_a_trained_mixture_stays_a_normalised_circuit_and_resumes(tmp_path: Path) -> None:
    x, held_out = clusters(120), clusters(400)[300:]

    def start() -> nn.Module:
        components = pc.Normal(range(2), torch.tensor([[-0.5, 0.5], [-0.5, 0.5]]), 1.0).prod()
        return pc.Circuit(pc.mixture(torch.tensor([0.5, 0.5]), components)).compile(dtype=torch.float64)

    asked = FitSettings(epochs=30, batch_size=30, learning_rate=0.05)
    model, loaded = start(), start()
    history = fit(model, x, held_out, settings=asked, folder=tmp_path)
    assert fit(loaded, x, held_out, settings=asked, folder=tmp_path) == history
    assert torch.equal(loaded.log_prob(x), model.log_prob(x))
    assert history.best.validation_loss < history.epochs[0].validation_loss - 0.1

    circuit = model.to_circuit()
    assert circuit.check().normalised
    torch.testing.assert_close(circuit.compile(dtype=torch.float64).log_prob(x), model.log_prob(x))


def test_a_circuit_of_several_classes_takes_a_loss_of_labels() -> None:
    x = clusters(120)
    labels = (x.sum(1) > 0).long()
    roots = [pc.Normal(0, loc, 1.0) * pc.Normal(1, loc, 1.0) for loc in (0.1, -0.1)]
    model = pc.Circuit(pc.concat(roots, axis="width")).compile(dtype=torch.float64)

    def likelihood_of_the_class(module: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, float]]:
        rows, classes = batch
        log_prob = module.log_prob(rows)
        accuracy = float((log_prob.argmax(1) == classes).double().mean())
        return -log_prob.gather(1, classes[:, None]).mean(), {"accuracy": accuracy}

    asked = FitSettings(epochs=60, batch_size=40, learning_rate=0.1)
    history = fit(model, (x, labels), (x, labels), settings=asked, loss=likelihood_of_the_class)
    assert history.best.validation_metrics["accuracy"] > 0.95
