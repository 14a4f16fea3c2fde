"""Scaled numbers against plain logs: leaves down to e^-1000, weights down to e^-60, zeros, both dtypes.

The reference is a fold in float64 log space with torch's autograd, over the symbolic graph; it shares no code with the
program. A row of data whose bound on the error of scaled numbers is too large is computed again in logarithms: such rows
are called loose. The bound must hold for all others, and usual circuits must have no such rows.
"""

import math

import pytest
import torch

import pcircuits as pc
from pcircuits import structures
from pcircuits.circuit.circuit import fold
from pcircuits.program.leaf_functions import Density
from pcircuits.testing.oracle import Oracle

DIGITS = {torch.float64: 1e-9, torch.float32: 1e-4}
"""|error| of log p is at most this times max(1, |log p|); shares and gradients follow from differences of such logs."""

LENGTH, WIDTH, ROWS = 6, 5, 6


def seeded(seed):
    return torch.Generator().manual_seed(seed)


class Draw:
    """Weights and leaves far apart, all of them numbers that float32 can hold.

    Weights are the softmax of spread·N(0, 1), a share `zeros` of them exact zeros, never a whole row; leaves are Normals at
    distances of some `far` standard deviations, and categorical ones with probabilities down to e^-100.
    """

    def __init__(self, seed, spread=8.0, zeros=None, far=20.0):
        self.generator = seeded(seed)
        self.spread, self.far = spread, far
        self.zeros = (0.3 if seed % 2 else 0.0) if zeros is None else zeros

    def normal(self, *shape):
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def gone(self, *shape):
        """Which weights, or states, are zero."""
        gone = torch.rand(shape, generator=self.generator) < self.zeros
        gone[..., 0] = False
        return gone

    def weights(self, *shape):
        logs = (self.spread * self.normal(*shape)).masked_fill(self.gone(*shape), -torch.inf)
        return pc.Parameter(torch.softmax(logs, -1), pc.simplex)

    def leaf(self, label):
        if label % 2:
            logs = (1.5 * self.far * self.normal(1, WIDTH, 3)).clamp(-80, 80)
            return pc.Categorical([label], torch.softmax(logs.masked_fill(self.gone(1, WIDTH, 3), -torch.inf), -1))
        return pc.Normal([label], (self.far * self.normal(1, WIDTH)).float().double(), torch.ones(1, WIDTH))

    def rows(self, count=ROWS):
        """Rows of data with a quarter of it missing; the first is far from everything."""
        x = (0.75 * self.far * self.normal(count, LENGTH)).float().double()
        x[0] = 4.5 * self.far
        x[:, 1::2] = torch.randint(3, (count, len(range(1, LENGTH, 2))), generator=self.generator).double()
        missing = torch.rand(x.shape, generator=self.generator) < 0.25
        missing[0] = False
        return x.masked_fill(missing, torch.nan)


def chain(draw):
    """A hidden Markov model: dense sums between products with leaves."""
    units = draw.leaf(0)
    for label in range(1, LENGTH):
        units = units.sum(draw.weights(WIDTH, WIDTH)) * draw.leaf(label)
    return pc.Circuit(units.sum(draw.weights(WIDTH)))


def roots(draw):
    """The same with three roots."""
    units = draw.leaf(0)
    for label in range(1, LENGTH):
        units = draw.leaf(label) * units.sum(draw.weights(WIDTH, WIDTH))
    return pc.Circuit(units.sum(draw.weights(3, WIDTH)))


def mixed(draw):
    """Elementwise sums of products whose exponents are far apart."""
    units = draw.leaf(0)
    for label in range(1, LENGTH):
        ways = [draw.leaf(label) * units.sum(draw.weights(WIDTH, WIDTH)) for _ in range(3)]
        units = pc.Mix(ways, draw.weights(1, WIDTH, 3))
    return pc.Circuit(units.sum(draw.weights(WIDTH)))


def outer(draw):
    """Dense sums over Kronecker products."""
    units = draw.leaf(0)
    for label in range(1, LENGTH):
        units = units.outer(draw.leaf(label)).sum(draw.weights(WIDTH, WIDTH * WIDTH))
    return pc.Circuit(units.sum(draw.weights(WIDTH)))


def tree(draw):
    """Products of sums, two at a time, in layers."""
    level = [draw.leaf(label).sum(draw.weights(WIDTH, WIDTH)) for label in range(LENGTH)]
    while len(level) > 1:
        pairs = [a * b for a, b in zip(level[::2], level[1::2], strict=False)]
        level = [pair.sum(draw.weights(WIDTH, WIDTH)) for pair in pairs] + level[2 * len(pairs) :]
    return pc.Circuit(level[0].sum(draw.weights(WIDTH)))


MAKERS = [chain, roots, mixed, outer, tree]


class Reference:
    """log p of every root in plain logs, with gradients for logits of the weights and for each use of a sum's input."""

    def __init__(self, circuit, x):
        self.x, self.circuit = x, circuit
        self.column = {label: number for number, label in enumerate(circuit.variables)}
        self.logits, self.terms = {}, {}
        self.values = fold(circuit.arrays, self.combine)
        self.log_probs = self.values[id(circuit.root)].flatten(1)

    def leaf(self, array):
        (label,) = array.variables[0]
        x = self.x[:, self.column[label], None]
        missing = x.isnan()
        if "loc" in array.parameters:
            loc, scale = (array.parameters[name].value for name in ("loc", "scale"))
            logs = torch.distributions.Normal(loc, scale).log_prob(x.nan_to_num())
        else:
            logs = array.parameters["probs"].value[0].log()[:, x[:, 0].nan_to_num().long()].t()
        return logs.masked_fill(missing, 0.0).unsqueeze(1)

    def log_weights(self, parameter):
        if id(parameter) not in self.logits:
            logits = parameter.value.log()
            self.logits[id(parameter)] = logits.masked_fill(logits == -torch.inf, 0.0).requires_grad_()
        logits = self.logits[id(parameter)].masked_fill(parameter.value == 0, -torch.inf)
        return torch.log_softmax(logits, -1)

    def summed(self, array, terms):
        """log Σ exp over the last axis, of which the gradient is the flow of every term; none where all are zero."""
        if terms.requires_grad:
            terms.retain_grad()
        self.terms[id(array)] = terms
        zero = (terms == -torch.inf).all(-1)
        return torch.logsumexp(torch.where(zero.unsqueeze(-1), 0.0, terms), -1).masked_fill(zero, -torch.inf)

    def combine(self, array, children):
        """Values (B, 1, K): all arrays have one region."""
        if isinstance(array, pc.Input):
            return self.leaf(array)
        if isinstance(array, pc.Product):
            return sum(children)
        if isinstance(array, pc.Outer):
            first, second = children
            return (first.unsqueeze(-1) + second.unsqueeze(-2)).flatten(-2)
        logs = self.log_weights(array.weights)
        if isinstance(array, pc.Mix):
            return self.summed(array, torch.stack(children, -1) + logs)
        return self.summed(array, children[0].unsqueeze(-2) + logs.reshape(-1, logs.shape[-1]))


def asked(make, seed):
    draw = Draw(seed)
    circuit = make(draw)
    return circuit, Reference(circuit, draw.rows())


def close(got, want, dtype, size=1.0):
    """|got - want| <= digits · size · max(1, |want|), infinities exactly."""
    got, want = got.detach().double(), want.detach()
    right = (got == want) | ((got - want).abs() <= DIGITS[dtype] * size * want.abs().clamp(min=1.0))
    assert right.all(), (got[~right], want[~right])


@pytest.mark.parametrize("dtype", list(DIGITS), ids=str)
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_log_prob(make, seed, dtype):
    circuit, reference = asked(make, seed)
    want = reference.log_probs.detach()
    assert want[want.isfinite()].min() < -1000
    for model in (circuit.compile(dtype=dtype), circuit.compile(dtype=dtype, rewrites=())):
        with torch.no_grad():
            close(model.log_prob(reference.x.to(dtype)).reshape(want.shape), want, dtype)
        close(model.log_prob(reference.x.to(dtype)).reshape(want.shape), want, dtype)  # not as without gradients


@pytest.mark.parametrize("dtype", list(DIGITS), ids=str)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_gradients(raw_gradients, make, seed, dtype):
    """Those of all logits; impossible rows have none, and neither have exact zeros."""
    circuit, reference = asked(make, seed)
    possible = reference.log_probs > -torch.inf
    size = 1.0 + reference.log_probs[possible].abs().max().item()
    reference.log_probs[possible].sum().backward()
    model = circuit.compile(dtype=dtype)
    value = model.log_prob(reference.x.to(dtype)).reshape(possible.shape)[possible].sum()
    gradients = raw_gradients(model, value)
    for array in circuit.sums:
        got = gradients[id(array.weights)]
        close(got, reference.logits[id(array.weights)].grad, dtype, size)
        assert (got[array.weights.value == 0] == 0).all()


@pytest.mark.parametrize("dtype", list(DIGITS), ids=str)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_flows(make, seed, dtype):
    """The posterior of every sum's inputs is the gradient of log p with respect to its terms."""
    circuit, reference = asked(make, seed)
    possible = (reference.log_probs > -torch.inf).all(1)
    size = 1.0 + reference.log_probs[possible].abs().max().item()
    reference.log_probs[possible, -1].sum().backward()
    model = circuit.compile(dtype=dtype).root(circuit.num_roots - 1).given(reference.x[possible].to(dtype))
    for array in circuit.sums:
        want = reference.terms[id(array)].grad[possible]
        close(model.posterior(array).reshape(want.shape), want, dtype, size)


@pytest.mark.parametrize("dtype", list(DIGITS), ids=str)
def test_a_small_value_that_a_product_makes_count(dtype):
    """(1, e^-110) times (e^-110, 1): both products are as large, though float32 holds no e^-110 beside a 1."""
    far = math.exp(-110)
    weights = torch.tensor([[far, far], [1.0, 0.5]], dtype=torch.float64)
    few = pc.Categorical("a", torch.tensor([[0.25, 0.75], [0.25, 0.75]])).sum(weights)
    probs = torch.tensor([[1.0, far, 0.0], [far, 0.5, 0.5]], dtype=torch.float64)  # a family, and a step, of its own
    two = pc.Categorical("b", probs)
    circuit = pc.Circuit((few * two).sum([1.0, 0.125]))
    x = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, torch.nan]], dtype=dtype)
    with torch.no_grad():
        got = circuit.compile(dtype=dtype).log_prob(x)
    a = torch.tensor([0.75, 0.75, 0.25], dtype=torch.float64)
    b = torch.tensor([[1.0, far], [far, 0.5], [1.0, 1.0]], dtype=torch.float64)
    want = (a[:, None] * weights.sum(1) * b * torch.tensor([1.0, 0.125])).sum(1).log()
    close(got, want, dtype)


def test_what_the_largest_weight_of_another_sum_hides():
    """Leaves that differ by e^60 below weights that differ by e^-60: no term may be lost in float32."""
    logs = torch.tensor([0.0, -60.0], dtype=torch.float64)
    leaf = pc.Normal("a", torch.tensor([[0.0, math.sqrt(120.0)]], dtype=torch.float64), torch.ones(1, 2))
    units = leaf.sum(torch.tensor([[math.exp(-60.0), 1.0], [1.0, 1.0]], dtype=torch.float64))
    circuit = pc.Circuit((units * pc.Bernoulli("b", torch.tensor([[0.5, 0.25]]))).sum([1.0, 1e-20]))
    got = circuit.compile(dtype=torch.float32).log_prob(torch.zeros(1, 2))
    first = torch.logsumexp(torch.stack([logs[1] + logs[0], logs[0] + logs[1]]), 0) + math.log(0.5)
    second = math.log(0.75) + math.log(1e-20)
    want = torch.logaddexp(first, torch.tensor(second)) - 0.5 * math.log(2 * math.pi)
    close(got, want.reshape(1), torch.float32)


def test_probabilities_that_float32_cannot_hold_beside_zeros():
    tiny = math.exp(-200.0)
    probs = torch.tensor([[[1.0 - tiny, tiny, 0.0], [0.5, 0.25, 0.25]]], dtype=torch.float64)
    leaves = pc.concat([pc.Categorical("a", probs), pc.Categorical("b", probs)], axis="regions")
    layer = leaves.sum(torch.tensor([[0.7, 0.3], [0.4, 0.6]])).prod()
    first = leaves[0] * leaves[1]
    for root, want in ((first[0, 0], -400.0), (layer.sum([0.5, 0.5]), None)):
        circuit = pc.Circuit(root)
        x = torch.ones(1, 2)
        value = circuit.compile(dtype=torch.float32).log_prob(x).item()
        assert value == pytest.approx(
            Oracle(circuit).log_value({"a": 1.0, "b": 1.0}) if want is None else want, abs=0.05
        )


BOUND = {torch.float64: 1e-12, torch.float32: 1e-6}
"""What numbers that became zero may take from a row that is not loose, relative to its value."""


def scaled(model, x):
    """Natural logs of the roots (B, C) from scaled numbers alone, in float64, and which rows are loose."""
    given = model.root(0).read(x)
    with torch.no_grad():
        program = model.program
        found = program.roots(program.up(Density(given.x, given.observed), program.prepare()))
    return (found.logs + found.exponent) * math.log(2), found.loose


def rounding(reference, dtype):
    """What rounding may add to the log of a row, (B,): that of the logs of leaves and weights, and of sums of them."""
    size = torch.full((len(reference.x),), 200.0, dtype=torch.float64)
    for array in reference.circuit.inputs:
        logs = reference.leaf(array)[:, 0]
        size += torch.where(logs.isfinite(), logs.abs(), 0.0).amax(1).detach()
    for array in reference.circuit.sums:
        logs = reference.log_weights(array.weights).detach()
        size += logs[logs.isfinite()].abs().max()
    return 2 * torch.finfo(dtype).eps * size


@pytest.mark.parametrize("dtype", list(BOUND), ids=str)
@pytest.mark.parametrize("spread", [0.0, 1.0, 3.0, 8.0, 20.0])
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_rows_that_are_not_loose_have_lost_nothing(make, spread, dtype):
    """A zero that should be a number, and a number that lost a term, are never passed for right."""
    tight = 0
    for seed in range(12):
        draw = Draw(seed, spread, zeros=0.5 if seed % 3 else 0.0, far=(0.5, 3.0, 20.0)[seed % 3])
        circuit = make(draw)
        model = circuit.compile(dtype=dtype)
        reference = Reference(model.to_circuit(), draw.rows(24))
        want = reference.log_probs.detach()
        got, loose = scaled(model, reference.x)
        error = torch.where(got == want, 0.0, (got - want).abs()).amax(1)
        assert (error[~loose] <= BOUND[dtype] + rounding(reference, dtype)[~loose]).all(), (seed, error[~loose].max())
        tight += int((~loose).sum())
    assert tight >= (20 if dtype == torch.float32 else 60)


def test_rows_far_from_everything_are_loose_and_right():
    """Differences of e^-200 between leaves that weights of e^-200 turn round: float32 holds neither beside a 1."""
    leaf = pc.Normal("a", torch.tensor([[0.0, 20.0]]), torch.ones(1, 2))
    units = leaf.sum(torch.tensor([[1.0, 0.0], [0.0, 1.0]])) * pc.Categorical("b", [[1.0, 0.0], [0.5, 0.5]])
    circuit = pc.Circuit(units.sum([0.5, 0.5]))
    model = circuit.compile(dtype=torch.float32)
    x = torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, torch.nan], [1.0, 1.0]])
    _, loose = scaled(model, x)
    assert loose.tolist() == [True, False, False, True]
    oracle = Oracle(circuit)
    want = [oracle.log_value(oracle.row(row)) for row in x.tolist()]
    assert model.log_prob(x).tolist() == pytest.approx(want, rel=1e-5)
    with torch.no_grad():  # not as with gradients
        assert model.log_prob(x).tolist() == pytest.approx(want, rel=1e-5)


def usual():
    g = seeded(0)
    loc = torch.randn(20, 50, generator=g)
    normals = pc.Circuit(
        pc.mixture([1 / 50] * 50, pc.Normal(range(20), loc, 0.1 + torch.rand(20, 50, generator=g)).prod())
    )
    yield "normals", normals, loc[:, :30].T + 0.1 * torch.randn(30, 20, generator=g)
    grid = structures.layered(structures.quad_graph(8, 8), structures.categorical_leaves(16), 8, generator=g)
    yield "grid", grid, torch.randint(16, (30, 64), generator=g).float()
    steps = torch.softmax(torch.randn(8, 8, generator=g), -1)
    emissions = torch.softmax(torch.randn(1, 8, 20, generator=g), -1)
    units = pc.Categorical([0], emissions)
    for t in range(1, 200):
        units = pc.Categorical([t], emissions) * units.sum(steps)
    yield "chain", pc.Circuit(units.sum([1 / 8] * 8)), torch.randint(20, (30, 200), generator=g).float()


@pytest.mark.parametrize("dtype", list(BOUND), ids=str)
@pytest.mark.parametrize(("name", "circuit", "x"), list(usual()), ids=[name for name, *_ in usual()])
def test_usual_circuits_have_no_loose_rows(name, circuit, x, dtype):
    model = circuit.compile(dtype=dtype)
    half = torch.where(torch.arange(x.shape[1]) % 2 == 0, x, torch.nan)
    for rows in (x, half):
        got, loose = scaled(model, rows)
        assert not loose.any()
        assert torch.allclose(got[:, 0], model.log_prob(rows).double(), rtol=1e-5 if dtype == torch.float32 else 1e-12)
