"""The VQ-VAE as a source: shapes, laws of its likelihood, its loss against scipy, its memory."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pcircuits.families import DiscretizedLogistic, DiscretizedNormal, Normal
from vq_sources.models import VQVAE, VQVAEConfig, codebook_report
from vq_sources.models.head import bounded_scale
from vq_sources.protocols import VQSource
from vq_sources.quantizers.seeding import seeded

SHAPES = [
    ((8, 8), (2, 2)),
    ((8, 8), (4, 4)),
    ((28, 28), (2, 2)),
    ((28, 28), (4, 4)),
    ((8, 12), (2, 3)),
    ((6, 4), (2, 4)),
    ((5, 5), (5, 5)),
]


def images_of(model: VQVAE, n: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(model.levels, (n, *model.data_shape), generator=generator)


def small(seed: int = 0, **changes: object) -> VQVAE:
    settings_ = {"hidden": 8, "hidden_at_image": 4, "codebook_dim": 3, "num_codes": 3, "levels": 4, **changes}
    model = VQVAE(VQVAEConfig(**settings_), torch.Generator().manual_seed(seed))  # type: ignore[arg-type]
    with seeded(torch.Generator().manual_seed(seed)):
        model.prepare((images_of(model, 40),))
    return model


def steps(model: VQVAE, count: int, seed: int = 0) -> list[float]:
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    model.train()
    with seeded(torch.Generator().manual_seed(seed)):
        for _ in range(count):
            optimizer.zero_grad()
            loss, _ = model.loss((images_of(model, 40),))
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize(("data_shape", "grid"), SHAPES)
def test_every_grid_that_divides_the_image_works(data_shape: tuple[int, int], grid: tuple[int, int]) -> None:
    model = small(data_shape=data_shape, grid=grid)
    assert isinstance(model, VQSource)
    images = images_of(model, 5)
    codes = model.encode(images)
    positions, pixels = grid[0] * grid[1], data_shape[0] * data_shape[1]
    assert codes.shape == (5, positions)
    assert codes.dtype == torch.int64
    assert model.cardinalities == (3,) * positions
    parameters = model.likelihood(codes)
    assert {name: value.shape for name, value in parameters.items()} == {
        "loc": (5, pixels),
        "scale": (5, pixels),
    }
    for name, value in model.reconstruct(images).items():
        torch.testing.assert_close(value, parameters[name])


@pytest.mark.parametrize("family", [Normal(), DiscretizedNormal(levels=4), DiscretizedLogistic(levels=4, uniform=0.01)])
def test_the_loss_is_the_family_s_nll_and_the_commitment(
    family: Normal | DiscretizedNormal | DiscretizedLogistic,
) -> None:
    model = small(family=family, commitment_weight=0.5).double().eval()
    images = images_of(model, 6, seed=1)
    loss, metrics = model.loss((images,))
    parameters = {name: value.detach().numpy() for name, value in model.reconstruct(images).items()}
    loc, scale_ = parameters["loc"], parameters["scale"]
    pixels = images.flatten(1).numpy()
    if isinstance(family, Normal):
        u = torch.rand(pixels.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
        log_prob = stats.norm.logpdf((pixels + u) / 4, loc, scale_)
    else:
        cdf = (stats.norm if isinstance(family, DiscretizedNormal) else stats.logistic).cdf
        upper = np.where(pixels == 3, 1.0, cdf((pixels + 1) / 4, loc, scale_))
        lower = np.where(pixels == 0, 0.0, cdf(pixels / 4, loc, scale_))
        log_prob = np.log((1 - family.uniform) * (upper - lower) + family.uniform / 4)
    # The package quantises in float32, so that the forward pass and decoding differ by its rounding.
    assert metrics["nll"] == pytest.approx(-log_prob.sum(1).mean(), rel=1e-5)
    assert float(loss.detach()) == pytest.approx(metrics["nll"] + 0.5 * metrics["commitment"], rel=1e-9)


def test_the_commitment_is_the_summed_squared_distance_to_the_codes() -> None:
    model = small().train()
    images = images_of(model, 6, seed=1)
    vectors = model._vectors(images)
    expected = (vectors - model.quantizer.decode(model.encode(images))).square().sum((1, 2)).mean()
    assert model.loss((images,))[1]["commitment"] == pytest.approx(float(expected.detach()), rel=1e-5)


def test_validation_losses_are_reproducible_and_training_losses_draw() -> None:
    model = small().eval()
    batch = (images_of(model, 6),)
    state = torch.get_rng_state()
    first, second = model.loss(batch)[0], model.loss(batch)[0]
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    model.train()
    with torch.no_grad():
        assert not torch.equal(model.loss(batch)[0], model.loss(batch)[0])


def test_training_lowers_the_loss_and_depends_on_the_seed_alone() -> None:
    first, second, other = steps(small(), 20), steps(small(), 20), steps(small(), 20, seed=1)
    assert first[-1] < first[0]
    assert first == second
    assert first != other


def test_likelihood_depends_neither_on_the_mode_nor_on_chunks() -> None:
    model = small(data_shape=(8, 12), grid=(2, 3)).double()
    steps(model, 3)
    codes = torch.randint(3, (50, 6), generator=torch.Generator().manual_seed(0))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    whole = model.train().likelihood(codes)
    again = model.eval().likelihood(codes)
    for name, value in whole.items():
        assert torch.equal(value, again[name])
        for size in (1, 7):
            parts = torch.cat([model.likelihood(chunk)[name] for chunk in codes.split(size)])
            torch.testing.assert_close(parts, value, rtol=1e-12, atol=1e-12)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_encode_changes_nothing_in_training_mode() -> None:
    model = small().train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    images = images_of(model, 20)
    codes = model.encode(images)
    assert model.training
    assert torch.equal(codes, model.eval().encode(images))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_decoder_gradients_are_right() -> None:
    model = small(data_shape=(4, 4), hidden=4, hidden_at_image=2).double().eval()
    codes = torch.tensor([[0, 1, 2, 0], [1, 1, 0, 2]])
    parameters = dict(model.decoder.named_parameters()) | dict(model.head.named_parameters())
    weights = torch.randn(2, 2, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def value() -> torch.Tensor:
        given_ = model.likelihood(codes)
        return (torch.stack([given_["loc"], given_["scale"]]) * weights).sum()

    gradients = torch.autograd.grad(value(), list(parameters.values()))
    for parameter, gradient in zip(parameters.values(), gradients, strict=True):
        place = int(gradient.abs().argmax())
        assert float(gradient.flatten()[place]) != 0.0
        flat, step = parameter.data.view(-1), 1e-6
        original = float(flat[place])
        with torch.no_grad():
            flat[place] = original + step
            above = float(value())
            flat[place] = original - step
            below = float(value())
            flat[place] = original
        assert (above - below) / (2 * step) == pytest.approx(float(gradient.flatten()[place]), rel=1e-5)


def test_empty_batches_give_empty_answers() -> None:
    model = small()
    assert model.encode(images_of(model, 0)).shape == (0, 4)
    assert model.likelihood(torch.zeros(0, 4, dtype=torch.int64))["loc"].shape == (0, 64)


def test_uint8_images_are_the_same_images() -> None:
    model = small().eval()
    images = images_of(model, 10)
    assert torch.equal(model.encode(images.to(torch.uint8)), model.encode(images))
    assert torch.equal(model.loss((images.to(torch.uint8),))[0], model.loss((images,))[0])


def test_prepare_fits_the_head_and_the_codebook_once() -> None:
    model = VQVAE(VQVAEConfig(levels=4, num_codes=3, min_std=0.05), torch.Generator().manual_seed(0))
    images = images_of(model, 100)
    images[:, 0, 0] = 2
    with seeded(torch.Generator().manual_seed(0)):
        model.prepare((images,))
    values = (images.double() + 0.5) / 4
    std = values.std(0, correction=0).clamp(0.05**0.9, 0.05**0.1)
    for name, expected in {"mean": values.mean(0), "gain": std}.items():
        torch.testing.assert_close(getattr(model.head, name).double(), expected, rtol=0, atol=1e-6)
    start = bounded_scale(model.head.raw_scale.double(), 0.05)
    torch.testing.assert_close(start, std, rtol=1e-5, atol=0)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.prepare((images_of(model, 100, seed=1),))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_initial_weights_come_from_the_generator_alone() -> None:
    state = torch.get_rng_state()
    first, second = (VQVAE(VQVAEConfig(), torch.Generator().manual_seed(7)) for _ in range(2))
    other = VQVAE(VQVAEConfig(), torch.Generator().manual_seed(8))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(2, 5), st.lists(st.integers(0, 4), min_size=4, max_size=40))
def test_codebook_reports_count(positions: int, num_codes: int, flat: list[int]) -> None:
    rows = max(1, len(flat) // positions)
    codes = torch.tensor((flat * positions)[: rows * positions]).remainder(num_codes).view(rows, positions)
    report = codebook_report(codes, num_codes)
    seen = codes.flatten().tolist()
    shares = [seen.count(k) / len(seen) for k in set(seen)]
    assert report.perplexity == pytest.approx(math.exp(-sum(share * math.log(share) for share in shares)))
    assert report.active_codes == len(set(seen))
    assert report.distinct_grids == len({tuple(row) for row in codes.tolist()})
    assert (report.images, report.num_codes) == (rows, num_codes)
