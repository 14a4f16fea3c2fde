"""Samples against densities: chi-square over every assignment, at fixed seeds."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import pcircuits as pc
from pcircuits.testing import Enumeration, Oracle

OPTIONS = {"rewritten": {}, "plain": {"rewrites": ()}, "in pieces": {"memory": 8000}}
N = 2000


def pvalue(samples, probabilities):
    """Chi-square of samples (n, D) against a dict from assignments to probabilities; rare assignments are pooled."""
    counts = dict.fromkeys(probabilities, 0)
    for row in map(tuple, samples.tolist()):
        assert probabilities[row] > 0, f"{row} is impossible"
        counts[row] += 1
    expected = np.array([probabilities[a] * len(samples) for a in probabilities])
    seen = np.array([counts[a] for a in probabilities], dtype=float)
    order = np.argsort(expected)
    expected, seen = expected[order], seen[order]
    rare = max(1, int((np.cumsum(expected) < 5).sum()) + 1) if expected[0] < 5 else 0
    if rare:
        expected = np.append(expected[rare:], expected[:rare].sum())
        seen = np.append(seen[rare:], seen[:rare].sum())
    if len(expected) < 2:
        return 1.0
    return stats.chi2.sf(((seen - expected) ** 2 / expected).sum(), len(expected) - 1)


def given(table, evidence):
    """The conditional distribution (by assignment) of an enumeration."""
    keep = {
        a: math.exp(v)
        for a, v in table.log_values.items()
        if all(a[table.variables.index(label)] == x for label, x in evidence.items())
    }
    total = sum(keep.values())
    return {a: p / total for a, p in keep.items()}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(
    "name",
    ["rain", "discretised_mixture", "categorical_mixture", "layered", "mixes", "zero_weights", "deep_chain", "wired"],
)
def test_samples_follow_the_circuit(named_case, name, options):
    circuit = named_case(name).circuit
    model, table = circuit.compile(dtype=torch.float64, **options), Enumeration(circuit)
    samples = model.sample(N, torch.Generator().manual_seed(1))
    assert pvalue(samples, given(table, {})) > 1e-4
    # of two rows at once, one variable each
    first, last = circuit.variables[0], circuit.variables[-1]
    states = [
        max(row[i] for row, v in table.log_values.items() if v > -math.inf) for i in (0, len(circuit.variables) - 1)
    ]
    rows = torch.full((2, len(circuit.variables)), math.nan, dtype=torch.float64)
    rows[0, 0], rows[1, -1] = states
    both = model.given(rows).sample(N, torch.Generator().manual_seed(2))
    assert pvalue(both[:, 0], given(table, {first: states[0]})) > 1e-4
    assert pvalue(both[:, 1], given(table, {last: states[1]})) > 1e-4


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_root_for_each_row(options):
    leaves = pc.Categorical(["a", "b"], torch.tensor([[[0.75, 0.25], [0.125, 0.875]], [[0.25, 0.75], [0.625, 0.375]]]))
    circuit = pc.Circuit(leaves.prod().sum([[0.5, 0.5], [0.9, 0.1], [0.0, 1.0]]))
    model = circuit.compile(dtype=torch.float64, **options)
    tables = [Enumeration(circuit, root) for root in range(3)]
    roots = [2, 0, 1, 0]
    samples = model.root(torch.tensor(roots)).sample(N, torch.Generator().manual_seed(3))
    assert samples.shape == (N, 4, 2)
    for column, root in enumerate(roots):
        assert pvalue(samples[:, column], given(tables[root], {})) > 1e-4
    known = model.root(torch.tensor([2, 1])).given({"b": 1}).sample(N, torch.Generator().manual_seed(4))
    for column, root in enumerate([2, 1]):
        assert pvalue(known[:, column], given(tables[root], {"b": 1.0})) > 1e-4
    alone = model.root(1).sample(N, torch.Generator().manual_seed(5))
    assert pvalue(alone, given(tables[1], {})) > 1e-4


class Table(nn.Module):
    """A source of categorical parameters."""

    def __init__(self, probs):
        super().__init__()
        self.register_buffer("probs", probs)

    def parameters_for(self, columns):
        return {"probs": self.probs[:, columns]}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("fused", [True, False])
def test_sourced_units(options, fused):
    probs = torch.as_tensor(np.random.default_rng(0).dirichlet([0.5, 0.5, 0.5], (3, 5)))
    units = pc.inputs(pc.families.Categorical(3), ["a", "b", "c"], pc.Sourced(Table(probs), 3, 5))
    mixed = units.prod() if fused else pc.Indicator("z", 0) * units[::-1].prod()
    circuit = pc.Circuit(pc.mixture([0.1, 0.2, 0.3, 0.15, 0.25], mixed))
    model, table = circuit.compile(dtype=torch.float64, **options), Enumeration(circuit)
    assert pvalue(model.sample(N, torch.Generator().manual_seed(6)), given(table, {})) > 1e-4
    known = model.given({"b": 2}).sample(N, torch.Generator().manual_seed(7))
    assert pvalue(known[:, 0], given(table, {"b": 2.0})) > 1e-4


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(
    "name", ["normal_mixture", "scalar_graph", "several_roots", "sourced", "sourced_layer", "gated", "tied"]
)
def test_densities_are_sampled_right(named_case, name, options):
    """Chi-square over the quadrants about a point, against the probabilities of these boxes."""
    circuit = named_case(name).circuit
    oracle: Oracle = named_case(name).oracle
    model = circuit.compile(dtype=torch.float64, **options)
    model = model.root(0) if circuit.num_roots > 1 else model
    middle = [0.5] * len(circuit.variables)
    evidence = {circuit.variables[-1]: 1.0} if name != "tied" else {"z": 0.25}
    for number, known in enumerate(({}, evidence)):
        boxes = {}
        for sides in itertools.product([0.0, 1.0], repeat=len(middle)):
            lower = {v: 0.5 for v, s in zip(circuit.variables, sides, strict=True) if s}
            upper = {v: math.nextafter(0.5, 0.0) for v, s in zip(circuit.variables, sides, strict=True) if not s}
            boxes[sides] = oracle.probability(lower, upper, known)
        samples = model.given(known).sample(N, torch.Generator().manual_seed(8 + number))[:, 0]
        assert pvalue((samples >= 0.5).double(), boxes) > 1e-4


def test_one_sample_at_a_time(named_case):
    circuit = named_case("categorical_mixture").circuit
    samples = circuit.compile(dtype=torch.float64, memory=1).sample(300, torch.Generator().manual_seed(9))
    assert pvalue(samples, given(Enumeration(circuit), {})) > 1e-4


def test_a_distribution_function_is_met(named_case):
    """Kolmogorov-Smirnov of every marginal, given another variable."""
    circuit = named_case("normal_mixture").circuit
    oracle = named_case("normal_mixture").oracle
    model = circuit.compile(dtype=torch.float64)
    samples = model.given({0: -0.5}).sample(400, torch.Generator().manual_seed(10))[:, 0]
    assert bool((samples[:, 0] == -0.5).all())
    for column, label in enumerate(circuit.variables[1:], start=1):
        below = [oracle.probability({}, {label: x}, {0: -0.5}) for x in samples[:, column].tolist()]
        assert stats.kstest(below, "uniform").pvalue > 1e-4


def test_results_depend_on_the_seed_alone(named_case):
    model = named_case("mixes").circuit.compile(dtype=torch.float64)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, two, other = (model.sample(50, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)
    single = named_case("mixes").circuit.compile(dtype=torch.float32)
    assert torch.equal(single.sample(50, torch.Generator().manual_seed(0)).double(), one)
