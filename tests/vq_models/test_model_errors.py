"""Configs, images and codes that do not fit, each a clear error."""

import math

import pytest
import torch

from pcircuits.families import DiscretizedNormal
from vq_sources.errors import ConfigError, DataError, QuantizerError
from vq_sources.models import VQVAE, VQVAEConfig

pytestmark = pytest.mark.errors


@pytest.mark.parametrize(("data_shape", "grid"), [((8, 8), (3, 2)), ((28, 28), (8, 8)), ((8, 12), (2, 5))])
def test_a_grid_that_does_not_divide_is_an_error_with_numbers(
    data_shape: tuple[int, int], grid: tuple[int, int]
) -> None:
    with pytest.raises(
        ConfigError, match=rf"{grid[0]} × {grid[1]} does not divide .* {data_shape[0]} × {data_shape[1]}"
    ):
        VQVAEConfig(data_shape=data_shape, grid=grid)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_codes": 1},
        {"levels": 1},
        {"min_std": 0.0},
        {"min_std": 1.0},
        {"decay": 1.0},
        {"hidden": 0},
        {"blocks": -1},
        {"commitment_weight": math.nan},
        {"grid": (0, 2)},
        {"data_shape": (8, 8, 1)},
        {"family": "normal"},
        {"family": DiscretizedNormal(levels=5)},
    ],
    ids=str,
)
def test_impossible_configs_name_the_field(changes: dict[str, object]) -> None:
    (name,) = changes
    with pytest.raises(ConfigError, match=name):
        VQVAEConfig(**changes)  # type: ignore[arg-type]


def test_images_and_codes_that_do_not_fit_are_errors() -> None:
    model = VQVAE(VQVAEConfig(levels=4, num_codes=3, hidden=8), torch.Generator().manual_seed(0))
    good = torch.randint(4, (40, 8, 8), generator=torch.Generator().manual_seed(0))
    model.prepare((good,))
    for bad, said in [
        (good[:, :4], r"shape \(B, 8, 8\), not \(40, 4, 8\)"),
        (good.float(), "must be integers, not torch.float32"),
        (torch.full_like(good, 4), r"image 0 has the value 4 at row 0, column 0: pixels must be in 0\.\.3"),
        (good - 5, r"pixels must be in 0\.\.3"),
    ]:
        with pytest.raises(DataError, match=said):
            model.encode(bad)
        with pytest.raises(DataError, match=said):
            model.loss((bad,))
    codes = torch.zeros(2, 4, dtype=torch.int64)
    for bad, said in [
        (codes[:, :3], r"shape \(N, 4\)"),
        (codes.double(), "must be integers"),
        (codes - 1, r"row 0 has the code -1 at position 0: codes there must be in 0\.\.2"),
        (codes + 3, r"the code 3 at position 0"),
    ]:
        with pytest.raises(DataError, match=said):
            model.likelihood(bad)


def test_an_unprepared_model_says_how_to_prepare_it() -> None:
    model = VQVAE(VQVAEConfig(), torch.Generator().manual_seed(0))
    for use in (model.encode, lambda images: model.loss((images,))):
        with pytest.raises(QuantizerError, match=r"vq_sources.fit"):
            use(torch.zeros(2, 8, 8, dtype=torch.int64))
