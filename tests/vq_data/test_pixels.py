"""Dequantised and scaled pixels lie in their bins, for every number of levels."""

import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from vq_sources.data import dequantise, scale
from vq_sources.protocols import check_codes, check_images


@given(st.integers(2, 300), st.sampled_from([torch.float32, torch.float64]), st.integers(0, 2**32))
def test_points_lie_in_the_half_open_bin_of_their_pixel(levels: int, dtype: torch.dtype, seed: int) -> None:
    images = torch.arange(levels).repeat(50)
    x = dequantise(images, levels, torch.Generator().manual_seed(seed), dtype)
    assert x.dtype == dtype
    assert bool((x >= images.to(dtype) / levels).all())
    assert bool((x < (images + 1).to(dtype) / levels).all())


def test_the_end_of_a_bin_is_not_reached_by_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0))
    monkeypatch.setattr(torch, "rand", lambda shape, **_: largest.expand(shape))
    images = torch.arange(256)
    x = dequantise(images, 256, torch.Generator())
    assert bool((images + largest == images + 1).any())  # what would round up to the next bin
    assert bool((x * 256).floor().eq(images).all())


def test_points_are_uniform_in_the_bin_and_depend_on_the_seed_alone() -> None:
    images = torch.full((20_000,), 3)
    x = dequantise(images, 17, torch.Generator().manual_seed(0), torch.float64)
    assert scipy.stats.kstest((x * 17 - 3).numpy(), "uniform").pvalue > 0.01
    torch.manual_seed(1)
    assert torch.equal(x, dequantise(images, 17, torch.Generator().manual_seed(0), torch.float64))
    assert not torch.equal(x, dequantise(images, 17, torch.Generator().manual_seed(1), torch.float64))
    assert images.unique().tolist() == [3]


def test_scaled_pixels_are_the_mean_of_dequantised_ones() -> None:
    images = torch.arange(17, dtype=torch.uint8).repeat(10_000, 1)
    x = dequantise(images, 17, torch.Generator().manual_seed(0), torch.float64)
    middle = scale(images, 17, torch.float64)
    assert middle[0].tolist() == pytest.approx([(v + 0.5) / 17 for v in range(17)])
    torch.testing.assert_close(x.mean(0), middle[0], atol=1e-3, rtol=0)


def test_bytes_have_no_successor_of_their_own() -> None:
    images = torch.tensor([0, 254, 255], dtype=torch.uint8)
    x = dequantise(images, 256, torch.Generator().manual_seed(0))
    assert (x * 256).floor().tolist() == [0, 254, 255]
    check_images(images.view(1, 1, 3), (1, 3), 256)
    check_codes(images.view(1, 3), (256, 256, 256))
