"""The Poisson family against scipy and 60-digit arithmetic, as one file of the library, and in circuits."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats

import pcircuits as pc
from pcircuits.families import FAMILIES, Poisson
from pcircuits.testing import check_structure
from pcircuits.testing.oracle import Oracle

RATES = [1e-6, 0.3, 2.0, 17.5, 300.0, 1e5]


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def exact_mass(first, last, rate):
    """log P(first <= X <= last), in 60 digits."""
    with mpmath.workdps(60):
        low, high = mpmath.mpf(0) if first == 0 else mpmath.gammainc(first, rate, regularized=True), mpmath.mpf(1)
        if last != math.inf:
            high = mpmath.gammainc(last + 1, rate, regularized=True)
        if first > rate:  # P(X >= first) by its own integral, else it is lost in 1
            above = mpmath.gammainc(first, 0, rate, regularized=True)
            beyond = 0 if last == math.inf else mpmath.gammainc(last + 1, 0, rate, regularized=True)
            return float(mpmath.log(above - beyond))
        return float(mpmath.log(high - low))


@pytest.mark.parametrize("rate", RATES)
def test_masses_keep_their_digits(rate):
    for k in {0, 1, 5, 16, 17, 18, round(rate), round(3 * rate) + 40, 10**6}:
        with mpmath.workdps(60):
            want = float(k * mpmath.log(mpmath.mpf(rate)) - rate - mpmath.loggamma(k + 1))
        got = Poisson().log_density(f64(float(k)), {"rate": f64(rate)}).item()
        assert got == pytest.approx(want, rel=1e-13, abs=1e-12), k


@pytest.mark.parametrize("rate", RATES[:5])
def test_intervals_keep_their_digits_far_into_both_tails(rate):
    spread = math.sqrt(rate)
    edges = sorted({max(0, round(rate + z * spread)) for z in (-60, -10, -3, -0.5, 0, 0.5, 3, 10, 60, 200)})
    for first in edges:
        for last in [*edges, math.inf]:
            if last < first:
                continue
            got = Poisson().log_interval(f64(first - 0.5), f64(last + 0.25), {"rate": f64(rate)}).item()
            want = exact_mass(first, last, rate)
            assert got == pytest.approx(want, rel=1e-9, abs=1e-9), (first, last)


def test_gradients_of_intervals_are_differences_of_masses():
    """d/drate P(a <= X <= b) = p(a - 1) - p(b)."""
    rate = f64(*RATES).requires_grad_()
    for first, last in [(0, 3), (2, 9), (20, 40), (290, 310), (0, math.inf), (5, math.inf), (7, 7)]:
        mass = Poisson().log_interval(f64(float(first)), f64(float(last)), {"rate": rate}).exp()
        (got,) = torch.autograd.grad(mass.sum(), rate)
        values = rate.detach().numpy()
        want = stats.poisson.pmf(first - 1, values) - (stats.poisson.pmf(last, values) if last < math.inf else 0)
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-8, atol=1e-14)


def test_second_derivatives():
    rate = f64(0.4, 3.0, 30.0).requires_grad_()
    for first, last in [(0.0, 4.0), (3.0, 12.0), (25.0, math.inf)]:
        interval = lambda r: Poisson().log_interval(f64(first), f64(last), {"rate": r})  # noqa: B023, E731
        assert torch.autograd.gradcheck(interval, (rate,))
        assert torch.autograd.gradgradcheck(interval, (rate,))


def test_expectations():
    rate = f64(0.2, 3.0, 80.0)
    for f, want in [
        (lambda x: torch.exp(0.5 * x), torch.exp(rate * (math.exp(0.5) - 1))),
        (lambda x: torch.exp(x), torch.exp(rate * (math.e - 1))),
        (lambda x: (x > 2).to(x.dtype), torch.as_tensor(stats.poisson.sf(2, rate.numpy()))),
    ]:
        torch.testing.assert_close(Poisson().integral(f, {"rate": rate}), want, rtol=1e-11, atol=1e-300)
    infinite = Poisson().integral(lambda x: torch.exp(x * x.clamp(min=1.0).log()), {"rate": f64(3.0)})
    assert infinite.item() == math.inf


def test_it_is_found_everywhere_by_its_file_alone():
    """Whoever asks for families asks the package, which has imported every module that it holds."""
    assert FAMILIES["Poisson"] is Poisson
    assert Poisson.__module__ == "pcircuits.families.poisson"
    for name, family in FAMILIES.items():
        assert getattr(pc.families, name) is family
        assert getattr(pc, name).__name__ == name
        assert name in pc.__all__
    generator = torch.Generator().manual_seed(0)
    units = pc.structures.random_leaves(Poisson(), rate=5.0)(["a", "b"], 3, generator)
    assert 0 < units.parameters["rate"].value.min() < units.parameters["rate"].value.max() < 10


def circuit():
    calls = pc.Poisson(["a", "b", "c"], f64([0.3, 2.0, 9.0], [1.0, 4.0, 0.5], [30.0, 7.0, 11.0]))
    return pc.Circuit(calls.prod().sum([0.2, 0.5, 0.3]))


def test_circuits_save_and_answer_as_the_oracle_does(tmp_path):
    check_structure(circuit())
    pc.save(circuit(), tmp_path / "calls.pc")
    model, oracle = pc.load(tmp_path / "calls.pc").compile(dtype=torch.float64), Oracle(circuit())
    row = {"a": 2.0, "c": 9.0}
    assert model.log_prob({"a": 2.0, "b": 0.0, "c": 40.0}).item() == pytest.approx(
        oracle.log_prob({"a": 2.0, "b": 0.0, "c": 40.0}), rel=1e-12
    )
    assert model.given(row).mean()[0, 1].item() == pytest.approx(oracle.mean(row)["b"], rel=1e-12)
    assert model.variance().tolist() == pytest.approx(list(oracle.variance().values()), rel=1e-10)
    box = ({"b": 2.0}, {"b": 5.0})
    assert model.given(row).probability(*box).item() == pytest.approx(oracle.probability(*box, row), rel=1e-10)
    best = model.expectation(lambda x: x > 3).tolist()
    assert best == pytest.approx(list(oracle.expectation(lambda x: float(x > 3)).values()), rel=1e-10)
