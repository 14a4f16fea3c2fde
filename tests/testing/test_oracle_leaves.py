"""The oracle's leaves against scipy, exact arithmetic and closed forms, far into the tails."""

import math
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

import pcircuits as pc
from pcircuits.testing.oracle import FiniteLeaf, NormalLeaf, Oracle
from pcircuits.testing.oracle.arithmetic import log_add, log_sub, log_sum, shares
from pcircuits.testing.oracle.leaves import log_logistic_mass, log_normal_mass, log_upper_tail


def leaf_of(units):
    circuit = pc.Circuit(units)
    (leaf,) = Oracle(circuit).leaves_of[circuit.variables[0]]
    return leaf


def table(units):
    """Probabilities of the states."""
    return [math.exp(p) for p in leaf_of(units).log_probs.values()]


class TestArithmetic:
    def test_sums_against_exact_arithmetic(self):
        values = [-3.0, -3.5, -40.0, -2.25]
        with localcontext(prec=50):
            exact = float(sum(Decimal(v).exp() for v in values).ln())
        assert log_sum(values) == pytest.approx(exact, rel=1e-15)
        assert log_sum(v - 1e5 for v in values) == pytest.approx(exact - 1e5, rel=1e-15)

    def test_zeros_and_infinities_are_exact(self):
        assert log_sum([]) == log_sum([-math.inf, -math.inf]) == -math.inf
        assert log_sum([-math.inf, -7.0]) == -7.0
        assert log_sum([math.inf, 0.0]) == math.inf
        assert log_add(-math.inf, math.inf) == log_add(math.inf, -math.inf) == -math.inf
        assert log_sub(-1.0, -1.0) == -math.inf
        assert log_sub(-1.0, -math.inf) == -1.0
        assert shares([-math.inf, -5e5, -5e5]) == [0.0, 0.5, 0.5]


class TestNormal:
    @pytest.mark.parametrize("x", [0.0, -3.0, 1e3, -1e6])
    def test_density(self, x):
        leaf = NormalLeaf(0.5, 0.01)
        assert leaf.log_density(x) == pytest.approx(stats.norm.logpdf(x, 0.5, 0.01), rel=1e-13)

    def test_infinite_values_are_impossible(self):
        assert NormalLeaf(0.0, 1.0).log_density(math.inf) == -math.inf

    @pytest.mark.parametrize("z", [-10.0, 0.0, 1.0, 10.0, 24.9, 25.1, 37.0, 100.0, 1e6])
    def test_tails(self, z):
        assert log_upper_tail(z) == pytest.approx(stats.norm.logsf(z), rel=1e-13, abs=1e-22)

    @pytest.mark.parametrize(
        ("lower", "upper"),
        [(-1, 1), (0, 3), (2, 2.5), (5, 9), (-9, -5), (-0.1, 7), (30, 31), (-math.inf, -20), (3, math.inf)],
    )
    def test_mass_of_intervals(self, lower, upper):
        got = log_normal_mass(lower, upper, 0.0, 1.0)
        mirrored = log_normal_mass(-upper, -lower, 0.0, 1.0)
        near, far = (lower, upper) if lower >= 0 else (-upper, -lower)
        if near >= 0:
            wanted = math.log(-math.expm1(stats.norm.logsf(far) - stats.norm.logsf(near))) + stats.norm.logsf(near)
        else:
            wanted = math.log1p(-math.exp(stats.norm.logsf(upper)) - math.exp(stats.norm.logcdf(lower)))
        assert got == pytest.approx(wanted, rel=1e-12, abs=1e-15)
        assert mirrored == pytest.approx(got, rel=1e-14)

    def test_a_narrow_interval_keeps_its_digits(self):
        density = stats.norm.logpdf(0.75)
        for width in (1e-3, 1e-9, 1e-15):
            lower, upper = 0.75 - width / 2, 0.75 + width / 2
            midpoint_rule_is_off_by = (0.75**2 - 1) * width**2 / 24
            wanted = density + math.log(upper - lower) + midpoint_rule_is_off_by
            assert log_normal_mass(lower, upper, 0.0, 1.0) == pytest.approx(wanted, abs=1e-12)

    def test_an_empty_interval_has_no_mass(self):
        assert log_normal_mass(1.0, 1.0, 0.0, 1.0) == -math.inf
        assert log_normal_mass(2.0, 1.0, 0.0, 1.0) == -math.inf

    @settings(max_examples=50)
    @given(st.floats(-50, 50), st.floats(1e-6, 30), st.floats(0.01, 0.99))
    def test_intervals_add_up(self, lower, width, cut):
        middle, upper = lower + cut * width, lower + width
        parts = [log_normal_mass(lower, middle, 0.0, 1.0), log_normal_mass(middle, upper, 0.0, 1.0)]
        assert log_sum(parts) == pytest.approx(log_normal_mass(lower, upper, 0.0, 1.0), rel=1e-12, abs=1e-9)

    @pytest.mark.parametrize("order", range(7))
    def test_moments(self, order):
        leaf = NormalLeaf(-1.25, 0.75)
        wanted = stats.norm.moment(order, -1.25, 0.75) if order else 1.0
        assert leaf.moment(order) == pytest.approx(wanted, rel=1e-13)
        assert leaf.expectation(lambda x: x**order) == pytest.approx(wanted, rel=1e-12)
        assert leaf.variance() == 0.75**2

    def test_expectations(self):
        leaf = NormalLeaf(0.5, 2.0)
        assert leaf.expectation(math.cos) == pytest.approx(math.cos(0.5) * math.exp(-2.0), rel=1e-12)
        assert leaf.expectation(math.exp) == pytest.approx(math.exp(0.5 + 2.0), rel=1e-12)
        assert leaf.expectation(lambda x: float(x <= 1.25)) == pytest.approx(stats.norm.cdf(0.375), rel=1e-9)
        assert leaf.mode() == 0.5


class TestFinite:
    def test_bernoulli(self):
        assert table(pc.Bernoulli("a", 0.25)) == pytest.approx([0.75, 0.25])
        assert leaf_of(pc.Bernoulli("a", 1e-20)).log_density(1) == pytest.approx(math.log(1e-20), rel=1e-15)
        assert leaf_of(pc.Bernoulli("a", 1e-20)).log_density(0) == -1e-20
        assert leaf_of(pc.Bernoulli("a", 1.0)).log_density(0) == -math.inf

    def test_categorical_is_renormalised(self):
        leaf = leaf_of(pc.Categorical("a", torch.tensor([0.1, 0.2, 0.7, 0.0])))
        assert math.fsum(math.exp(p) for p in leaf.log_probs.values()) == pytest.approx(1.0, abs=1e-15)
        assert leaf.log_density(3) == -math.inf
        assert leaf.mode() == 2.0

    def test_indicator(self):
        leaf = leaf_of(pc.Indicator("a", 4))
        assert (leaf.log_density(4), leaf.log_density(3), leaf.states) == (0.0, -math.inf, (4,))

    @pytest.mark.parametrize("x", [-1.0, 2.0, 0.5, math.inf, -math.inf])
    def test_what_is_no_state_is_impossible(self, x):
        assert leaf_of(pc.Bernoulli("a", 0.25)).log_density(x) == -math.inf

    def test_questions_are_sums_over_the_table(self):
        leaf = FiniteLeaf({0: math.log(0.2), 1: math.log(0.5), 2: math.log(0.3)})
        assert leaf.moment(1) == pytest.approx(1.1)
        assert leaf.moment(2) == pytest.approx(1.7)
        assert leaf.variance() == pytest.approx(1.7 - 1.21)
        assert math.exp(leaf.log_interval(0.5, 2)) == pytest.approx(0.8)
        assert leaf.log_interval(0.5, 0.9) == -math.inf


class TestDiscretised:
    @pytest.mark.parametrize("make", [pc.DiscretizedNormal, pc.DiscretizedLogistic])
    @pytest.mark.parametrize(("loc", "scale"), [(0.5, 0.1), (-3.0, 0.5), (0.2, 1e-3), (0.7, 50.0), (1.4, 1e-2)])
    @pytest.mark.parametrize("uniform", [0.0, 0.1])
    def test_masses_sum_to_one(self, make, loc, scale, uniform):
        for levels in (2, 3, 16, 256):
            assert math.fsum(table(make("a", loc, scale, levels, uniform))) == pytest.approx(1.0, abs=1e-12)

    def test_bins_against_scipy(self):
        cuts = [-math.inf, 0.25, 0.5, 0.75, math.inf]
        for make, law in ((pc.DiscretizedNormal, stats.norm), (pc.DiscretizedLogistic, stats.logistic)):
            wanted = [law.cdf(b, 0.4, 0.2) - law.cdf(a, 0.4, 0.2) for a, b in pairwise(cuts)]
            assert table(make("a", 0.4, 0.2, levels=4)) == pytest.approx(wanted, rel=1e-12)
            mixed = [0.9 * w + 0.1 / 4 for w in wanted]
            assert table(make("a", 0.4, 0.2, levels=4, uniform=0.1)) == pytest.approx(mixed, rel=1e-12)

    def test_far_bins_have_exact_logs(self):
        normal = leaf_of(pc.DiscretizedNormal("a", 0.0, 1e-3, levels=4))
        # mass of [0.5, 0.75): the tail beyond 500 standard deviations
        assert normal.log_density(2) == pytest.approx(stats.norm.logsf(500.0), rel=1e-12)
        logistic = leaf_of(pc.DiscretizedLogistic("a", 0.0, 1e-3, levels=4))
        assert logistic.log_density(2) == pytest.approx(-500.0, rel=1e-12)
        assert logistic.log_density(3) == pytest.approx(-750.0, rel=1e-12)

    def test_a_logistic_interval_against_exact_arithmetic(self):
        with localcontext(prec=60):
            for a, b in [(-1, 2), (30, 31), (-700, -699), (Fraction(1, 2), Fraction(1, 2) + Fraction(1, 2**40))]:
                low, high = (
                    1 / (1 + (-Decimal(v.numerator) / Decimal(v.denominator)).exp()) for v in map(Fraction, (a, b))
                )
                wanted = float((high - low).ln())
                assert log_logistic_mass(float(a), float(b), 0.0, 1.0) == pytest.approx(wanted, rel=1e-14)

    def test_a_normal_bin_against_quadrature(self):
        leaf = leaf_of(pc.DiscretizedNormal("a", 0.3, 0.05, levels=16))
        mass, _ = integrate.quad(stats.norm(0.3, 0.05).pdf, 6 / 16, 7 / 16, epsabs=0, epsrel=1e-13)
        assert leaf.log_density(6) == pytest.approx(math.log(mass), rel=1e-12)


class TestOfScipy:
    """Leaves of what families say of themselves in scipy, against exact sums and integrals."""

    @pytest.mark.parametrize("rate", [1e-4, 0.7, 30.0, 1e4])
    def test_counts(self, rate):
        leaf, law = leaf_of(pc.Poisson("a", rate)), stats.poisson(rate)
        low, high = math.floor(rate), math.ceil(rate + 3 * math.sqrt(rate))
        assert leaf.log_interval(low, high + 0.5) == pytest.approx(
            math.log(law.cdf(high) - law.cdf(low - 1)), rel=1e-9, abs=1e-9
        )
        far = high + 100 * math.ceil(math.sqrt(rate))
        assert (
            leaf.log_interval(far, math.inf) == pytest.approx(law.logsf(far - 1), rel=1e-9) or law.logsf(far - 1) < -700
        )
        assert leaf.log_interval(3.2, 3.8) == -math.inf
        assert leaf.log_interval(5, 4) == -math.inf
        assert leaf.moment(2) == pytest.approx(rate + rate**2, rel=1e-12)
        assert leaf.variance() == rate
        assert law.pmf(leaf.mode()) >= max(law.pmf(leaf.mode() - 1), law.pmf(leaf.mode() + 1))
        assert leaf.log_density(-1.0) == leaf.log_density(0.5) == leaf.log_density(math.inf) == -math.inf

    @pytest.mark.parametrize("rate", [1e-3, 1.0, 50.0])
    def test_densities(self, rate):
        leaf = leaf_of(pc.Exponential("a", rate))
        assert leaf.log_density(2 / rate) == pytest.approx(math.log(rate) - 2, rel=1e-14)
        assert leaf.log_density(-1.0) == leaf.log_density(math.inf) == -math.inf
        for a, b in [(0.0, 1.0), (0.5, 0.5 + 1e-9), (3.0, math.inf), (500.0, 501.0), (-2.0, 0.1), (2.0, 2.0)]:
            width = (b / rate - max(a, 0.0) / rate) * rate
            want = -max(a, 0.0) + math.log(-math.expm1(-width)) if width > 0 else -math.inf
            assert leaf.log_interval(a / rate, b / rate) == pytest.approx(want, rel=1e-9, abs=1e-9), (a, b)
        assert leaf.mode() == 0.0
        assert leaf.moment(0) == 1.0
        assert leaf.moment(3) == pytest.approx(6 / rate**3, rel=1e-12)
        assert leaf.expectation(lambda x: math.exp(0.25 * rate * x)) == pytest.approx(4 / 3, rel=1e-10)
        assert leaf.variance() == pytest.approx(rate**-2, rel=1e-12)

    def test_a_family_without_a_reference_is_named(self):
        @dataclass(frozen=True)
        class Own(pc.families.Bernoulli):
            reference = pc.families.AbstractFamily.reference

        with pytest.raises(pc.CircuitError, match=r"no leaf for .*Own\(\): give the family a method `reference`"):
            Oracle(pc.Circuit(pc.inputs(Own(), "a", {"probs": 0.5})))
