"""The map to scales, and the strides between an image and its grid."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vq_sources.models.head import bounded_scale, inverse_bounded_scale
from vq_sources.models.scaling import strides_between


@settings(max_examples=50, deadline=None)
@given(st.floats(-1e3, 1e3), st.floats(1e-4, 0.5))
def test_scales_are_within_bounds_and_invert(raw: float, smallest: float) -> None:
    value = bounded_scale(torch.tensor(raw, dtype=torch.float64), smallest)
    assert smallest * (1 - 1e-12) <= float(value) <= 1
    back = inverse_bounded_scale(value, smallest)
    # Near a bound the inverse loses the digits that the bound has taken: 1 / raw² of them.
    assert float(back) == pytest.approx(raw, rel=1e-9 * (1 + raw**2), abs=1e-9)


@pytest.mark.parametrize("raw", [-1e6, -1e3, -20.0, 0.0, 20.0, 1e3, 1e6])
def test_no_gradient_is_dead_in_float32(raw: float) -> None:
    x = torch.tensor(raw, requires_grad=True)
    bounded_scale(x, 0.01).log().backward()
    assert x.grad is not None
    assert float(x.grad) == pytest.approx(-math.log(0.01) * -1 / (math.pi * (1 + raw**2)) * -1, rel=1e-3)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 40), st.integers(1, 40))
def test_strides_multiply_to_the_ratio(rows: int, columns: int, vertical: int, horizontal: int) -> None:
    strides = strides_between((rows * vertical, columns * horizontal), (rows, columns))
    assert math.prod(s for s, _ in strides) == vertical
    assert math.prod(s for _, s in strides) == horizontal
