"""Statistics and updates of expectation-maximisation, against closed forms, scipy's fits and numerical maximisation."""

import numpy as np
import pytest
import torch
from scipy import optimize, stats

import pcircuits as pc
from pcircuits.families import (
    Bernoulli,
    Beta,
    Binomial,
    Categorical,
    DiscretizedLogistic,
    DiscretizedNormal,
    Exponential,
    Gamma,
    Geometric,
    Histogram,
    Indicator,
    Laplace,
    LogNormal,
    NegativeBinomial,
    Normal,
    PiecewiseLinear,
    Poisson,
    StudentT,
    Uniform,
    VonMises,
)


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


FAMILIES = [
    (Normal(), {"loc": f64(0.5, -3.0), "scale": f64(1.0, 0.2)}),
    (Poisson(), {"rate": f64(0.3, 12.0)}),
    (Exponential(), {"rate": f64(0.3, 12.0)}),
    (Bernoulli(), {"probs": f64(0.3, 0.9)}),
    (Categorical(4), {"probs": f64([0.1, 0.2, 0.3, 0.4], [0.7, 0.05, 0.15, 0.1])}),
    (DiscretizedNormal(8), {"loc": f64(0.3, 0.8), "scale": f64(0.1, 0.3)}),
    (DiscretizedLogistic(8, 0.05), {"loc": f64(0.3, 0.8), "scale": f64(0.1, 0.3)}),
    (Binomial(9), {"probs": f64(0.3, 0.9)}),
    (Geometric(), {"mean": f64(0.3, 12.0)}),
    (Gamma(), {"concentration": f64(2.5, 0.7), "rate": f64(0.3, 12.0)}),
    (LogNormal(), {"loc": f64(0.5, -3.0), "scale": f64(1.0, 0.2)}),
    (Beta(), {"concentration1": f64(2.5, 0.7), "concentration0": f64(0.8, 12.0)}),
    (VonMises(), {"loc": f64(0.5, -3.0), "concentration": f64(1.0, 20.0)}),
    (Histogram((0.0, 1.0, 3.0)), {"probs": f64([0.3, 0.7], [0.9, 0.1])}),
]
IDS = [str(family) for family, _ in FAMILIES]


def sums(family, parameters, x, weights, centre=None):
    """Σ w E[T] and Σ w over rows x (B,) with weights (B, K)."""
    column = x.unsqueeze(-1).unsqueeze(-1)
    found = family.expected_statistics(column, ~column.isnan(), parameters, centre)
    return [
        torch.einsum("bk,bk...->k...", weights, t.expand(*weights.shape, *t.shape[2:])) for t in found
    ], weights.sum(0)


def drawn(family, parameters, rows=400):
    """Rows of data from the first unit, and weights of both units."""
    generator = torch.Generator().manual_seed(0)
    many = {name: value[:1].expand(rows, *value.shape[1:]) for name, value in parameters.items()}
    return family.draw(many, generator), torch.rand(rows, 2, generator=generator, dtype=torch.float64)


def likelihood(family, parameters, x, weights):
    return (weights * family.log_density(x.unsqueeze(-1), parameters)).sum(0)


@pytest.mark.parametrize(("family", "parameters"), FAMILIES, ids=IDS)
def test_an_update_is_the_numerical_maximum(family, parameters):
    x, weights = drawn(family, parameters)
    found = family.m_step(*sums(family, parameters, x, weights), parameters)
    best = likelihood(family, found, x, weights)
    for unit in range(2):
        shapes = {name: value[unit].shape for name, value in parameters.items()}

        def loss(raw, unit=unit, shapes=shapes):
            values, start = {}, 0
            for name, shape in shapes.items():
                spec = family.parameters[name].constraint
                size = shape.numel()
                values[name] = spec.constrain(torch.as_tensor(raw[start : start + size]).reshape(shape)).unsqueeze(0)
                start += size
            return -likelihood(family, values, x, weights[:, unit : unit + 1]).item()

        raws = [
            family.parameters[name].constraint.unconstrain(found[name][unit]).clamp(min=-30).reshape(-1)
            for name in shapes
        ]
        start = torch.cat(raws).numpy()
        for shift in (0.0, 0.3):
            other = optimize.minimize(loss, start + shift, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-9})
            assert best[unit].item() >= -other.fun - 1e-7
    before = likelihood(family, parameters, x, weights)
    assert (best >= before.nan_to_num(neginf=-1e300)).all()


@pytest.mark.parametrize(("family", "parameters"), FAMILIES, ids=IDS)
def test_missing_values_count_as_the_unit_expects_them(family, parameters):
    """Nothing but missing values teaches a unit nothing: its update is what it was."""
    x = torch.full((50,), torch.nan, dtype=torch.float64)
    found = family.m_step(*sums(family, parameters, x, torch.ones(50, 2).double()), parameters)
    for name, value in parameters.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("family", "parameters"), FAMILIES, ids=IDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_units_that_no_row_uses_keep_their_parameters(family, parameters, dtype):
    x, weights = drawn(family, parameters)
    weights[:, 1] = 0.0
    single = {name: value.to(dtype) for name, value in parameters.items()}
    found = family.m_step(*sums(family, parameters, x, weights), single)
    for name, value in single.items():
        assert found[name].dtype == dtype
        assert torch.equal(found[name][1], value[1])
        assert not torch.equal(found[name][0], value[0])


LATENT = [
    (NegativeBinomial(), {"mean": f64(2.0, 9.0), "concentration": f64(1.5, 8.0)}),
    (StudentT(), {"df": f64(3.0, 8.0), "loc": f64(0.5, -3.0), "scale": f64(1.0, 0.2)}),
    (Laplace(), {"loc": f64(0.5, -3.0), "scale": f64(1.0, 0.2)}),
    (PiecewiseLinear((0.0, 1.0, 3.0, 4.0)), {"probs": f64([0.2, 0.4, 0.3, 0.1], [0.25, 0.25, 0.25, 0.25])}),
]
"""Families with a latent variable: one update is one step towards the maximum."""


@pytest.mark.parametrize(("family", "parameters"), LATENT, ids=[str(family) for family, _ in LATENT])
class TestLatentVariables:
    def test_steps_never_lower_the_likelihood_and_end_at_the_maximum(self, family, parameters):
        x, weights = drawn(family, parameters)
        found = {name: value[1:].expand(2, *value.shape[1:]).clone() for name, value in parameters.items()}
        before = likelihood(family, found, x, weights)
        for _ in range(600):
            found = family.m_step(*sums(family, found, x, weights), found, minimum_scale=1e-6)
            after = likelihood(family, found, x, weights)
            assert (after >= before - 1e-9 * before.abs()).all()
            before = after
        for unit in range(2):
            shapes = {name: value[unit].shape for name, value in found.items()}

            def loss(raw, unit=unit, shapes=shapes):
                values, start = {}, 0
                for name, shape in shapes.items():
                    size = shape.numel()
                    number = torch.as_tensor(raw[start : start + size]).reshape(shape)
                    values[name] = family.parameters[name].constraint.constrain(number).unsqueeze(0)
                    start += size
                return -likelihood(family, values, x, weights[:, unit : unit + 1]).item()

            raws = [family.parameters[name].constraint.unconstrain(found[name][unit]).reshape(-1) for name in shapes]
            best = optimize.minimize(loss, torch.cat(raws).clamp(min=-30).numpy(), method="Nelder-Mead")
            assert before[unit].item() >= -best.fun - 1e-3

    def test_missing_values_teach_nothing(self, family, parameters):
        x = torch.full((50,), torch.nan, dtype=torch.float64)
        found = family.m_step(*sums(family, parameters, x, torch.ones(50, 2).double()), parameters)
        for name, value in parameters.items():
            torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9)

    def test_a_unit_that_no_row_uses_is_kept(self, family, parameters):
        x, weights = drawn(family, parameters)
        weights[:, 1] = 0.0
        found = family.m_step(*sums(family, parameters, x, weights), parameters)
        for name, value in parameters.items():
            assert torch.equal(found[name][1], value[1])
            assert found[name].isfinite().all()


def test_newtons_method_is_scipys_fit():
    generator = np.random.default_rng(1)
    ones = torch.ones(400, 1).double()
    shapes = torch.tensor(generator.gamma(3.0, 2.0, 400))
    found = Gamma().m_step(
        *sums(Gamma(), {"concentration": f64(1.0), "rate": f64(1.0)}, shapes, ones),
        {"concentration": f64(1.0), "rate": f64(1.0)},
    )
    a, _, scale = stats.gamma.fit(shapes.numpy(), floc=0)
    assert found["concentration"].item() == pytest.approx(a, rel=1e-5)
    assert found["rate"].item() == pytest.approx(1 / scale, rel=1e-5)
    start = {"concentration1": f64(1.0), "concentration0": f64(1.0)}
    shares = torch.tensor(generator.beta(0.7, 4.0, 400))
    found = Beta().m_step(*sums(Beta(), start, shares, ones), start)
    a, b, *_ = stats.beta.fit(shares.numpy(), floc=0, fscale=1)
    assert found["concentration1"].item() == pytest.approx(a, rel=1e-4)
    assert found["concentration0"].item() == pytest.approx(b, rel=1e-4)
    same = torch.full((400,), 2.0, dtype=torch.float64)
    start = {"concentration": f64(1.0), "rate": f64(1.0)}
    found = Gamma().m_step(*sums(Gamma(), start, same, ones), start, minimum_scale=0.1)
    assert found["concentration"].item() == pytest.approx(400.0)


def test_uniform_ends_are_never_trained():
    ends = {"low": f64(0.0), "high": f64(1.0)}
    statistics, count = sums(Uniform(), ends, f64(0.2), torch.ones(1, 1).double())
    assert Uniform().m_step(statistics, count, ends) is ends


def test_closed_forms_are_scipys():
    generator = np.random.default_rng(0)
    ones = torch.ones(300, 1).double()
    for family, parameters, data, want in [
        (Normal(), {"loc": f64(0.0), "scale": f64(1.0)}, generator.normal(3, 2, 300), stats.norm.fit),
        (
            Exponential(),
            {"rate": f64(1.0)},
            generator.exponential(4, 300),
            lambda x: (1 / stats.expon.fit(x, floc=0)[1],),
        ),
        (Poisson(), {"rate": f64(1.0)}, generator.poisson(4, 300).astype(float), lambda x: (x.mean(),)),
    ]:
        found = family.m_step(*sums(family, parameters, torch.as_tensor(data), ones), parameters)
        assert [value.item() for value in found.values()] == pytest.approx(want(data), rel=1e-12)


def test_a_centre_saves_the_digits_of_a_variance_far_from_zero():
    x = 1.7e9 + torch.tensor([-2.0, 0.0, 2.0], dtype=torch.float64)
    before, centre = {"loc": f64(1.7e9), "scale": f64(1.0)}, f64(1.7e9)
    ones = torch.ones(3, 1).double()
    found = Normal().m_step(*sums(Normal(), before, x, ones, centre), before, centre=centre)
    assert found["loc"].item() == 1.7e9
    assert found["scale"].item() == pytest.approx((8 / 3) ** 0.5, rel=1e-12)


def test_scales_have_a_least():
    same, ones = f64(2.0, 2.0, 2.0), torch.ones(3, 1).double()
    before = {"loc": f64(0.0), "scale": f64(1.0)}
    assert Normal().m_step(*sums(Normal(), before, same, ones), before)["scale"].item() == 1e-3
    found = Normal().m_step(*sums(Normal(), before, same, ones), before, minimum_scale=0.5)
    assert {name: value.item() for name, value in found.items()} == {"loc": 2.0, "scale": 0.5}
    rate = {"rate": f64(1.0)}
    none = Poisson().m_step(*sums(Poisson(), rate, 0 * same, ones), rate, minimum_scale=0.01)
    assert none["rate"].item() == pytest.approx(1e-4)
    kind = DiscretizedNormal(8)
    one_bin = {"loc": f64(0.9), "scale": f64(0.3)}
    found = kind.m_step(*sums(kind, one_bin, same, ones), one_bin, minimum_scale=0.01)
    assert found["scale"].item() >= 0.01
    assert kind.log_table(found)[0, 2].item() > -1e-3


def test_pseudocounts_go_to_every_possible_state():
    x, ones = f64(0.0, 0.0, 2.0), torch.ones(3, 1).double()
    before = {"probs": f64([0.25, 0.25, 0.25, 0.25, 0.0])}
    found = Categorical(5).m_step(*sums(Categorical(5), before, x, ones), before, pseudocount=1.0)
    assert found["probs"].flatten().tolist() == pytest.approx([3 / 7, 1 / 7, 2 / 7, 1 / 7, 0])
    half = {"probs": f64(0.5)}
    found = Bernoulli().m_step(*sums(Bernoulli(), half, f64(1.0, 1.0, 1.0), ones), half, pseudocount=0.5)
    assert found["probs"].item() == pytest.approx(3.5 / 4)
    edge = {"probs": f64(1.0)}
    found = Bernoulli().m_step(*sums(Bernoulli(), edge, f64(1.0, 1.0, 1.0), ones), edge, pseudocount=0.5)
    assert found["probs"].item() == 1.0


def test_an_indicator_has_nothing_to_learn():
    state = {"state": f64(0.0, 2.0)}
    statistics, count = sums(Indicator(), state, f64(0.0, 1.0), torch.ones(2, 2).double())
    assert statistics == []
    assert Indicator().m_step(statistics, count, state) is state


@pytest.mark.parametrize("kind", [DiscretizedNormal, DiscretizedLogistic])
@pytest.mark.parametrize("uniform", [0.0, 0.1])
def test_newtons_steps_never_make_the_likelihood_smaller(kind, uniform):
    """From anywhere, to counts of any shape: all in one bin, in both edges, none at all."""
    family, generator = kind(16, uniform), torch.Generator().manual_seed(0)
    counts = torch.rand(500, 16, generator=generator, dtype=torch.float64) ** 8 * 30
    counts[:20] = 0.0
    counts[20:40, 1:-1] = 0.0
    counts[40:60, 1:] = 0.0
    before = family.examples((500,), generator, extreme=True)
    found = family.m_step([counts], counts.sum(-1), before)

    def value(parameters):
        return torch.where(counts > 0, counts * family.log_table(parameters), 0.0).sum(-1)

    old, new = value(before), value(found)
    assert (new >= old - 1e-9 * old.abs()).all()
    assert all(v.isfinite().all() for v in found.values())
    assert (found["scale"] >= torch.minimum(before["scale"], f64(1e-3)) * (1 - 1e-9)).all()
    for name in before:
        assert torch.equal(found[name][:20], before[name][:20])


class TestRounding:
    """What a dtype does to parameters, before a model is compiled in it."""

    @pytest.mark.parametrize(
        ("family", "parameters", "message"),
        [
            (Normal(), {"loc": 1.7e9 + 7, "scale": 10.0}, "loc of Normal.* is 1700000007.0.*float64"),
            (Normal(), {"loc": 1.7e9, "scale": 10.0}, "128 apart.*another origin"),
            (Normal(), {"loc": 1.0, "scale": 1e-60}, "scale of Normal.* is 1e-60.*, which torch.float32 rounds to 0.0"),
            (Normal(), {"loc": 1e300, "scale": 1e300}, "loc of Normal.* rounds to inf"),
            (Indicator(), {"state": 2.0**24 + 2}, "state 16777218, but torch.float32 rounds integers above 16777216"),
            (Poisson(), {"rate": 1e12 + 2e4}, "rate of Poisson"),
            (DiscretizedNormal(256), {"loc": 1e6, "scale": 1e-3}, "loc of DiscretizedNormal"),
        ],
    )
    def test_what_float32_destroys_is_named(self, family, parameters, message):
        wide = {name: f64(value) for name, value in parameters.items()}
        found = family.representable(wide, torch.float32)
        assert found is not None
        assert message.split(".*")[0] in found
        assert all(part in found for part in message.replace("\\", "").split(".*"))
        assert "float64" in found
        assert family.representable(wide, torch.float64) is None

    @pytest.mark.parametrize(
        ("family", "parameters"),
        [
            (Normal(), {"loc": 0.3, "scale": 1e-4}),
            (Normal(), {"loc": 1e4, "scale": 0.01}),
            (Normal(), {"loc": 1e6 + 0.3, "scale": 100.0}),
            (Indicator(), {"state": 2.0**24}),
            (Poisson(), {"rate": 1e5 + 0.3}),
            (DiscretizedNormal(256), {"loc": 0.3, "scale": 1e-9}),
            (Bernoulli(), {"probs": 0.1}),
        ],
    )
    def test_what_float32_holds_passes(self, family, parameters):
        assert family.representable({name: f64(value) for name, value in parameters.items()}, torch.float32) is None

    def test_simplices_may_be_rounded(self):
        probs = torch.rand(5, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        probs = probs / probs.sum(-1, keepdim=True)
        for dtype in (torch.float32, torch.bfloat16):
            assert Categorical(200).representable({"probs": probs}, dtype) is None

    def test_places_are_named(self):
        wide = {"loc": f64([0.0, 0.0], [0.0, 5e9]), "scale": f64(1.0)}
        assert "at [1, 1]" in (Normal().representable(wide, torch.float32) or "")


@pytest.mark.errors
def test_a_family_without_an_update_says_what_to_do():
    class Own(pc.families.Normal):
        m_step = pc.families.AbstractFamily.m_step

    with pytest.raises(pc.ParameterError, match=r"no update.*pcircuits\.learning\.fit"):
        Own().m_step([], f64(1.0), {})
