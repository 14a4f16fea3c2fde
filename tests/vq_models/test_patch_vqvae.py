"""The model with a local decoder: the suite for VQ models, its patches, and that its loss is what it says."""

import math

import pytest
import torch

import pcircuits as pc
import vq_sources as vq
from vq_sources.errors import ConfigError
from vq_sources.testing import check_vq_source

SHAPE, LEVELS = (4, 6), 5


def images(n):
    return torch.randint(LEVELS, (n, *SHAPE), generator=torch.Generator().manual_seed(0))


def model_of(family, **options):
    sizes = {"data_shape": SHAPE, "levels": LEVELS, "grid": (2, 3), "num_codes": 3, "hidden": 8} | options
    config = vq.PatchVQVAEConfig(hidden_at_image=4, codebook_dim=4, family=family, min_std=0.1, **sizes)
    model = vq.PatchVQVAE(config, torch.Generator().manual_seed(1)).double()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.prepare((images(40)[:, : config.data_shape[0], : config.data_shape[1]],))
    return model


@pytest.mark.parametrize("family", [pc.families.Normal(), pc.families.Categorical(LEVELS)], ids=str)
def test_it_conforms(family):
    model = model_of(family, position_dim=2, data_shape=(2, 3), grid=(2, 1), hidden=4)
    check_vq_source(model.train(), images(6)[:, :2, :3])


def test_patches_are_the_pixels_below_each_position():
    model = model_of(pc.families.Normal())
    seen = torch.zeros(SHAPE, dtype=torch.int64)
    for position, patch in enumerate(model.patches):
        seen.view(-1)[list(patch)] = position
    assert seen.tolist() == [[0, 0, 1, 1, 2, 2]] * 2 + [[3, 3, 4, 4, 5, 5]] * 2


@pytest.mark.parametrize("family", [pc.families.DiscretizedNormal(LEVELS), pc.families.Categorical(LEVELS)], ids=str)
def test_a_code_decides_its_own_patch_and_nothing_else(family):
    model = model_of(family, position_dim=2)
    codes = torch.zeros((4, 6), dtype=torch.int64)
    codes[1, 0], codes[2, 4], codes[3] = 2, 1, torch.tensor([2, 0, 0, 0, 1, 0])
    for value in model.likelihood(codes).values():
        changed = (value != value[:1]).flatten(2).any(-1) if value.ndim > 2 else value != value[:1]
        for row, positions in ((1, [0]), (2, [4]), (3, [0, 4])):
            wanted = sorted(v for position in positions for v in model.patches[position])
            assert changed[row].nonzero().flatten().tolist() == wanted


def test_one_code_is_one_pattern_unless_the_position_is_an_input():
    """Up to the mean and the scale that each pixel has of its own."""
    for position_dim, same in ((0, True), (2, False)):
        model = model_of(pc.families.Normal(), position_dim=position_dim)
        with torch.no_grad():
            model.head.gain.fill_(1.0)
            model.head.mean.fill_(0.0)
        loc = model.likelihood(torch.ones((1, 6), dtype=torch.int64))["loc"][0]
        patches = torch.stack([loc[list(patch)] for patch in model.patches])
        assert torch.allclose(patches, patches[:1].expand_as(patches)) is same


def test_logits_start_at_the_frequencies_of_levels():
    model = model_of(pc.families.Categorical(LEVELS))
    counts = torch.zeros((24, LEVELS), dtype=torch.float64)
    for image in images(40).flatten(1).tolist():
        for pixel, level in enumerate(image):
            counts[pixel, level] += 1
    wanted = ((counts + 1 / LEVELS) / 41).log()
    torch.testing.assert_close(model.head.mean.detach(), wanted, rtol=1e-12, atol=1e-12)


def test_the_loss_is_the_nll_and_the_commitment():
    model = model_of(pc.families.Categorical(LEVELS)).train()
    x = images(5)
    with torch.no_grad():  # the codebook stays
        loss, parts = model.loss((x,))
    codes = model.encode(x)
    probs = model.likelihood(codes)["probs"].tolist()
    nll = -sum(
        math.log(probs[b][v][level]) for b, image in enumerate(x.flatten(1).tolist()) for v, level in enumerate(image)
    )
    vectors = model._vectors(x)
    distance = float(((vectors - model.quantizer.decode(codes)) ** 2).sum().detach()) / 5
    # vector-quantize-pytorch looks its codebook up in float32, whatever the model's dtype.
    assert parts["nll"] == pytest.approx(nll / 5, rel=1e-8)
    assert parts["commitment"] == pytest.approx(distance, rel=1e-6)
    assert float(loss.detach()) == pytest.approx(nll / 5 + 0.25 * distance, rel=1e-6)


def test_it_trains_and_goes_through_files(tmp_path):
    data = vq.load("digits")
    config = vq.PatchVQVAEConfig(num_codes=8, hidden=16, family=pc.families.Categorical(17))
    model = vq.PatchVQVAE(config, torch.Generator().manual_seed(0))
    history = vq.fit(model, data, vq.FitSettings(epochs=2))
    assert history.epochs[-1].validation_loss < history.epochs[0].validation_loss
    vq.save_model(model, tmp_path / "model")
    again = vq.load_model(tmp_path / "model", {"PatchVQVAE": (vq.PatchVQVAEConfig, vq.PatchVQVAE)})
    assert torch.equal(again.encode(data.test.images), model.encode(data.test.images))


@pytest.mark.errors
def test_bad_configs_say_why():
    with pytest.raises(ConfigError, match="PatchVQVAEConfig: family is Categorical"):
        vq.PatchVQVAEConfig(family=pc.families.Categorical(4))
    with pytest.raises(ConfigError, match="PatchVQVAEConfig: position_dim"):
        vq.PatchVQVAEConfig(position_dim=-1)
