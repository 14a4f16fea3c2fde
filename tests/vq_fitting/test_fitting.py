"""From images to codes to a prior by the one training loop, resumed exactly where it was stopped."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pcircuits.families import Normal
from pcircuits.learning import EpochRecord, FitSettings
from vq_sources.data import Dataset, EncodedDataset, EncodedSplit, Split, load
from vq_sources.errors import DataError
from vq_sources.fitting import encode, fit
from vq_sources.models import VQVAE, VQVAEConfig
from vq_sources.priors import EmpiricalPrior, IndependentPrior, PixelCNN


def first(split: Split, n: int) -> Split:
    return Split(split.images[:n], split.labels[:n])


@pytest.fixture(scope="module")
def data() -> Dataset:
    digits = load("digits")
    return Dataset(
        "few digits",
        *(digits.levels, digits.shape, digits.num_classes),
        *(first(digits.train, 200), first(digits.validation, 50), first(digits.test, 30)),
    )


def small_model() -> VQVAE:
    config = VQVAEConfig(num_codes=6, hidden=8, hidden_at_image=4, codebook_dim=4)
    return VQVAE(config, torch.Generator().manual_seed(1))


def small_prior(encoded: EncodedDataset) -> PixelCNN:
    generator = torch.Generator().manual_seed(1)
    return PixelCNN(encoded.grid, encoded.cardinalities, num_classes=10, hidden=8, dropout=0.2, generator=generator)


@pytest.fixture(scope="module")
def model(data: Dataset) -> VQVAE:
    model = small_model()
    history = fit(model, data, FitSettings(epochs=4, batch_size=32, learning_rate=3e-3))
    assert history.epochs[-1].validation_loss < history.epochs[0].validation_loss
    assert set(history.best.validation_metrics) == {"nll", "commitment", "perplexity"}
    return model


@pytest.fixture(scope="module")
def encoded(model: VQVAE, data: Dataset) -> EncodedDataset:
    return encode(model, data, batch_size=64)


def test_encoding_is_the_models_own_of_every_image(model: VQVAE, data: Dataset, encoded: EncodedDataset) -> None:
    for name in ("train", "validation", "test"):
        images, labels = getattr(data, name).images, getattr(data, name).labels
        assert torch.equal(getattr(encoded, name).codes, model.encode(images))
        assert torch.equal(getattr(encoded, name).labels, labels)
    assert (encoded.grid, encoded.cardinalities, encoded.num_classes) == ((2, 2), (6,) * 4, 10)
    assert encoded.train.codes.dtype == torch.int64
    assert torch.equal(encode(model, data, batch_size=7).train.codes, encoded.train.codes)


def test_encoding_leaves_the_model_as_it_was(model: VQVAE, data: Dataset) -> None:
    model.train()
    model.decoder.eval()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    encode(model, data)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()


class Stochastic(nn.Module):
    """A source that encodes at random unless it is in evaluation mode, and fails on request."""

    grid, cardinalities, data_shape, levels, family = (1, 2), (2, 2), (8, 8), 17, Normal()
    fails = False

    def likelihood(self, codes: Tensor) -> dict[str, Tensor]:
        return {name: torch.full((len(codes), 64), 0.5) for name in ("loc", "scale")}

    def encode(self, images: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        assert not self.training
        if self.fails:
            raise RuntimeError("broken")
        return torch.zeros(len(images), 2, dtype=torch.int32)


def test_a_source_without_weights_is_encoded_in_evaluation_mode(data: Dataset) -> None:
    source = Stochastic()
    found = encode(source, data)
    assert found.train.codes.shape == (200, 2)
    assert found.train.codes.dtype == torch.int64
    source.fails = True
    with pytest.raises(RuntimeError, match="broken"):
        encode(source, data)
    assert source.training


def stop_after(epoch: int) -> object:
    def stop(record: EpochRecord) -> None:
        if record.epoch == epoch:
            raise KeyboardInterrupt

    return stop


def assert_resumes_exactly(make: object, data: Dataset | EncodedDataset, folder: Path) -> None:
    asked = FitSettings(epochs=4, batch_size=32, learning_rate=3e-3, patience=3, final_fraction=0.1, seed=7)
    resumed, whole = make(), make()  # type: ignore[operator]
    with pytest.raises(KeyboardInterrupt):
        fit(make(), data, asked, folder=folder, on_epoch=stop_after(2))  # type: ignore[operator, arg-type]
    torch.rand(3)
    fit(resumed, data, asked, folder=folder)
    fit(whole, data, asked)
    ours, theirs = resumed.state_dict(), whole.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_vqvae_resumes_exactly_with_its_noise_and_its_revived_codes(data: Dataset, tmp_path: Path) -> None:
    assert_resumes_exactly(small_model, data, tmp_path)


def test_a_prior_resumes_exactly_with_its_dropout(encoded: EncodedDataset, tmp_path: Path) -> None:
    assert_resumes_exactly(lambda: small_prior(encoded), encoded, tmp_path)


def test_priors_are_fitted_to_codes(encoded: EncodedDataset) -> None:
    prior = small_prior(encoded)
    before = float(prior.log_prob(encoded.validation.codes, encoded.validation.labels).mean().detach())
    history = fit(prior, encoded, FitSettings(epochs=5, batch_size=32, learning_rate=3e-3))
    after = -float(prior.log_prob(encoded.validation.codes, encoded.validation.labels).mean().detach())
    assert after == pytest.approx(history.best.validation_loss, rel=1e-5)
    assert after < -before


def test_a_prior_of_closed_form_starts_at_its_counts(encoded: EncodedDataset) -> None:
    prior, counted = (IndependentPrior((2, 2), 6, smoothing=1.0) for _ in range(2))
    counted.fit_counts(encoded.train.codes, smoothing=1.0)
    expected = -float(counted.log_prob(encoded.validation.codes).mean().detach())
    history = fit(prior, encoded, FitSettings(epochs=1, batch_size=200, learning_rate=1e-9))
    assert history.best.validation_loss == pytest.approx(expected, rel=1e-5)


def test_a_prior_without_parameters_is_only_prepared(encoded: EncodedDataset) -> None:
    prior = EmpiricalPrior((2, 2), 6)
    assert fit(prior, encoded).epochs == ()
    codes = encoded.train.codes
    share = float((codes == codes[0]).all(1).double().mean())
    assert float(prior.log_prob(codes[:1]).exp()) == pytest.approx(share)


def test_models_and_data_that_do_not_belong_together_are_refused(
    model: VQVAE, data: Dataset, encoded: EncodedDataset
) -> None:
    with pytest.raises(DataError, match="fitted to images, not to codes"):
        fit(model, encoded)
    with pytest.raises(DataError, match="fitted to codes, not to images"):
        fit(small_prior(encoded), data)
    with pytest.raises(DataError, match="shape"):
        encode(VQVAE(VQVAEConfig(data_shape=(8, 4), hidden=8)), data)


def test_encoded_data_of_ones_own_is_checked() -> None:
    good = EncodedSplit(torch.zeros(3, 2, dtype=torch.int64), torch.zeros(3, dtype=torch.int64))
    bad = EncodedSplit(torch.full((3, 2), 4), torch.zeros(3, dtype=torch.int64))
    assert EncodedDataset("own", (1, 2), (4, 4), 1, good, good, good).train.batch == (good.codes, good.labels)
    with pytest.raises(DataError, match=r"0\.\.3"):
        EncodedDataset("own", (1, 2), (4, 4), 1, good, bad, good)
    with pytest.raises(DataError, match="2 positions, but there are 3"):
        EncodedDataset("own", (1, 2), (4, 4, 4), 1, good, good, good)
