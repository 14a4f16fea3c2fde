"""Bin masses of the discretised families against scipy and 60-digit arithmetic."""

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats

from pcircuits.errors import ParameterError
from pcircuits.families import DiscretizedLogistic, DiscretizedNormal

KINDS = [(DiscretizedNormal, stats.norm), (DiscretizedLogistic, stats.logistic)]
LOC = torch.tensor([0.5, 0.1, -0.3, 1.2], dtype=torch.float64)
SCALE = torch.tensor([0.2, 0.05, 0.5, 0.3], dtype=torch.float64)
PARAMETERS = {"loc": LOC, "scale": SCALE}


def bins(law, levels, uniform=0.0):
    """Masses (units, levels) by differences of scipy's distribution function."""
    edges = np.arange(levels + 1) / levels
    cdf = law.cdf(edges, LOC.numpy()[:, None], SCALE.numpy()[:, None])
    cdf[:, 0], cdf[:, -1] = 0, 1
    return (1 - uniform) * np.diff(cdf) + uniform / levels


@pytest.mark.parametrize(("kind", "law"), KINDS)
@pytest.mark.parametrize("levels", [2, 3, 17, 256])
@pytest.mark.parametrize("uniform", [0.0, 0.01])
def test_masses_are_scipys(kind, law, levels, uniform):
    got = kind(levels, uniform).log_table(PARAMETERS).exp().numpy()
    np.testing.assert_allclose(got, bins(law, levels, uniform), atol=1e-14)


@pytest.mark.parametrize(("kind", "law"), KINDS)
def test_edge_bins_take_the_tails(kind, law):
    low, high = kind(8).log_table(PARAMETERS)[:, [0, -1]].exp().numpy().T
    np.testing.assert_allclose(low, law.cdf(1 / 8, LOC.numpy(), SCALE.numpy()), rtol=1e-12)
    np.testing.assert_allclose(high, law.sf(7 / 8, LOC.numpy(), SCALE.numpy()), rtol=1e-12)


@pytest.mark.parametrize(("kind", "law"), KINDS)
@pytest.mark.parametrize("uniform", [0.0, 0.2])
def test_intervals_are_sums_of_masses(kind, law, uniform):
    masses = bins(law, 17, uniform)
    family = kind(17, uniform)
    for lower, upper in [(-3, 5), (0, 0), (2.5, 6.5), (4, 3), (16, 99), (-np.inf, np.inf), (3.2, 3.8), (17, 20)]:
        got = family.log_interval(torch.tensor(float(lower)), torch.tensor(float(upper)), PARAMETERS).exp().numpy()
        states = np.arange(17)
        want = masses[:, (states >= lower) & (states <= upper)].sum(1)
        np.testing.assert_allclose(got, want, atol=1e-14)


@pytest.mark.parametrize(("kind", "law"), KINDS)
def test_modes_moments_and_integrals_are_sums(kind, law):
    masses, states = bins(law, 17), np.arange(17)
    family = kind(17)
    assert family.argmax(PARAMETERS).tolist() == masses.argmax(1).tolist()
    np.testing.assert_allclose(family.log_max(PARAMETERS).exp().numpy(), masses.max(1), rtol=1e-12)
    np.testing.assert_allclose(family.raw_moment(3, PARAMETERS).numpy(), masses @ states**3, rtol=1e-11)
    mean = masses @ states
    want = (masses * (states - mean[:, None]) ** 2).sum(1)
    np.testing.assert_allclose(family.central_second_moment(PARAMETERS).numpy(), want, rtol=1e-11)
    np.testing.assert_allclose(family.integral(torch.sqrt, PARAMETERS).numpy(), masses @ np.sqrt(states), rtol=1e-11)


def exact(kind, state, levels, loc, scale):
    """log of a bin's mass, in 60 digits."""
    lower = -mpmath.inf if state == 0 else (mpmath.mpf(state) / levels - loc) / scale
    upper = mpmath.inf if state == levels - 1 else (mpmath.mpf(state + 1) / levels - loc) / scale
    lower, upper = (-upper, -lower) if lower + upper > 0 else (lower, upper)
    if kind is DiscretizedNormal:
        return mpmath.log((mpmath.erfc(-upper / mpmath.sqrt(2)) - mpmath.erfc(-lower / mpmath.sqrt(2))) / 2)
    return mpmath.log(1 / (1 + mpmath.exp(-upper)) - 1 / (1 + mpmath.exp(-lower)))


@pytest.mark.parametrize("kind", [DiscretizedNormal, DiscretizedLogistic])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_wide_narrow_and_distant_densities_keep_their_digits(kind, dtype):
    """Values and gradients (in a shift of one scale, and in log scale), relative to max(1, |exact|)."""
    tolerance = 2e-5 if dtype == torch.float32 else 1e-10
    with mpmath.workdps(60):
        for scale in (1e3, 1.0, 0.05, 2.0**-9, 2e-4):
            for loc in (0.5, 0.03, -2.0, 4.0):
                for state in (0, 3, 128, 200, 255):
                    leaves = [torch.tensor(v, dtype=dtype, requires_grad=True) for v in (loc, scale)]
                    value = kind(256).log_density(
                        torch.tensor(float(state), dtype=dtype), dict(zip(("loc", "scale"), leaves, strict=True))
                    )
                    by_loc, by_scale = torch.autograd.grad(value, leaves)
                    m, s = (mpmath.mpf(leaf.item()) for leaf in leaves)
                    step = mpmath.mpf(10) ** -20
                    truth = (
                        exact(kind, state, 256, m, s),
                        (exact(kind, state, 256, m + step * s, s) - exact(kind, state, 256, m - step * s, s))
                        / (2 * step),
                        (exact(kind, state, 256, m, s * (1 + step)) - exact(kind, state, 256, m, s * (1 - step)))
                        / (2 * step),
                    )
                    found = (value.item(), by_loc.item() * s, by_scale.item() * s)
                    if not mpmath.isfinite(truth[0]) or not all(mpmath.isfinite(t) for t in truth):
                        continue  # beyond 60 digits
                    for got, want in zip(found, truth, strict=True):
                        assert abs(got - want) <= tolerance * max(1, abs(want)), (scale, loc, state)


@pytest.mark.parametrize("kind", [DiscretizedNormal, DiscretizedLogistic])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_tiny_scales_leave_values_and_gradients_finite(kind, dtype):
    leaves = {"loc": torch.tensor([0.5, 0.3, -7.0], dtype=dtype).requires_grad_()}
    leaves["scale"] = torch.full((3,), 1e-9, dtype=dtype, requires_grad=True)
    for state in (0.0, 76.0, 128.0, 255.0):
        value = kind(256).log_density(torch.tensor(state, dtype=dtype), leaves)
        assert value.isfinite().all()
        for gradient in torch.autograd.grad(value.sum(), list(leaves.values())):
            assert gradient.isfinite().all()
    at_edge = kind(2).log_table({name: value[0].detach() for name, value in leaves.items()})
    torch.testing.assert_close(at_edge.exp(), torch.tensor([0.5, 0.5], dtype=dtype))


@pytest.mark.parametrize("kind", [DiscretizedNormal, DiscretizedLogistic])
@pytest.mark.parametrize("uniform", [0.0, 0.1])
def test_gradients_to_second_order(kind, uniform):
    leaves = (LOC.clone().requires_grad_(), SCALE.clone().requires_grad_())
    table = lambda loc, scale: kind(9, uniform).log_table({"loc": loc, "scale": scale})  # noqa: E731
    assert torch.autograd.gradcheck(table, leaves)
    assert torch.autograd.gradgradcheck(table, leaves)


@pytest.mark.parametrize("kind", [DiscretizedNormal, DiscretizedLogistic])
def test_one_uniform_number_for_each_draw(kind):
    one, two = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    for uniform in (0.0, 0.3):
        kind(256, uniform).draw({"loc": LOC.expand(5, 4), "scale": SCALE}, one)
        torch.rand(5, 4, generator=two, dtype=torch.float64)
    assert torch.equal(one.get_state(), two.get_state())


@pytest.mark.errors
@pytest.mark.parametrize("kind", [DiscretizedNormal, DiscretizedLogistic])
def test_bad_fields_are_refused(kind):
    for levels in (1, 0, -3, 2.5, "many"):
        with pytest.raises(ParameterError, match="levels of Discretized"):
            kind(levels)
    for uniform in (1.0, -0.1, float("nan"), "some"):
        with pytest.raises(ParameterError, match="uniform of Discretized"):
            kind(4, uniform)
    assert type(kind(np.int64(4)).levels) is int


@pytest.mark.parametrize("kind", [DiscretizedNormal, DiscretizedLogistic])
@pytest.mark.parametrize("uniform", [0.0, 0.1])
@pytest.mark.parametrize("scale", [1e-18, 1e-20, 1e-30, 1.2e-38])
def test_no_float32_scale_gives_nan(kind, uniform, scale):
    """Gradients are infinite where the true ones are beyond float32, and zero where nothing depends on the value."""
    loc = torch.tensor([0.5, 0.3, -7.0, 0.0], requires_grad=True)
    leaves = {"loc": loc, "scale": torch.full((4,), scale, requires_grad=True)}
    for state in (0.0, 76.0, 127.0, 128.0, 255.0):
        value = kind(256, uniform).log_density(torch.tensor(state), leaves)
        assert not value.isnan().any()
        finite = torch.where(value > -torch.inf, value, 0.0)
        for gradient in torch.autograd.grad(finite.sum(), list(leaves.values()), retain_graph=True):
            assert not gradient.isnan().any()
        for gradient in torch.autograd.grad((0.0 * finite).sum(), list(leaves.values())):
            assert (gradient == 0).all()
