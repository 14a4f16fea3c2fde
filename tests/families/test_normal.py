"""The Normal family against scipy and closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

import pcircuits as pc
from pcircuits.families import Normal

LOC = torch.tensor([[0.0, 1.5, -3.0]], dtype=torch.float64)
SCALE = torch.tensor([[1.0, 0.2, 4.0]], dtype=torch.float64)
PARAMETERS = {"loc": LOC, "scale": SCALE}


def test_density_is_scipys():
    x = torch.linspace(-5, 5, 11, dtype=torch.float64).unsqueeze(-1)
    want = stats.norm.logpdf(x.numpy(), LOC.numpy(), SCALE.numpy())
    np.testing.assert_allclose(Normal().log_density(x, PARAMETERS).numpy(), want, rtol=1e-13)


def test_density_integrates_to_one():
    one = {"loc": LOC[0, 1], "scale": SCALE[0, 1]}
    density = lambda x: Normal().log_density(torch.tensor(x, dtype=torch.float64), one).exp().item()  # noqa: E731
    assert integrate.quad(density, -1, 4)[0] == pytest.approx(1, abs=1e-9)


def test_intervals_are_differences_of_scipys_cdf():
    ends = torch.tensor([-math.inf, -2.0, 0.0, 1.4, 1.6, math.inf], dtype=torch.float64)
    for lower in ends:
        for upper in ends:
            got = Normal().log_interval(lower, upper, PARAMETERS).exp().numpy()
            cdf = [stats.norm.cdf(end.item(), LOC.numpy(), SCALE.numpy()) for end in (lower, upper)]
            np.testing.assert_allclose(got, np.maximum(cdf[1] - cdf[0], 0), atol=1e-12)


@pytest.mark.parametrize(
    ("lower", "upper"), [(1.0, 1.0), (2.0, 1.0), (math.inf, math.inf), (math.inf, -math.inf), (-math.inf, -math.inf)]
)
def test_empty_intervals_have_mass_zero_and_no_gradient(lower, upper):
    leaves = {name: value.clone().requires_grad_() for name, value in PARAMETERS.items()}
    ends = [torch.tensor(end, dtype=torch.float64) for end in (lower, upper)]
    value = Normal().log_interval(*ends, leaves)
    assert (value == -math.inf).all()
    for gradient in torch.autograd.grad(value.sum(), list(leaves.values())):
        assert (gradient == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_log_density_of_minus_1e5_and_its_gradient(dtype):
    loc, scale = (torch.tensor(v, dtype=dtype, requires_grad=True) for v in (0.5, 1e-3))
    x = torch.tensor(0.5 + 0.4472135954999579, dtype=dtype)
    z = (x.double() - 0.5) / scale.detach().double()
    value = Normal().log_density(x, {"loc": loc, "scale": scale})
    assert value.item() == pytest.approx((-0.5 * z * z - math.log(1e-3) - 0.5 * math.log(2 * math.pi)).item(), rel=1e-6)
    by_loc, by_scale = torch.autograd.grad(value, (loc, scale))
    assert by_loc.item() == pytest.approx((z / scale).item(), rel=1e-6)
    assert by_scale.item() == pytest.approx(((z * z - 1) / scale).item(), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_tiny_scales_and_far_tails_stay_finite(dtype):
    loc, scale = (torch.tensor(v, dtype=dtype, requires_grad=True) for v in (0.5, 1e-9))
    value = Normal().log_density(torch.tensor(1e3, dtype=dtype), {"loc": loc, "scale": scale})
    assert value.item() == pytest.approx(-0.5 * (999.5e9) ** 2, rel=1e-6)
    for gradient in torch.autograd.grad(value, (loc, scale)):
        assert gradient.isfinite()


def test_gradients_of_the_density_to_second_order():
    leaves = (LOC.clone().requires_grad_(), SCALE.clone().requires_grad_())
    x = torch.tensor([[-2.0], [0.3], [7.0]], dtype=torch.float64)
    density = lambda loc, scale: Normal().log_density(x, {"loc": loc, "scale": scale})  # noqa: E731
    assert torch.autograd.gradcheck(density, leaves)
    assert torch.autograd.gradgradcheck(density, leaves)
    mass = lambda loc, scale: Normal().log_interval(x, x + 1.0, {"loc": loc, "scale": scale})  # noqa: E731
    assert torch.autograd.gradcheck(mass, leaves)


@pytest.mark.parametrize("order", range(9))
def test_moments_are_scipys(order):
    got = Normal().raw_moment(order, PARAMETERS)[0].numpy()
    want = [stats.norm.moment(order, loc, scale) for loc, scale in zip(LOC[0].numpy(), SCALE[0].numpy(), strict=True)]
    np.testing.assert_allclose(got, want, rtol=1e-10)


def test_integrals_of_smooth_functions():
    """E[exp(tX)] and E[cos X] have closed forms."""
    got = Normal().integral(lambda x: torch.exp(0.5 * x), PARAMETERS)
    torch.testing.assert_close(got, torch.exp(0.5 * LOC + 0.125 * SCALE**2), rtol=1e-12, atol=0)
    got = Normal().integral(torch.cos, PARAMETERS)
    torch.testing.assert_close(got, LOC.cos() * torch.exp(-0.5 * SCALE**2), rtol=1e-9, atol=1e-12)


def test_the_centre_lowers_what_cancels():
    loc = torch.tensor([[0.0, 0.9, 1.0]], dtype=torch.float64)
    parameters = {"loc": loc, "scale": torch.tensor([[1.0, 1e-6, 1e-6]], dtype=torch.float64)}
    centre = Normal().centre(parameters)
    assert centre.shape == (1,)
    total = Normal().cancellation(parameters, centre.unsqueeze(-1)).sum()
    for other in (0.0, 0.9, 1.0, loc.mean().item()):
        assert total <= Normal().cancellation(parameters, torch.tensor(other, dtype=torch.float64)).sum()


def test_parameters_that_broadcast_against_each_other():
    parameters = {"loc": LOC, "scale": torch.tensor(2.0, dtype=torch.float64)}
    x = torch.zeros(5, 1, dtype=torch.float64)
    assert Normal().log_density(x, parameters).shape == (5, 3)
    for value in (
        Normal().argmax(parameters),
        Normal().log_max(parameters),
        Normal().draw(parameters, torch.Generator().manual_seed(0)),
        Normal().raw_moment(0, parameters),
        Normal().central_second_moment(parameters),
        Normal().integral(torch.sin, parameters),
    ):
        assert value.shape == (1, 3)


@pytest.mark.parametrize("scale", [1e-18, 5e-20, 1e-20, 1e-30, 1.2e-38])
def test_every_float32_scale_has_its_density_and_gradient(scale):
    """Against float64, near the mean; far from it the value is -inf, with no gradient."""
    single = torch.tensor(scale)
    exact = single.double()
    for z in (0.0, 0.5, -3.0):
        loc, spread = torch.zeros((), requires_grad=True), single.clone().requires_grad_()
        value = Normal().log_density((z * exact).float(), {"loc": loc, "scale": spread})
        seen = (z * exact).float().double()
        assert value.item() == pytest.approx(stats.norm.logpdf(seen.item(), 0.0, exact.item()), rel=1e-6)
        by_loc, by_scale = torch.autograd.grad(value, (loc, spread))
        true = (seen / exact / exact, ((seen / exact) ** 2 - 1) / exact)
        for got, want in zip((by_loc, by_scale), true, strict=True):
            assert got.item() == pytest.approx(want.float().item(), rel=1e-5)
    value = Normal().log_density(torch.tensor(1e3), {"loc": loc, "scale": spread})
    for gradient in torch.autograd.grad((0.0 * torch.where(value > -torch.inf, value, 0.0)).sum(), (loc, spread)):
        assert gradient.item() == 0


def test_products_of_tiny_scales_in_float32():
    for scale in (5e-20, 1e-20, 1.2e-38):
        units = pc.Normal(["mass", "charge"], torch.zeros(2, 1), torch.tensor([[scale]]))
        got = pc.Circuit(units.prod()).compile().log_prob({"mass": 0.0, "charge": 0.0})
        want = 2 * stats.norm.logpdf(0.0, 0.0, torch.tensor(scale).item())
        assert got.item() == pytest.approx(want, rel=1e-6)


def test_there_is_no_exponential_form_where_the_precision_overflows():
    zero = torch.zeros(1)
    for scale in (1e-20, 1e20):
        assert Normal().cancellation({"loc": zero, "scale": torch.tensor([scale])}, zero).item() == math.inf
    held = {"loc": zero.double(), "scale": torch.tensor([1e-20, 1e20], dtype=torch.float64)}
    assert Normal().cancellation(held, zero.double()).tolist() == [0, 0]
