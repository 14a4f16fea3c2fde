"""Determinism: shown by disjoint supports, refuted by a pair of inputs, unknown where boxes do not suffice."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from torch import nn

import pcircuits as pc
from pcircuits.circuit.units import Mix, Sum
from pcircuits.testing import Oracle
from pcircuits.testing.strategies import circuits, deterministic_circuits


def deterministic(root):
    return pc.Circuit(root).check().deterministic


class Made(nn.Module):
    """A source of Bernoulli probabilities."""

    def parameters_for(self, columns):
        return {"probs": columns.to(torch.float64).unsqueeze(0)}


class TestYes:
    def test_without_sums(self):
        assert deterministic(pc.Bernoulli("a", 0.5) * pc.Normal("b", 0.0, 1.0))

    def test_gated_by_indicators(self):
        rain = [pc.Indicator("rain", s) for s in range(3)]
        wet = [pc.Bernoulli("wet", p) for p in (0.1, 0.5, 0.9)]
        root = 0.2 * (rain[0] * wet[0]) + 0.3 * (wet[1] * rain[1]) + 0.5 * (rain[2] * wet[2])
        assert deterministic(root)

    def test_gated_by_an_array_of_indicators(self):
        gates = pc.Indicator("rain", range(4))
        leaves = pc.Normal("x", torch.arange(4.0).unsqueeze(0), 1.0)
        assert deterministic((gates * leaves).sum([0.1, 0.2, 0.3, 0.4]))
        assert deterministic((leaves * gates).sum([[0.1, 0.2, 0.3, 0.4], [0.0, 1.0, 0.0, 0.0]])[0, 0])

    def test_a_decision_tree_over_several_variables(self):
        a, b, c = ([pc.Indicator(v, s) for s in (0, 1)] for v in "abc")
        x = [pc.Normal("x", float(i), 1.0) for i in range(4)]
        free = [pc.Bernoulli(v, 0.5) for v in "bc"]
        on_b = 0.5 * (b[0] * x[0]) + 0.5 * (b[1] * x[1])
        on_c = 0.5 * (c[0] * x[2]) + 0.5 * (c[1] * x[3])
        assert deterministic(0.5 * (a[0] * on_b * free[1]) + 0.5 * (a[1] * on_c * free[0]))

    def test_a_branch_on_a_set_of_states(self):
        low = 0.5 * pc.Indicator("a", 0) + 0.5 * pc.Indicator("a", 1)
        high = 0.5 * pc.Indicator("a", 2) + 0.5 * pc.Indicator("a", 3)
        x = [pc.Normal("x", 0.0, 1.0), pc.Normal("x", 1.0, 1.0)]
        assert deterministic(0.5 * (low * x[0]) + 0.5 * (high * x[1]))

    def test_zeros_of_other_families_decide_too(self):
        assert deterministic(0.5 * pc.Bernoulli("a", 0.0) + 0.5 * pc.Bernoulli("a", 1.0))
        assert deterministic(pc.Categorical("a", [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]).sum([0.5, 0.5]))

    def test_inputs_of_weight_zero_do_not_count(self):
        a = pc.Bernoulli("a", [0.1, 0.9, 0.5])
        assert deterministic(a.sum([0.0, 1.0, 0.0]))
        assert deterministic(1.0 * pc.Bernoulli("a", 0.1) + 0.0 * pc.Bernoulli("a", 0.9))

    def test_pairs_are_told_apart_by_different_variables(self):
        a, b = ([pc.Indicator(v, s) for s in (0, 1)] for v in "ab")
        free = pc.Bernoulli("b", 0.5)
        assert deterministic(0.3 * (a[0] * free) + 0.3 * (a[1] * b[0]) + 0.4 * (a[1] * b[1]))

    def test_through_wiring_outer_products_and_groups(self):
        gates = pc.Indicator(["a", "b"], [[0, 1], [1, 0]])
        assert deterministic(gates[0].outer(gates[1]).sum([0.1, 0.2, 0.3, 0.4]))
        assert deterministic(gates.prod([[0, 1]])[0, [1, 0]].sum([0.5, 0.5]))

    def test_more_inputs_than_are_compared_at_a_time(self):
        n = 1300
        gates = pc.Indicator("a", torch.arange(n))
        assert deterministic(gates.sum([1.0 / n] * n))
        twice = pc.Indicator("a", torch.cat([torch.arange(n), torch.tensor([1234])]))
        verdict = deterministic(twice.sum([1.0] * (n + 1)))
        assert verdict.holds is False
        assert "inputs 1234 and 1300" in verdict.witness.reason


class TestNo:
    def test_a_plain_mixture(self):
        verdict = deterministic(0.5 * pc.Normal("a", 0.0, 1.0) + 0.5 * pc.Normal("a", 1.0, 1.0))
        assert verdict.holds is False
        assert verdict.witness.unit == "Mix(1, 1), region 0, unit 0"
        assert verdict.witness.reason == "its inputs 0 and 1 are positive together"

    def test_the_inputs_are_named_by_their_place_among_all(self):
        states = pc.Indicator("a", [0, 1, 2, 1])
        verdict = deterministic(states.sum([0.0, 0.4, 0.3, 0.3]))
        assert verdict.witness.reason == "its inputs 1 and 3 are positive together"

    def test_the_unit_is_named(self):
        states = pc.Indicator(["a", "b"], [[0, 1], [1, 1]])
        verdict = deterministic(states.sum([[1.0, 0.0], [0.5, 0.5]]).prod())
        assert verdict.witness.unit == "Sum(2, 2), region 1, unit 1"

    def test_gates_that_do_not_gate(self):
        rain = pc.Indicator("rain", 0)
        root = 0.5 * (rain * pc.Bernoulli("wet", 0.5)) + 0.5 * (rain * pc.Bernoulli("wet", 0.1))
        assert deterministic(root).holds is False

    def test_a_certain_overlap_is_preferred_to_a_doubtful_one(self):
        mixed = 0.5 * pc.Normal("x", 0.0, 1.0) + 0.5 * pc.Normal("x", 1.0, 1.0)
        assert deterministic(0.5 * (overlapping_boxes() * mixed) + 0.5 * (overlapping_boxes() * mixed)).holds is False

    def test_an_input_used_twice(self):
        a = pc.Bernoulli("a", 0.5)
        assert deterministic(0.5 * a + 0.5 * a).holds is False

    def test_a_region_that_is_not_does_not_spoil_the_others(self):
        states = pc.Indicator(["a", "b"], [[0, 1], [1, 1]])
        summed = states.sum([0.5, 0.5])
        determinism = pc.Circuit(summed.prod()).check().determinism
        assert determinism.regions[id(summed)].tolist() == [True, False]


def overlapping_boxes():
    """[a = b]: deterministic, with a support that is no box."""
    same = [pc.Indicator("a", s) * pc.Indicator("b", s) for s in (0, 1)]
    return 0.5 * same[0] + 0.5 * same[1]


class TestUnknown:
    def test_supports_that_are_no_boxes(self):
        a, b = ([pc.Indicator(v, s) for s in (0, 1)] for v in "ab")
        differ = 0.5 * (a[0] * b[1]) + 0.5 * (a[1] * b[0])
        verdict = deterministic(0.5 * overlapping_boxes() + 0.5 * differ)
        assert verdict.holds is None
        assert "may overlap" in verdict.witness.reason

    def test_what_a_source_makes_may_be_zero(self):
        made = pc.inputs(pc.families.Bernoulli(), "a", pc.Sourced(Made(), 1, 2))
        assert deterministic(made.sum([0.5, 0.5])).holds is None

    def test_a_constant_of_zero_is_no_counterexample(self):
        a = pc.Bernoulli("a", 0.5)
        assert deterministic(0.5 * (pc.Constant(0.0) * a) + 0.5 * a).holds is not False


def positive_inputs(oracle, array, point):
    """For each sum unit of an array, how many of its inputs are positive at a full assignment."""
    values = oracle._values(point)
    for row in oracle.graph.places[id(array)]:
        for position in row:
            yield sum(term > -math.inf for term in oracle.graph.nodes[position].log_terms(values))


def assignments(circuit, oracle):
    """All of them, and those of states 0, 1 and 2 that only units which the root does not use are positive on."""
    states = (sorted({*oracle.candidates(label), 0.0, 1.0, 2.0}) for label in circuit.variables)
    for values in itertools.product(*states):
        yield dict(zip(circuit.variables, values, strict=True))


@settings(max_examples=60, deadline=None)
@given(circuits(densities=False, max_variables=4, max_states=3))
def test_verdicts_agree_with_enumeration(circuit):
    oracle = Oracle(circuit)
    most = max(
        (n for p in assignments(circuit, oracle) for a in circuit.sums for n in positive_inputs(oracle, a, p)),
        default=0,
    )
    verdict = circuit.check().deterministic
    assert verdict.holds in ((True, None) if most <= 1 else (False, None))


@settings(max_examples=60, deadline=None)
@given(deterministic_circuits())
def test_decision_diagrams_are_found_deterministic(circuit):
    assert circuit.check().deterministic
    oracle = Oracle(circuit)
    for point in itertools.islice(assignments(circuit, oracle), 64):
        for array in circuit.sums:
            assert isinstance(array, Sum | Mix)
            assert max(positive_inputs(oracle, array, point)) <= 1


@pytest.mark.parametrize("width", [2, 3000])
def test_a_wide_mixture_is_refuted_without_comparing_all_pairs(width):
    leaves = pc.Normal("x", torch.zeros(1, width), 1.0)
    assert deterministic(leaves.sum([1.0 / width] * width)).holds is False


def test_a_counterexample_decides_and_regions_are_found_when_asked_for():
    def of_sums(gates):
        low = 0.5 * pc.Bernoulli("a", 0.5) + 0.5 * pc.Bernoulli("a", 0.25)
        high = 0.5 * (gates[0] * low) + 0.5 * (gates[1] * low)
        return pc.Circuit(high)

    circuit = of_sums([pc.Indicator("b", 0), pc.Indicator("b", 1)])
    found = circuit.check().determinism
    assert found.verdict.holds is False
    assert "inputs 0 and 1 are positive together" in str(found.verdict.witness)
    assert [found.regions[id(array)].tolist() for array in circuit.sums] == [[False], [True]]
    assert found.verdict.holds is False


def test_leaves_of_one_family_with_different_numbers_of_states_are_looked_at_together():
    """Categoricals of 2 and of 3 states, indicators far out, arrays and scalars: against the supports one by one."""
    three = [pc.Categorical("c", [0.5, 0.5, 0.0]), pc.Categorical("c", [0.0, 0.0, 1.0])]
    two = pc.Categorical(["d", "e"], [[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.5, 0.5]]])
    far = [pc.Indicator("f", 1000), pc.Indicator("f", 3)]
    assert deterministic(0.5 * three[0] + 0.5 * three[1])
    assert deterministic((0.5 * three[0] + 0.5 * three[1]) * two[0].sum([0.5, 0.5]) * (0.5 * far[0] + 0.5 * far[1]))
    assert deterministic(two[1].sum([0.5, 0.5])).holds is False
    assert deterministic((two[0, 0] * three[1]) * two[1].sum([0.5, 0.5])).holds is False
