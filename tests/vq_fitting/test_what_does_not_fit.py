"""Data, settings and numbers that do not fit are errors of this library before anything is computed."""

import pytest
import torch

import vq_sources as vq
from pcircuits.learning import TrainingError, fit
from vq_sources.data import scale
from vq_sources.errors import ConfigError, DataError, SelectionError

pytestmark = pytest.mark.errors


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def model(levels: int = 17) -> vq.VQVAE:
    return vq.VQVAE(vq.VQVAEConfig(num_codes=3, hidden=8, levels=levels), seeded())


@pytest.mark.parametrize(
    "data", [None, torch.zeros(3, 8, 8, dtype=torch.int64), "digits"], ids=["none", "tensor", "name"]
)
def test_models_are_fitted_to_data_sets(data: object) -> None:
    with pytest.raises(DataError, match=f"not {type(data).__name__}"):
        vq.fit(model(), data)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=f"not from {type(data).__name__}"):
        vq.encode(model(), data)  # type: ignore[arg-type]


@pytest.mark.parametrize("levels", [4, 256])
def test_a_model_of_other_levels_is_refused(levels: int) -> None:
    data = vq.load("digits")
    for use in (vq.fit, vq.encode):
        with pytest.raises(
            DataError, match=rf"with {levels} levels, and those of 'digits' have 17: make it with levels=17"
        ):
            use(model(levels), data)


def test_settings_are_fit_settings() -> None:
    for settings in ({"epochs": 1}, 3, "fast"):
        with pytest.raises(TrainingError, match=f"settings are a FitSettings, not {type(settings).__name__}"):
            fit(model(), torch.zeros(3, 8, 8), settings=settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "images",
    [torch.rand(2, 3, 3), torch.rand(2, 3, 3).half(), torch.zeros(2, 3, 3, dtype=torch.bool), [[1]], torch.zeros(2).cfloat()],
    ids=["float", "half", "bool", "list", "complex"],
)  # fmt: skip
def test_pixels_are_integers(images: object) -> None:
    for use in (
        lambda x: vq.dequantise(x, 17, seeded()),
        lambda x: scale(x, 17),
        lambda x: vq.metrics.bin_bounds(x, 17),
    ):
        with pytest.raises(DataError, match=r"must be (a tensor of )?integers, not"):
            use(images)


def test_levels_are_an_integer() -> None:
    images = torch.zeros(1, 8, 8, dtype=torch.int64)
    circuit = vq.distil(trained(), vq.selection.enumerate(vq.IndependentPrior((2, 2), 3)), "uniform")
    for levels in ("17", 17.0, None):
        with pytest.raises(ConfigError, match=r"levels is .*: it must be an integer"):
            vq.metrics.observations(circuit, images, levels)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=r"levels is .*: it must be an integer"):
            vq.dequantise(images, levels, seeded())  # type: ignore[arg-type]


def trained() -> vq.VQVAE:
    made = model()
    made.prepare((torch.randint(17, (40, 8, 8), generator=seeded()),))
    return made


@pytest.mark.parametrize("count", [2.0, "2", True, [2]], ids=str)
def test_the_number_of_codes_is_an_integer(count: object) -> None:
    prior = vq.IndependentPrior((2, 2), 3)
    for choose in (vq.selection.enumerate, vq.selection.beam, vq.selection.ancestral, vq.selection.stochastic_beam):
        with pytest.raises(SelectionError, match="codes were asked for: the number is an integer"):
            choose(prior, count)  # type: ignore[operator]


def test_shares_and_pseudo_counts_are_numbers() -> None:
    with pytest.raises(ConfigError, match="smoothing is '1'"):
        vq.IndependentPrior((2, 2), 3, smoothing="1")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="uniform_share is nan"):
        vq.EmpiricalPrior((2, 2), 3, uniform_share=float("nan"))


def test_codes_of_a_report_are_codes() -> None:
    for codes, said in (
        (torch.zeros(3, 4), "must be integers"),
        (torch.full((3, 4), 5), r"must be in 0\.\.2"),
        ([[0, 1]], "not list"),
        (torch.zeros(3, dtype=torch.int64), "must have shape"),
    ):
        with pytest.raises(DataError, match=said):
            vq.codebook_report(codes, 3)  # type: ignore[arg-type]
