"""What `tests/mutants.py` found that the table of queries does not notice, or notices only by chance."""

import itertools
import math

import pytest
import torch
from scipy.stats import chisquare

import pcircuits as pc
from pcircuits.testing import Oracle


def scalar():
    """Elementwise sums of units one by one."""
    a, b = ([pc.Bernoulli(name, p) for p in (0.1, 0.7)] for name in "ab")
    c = [pc.Categorical("c", p) for p in ([0.8, 0.1, 0.1], [0.1, 0.3, 0.6])]
    one, two = 0.9 * (a[0] * b[0]) + 0.1 * (a[1] * b[1]), 0.4 * (a[1] * b[0]) + 0.6 * (a[0] * b[1])
    return pc.Circuit(0.7 * (one * c[0]) + 0.3 * (two * c[1]))


def dense():
    """Dense sums over arrays, in two layers."""
    leaves = pc.Categorical(list("abc"), torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64).expand(3, 2, 2))
    hidden = leaves[[0, 1]].sum(torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64)).prod()
    return pc.Circuit((hidden * leaves[2]).sum([0.85, 0.15]))


def mixture():
    """A sum over products of inputs, which is fused into one step."""
    probs = torch.tensor([[0.9, 0.2, 0.5], [0.8, 0.1, 0.3], [0.95, 0.4, 0.05]], dtype=torch.float64)
    return pc.Circuit(pc.mixture([0.8, 0.15, 0.05], pc.Bernoulli(list("abc"), probs).prod()))


@pytest.mark.parametrize("rewrites", [None, []], ids=["rewritten", "plain"])
@pytest.mark.parametrize("make", [scalar, dense, mixture], ids=lambda make: make.__name__)
def test_samples_follow_the_conditional(make, rewrites):
    circuit = make()
    oracle, model = Oracle(circuit), circuit.compile(dtype=torch.float64, rewrites=rewrites)
    for seed, known in enumerate(({}, {"c": 1.0}, {"a": 1.0, "c": 0.0})):
        drawn = model.given(known).sample(4000, generator=torch.Generator().manual_seed(seed))[:, 0]
        states = itertools.product(*(oracle.candidates(label) for label in circuit.variables))
        rows = [dict(zip(circuit.variables, row, strict=True)) for row in states]
        rows = [row for row in rows if all(row[label] == value for label, value in known.items())]
        wanted = [math.exp(oracle.log_prob(row, known)) * len(drawn) for row in rows]
        counts = [(drawn == torch.tensor(list(row.values()), dtype=torch.float64)).all(1).sum().item() for row in rows]
        assert sum(counts) == len(drawn)
        assert chisquare(counts, wanted).pvalue > 1e-4


def test_tied_parameters_are_stored_once():
    weights = pc.Parameter([0.25, 0.75], pc.simplex)
    probs = pc.Parameter(torch.tensor([[0.1, 0.6]], dtype=torch.float64), pc.unit_interval)
    left, right = (pc.Bernoulli(name, probs).sum(weights) for name in "ab")
    model = pc.Circuit(left * right).compile(dtype=torch.float64)
    assert sorted(parameter.numel() for parameter in model.parameters()) == [2, 2]
    model.log_prob(torch.tensor([[1.0, torch.nan]])).sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= parameter.grad
    model.zero_grad()
    both = model.log_prob(torch.tensor([[1.0, torch.nan], [torch.nan, 1.0]]))
    assert both[0].item() != pytest.approx(math.log(0.25 * 0.1 + 0.75 * 0.6))
    assert both[0].item() == both[1].item()


def test_answers_follow_the_parameters():
    """Kept or not: what is derived from parameters is that of the parameters of now."""
    circuit = dense()
    model, other = circuit.compile(dtype=torch.float64), circuit.compile(dtype=torch.float64)
    x = torch.tensor([[0.0, 1.0, torch.nan], [1.0, 1.0, 0.0]], dtype=torch.float64)
    with torch.no_grad():
        before = model.log_prob(x)
        for parameter in [*model.parameters(), *other.parameters()]:
            parameter += torch.arange(parameter.numel()).view_as(parameter) % 3
        assert torch.equal(model.log_prob(x), other.log_prob(x))
        assert not torch.equal(model.log_prob(x), before)


@pytest.mark.parametrize("rewrites", [None, []], ids=["rewritten", "plain"])
def test_values_far_below_the_smallest_number(rewrites):
    """Normals at a distance of 300: log-likelihoods of about -10^5 and their gradients, by hand."""
    weights = torch.tensor([[0.5, 0.5], [0.2, 0.8]], dtype=torch.float64)
    leaves = pc.Normal(range(3), torch.tensor([0.0, 1.0], dtype=torch.float64).expand(3, 2), 1.0)
    circuit = pc.Circuit(leaves.sum(weights).prod().sum([0.4, 0.6]))
    model = circuit.compile(dtype=torch.float64, rewrites=rewrites)
    value = model.log_prob(torch.full((1, 3), 300.0, dtype=torch.float64))
    far = torch.tensor([-0.5 * 300.0**2, -0.5 * 299.0**2], dtype=torch.float64) - 0.5 * math.log(2 * math.pi)
    sums = torch.logsumexp(far + weights.log(), 1)
    wanted = torch.logsumexp(3 * sums + torch.tensor([0.4, 0.6], dtype=torch.float64).log(), 0)
    assert value.item() == pytest.approx(wanted.item(), rel=1e-12)
    value.sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    assert max(gradient.abs().max().item() for gradient in gradients) > 100  # (x - loc) / scale²


@pytest.mark.parametrize("rewrites", [None, []], ids=["rewritten", "plain"])
def test_impossible_rows_leave_the_gradients_of_the_others_intact(rewrites):
    probs = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.3, 0.7], [0.6, 0.4]]], dtype=torch.float64)
    gated = pc.Categorical(["a", "b"], probs).prod()
    circuit = pc.Circuit(0.25 * gated[0, 0] + 0.75 * (pc.Indicator("a", 0) * pc.Bernoulli("b", 0.5)))
    possible, impossible = (
        torch.tensor([[0.0, 1.0]], dtype=torch.float64),
        torch.tensor([[1.0, 1.0]], dtype=torch.float64),
    )

    def gradients(x):
        model = circuit.compile(dtype=torch.float64, rewrites=rewrites)
        model.log_prob(x).sum().backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    with torch.no_grad():
        assert circuit.compile(dtype=torch.float64).log_prob(impossible).item() == -math.inf
    alone, together = gradients(possible), gradients(torch.cat([possible, impossible]))
    assert max(gradient.abs().max().item() for gradient in alone) > 0
    for one, both in zip(alone, together, strict=True):
        assert torch.equal(one, both)


def test_look_ups_by_difference_from_the_most_frequent_row():
    """Rows that agree nearly everywhere, as images do: few entries differ from the most frequent one."""
    generator = torch.Generator().manual_seed(0)
    loc, scale = torch.rand(2, 6, 5, generator=generator, dtype=torch.float64) + 0.1
    circuit = pc.Circuit(pc.mixture([0.2] * 5, pc.DiscretizedNormal(range(6), loc, scale, levels=4).prod()))
    x = torch.ones(12, 6, dtype=torch.float64)
    x[0, 1], x[3, 5], x[3, 2], x[7, 0], x[9, 3] = 0, 3, 2, torch.nan, torch.nan
    oracle = Oracle(circuit)
    wanted = torch.tensor([oracle.log_value(oracle.row(row)) for row in x.tolist()], dtype=torch.float64)
    torch.testing.assert_close(circuit.compile(dtype=torch.float64).log_prob(x), wanted, rtol=1e-9, atol=0)


@pytest.mark.parametrize("rewrites", [None, []], ids=["rewritten", "plain"])
def test_flows_of_several_parents_add_up(rewrites):
    """One leaf unit of "b" below two products: its flow is that of both."""
    b = pc.Normal("b", 3.0, 1.0)
    circuit = pc.Circuit(0.25 * (pc.Indicator("a", 0) * b) + 0.75 * (pc.Indicator("a", 1) * b))
    mean = circuit.compile(dtype=torch.float64, rewrites=rewrites).mean()
    torch.testing.assert_close(mean, torch.tensor([0.75, 3.0], dtype=torch.float64))


@pytest.mark.parametrize("rewrites", [None, []], ids=["rewritten", "plain"])
def test_a_zero_of_a_simplex_is_exact(rewrites):
    circuit = pc.Circuit(pc.mixture([0.0, 1.0], [pc.Indicator("a", 0), pc.Indicator("a", 1)]))
    dense = pc.Circuit(pc.mixture([0.0, 1.0], pc.Indicator("a", [0, 1])))
    for made in (circuit, dense):
        model = made.compile(dtype=torch.float64, rewrites=rewrites)
        assert model.log_prob(torch.tensor([[0.0], [1.0]], dtype=torch.float64)).tolist() == [-math.inf, 0.0]


@pytest.mark.parametrize("rewrites", [None, []], ids=["rewritten", "plain"])
def test_flows_of_a_unit_that_is_wired_twice_add_up(rewrites):
    """One column read twice by one sum, unit by unit: its flow is the sum of both weights."""
    units = pc.Bernoulli("a", [0.1, 0.7]).sum([[0.5, 0.5], [0.25, 0.75]])
    circuit = pc.Circuit(units[0, [1, 0, 1]].sum([0.3, 0.3, 0.4]))
    model = circuit.compile(dtype=torch.float64, rewrites=rewrites)
    assert model.mean().item() == pytest.approx(0.3 * 0.4 + 0.7 * (0.25 * 0.1 + 0.75 * 0.7), rel=1e-12)
    shares = model.posterior(circuit.sums[0])[0].sum(-1)
    assert shares.tolist() == pytest.approx([0.3, 0.7], rel=1e-12)


@pytest.mark.parametrize("rewrites", [None, []], ids=["rewritten", "plain"])
def test_sums_over_one_product_keep_their_outputs(rewrites):
    """Three sums of two outputs over one product of leaves, each with weights of its own."""
    leaves = pc.Bernoulli(["a", "b"], torch.tensor([[0.9, 0.2, 0.5], [0.8, 0.1, 0.3]], dtype=torch.float64)).prod()
    weights = [
        [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]],
        [[0.2, 0.6, 0.2], [0.4, 0.3, 0.3]],
        [[0.0, 0.5, 0.5], [1.0, 0.0, 0.0]],
    ]
    sums = [leaves.sum(w) for w in weights]
    gates = pc.Categorical("c", torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4]], dtype=torch.float64))
    joined = pc.concat([unit * gates[0, k] for k, unit in enumerate(sums)], axis="width")
    circuit = pc.Circuit(joined.sum([0.3, 0.1, 0.2, 0.15, 0.05, 0.2]))
    oracle, model = Oracle(circuit), circuit.compile(dtype=torch.float64, rewrites=rewrites)
    for known in ({}, {"a": 1.0}, {"b": 0.0, "c": 2.0}, {"a": 0.0, "b": 1.0, "c": 0.0}):
        given = model.given(known)
        assert model.log_prob(known).item() == pytest.approx(oracle.log_value(known), rel=1e-12)
        for array in sums:
            want = [oracle.posterior(circuit.unit(array, 0, k), known) for k in range(2)]
            torch.testing.assert_close(given.posterior(array)[0, 0], torch.tensor(want, dtype=torch.float64))


@pytest.mark.parametrize("rewrites", [None, []], ids=["rewritten", "plain"])
def test_rows_of_several_layers_come_in_their_order(rewrites):
    """An order of two families that is not its own inverse: one, two of the other, and one."""
    weights = torch.tensor([[[0.9, 0.1]], [[0.2, 0.8]], [[0.6, 0.4]], [[0.3, 0.7]]], dtype=torch.float64)
    coins = pc.Bernoulli(["a", "b"], torch.tensor([[0.1, 0.7], [0.6, 0.3]], dtype=torch.float64))
    probs = torch.tensor([[[0.8, 0.2], [0.3, 0.7]], [[0.4, 0.6], [0.1, 0.9]]], dtype=torch.float64)
    dice = pc.Categorical(["c", "d"], probs)
    rows = pc.concat([coins[:1], dice, coins[1:]], axis="regions")
    circuit = pc.Circuit(rows.sum(weights).prod())
    oracle, model = Oracle(circuit), circuit.compile(dtype=torch.float64, rewrites=rewrites)
    for row in itertools.product([0.0, 1.0], repeat=4):
        known = dict(zip(circuit.variables, row, strict=True))
        assert model.log_prob(known).item() == pytest.approx(oracle.log_value(known), rel=1e-12)
