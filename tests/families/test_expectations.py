"""Expectations of a user's functions: smooth, kinked, broken, oscillating, growing, and no functions at all."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import pcircuits as pc
from pcircuits.families import Categorical, Normal
from pcircuits.families.expectations import elementwise

LOC = torch.tensor([[0.0, 1.5, -3.0, 100.0]], dtype=torch.float64)
SCALE = torch.tensor([[1.0, 0.2, 4.0, 1e-3]], dtype=torch.float64)
PARAMETERS = {"loc": LOC, "scale": SCALE}
M, S = LOC.numpy(), SCALE.numpy()


def absolute(loc, scale):
    """E|X| of a Normal."""
    return scale * math.sqrt(2 / math.pi) * np.exp(-0.5 * (loc / scale) ** 2) + loc * (
        1 - 2 * stats.norm.cdf(-loc / scale)
    )


EXACT = {
    "cos(50 x)": (lambda x: torch.cos(50 * x), np.cos(50 * M) * np.exp(-1250 * S**2)),
    "sin(300 x)": (lambda x: torch.sin(300 * x), np.sin(300 * M) * np.exp(-45000 * S**2)),
    "x > 1": (lambda x: (x > 1).to(x.dtype), stats.norm.sf(1, M, S)),
    "a narrow interval": (
        lambda x: ((x > 1.4) & (x < 1.7)).to(x.dtype),
        stats.norm.cdf(1.7, M, S) - stats.norm.cdf(1.4, M, S),
    ),
    "|x|": (torch.abs, absolute(M, S)),
    "relu(x - 1.6)": (lambda x: torch.relu(x - 1.6), 0.5 * (absolute(M - 1.6, S) + M - 1.6)),
    "sign": (torch.sign, 1 - 2 * stats.norm.cdf(0, M, S)),
    "exp(x / 2)": (lambda x: torch.exp(0.5 * x), np.exp(0.5 * M + 0.125 * S**2)),
    "exp(3 x)": (lambda x: torch.exp(3 * x), np.exp(3 * M + 4.5 * S**2)),
    "x ** 20": (lambda x: x**20, np.vectorize(lambda m, s: float(stats.norm.moment(20, m, s)))(M, S)),
    "zero": (torch.zeros_like, 0 * M),
}


@pytest.mark.parametrize("name", EXACT)
def test_integrals_have_their_closed_forms(name):
    f, want = EXACT[name]
    got = Normal().integral(f, PARAMETERS)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-8, atol=2e-9)
    single = {name: value.float() for name, value in PARAMETERS.items()}
    rounded = Normal().integral(f, {name: value.double() for name, value in single.items()})
    found = Normal().integral(f, single)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, rounded.float())


def test_functions_of_numpy_are_functions():
    got = Normal().integral(elementwise(lambda x: np.exp(0.5 * x.numpy())), PARAMETERS)
    np.testing.assert_allclose(got.numpy(), np.exp(0.5 * M + 0.125 * S**2), rtol=1e-12)


def test_jumps_anywhere_are_found():
    """Between any two nodes, next to the ends of panels, and on them."""
    cuts = torch.cat([torch.linspace(-4, 4, 3001), torch.tensor([0.5, 0.5 - 1e-4, 0.5 + 1e-4, 0.5 - 1e-9])]).double()
    got = Normal().integral(lambda x: (x > 0).to(x.dtype), {"loc": -cuts, "scale": torch.ones(()).double()})
    np.testing.assert_allclose(got.numpy(), stats.norm.sf(cuts.numpy()), atol=1e-9)


def test_many_units_are_integrated_in_blocks():
    loc = torch.linspace(-3, 3, 2500, dtype=torch.float64).reshape(2, 1250)
    got = Normal().integral(torch.abs, {"loc": loc, "scale": torch.tensor(1.0, dtype=torch.float64)})
    np.testing.assert_allclose(got.numpy(), absolute(loc.numpy(), 1.0), rtol=1e-8)


def test_the_gradient_of_a_probability_is_the_density():
    """d P(X > 1) / d loc = p(1): a function with a jump has no derivative to be used, and needs none."""
    leaves = {name: value.clone().requires_grad_() for name, value in PARAMETERS.items()}
    value = Normal().integral(lambda x: (x > 1).to(x.dtype), leaves)
    by_loc, by_scale = torch.autograd.grad(value.sum(), list(leaves.values()))
    density = stats.norm.pdf(1, M, S)
    np.testing.assert_allclose(by_loc.numpy(), density, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(by_scale.numpy(), density * (1 - M) / S, rtol=1e-6, atol=1e-9)


@pytest.mark.errors
def test_what_cannot_be_integrated_is_refused():
    for f, message in [
        (lambda x: torch.cos(1e7 * x), "too rough.*model.probability"),
        (lambda x: torch.exp(x**2), "infinite|grows too fast"),
        (lambda x: torch.exp(0.49 * x**2), "grows too fast"),
        (torch.log, "NaN at -"),
        (lambda x: 1 / torch.relu(x), "infinite at -"),
    ]:
        with pytest.raises(pc.CircuitError, match=message):
            Normal().integral(f, {name: value[:, :1] for name, value in PARAMETERS.items()})


class TestFunctions:
    model = pc.Circuit(pc.Normal("x", [0.0, 2.0], [1.0, 0.5]).sum([0.3, 0.7]) * pc.Categorical("k", [0.2, 0.3, 0.5]))

    @pytest.mark.parametrize(
        ("f", "want"),
        [
            (lambda x: x > 1, [0.3 * stats.norm.sf(1) + 0.7 * stats.norm.sf(1, 2, 0.5), 0.5]),
            (lambda x: (x > 0).long(), [0.3 * 0.5 + 0.7 * stats.norm.sf(0, 2, 0.5), 0.8]),
            (lambda x: 3.0, [3.0, 3.0]),
            (lambda x: 3, [3.0, 3.0]),
            (lambda x: True, [1.0, 1.0]),
            (lambda x: torch.tensor(3.0), [3.0, 3.0]),
            (lambda x: np.float32(2.0), [2.0, 2.0]),
            (lambda x: x.float(), [1.4, 1.3]),
        ],
    )
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
    def test_numbers_of_any_kind_count(self, f, want, dtype):
        got = self.model.compile(dtype=dtype).expectation(f)
        assert got.dtype == dtype
        assert got.tolist() == pytest.approx(want, rel=1e-6)

    @pytest.mark.errors
    @pytest.mark.parametrize(
        ("f", "message"),
        [
            (None, "needs a function"),
            (math.exp, "failed on a tensor.*torch.exp does"),
            (lambda x: None, "gave None"),
            (lambda x: "much", "gave 'much'"),
            (lambda x: x.sum(), "one number for a tensor.*without sums"),
            (lambda x: x.mean().item(), "one number for a tensor.*without sums"),
            (lambda x: x.numel(), "one number for a tensor"),
            (lambda x: x[..., :1], "gave a tensor of shape"),
            (lambda x: x + 1j, "complex"),
            (torch.log, "NaN at -"),
        ],
    )
    def test_anything_else_is_refused(self, f, message):
        with pytest.raises(pc.CircuitError, match=message):
            self.model.compile().expectation(f)

    @pytest.mark.errors
    def test_nan_counts_only_where_it_is_possible(self):
        probs = torch.tensor([0.0, 0.5, 0.5], dtype=torch.float64)
        f = elementwise(lambda x: torch.where(x == 0, torch.nan, x))
        assert Categorical(3).integral(f, {"probs": probs}).item() == 1.5
        with pytest.raises(pc.CircuitError, match="NaN at 0, which is possible"):
            Categorical(3).integral(f, {"probs": probs.flip(0)})
        missing = torch.tensor([[torch.nan], [2.0]], dtype=torch.float64)
        got = Categorical(3).expectation(f, missing, ~missing.isnan(), {"probs": probs})
        assert got.flatten().tolist() == [1.5, 2.0]
        with pytest.raises(pc.CircuitError, match="NaN at 0, which is possible"):
            Categorical(3).expectation(f, torch.zeros(1, 1), torch.ones(1, 1) > 0, {"probs": probs})
