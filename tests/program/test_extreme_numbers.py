"""Numbers far from one: what floating point makes hard must still be right, in values and in gradients."""

import math

import numpy as np
import pytest
import torch

import pcircuits as pc
from pcircuits.testing import Oracle
from pcircuits.testing.oracle.arithmetic import log_sum

REWRITES = pytest.mark.parametrize("rewrites", [None, ()], ids=["rewritten", "plain"])


def against_oracle(circuit, x, dtype=torch.float64, **options):
    """log p of rows (B, D), checked against the oracle within the accuracy that is promised for the dtype."""
    model = circuit.compile(dtype=dtype, **options)
    oracle = Oracle(circuit)
    got = model.log_prob(x).detach().double()
    want = torch.tensor([oracle.log_value(oracle.row(row)) for row in x.tolist()], dtype=torch.float64)
    alive = want > -math.inf
    assert torch.equal(got[~alive], want[~alive])
    error = ((got - want).abs() / want.abs().clamp(min=1.0))[alive]
    assert error.max().item() <= (1e-9 if dtype == torch.float64 else 1e-4)
    return want


@REWRITES
@pytest.mark.parametrize("memory", [None, 1])
def test_log_likelihoods_of_minus_ten_to_the_five(rewrites, memory):
    """500 variables at 20 standard deviations from both components, against the closed form, and its gradient."""
    columns = 500
    locs = np.stack([np.zeros(columns), np.full(columns, 0.01)], -1)
    circuit = pc.Circuit(pc.Normal(range(columns), locs, 1.0).prod().sum([0.25, 0.75]))
    model = circuit.compile(dtype=torch.float64, rewrites=rewrites, memory=memory)
    value = model.log_prob(torch.full((1, columns), 20.0, dtype=torch.float64))
    logs = [
        math.log(w) + columns * (-0.5 * (20.0 - loc) ** 2 - 0.5 * math.log(2 * math.pi))
        for w, loc in ((0.25, 0), (0.75, 0.01))
    ]
    total = log_sum(logs)
    assert total < -1e5 + 3000
    assert value.item() == pytest.approx(total, rel=1e-12)
    value.sum().backward()
    gradient = next(p.grad for name, p in model.named_parameters() if "loc" in name).reshape(columns, 2)
    share = math.exp(logs[1] - total)
    assert gradient[:, 0].tolist() == pytest.approx([(1 - share) * 20.0] * columns, rel=1e-9)
    assert gradient[:, 1].tolist() == pytest.approx([share * 19.99] * columns, rel=1e-9)


@REWRITES
def test_products_that_underflow_are_right(rewrites):
    states = torch.tensor([[1e-300, 1.0 - 1e-300], [1e-200, 1.0]], dtype=torch.float64)
    leaves = pc.Categorical(range(6), states.expand(6, 2, 2))
    circuit = pc.Circuit(leaves.prod().sum([0.5, 0.5]))
    x = torch.tensor([[0.0] * 6, [0.0, 1.0, 0.0, 1.0, math.nan, math.nan], [1.0] * 6], dtype=torch.float64)
    want = against_oracle(circuit, x, rewrites=rewrites)
    assert want[0] < -2700
    known = circuit.compile(dtype=torch.float64, rewrites=rewrites).given(x)
    first = known.posterior(circuit.root)
    assert first[0].tolist() == [0.0, 1.0]
    assert known.mean().isfinite().all()


@REWRITES
@pytest.mark.parametrize("memory", [None, 1])
@pytest.mark.parametrize("columns", [5, 200])
def test_small_deviations_in_single_precision(rewrites, memory, columns):
    """σ = 0.01, at and near the components' own modes, where three large terms cancel in matrix form."""
    pick = np.random.default_rng(0)
    loc = torch.as_tensor(pick.uniform(0, 1, (columns, 4)), dtype=torch.float32)
    scale = torch.full((columns, 4), 0.01)
    circuit = pc.Circuit(pc.mixture([0.1, 0.2, 0.3, 0.4], pc.Normal(range(columns), loc, scale).prod()))
    x = loc.T[[0, 1, 2, 3, 0]] + torch.as_tensor(pick.normal(0, 1, (5, columns)), dtype=torch.float32) * torch.tensor(
        [[0.0], [0.001], [0.01], [0.03], [1.0]]
    )
    x[1, ::2] = math.nan
    against_oracle(circuit, x, torch.float32, rewrites=rewrites, memory=memory)


@REWRITES
def test_means_a_billion_deviations_away(rewrites):
    """|μ| / σ = 1e9: squares of the coordinates have no digits left for the difference."""
    loc = torch.tensor([[1000.0, 1000.0 + 4e-6, -1000.0], [-1000.0, 1000.0, 1000.0 - 1e-6]], dtype=torch.float64)
    circuit = pc.Circuit(pc.Normal(["a", "b"], loc, 1e-6).prod().sum([0.25, 0.25, 0.5]))
    x = torch.stack([loc[:, 0], loc[:, 1] + 2e-6, loc[:, 2], torch.tensor([1000.0, math.nan]).double(), loc[:, 0] * 0])
    want = against_oracle(circuit, x, rewrites=rewrites)
    assert want[0] > 20
    model = circuit.compile(dtype=torch.float64, rewrites=rewrites)
    known = model.given({"a": 1000.0})
    assert known.mean()[0].tolist() == pytest.approx(list(Oracle(circuit).mean({"a": 1000.0}).values()), rel=1e-12)
    assert known.variance()[0].tolist() == pytest.approx(
        list(Oracle(circuit).variance({"a": 1000.0}).values()), rel=1e-6
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("memory", [None, 1])
@REWRITES
def test_variances_are_no_differences_of_moments(rewrites, memory, dtype):
    """Two components at 10^4 with deviations of 10^-2: E[x²] - E[x]² would have lost all digits."""
    circuit = pc.Circuit(pc.Normal("x", [10000.0, 10000.0], [0.01, 0.02]).sum([0.5, 0.5]))
    model = circuit.compile(dtype=dtype, rewrites=rewrites, memory=memory)
    assert model.variance().item() == pytest.approx(0.5 * (0.0001 + 0.0004), rel=1e-5)


UNLEVEL = {
    "tiny": [[1.0, 1e-30, 1e-25], [1e-40, 1.0, 1e-290]],
    "level": [[1.0, 1e-19, 1e-10], [1e-18, 1.0, 0.5]],
    "large": [[1e200, 1e-3, 1e250], [1e300, 1e299, 1.0]],
    "zeros": [[0.0, 1e-30, 1.0], [1e30, 0.0, 0.0]],
    "one zero row": [[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]],
}


@pytest.mark.parametrize("name", UNLEVEL)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@REWRITES
def test_unlevel_weights(name, dtype, rewrites):
    """Whatever the weights are, no term may be lost beside one that is larger in another output."""
    leaves = pc.Categorical("a", [[1.0, 1e-30, 0.0], [1e-20, 1.0, 0.0], [0.25, 0.25, 0.5]])
    other = pc.Categorical("b", [[0.5, 0.5], [1e-12, 1.0], [1.0, 1e-12]])
    both = (leaves * other).sum(UNLEVEL[name])
    circuit = pc.Circuit(both.sum([1e-22, 1.0]))
    x = torch.cartesian_prod(torch.tensor([0.0, 1, 2, math.nan]), torch.tensor([0.0, 1, math.nan]))
    if dtype == torch.float64 or name not in ("large", "tiny"):
        against_oracle(circuit, x, dtype, rewrites=rewrites)
    model = circuit.compile(dtype=dtype, rewrites=rewrites)
    values = model.log_prob(x)
    values.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    oracle = Oracle(circuit)
    some = x[values > -math.inf]
    means = [list(oracle.mean(oracle.row(row)).values()) for row in some.tolist()]
    got = model.given(some).mean().double()
    assert torch.allclose(
        got, torch.tensor(means, dtype=torch.float64), rtol=0, atol=1e-9 if dtype == torch.float64 else 1e-4
    )


@REWRITES
def test_masses_far_beyond_what_a_float_holds(rewrites):
    units = pc.Bernoulli("a", [0.25, 0.75]) * pc.Constant(1e300)
    for _ in range(5):
        units = pc.Constant(1e300) * units.sum([[1e200, 1e-200], [1.0, 1e300]])
    circuit = pc.Circuit(units.sum([1e-300, 1e300]))
    want = against_oracle(circuit, torch.tensor([[0.0], [1.0], [math.nan]], dtype=torch.float64), rewrites=rewrites)
    assert want[0] > 5000
    assert circuit.compile(dtype=torch.float64).mean().item() == pytest.approx(Oracle(circuit).mean()["a"], rel=1e-9)


@REWRITES
def test_boxes_too_improbable_for_a_float(rewrites):
    circuit = pc.Circuit(pc.Normal(["a", "b"], [[0.0, 1.0], [0.0, -1.0]], 1.0).prod().sum([0.5, 0.5]))
    model = circuit.compile(dtype=torch.float64, rewrites=rewrites)
    got = model.log_probability({"a": 60.0}, {"b": -50.0}).item()
    assert got == pytest.approx(Oracle(circuit).log_probability({"a": 60.0}, {"b": -50.0}), rel=1e-9)
    assert got < -2500
    assert model.probability({"a": 60.0}, {"b": -50.0}).item() == 0.0
    assert model.log_probability(2.0, 1.0).item() == -math.inf


def test_infinite_expectations_count_where_they_have_mass():
    both = pc.concat([pc.Indicator("a", 0), pc.Categorical("a", [0.0, 0.5, 0.5])], axis="width")
    model = pc.Circuit(both.sum([[0.5, 0.5], [0.0, 1.0]])).compile(dtype=torch.float64)
    assert model.root(0).expectation(torch.log).item() == -math.inf
    assert model.root(1).expectation(torch.log).item() == pytest.approx(0.5 * math.log(2))


@pytest.mark.parametrize("memory", [None, 1])
def test_a_chain_of_many_sums(memory):
    """Depth needs no recursion, and thousands of sums lose no digits."""
    length = 2000
    steps = np.array([[0.9, 0.1], [0.2, 0.8]])
    weights = pc.Parameter(torch.as_tensor(steps), pc.simplex)
    units = pc.Bernoulli("a", [0.1, 0.7])
    for _ in range(length):
        units = units.sum(weights)
    circuit = pc.Circuit(units.sum([0.5, 0.5]))
    model = circuit.compile(dtype=torch.float64, memory=memory)
    want = np.array([0.5, 0.5]) @ np.linalg.matrix_power(steps, length) @ np.array([0.1, 0.7])
    value = model.log_prob({"a": 1})
    assert value.item() == pytest.approx(math.log(want), rel=1e-11)
    value.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert model.mean().item() == pytest.approx(want, rel=1e-11)
    assert model.sample(3, torch.Generator().manual_seed(0)).shape == (3, 1)
    assert len(model.to_circuit().sums) == length + 1
