"""Images, codes and labels that do not fit."""

import pytest
import torch

import pcircuits as pc
import vq_sources as vq
from vq_sources import metrics
from vq_sources.errors import DataError, SelectionError
from vq_sources.priors import IndependentPrior

pytestmark = pytest.mark.errors
IMAGES = torch.tensor([[[0, 1], [2, 3]]])


@pytest.fixture(params=["mass", "density"])
def model(request) -> pc.CompiledCircuit:
    mass = pc.Categorical(range(4), torch.full((4, 1, 4), 0.25))
    leaves = mass if request.param == "mass" else pc.Normal(range(4), 0.5, 1.0)
    return pc.Circuit(leaves.prod()).compile()


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (IMAGES + 1, r"image 0 has the value 4 at row 1, column 1: pixels must be in 0\.\.3"),
        (IMAGES - 1, "image 0 has the value -1 at row 0, column 0"),
        (IMAGES / 3, "images must be integers, not torch.float32"),
        (IMAGES[0], r"images must have shape \(B, H, W\), not \(2, 2\)"),
    ],
)
def test_metrics_check_their_images(model, bad, says):
    for metric in (metrics.observations, metrics.discrete_bpd):
        with pytest.raises(DataError, match=says):
            metric(model.circuit if metric is metrics.observations else model, bad, 4)


def test_images_of_another_size(model):
    for metric in (metrics.continuous_bpd, metrics.discrete_bpd):
        if metric(model, IMAGES, 4) is not None:
            with pytest.raises(pc.EvidenceError, match=r"shape \(1, 6\); it needs .*\(B, 4\)"):
                metric(model, torch.zeros(1, 2, 3, dtype=torch.int64), 4)


def test_no_images_and_no_codes(model):
    none = IMAGES[:0]
    assert metrics.observations(model.circuit, none, 4).shape == (0, 4)
    for metric in (metrics.continuous_bpd, metrics.discrete_bpd):
        if metric(model, IMAGES, 4) is not None:
            with pytest.raises(DataError, match="no images to average over: give at least one"):
                metric(model, none, 4)
    with pytest.raises(DataError, match="no images to average over"):
        metrics.inpaint(model, none, torch.tensor([[True, False], [True, True]]), 4)


@pytest.mark.parametrize("member", [IndependentPrior, vq.PixelCNN])
def test_a_conditional_prior_is_trained_with_labels(member):
    prior, codes = member((2, 2), 3, num_classes=2), torch.zeros(5, 4, dtype=torch.int64)
    before = {name: value.clone() for name, value in prior.state_dict().items()}
    for use in (prior.loss, prior.prepare):
        with pytest.raises(SelectionError, match=r"conditional on 2 classes, but was asked without labels"):
            use((codes,))
        with pytest.raises(DataError, match="label 2 is not one of the classes"):
            use((codes, torch.full((5,), 2)))
        with pytest.raises(DataError, match=r"labels must be int64 of shape \(5,\)"):
            use((codes, torch.zeros(4, dtype=torch.int64)))
    assert all(torch.equal(before[name], value) for name, value in prior.state_dict().items())
    loss, _ = member((2, 2), 3).loss((codes,))
    assert bool(loss.isfinite())
