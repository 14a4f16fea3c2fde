"""Interval masses against 60-digit arithmetic, in both dtypes, with their gradients."""

import mpmath
import numpy as np
import pytest
import torch

from pcircuits.families.numerics import log_add, log_logistic_mass, log_normal_mass, over_scale, safe_log, safe_log1m

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def normal_mass(lower, upper):
    lower, upper = (-upper, -lower) if lower + upper > 0 else (lower, upper)
    return (mpmath.erfc(-upper / mpmath.sqrt(2)) - mpmath.erfc(-lower / mpmath.sqrt(2))) / 2


def normal_density(z):
    return mpmath.exp(-z * z / 2) / mpmath.sqrt(2 * mpmath.pi)


def logistic_mass(lower, upper):
    lower, upper = (-upper, -lower) if lower + upper > 0 else (lower, upper)
    return 1 / (1 + mpmath.exp(-upper)) - 1 / (1 + mpmath.exp(-lower))


def logistic_density(z):
    return mpmath.exp(-abs(z)) / (1 + mpmath.exp(-abs(z))) ** 2


FORMS = [(log_normal_mass, normal_mass, normal_density), (log_logistic_mass, logistic_mass, logistic_density)]


def intervals(count):
    """Centres up to ±160 and widths from 1e-6 to 100, with one end open now and then."""
    random = np.random.default_rng(0)
    for _ in range(count):
        centre = random.choice([0, 1]) * random.normal() * 10 ** random.uniform(-3, 2.2)
        width = 10 ** random.uniform(-6, 2)
        kind = random.random()
        yield (-np.inf if kind < 0.1 else centre), (np.inf if kind > 0.9 else centre + width)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("form", "mass", "density"), FORMS, ids=["normal", "logistic"])
def test_masses_and_their_gradients_keep_their_digits(form, mass, density, dtype):
    """In a location and a log-scale at (0, 1): relative to max(1, |exact|)."""
    with mpmath.workdps(60):
        for lower, upper in intervals(300):
            a, b = torch.tensor([lower, upper], dtype=dtype).tolist()
            if not a < b:
                continue
            loc, log_scale = torch.zeros(2, dtype=dtype, requires_grad=True).unbind()
            scale = log_scale.exp()
            ends = [z if np.isinf(z) else (torch.tensor(z, dtype=dtype) - loc) / scale for z in (a, b)]
            ends = [torch.as_tensor(z, dtype=dtype) for z in ends]
            width = torch.tensor(b - a, dtype=dtype)
            value = form(*ends, width / scale if np.isfinite(b - a) else width)
            got = [value, *torch.autograd.grad(value, (loc, log_scale))]
            total = mass(mpmath.mpf(a), mpmath.mpf(b))
            heights = [mpmath.mpf(0) if np.isinf(z) else density(mpmath.mpf(z)) / total for z in (a, b)]
            moments = [mpmath.mpf(0) if np.isinf(z) else z * h for z, h in zip((a, b), heights, strict=True)]
            want = [mpmath.log(total), heights[0] - heights[1], moments[0] - moments[1]]
            for found, exact in zip(got, want, strict=True):
                assert abs(found.item() - exact) <= TOLERANCE[dtype] * max(1, abs(exact)), (a, b)


@pytest.mark.parametrize("form", [log_normal_mass, log_logistic_mass])
def test_second_derivatives(form):
    lower = torch.tensor([-9.0, -3.0, -0.01, 0.5, 4.0, -torch.inf, 1.0], dtype=torch.float64)
    width = torch.tensor([0.5, 0.01, 0.02, 3.0, 0.05, torch.inf, 2.0], dtype=torch.float64)

    def mass(shift):
        upper = torch.where(width == torch.inf, 0.7, lower + width)
        return form(lower + shift, upper + shift, width)

    shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(mass, (shift,))
    assert torch.autograd.gradgradcheck(mass, (shift,))


@pytest.mark.parametrize("form", [log_normal_mass, log_logistic_mass])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_nothing_is_nan_far_out_or_at_infinite_ends(form, dtype):
    lower = torch.tensor([-torch.inf, -torch.inf, 1e9, -1e9 - 64, 1e12, -torch.inf, 1e9], dtype=dtype).requires_grad_()
    upper = torch.tensor([torch.inf, -1e9, torch.inf, -1e9, 2e12, 1e9, 1e9 + 64], dtype=dtype).requires_grad_()
    inf = torch.inf
    width = torch.tensor([inf, inf, inf, 64.0, 1e12, inf, 64.0], dtype=dtype).requires_grad_()
    value = form(lower, upper, width)
    assert not value.isnan().any()
    assert value[0] == 0
    assert value[5] == 0
    torch.testing.assert_close(value[3], value[6])
    for gradient in torch.autograd.grad(value.sum(), (lower, upper, width)):
        assert gradient.isfinite().all()


def test_logs_at_structural_zeros():
    for dtype in TOLERANCE:
        tiny = torch.finfo(dtype).smallest_normal / 2**20
        p = torch.tensor([0.0, tiny, 0.25, 1.0], dtype=dtype, requires_grad=True)
        assert safe_log(p).tolist() == p.detach().log().tolist()
        assert torch.autograd.grad(safe_log(p).sum(), p)[0].tolist() == [0, 0, 4, 1]
        assert safe_log1m(p)[-1] == -torch.inf
        assert torch.autograd.grad(safe_log1m(p).sum(), p)[0].tolist() == pytest.approx([-1, -1, -4 / 3, 0])


def test_log_add_passes_gradients_to_what_is_not_zero():
    a = torch.tensor([-torch.inf, -torch.inf, 0.0, 0.0], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([-torch.inf, 1.0, -torch.inf, 0.0], dtype=torch.float64, requires_grad=True)
    value = log_add(a, b)
    assert value.tolist() == pytest.approx([-torch.inf, 1.0, 0.0, np.log(2)])
    first, second = torch.autograd.grad(value.sum(), (a, b))
    assert first[1:].tolist() == [0, 1, 0.5]
    assert second[1:].tolist() == [1, 0, 0.5]
    assert first.isfinite().all()
    assert second.isfinite().all()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_a_quotient_by_a_tiny_scale_has_no_gradient_where_nothing_comes_from_above(dtype):
    tiny = torch.finfo(dtype).smallest_normal
    scale = torch.tensor([tiny, 1e-20, 0.5, 2.0], dtype=dtype, requires_grad=True)
    distance = torch.tensor([3.0, 3.0, 1.0, torch.inf], dtype=dtype, requires_grad=True)
    value = over_scale(distance, scale)
    assert torch.equal(value, (distance / scale).clamp(max=torch.finfo(dtype).max))
    for gradient in torch.autograd.grad((0.0 * value).sum(), (distance, scale), retain_graph=True):
        assert (gradient == 0).all()
    by_distance, by_scale = torch.autograd.grad(value[2], (distance, scale))
    assert by_distance.tolist() == [0, 0, 2, 0]
    assert by_scale.tolist() == [0, 0, -4, 0]
