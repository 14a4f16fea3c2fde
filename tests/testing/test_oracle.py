"""The oracle on circuits worked out by hand, against enumeration, and against quadrature."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import integrate
from torch import nn

import pcircuits as pc
from pcircuits.families.interface import AbstractFamily
from pcircuits.testing import Enumeration, Oracle
from pcircuits.testing.oracle import LEAVES, FiniteLeaf
from pcircuits.testing.strategies import boxes, circuits, deterministic_circuits, evidence

LAW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture
def rain():
    """p(rain) = 0.2; p(wet | rain) = 0.9, p(wet | no rain) = 0.1."""
    gate = [pc.Indicator("rain", 0), pc.Indicator("rain", 1)]
    wet = [pc.Bernoulli("wet", 0.1), pc.Bernoulli("wet", 0.9)]
    return pc.Circuit(0.8 * (gate[0] * wet[0]) + 0.2 * (gate[1] * wet[1]))


@pytest.fixture
def normals():
    """Two normal clusters on (x, y), with a class."""
    k = pc.Categorical("k", [[0.9, 0.1], [0.2, 0.8]])
    x = pc.Normal("x", [-1.0, 2.0], [0.5, 1.0])
    y = pc.Normal("y", [0.0, 3.0], [2.0, 0.25])
    return pc.Circuit((k * x * y).sum([0.3, 0.7]))


class TestByHand:
    def test_probabilities(self, rain):
        oracle = Oracle(rain)
        assert math.exp(oracle.log_prob({"rain": 1, "wet": 1})) == pytest.approx(0.18)
        assert math.exp(oracle.log_prob({"wet": 1})) == pytest.approx(0.26)
        assert oracle.log_prob({}) == pytest.approx(0.0, abs=1e-15)
        assert oracle.log_prob({"rain": 2}) == -math.inf

    def test_conditionals(self, rain):
        oracle = Oracle(rain)
        assert math.exp(oracle.log_prob({"rain": 1}, {"wet": 1})) == pytest.approx(0.18 / 0.26)
        assert math.exp(oracle.log_prob({"rain": 1, "wet": 1}, {"wet": 1})) == pytest.approx(0.18 / 0.26)
        assert oracle.log_prob({}, {"wet": 1}) == 0.0

    def test_moments(self, rain):
        oracle = Oracle(rain)
        assert oracle.mean() == pytest.approx({"rain": 0.2, "wet": 0.26})
        assert oracle.mean({"wet": 1}) == pytest.approx({"rain": 0.18 / 0.26, "wet": 1.0})
        assert oracle.variance() == pytest.approx({"rain": 0.16, "wet": 0.26 * 0.74})
        assert oracle.moment(3, {"wet": 0}) == pytest.approx({"rain": 0.02 / 0.74, "wet": 0.0})
        assert oracle.expectation(lambda x: 5 * x + 1) == pytest.approx({"rain": 2.0, "wet": 2.3})

    def test_boxes(self, rain):
        oracle = Oracle(rain)
        assert oracle.probability({"wet": 0.5}, {}) == pytest.approx(0.26)
        assert oracle.probability({"wet": 0.5}, {"rain": 0}) == pytest.approx(0.08)
        assert oracle.probability({}, {"rain": 0}, {"wet": 1}) == pytest.approx(0.08 / 0.26)
        assert oracle.probability({"wet": 0}, {"wet": 0}, {"wet": 1}) == 0.0

    def test_posterior_and_flow(self, rain):
        oracle, top = Oracle(rain), rain.unit(rain.root)
        assert oracle.posterior(top) == pytest.approx([0.8, 0.2])
        assert oracle.posterior(top, {"wet": 1}) == pytest.approx([0.08 / 0.26, 0.18 / 0.26])
        assert oracle.flow(top, {"wet": 1}) == 1.0
        assert oracle.flow(rain.children(top)[1], {"wet": 1}) == pytest.approx(0.18 / 0.26)

    def test_the_posterior_of_an_inner_sum_adds_to_its_flow(self):
        inner = 0.5 * pc.Bernoulli("a", 0.1) + 0.5 * pc.Bernoulli("a", 0.9)
        circuit = pc.Circuit(0.25 * inner.units[0] + 0.75 * pc.Bernoulli("a", 0.5))
        unit = circuit.unit(inner)
        assert Oracle(circuit).posterior(unit, {"a": 1}) == pytest.approx([0.025, 0.225])
        assert Oracle(circuit).flow(unit, {"a": 1}) == pytest.approx(0.25)

    def test_the_posterior_of_a_sum_that_is_zero_is_zero(self):
        inner = 0.5 * pc.Bernoulli("a", 0.0) + 0.5 * pc.Indicator("a", 0)
        circuit = pc.Circuit(0.25 * inner.units[0] + 0.75 * pc.Bernoulli("a", 0.5))
        assert Oracle(circuit).posterior(circuit.unit(inner), {"a": 1}) == [0.0, 0.0]

    def test_map_and_its_bound(self, rain):
        oracle = Oracle(rain)
        best = oracle.map({"wet": 1})
        assert best.assignment == {"rain": 1.0, "wet": 1.0}
        assert math.exp(best.log_prob) == pytest.approx(0.18 / 0.26)
        assert math.exp(best.log_value) == pytest.approx(0.18)
        assert math.exp(oracle.upper_bound({"wet": 1})) == pytest.approx(1.0)
        flags = rain.check().determinism.regions
        assert oracle.upper_bound({"wet": 1}, flags) == pytest.approx(best.log_prob)

    def test_rows(self, rain):
        assert Oracle(rain).row([math.nan, 1.0]) == {"wet": 1.0}
        assert Oracle(rain).row([None, 1]) == {"wet": 1.0}

    def test_several_roots(self):
        circuit = pc.Circuit(pc.Bernoulli("a", [0.25, 0.75]).sum([[1.0, 0.0], [0.5, 0.5]]))
        oracle = Oracle(circuit)
        assert [math.exp(oracle.log_value({"a": 1}, root)) for root in (0, 1)] == pytest.approx([0.25, 0.5])
        assert [oracle.mean(root=root)["a"] for root in (0, 1)] == pytest.approx([0.25, 0.5])

    def test_unnormalised_weights_are_kept_in_values_and_cancel_in_conditionals(self):
        oracle = Oracle(pc.Circuit(3.0 * pc.Bernoulli("a", 0.5) + 1.0 * pc.Bernoulli("a", 0.1)))
        assert math.exp(oracle.log_prob({})) == pytest.approx(4.0)
        assert oracle.mean()["a"] == pytest.approx((3 * 0.5 + 0.1) / 4)
        assert math.exp(oracle.log_prob({"a": 1}, {})) == pytest.approx(1.6 / 4)

    def test_log_likelihoods_of_minus_a_hundred_thousand(self):
        leaves = pc.Normal(range(100), torch.zeros(100, 2, dtype=torch.float64), 1.0)
        circuit = pc.Circuit(leaves.prod().sum([0.5, 0.5]))
        row = dict.fromkeys(range(100), 45.0)
        exact = 100 * (-0.5 * 45.0**2 - 0.5 * math.log(2 * math.pi))
        assert Oracle(circuit).log_value(row) == pytest.approx(exact, rel=1e-15)
        assert Oracle(circuit).posterior(circuit.unit(circuit.root), row) == [0.5, 0.5]


class TestNormals:
    def test_values(self, normals):
        density = 0.3 * 0.9 * pdf(0.5, -1.0, 0.5) * pdf(1.0, 0.0, 2.0)
        density += 0.7 * 0.2 * pdf(0.5, 2.0, 1.0) * pdf(1.0, 3.0, 0.25)
        assert math.exp(Oracle(normals).log_value({"k": 0, "x": 0.5, "y": 1.0})) == pytest.approx(density)

    def test_marginals_against_quadrature(self, normals):
        oracle = Oracle(normals)

        def joint(x, y):
            return math.fsum(math.exp(oracle.log_value({"k": k, "x": x, "y": y})) for k in (0, 1))

        marginal, _ = integrate.quad(lambda x: joint(x, 2.5), -8, 12, points=[-1, 2], epsabs=1e-13)
        assert math.exp(oracle.log_prob({"y": 2.5})) == pytest.approx(marginal, rel=1e-9)
        mean, _ = integrate.quad(lambda x: x * joint(x, 2.5), -8, 12, points=[-1, 2], epsabs=1e-13)
        assert oracle.mean({"y": 2.5})["x"] == pytest.approx(mean / marginal, rel=1e-9)
        inside, _ = integrate.quad(lambda x: joint(x, 2.5), 0.0, 1.5, epsabs=1e-13)
        assert oracle.probability({"x": 0.0}, {"x": 1.5}, {"y": 2.5}) == pytest.approx(inside / marginal, rel=1e-9)

    def test_variance_of_a_mixture(self, normals):
        mean = 0.3 * -1.0 + 0.7 * 2.0
        wanted = 0.3 * (0.25 + (-1.0 - mean) ** 2) + 0.7 * (1.0 + (2.0 - mean) ** 2)
        assert Oracle(normals).variance()["x"] == pytest.approx(wanted)

    def test_variance_does_not_cancel(self):
        circuit = pc.Circuit(pc.Normal("x", [1e8, 1e8], [1e-3, 3e-3]).sum([0.5, 0.5]))
        assert Oracle(circuit).variance()["x"] == pytest.approx(0.5 * (1e-6 + 9e-6), rel=1e-13)

    def test_map_looks_at_the_modes_of_the_leaves(self, normals):
        best = Oracle(normals).map({"k": 1})
        assert best.assignment == {"k": 1, "x": 2.0, "y": 3.0}


def pdf(x, loc, scale):
    return math.exp(-0.5 * ((x - loc) / scale) ** 2) / (scale * math.sqrt(2 * math.pi))


class TestGraph:
    def test_weights_in_all_their_shapes(self):
        leaves = pc.Bernoulli(["a", "b"], [[0.1, 0.2], [0.3, 0.4]])
        own = leaves.sum([[[1.0, 2.0]], [[3.0, 4.0]]])
        assert values_at_ones(own.prod()) == pytest.approx([(0.1 + 0.4) * (0.9 + 1.6)])
        shared = leaves.sum([[1.0, 2.0], [0.0, 1.0]])
        assert values_at_ones(shared.prod()) == pytest.approx([0.5 * 1.1, 0.2 * 0.4])
        weights = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 2.0]]])
        units = (weights[..., 0] * leaves + weights[..., 1] * leaves).units
        assert values_at_ones(units.prod()) == pytest.approx([0.1 * 0.6, 0.2 * 0.8])

    def test_groups_outer_and_wiring(self):
        leaves = pc.Bernoulli(["a", "b"], [[0.1, 0.2], [0.3, 0.4]])
        outer = leaves[1].outer(leaves[0])
        assert values_at_ones(outer) == pytest.approx([0.03, 0.06, 0.04, 0.08])
        assert values_at_ones(leaves[[1, 0], [1, 1, 0]].prod([[1, 0]])) == pytest.approx([0.08, 0.08, 0.03])
        assert values_at_ones(pc.concat([leaves[0], leaves[1]], axis="regions").prod()) == pytest.approx([0.03, 0.08])

    def test_constants(self):
        leaf = pc.Bernoulli("a", [0.5, 0.25])
        assert values_at_ones(pc.Constant(3.0) * leaf) == pytest.approx([1.5, 0.75])
        assert values_at_ones(pc.Constant([[3.0, 0.0]]) * leaf) == [pytest.approx(1.5), 0.0]

    def test_simplex_weights_are_renormalised(self):
        weights = torch.tensor([0.1, 0.9])  # 0.1 + 0.9 is not 1 in single precision
        circuit = pc.Circuit(pc.mixture(weights, pc.Bernoulli("a", [0.5, 0.5])))
        assert abs(Oracle(circuit).log_value({})) < 1e-16

    def test_parameters_of_a_source(self):
        class Made(nn.Module):
            def parameters_for(self, columns):
                loc = columns.to(torch.float64) + torch.tensor([[0.0], [10.0]])
                return {"loc": loc, "scale": torch.full_like(loc, 2.0)}

        leaves = pc.inputs(pc.families.Normal(), ["x", "y"], pc.Sourced(Made(), 2, 3))
        oracle = Oracle(pc.Circuit(leaves.prod()))
        assert [oracle.mean(root=k) for k in range(3)] == [{"x": k, "y": 10.0 + k} for k in range(3)]

    def test_a_family_of_ones_own(self):
        class Dice(AbstractFamily):
            """Not known to the oracle."""

        Dice.__abstractmethods__ = frozenset()
        Dice.parameters = {}
        circuit = pc.Circuit(pc.inputs(Dice(), "d", {}))
        with pytest.raises(pc.CircuitError, match=r"no leaf for .*Dice"):
            Oracle(circuit)
        known = {**LEAVES, "Dice": lambda family, values: FiniteLeaf({s: math.log(1 / 6) for s in range(1, 7)})}
        assert Oracle(circuit, known).mean()["d"] == pytest.approx(3.5)


def values_at_ones(units):
    circuit = pc.Circuit(units)
    row = dict.fromkeys(circuit.variables, 1.0)
    return [math.exp(Oracle(circuit).log_value(row, root)) for root in range(circuit.num_roots)]


class TestErrors:
    def test_impossible_evidence(self, rain):
        for query in ("mean", "variance", "map", "upper_bound"):
            with pytest.raises(pc.EvidenceError, match="probability zero"):
                getattr(Oracle(rain), query)({"rain": 2.0})

    def test_contradicted_evidence(self, rain):
        with pytest.raises(pc.EvidenceError, match="contradicts the evidence on \\['rain'\\]"):
            Oracle(rain).log_prob({"rain": 1}, {"rain": 0})

    def test_unknown_variables(self, rain):
        with pytest.raises(pc.EvidenceError, match="no variables \\['snow'\\]"):
            Oracle(rain).log_prob({"snow": 1})

    def test_too_many_completions(self, rain):
        with pytest.raises(pc.CircuitError, match="4 completions are more than the limit of 3"):
            Oracle(rain).map(limit=3)
        with pytest.raises(pc.CircuitError, match="4 assignments are more than the limit of 3"):
            Enumeration(rain, limit=3)

    def test_densities_cannot_be_enumerated(self, normals):
        with pytest.raises(pc.CircuitError, match="cannot be enumerated"):
            Enumeration(normals)

    def test_only_sums_have_a_posterior(self, rain):
        product = rain.children(rain.unit(rain.root))[0]
        with pytest.raises(pc.CircuitError, match="not a sum unit"):
            Oracle(rain).posterior(product)


class TestAgainstEnumeration:
    @LAW
    @given(st.data())
    def test_marginals_conditionals_and_boxes(self, data):
        circuit = data.draw(circuits(densities=False))
        seen, row = data.draw(evidence(circuit, possible=True)), data.draw(evidence(circuit))
        oracle, table = Oracle(circuit), Enumeration(circuit)
        assert oracle.log_prob(row) == near(table.log_prob(row))
        row = {label: x for label, x in row.items() if label not in seen}
        assert oracle.log_prob(row, seen) == near(table.log_prob(row, seen), scale=oracle.log_prob(seen))
        lower, upper = data.draw(boxes(circuit))
        assert oracle.probability(lower, upper, seen) == pytest.approx(table.probability(lower, upper, seen), 1e-10)

    @LAW
    @given(st.data())
    def test_moments(self, data):
        circuit = data.draw(circuits(densities=False))
        seen = data.draw(evidence(circuit, possible=True))
        oracle, table = Oracle(circuit), Enumeration(circuit)
        assert oracle.mean(seen) == pytest.approx(table.mean(seen), rel=1e-10)
        assert oracle.moment(3, seen) == pytest.approx(table.moment(3, seen), rel=1e-10)
        assert oracle.variance(seen) == pytest.approx(table.variance(seen), rel=1e-10, abs=1e-20)
        assert oracle.expectation(math.cos, seen) == pytest.approx(table.expectation(math.cos, seen), rel=1e-10)

    @LAW
    @given(st.data())
    def test_maxima(self, data):
        circuit = data.draw(circuits(densities=False))
        seen = data.draw(evidence(circuit, possible=True))
        best, wanted = Oracle(circuit).map(seen), Enumeration(circuit).map(seen)
        assert best.log_value == near(wanted.log_value)
        assert all(best.assignment[label] == x for label, x in seen.items())
        assert Oracle(circuit).upper_bound(seen) >= best.log_prob - 1e-9 * max(1.0, abs(best.log_value))


@LAW
@given(st.data())
def test_the_bound_of_a_deterministic_circuit_is_its_maximum(data):
    circuit = data.draw(deterministic_circuits())
    seen = data.draw(evidence(circuit, possible=True))
    flags = circuit.check().determinism.regions
    best = Oracle(circuit).map(seen)
    assert Oracle(circuit).upper_bound(seen, flags) == near(best.log_prob, scale=best.log_value)


@LAW
@given(st.data())
def test_flows_are_derivatives(data):
    """∂ log root / ∂ log unit, by weighing the unit by two values: roots are linear in every unit."""
    circuit = data.draw(circuits(max_depth=3))
    seen = data.draw(evidence(circuit, possible=True))
    oracle = Oracle(circuit)
    values = oracle._values(seen)
    for array in circuit.arrays[:: max(1, len(circuit.arrays) // 4)]:
        position = oracle.graph.places[id(array)][0][0]
        removed = without(oracle, seen, position)
        share = 1.0 - math.exp(removed - values[oracle.roots[0]])
        own = type(circuit.unit(circuit.root))(array, 0, 0)
        assert oracle.flow(own, seen) == pytest.approx(share, abs=1e-9)


def without(oracle, seen, position):
    """The log-value of the root where one unit is zero."""
    values = []
    nodes = oracle.graph.nodes
    for i in range(len(nodes)):
        part = type(oracle.graph)(nodes[: i + 1], oracle.graph.places, oracle.graph.scopes)
        values.append(-math.inf if i == position else one_node(part, values, seen))
    return values[oracle.roots[0]]


def one_node(graph, values, seen):
    node = graph.nodes[-1]
    if hasattr(node, "leaf"):
        return node.leaf.log_density(seen[node.variable]) if node.variable in seen else 0.0
    if hasattr(node, "log_terms"):
        terms = [t for t in node.log_terms(values) if t > -math.inf]
        top = max(terms, default=0.0)
        return top + math.log(sum(math.exp(t - top) for t in terms)) if terms else -math.inf
    return sum((values[child] for child in node.children), node.log_constant)


def near(value, scale=0.0):
    """Within 1e-11 of a log-value, relative to it or to the log-values that it is a difference of."""
    return pytest.approx(value, rel=1e-11, abs=1e-11 * max(1.0, abs(scale)))


class TestEnumeration:
    def test_the_joint_of_the_rain(self, rain):
        wanted = {(0.0, 0.0): 0.72, (0.0, 1.0): 0.08, (1.0, 0.0): 0.02, (1.0, 1.0): 0.18}
        assert Enumeration(rain).enumerate() == pytest.approx(wanted)

    def test_it_needs_neither_smoothness_nor_decomposability(self):
        a, b = pc.Bernoulli("a", 0.5), pc.Bernoulli("b", 0.25)
        square = Enumeration(pc.Circuit(a * a))
        assert square.enumerate() == pytest.approx({(0.0,): 0.25, (1.0,): 0.25})
        assert math.exp(square.log_prob({})) == pytest.approx(0.5)
        unsmooth = Enumeration(pc.Circuit(0.5 * a + 0.5 * b))
        assert math.exp(unsmooth.log_prob({})) == pytest.approx(0.5 * 2 + 0.5 * 2)
        assert Oracle(pc.Circuit(0.5 * a + 0.5 * b)).log_prob({}) == pytest.approx(0.0)

    def test_queries(self, rain):
        table = Enumeration(rain)
        assert table.mean({"wet": 1}) == pytest.approx({"rain": 0.18 / 0.26, "wet": 1.0})
        assert table.variance() == pytest.approx({"rain": 0.16, "wet": 0.26 * 0.74})
        assert table.probability({"wet": 0.5}, {"rain": 0}) == pytest.approx(0.08)
        assert table.map({"wet": 0}).assignment == {"rain": 0.0, "wet": 0.0}
        with pytest.raises(pc.EvidenceError, match="probability zero"):
            table.mean({"rain": 7})
