"""Every family against the contract suite, and the suite against families that are broken on purpose."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pcircuits as pc
from pcircuits import families
from pcircuits.families import FAMILIES
from pcircuits.scope import OPEN_ENDED, REAL
from pcircuits.testing.families import check_family


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


BINS = {"loc": f64(0.5, -1.0, 0.2, 0.3, 2.0), "scale": f64(0.1, 0.3, 1e-9, 1e3, 0.02)}
CASES = [
    (families.Bernoulli(), {"probs": f64(0.0, 1.0, 0.3, 1e-12)}),
    (families.Categorical(1), {"probs": f64([1.0])}),
    (families.Categorical(5), {"probs": f64([0.2] * 5, [0, 0, 1, 0, 0], [0.5, 0, 0.25, 0.25, 0])}),
    (families.Categorical(4), {"probs": f64([[0.1, 0.2, 0.3, 0.4]], [[0.7, 0.1, 0.1, 0.1]])}),
    (families.Indicator(), {"state": f64(0.0, 3.0)}),
    (families.Normal(), {"loc": f64(0.0, 3.0, -7.0, 0.3), "scale": f64(1.0, 0.1, 20.0, 1e-4)}),
    (families.Normal(), {"loc": f64([0.0, 1.0], [2.0, 3.0]), "scale": f64(0.5)}),
    (families.Poisson(), {"rate": f64(1e-6, 0.01, 0.7, 3.0, 20.0, 250.0)}),
    (families.Exponential(), {"rate": f64(0.3, 1.0, 20.0, 1e-3)}),
    (families.Gamma(), {"concentration": f64(1.0, 2.0, 9.0, 60.0), "rate": f64(0.3, 20.0, 1.0, 0.05)}),
    (families.LogNormal(), {"loc": f64(0.0, 2.0, -3.0), "scale": f64(0.1, 0.2, 0.05)}),
    (families.Laplace(), {"loc": f64(0.0, 3.0, -7.0), "scale": f64(1.0, 0.1, 20.0)}),
    (families.StudentT(), {"df": f64(40.0, 90.0, 1e3), "loc": f64(0.0, 3.0, -7.0), "scale": f64(1.0, 0.1, 20.0)}),
    (families.Beta(), {"concentration1": f64(1.0, 2.0, 9.0, 40.0), "concentration0": f64(1.0, 5.0, 3.0, 60.0)}),
    (families.VonMises(), {"loc": f64(0.0, 3.0, -1.0, 7.0), "concentration": f64(1e-3, 1.0, 20.0, 150.0)}),
    (families.Uniform(), {"low": f64(0.0, -3.0), "high": f64(1.0, 20.0)}),
    (families.Histogram((-1.0, 0.0, 0.5, 4.0)), {"probs": f64([0.2, 0.3, 0.5], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0])}),
    (families.PiecewiseLinear((-1.0, 0.0, 4.0)), {"probs": f64([0.2, 0.3, 0.5], [0.0, 1.0, 0.0], [0.5, 0.5, 0.0])}),
    (
        families.MultivariateNormal(2),
        {"loc": f64([0.0, 1.0], [3.0, -2.0]), "scale": f64([1.0, 0.5], [0.1, 3.0]), "lower": f64([0.5], [-8.0])},
    ),
    (
        families.MultivariateNormal(3),
        {"loc": f64([0.0, 1.0, -1.0]), "scale": f64([1.0, 0.5, 2.0]), "lower": f64([0.5, -1.0, 2.0])},
    ),
    (families.External("Gumbel"), {"loc": f64(0.0, 3.0), "scale": f64(1.0, 0.1)}),
    (families.External("Weibull"), {"scale": f64(1.0, 3.0), "concentration": f64(2.0, 4.0)}),
    (families.Binomial(1), {"probs": f64(0.3)}),
    (families.Binomial(12), {"probs": f64(0.0, 1.0, 0.3, 1e-9)}),
    (families.Geometric(), {"mean": f64(1e-6, 0.3, 2.0, 30.0)}),
    (families.NegativeBinomial(), {"mean": f64(1e-3, 0.7, 5.0, 30.0), "concentration": f64(0.5, 1.0, 3.0, 200.0)}),
    (families.DiscretizedNormal(17), BINS),
    (families.DiscretizedNormal(256, 0.05), BINS),
    (families.DiscretizedNormal(2), BINS),
    (families.DiscretizedNormal(8, 0.9), BINS),
    (families.DiscretizedLogistic(17), BINS),
    (families.DiscretizedLogistic(256, 0.05), BINS),
    (families.DiscretizedLogistic(2), BINS),
]


@pytest.mark.parametrize(
    ("family", "parameters"), CASES, ids=lambda case: str(case) if not isinstance(case, dict) else ""
)
def test_contract(family, parameters):
    check_family(family, parameters)


def test_every_family_is_covered_and_rebuilds_by_name():
    assert {family.name for family, _ in CASES} == set(FAMILIES)
    assert FAMILIES["DiscretizedNormal"](levels=4, uniform=0.5) == families.DiscretizedNormal(4, 0.5)
    assert families.DiscretizedNormal(4) != families.DiscretizedLogistic(4)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("states", [REAL, OPEN_ENDED, 1, 2, 5])
@pytest.mark.parametrize("extreme", [False, True])
def test_examples_are_admissible_members(name, states, extreme):
    for family in FAMILIES[name].members(states):
        generator = torch.Generator().manual_seed(0)
        parameters = family.examples((40, 3), generator, states, extreme)
        assert list(parameters) == list(family.parameters)
        assert family.unit_shape(parameters) == (40, 3)
        for key, spec in family.parameters.items():
            assert parameters[key].dtype == torch.float64
            assert spec.constraint.admits(parameters[key]).all()
        family.validate(parameters)
        sizes = family.support_sizes(parameters)
        assert states > 0 or sizes is None
        assert sizes is None or (sizes <= states).all()


@pytest.mark.errors
def test_distributions_of_torch_that_are_no_densities_of_one_number_are_refused():
    for name, message in [
        ("Poisson", "continuous distributions over one variable"),
        ("Dirichlet", "continuous distributions over one variable"),
        ("Nonsense", "has no 'Nonsense'"),
    ]:
        with pytest.raises(pc.ParameterError, match=message):
            families.External(name)
    one = {"concentration": f64(1.0), "rate": f64(1.0)}
    with pytest.raises(pc.ParameterError, match=r"torch\.distributions\.Gamma has no icdf"):
        families.External("Gamma").draw(one, None)


def test_every_family_has_examples_over_some_variables():
    several = {"MultivariateNormal", "External"}  # random circuits draw univariate families that have no free fields
    for name in FAMILIES.keys() - several:
        assert any(FAMILIES[name].members(states) for states in (REAL, OPEN_ENDED, 2)), name


@pytest.mark.errors
def test_what_a_family_does_not_say_is_missed_by_name():
    @dataclass(frozen=True)
    class Silent(families.Bernoulli):
        examples = families.AbstractFamily.examples
        initial = families.AbstractFamily.initial
        reference = families.AbstractFamily.reference
        m_step = families.AbstractFamily.m_step
        name = "Silent"

    generator = torch.Generator()
    with pytest.raises(pc.ParameterError, match="Silent has no examples"):
        Silent().examples((1,), generator)
    with pytest.raises(pc.ParameterError, match="Silent has no initial parameters"):
        Silent().initial((1,), generator)
    with pytest.raises(pc.ParameterError, match="Silent has no reference for the oracle"):
        Silent().reference({"probs": 0.5})
    with pytest.raises(pc.ParameterError, match=r"Silent\(\) has no update.*by gradients"):
        Silent().m_step([], f64(1.0), {"probs": f64(0.5)})
    assert "Silent" not in FAMILIES


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from([families.DiscretizedNormal, families.DiscretizedLogistic]),
    levels=st.integers(2, 300),
    uniform=st.sampled_from([0.0, 1e-6, 0.5]),
    loc=st.floats(-5, 5),
    log_scale=st.floats(-20, 7),
)
def test_masses_sum_to_one_for_any_parameters(kind, levels, uniform, loc, log_scale):
    family, parameters = kind(levels, uniform), {"loc": f64(loc), "scale": f64(log_scale).exp()}
    assert family.log_table(parameters).exp().sum(-1).item() == pytest.approx(1, abs=1e-9)
    assert family.log_max(parameters).item() == pytest.approx(family.log_table(parameters).max().item(), abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_masses_of_adjacent_intervals_add(data):
    family, parameters = data.draw(st.sampled_from([case for case in CASES if case[0].size == 1]))
    a, b, c = sorted(data.draw(st.lists(st.integers(-3, 260), min_size=3, max_size=3)))
    gap = 1 if family.base == "counting" else 0

    def mass(lower, upper):
        return family.log_mass(f64([float(lower)]), f64([float(upper)]), f64([0.0]), f64([0.0]) > 0, parameters).exp()

    torch.testing.assert_close(mass(a, b) + mass(b + gap, c), mass(a, c), rtol=1e-9, atol=1e-12)


@dataclass(frozen=True)
class Unnormalised(families.Normal):
    def log_max(self, parameters):
        return super().log_max(parameters) + 0.01


@dataclass(frozen=True)
class WrongMean(families.Normal):
    def raw_moment(self, order, parameters):
        return super().raw_moment(order, parameters) * (1 + 0.001 * (order == 3))


@dataclass(frozen=True)
class WrongDraws(families.Normal):
    def draw(self, parameters, generator):
        return super().draw(parameters, generator) + 0.2 * parameters["scale"]


@dataclass(frozen=True)
class ShiftedBins(families.DiscretizedNormal):
    def _log_bins(self, first, last, parameters):
        return super()._log_bins(first, last, {**parameters, "loc": parameters["loc"] + 0.5 / self.levels})

    def log_table(self, parameters):
        return families.DiscretizedNormal(self.levels).log_table(parameters)


@dataclass(frozen=True)
class LeakyGradient(families.Normal):
    def log_density(self, x, parameters):
        return super().log_density(x, {**parameters, "loc": parameters["loc"].detach() + 0 * parameters["loc"]})


@dataclass(frozen=True)
class HalvesArePossible(families.Bernoulli):
    def _possible(self, x):
        return (x >= 0) & (x <= 1)


@dataclass(frozen=True)
class ClosedBelowOnly(families.Categorical):
    def _states_between(self, lower, upper):
        start, count = super()._states_between(lower, upper)
        return start, count - ((upper == upper.floor()) & (count > 0)).long()


@pytest.mark.parametrize(
    ("family", "parameters", "message"),
    [
        (Unnormalised(), {"loc": f64(0.0), "scale": f64(1.0)}, "total probability"),
        (WrongMean(), {"loc": f64(1.0), "scale": f64(1.0)}, "moment 3"),
        (WrongDraws(), {"loc": f64(1.0), "scale": f64(1.0)}, "do not follow"),
        (ShiftedBins(8), {"loc": f64(0.4), "scale": f64(0.1)}, "mean|moment|expectation|mass"),
        (LeakyGradient(), {"loc": f64(1.0), "scale": f64(1.0)}, "derivative of log_prob by loc"),
        (HalvesArePossible(), {"probs": f64(0.4)}, "log_prob at 0.5"),
        (ClosedBelowOnly(3), {"probs": f64([0.2, 0.3, 0.5])}, "log_mass"),
    ],
    ids=lambda case: type(case).__name__,
)
def test_the_suite_finds_broken_families(family, parameters, message):
    with pytest.raises(AssertionError, match=message):
        check_family(family, parameters)
