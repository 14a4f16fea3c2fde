"""`marginalize`, `normalise` and `divide` against the oracle, and the shape of what they give."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pcircuits.circuit.algebra import concat, mixture
from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.leaves import Bernoulli, Categorical, Indicator, Normal, inputs
from pcircuits.circuit.marginal import marginalize
from pcircuits.circuit.mass import log_masses
from pcircuits.circuit.normalise import divide, normalise
from pcircuits.circuit.selected_regions import SelectedRegions
from pcircuits.circuit.units import Constant, Input, Mix, Sum, Units, Wiring
from pcircuits.errors import PropertyError, ScopeError
from pcircuits.families import Normal as NormalFamily
from pcircuits.parameters import Parameter, Sourced, nonnegative, simplex
from pcircuits.testing.oracle import Oracle
from pcircuits.testing.strategies import circuits

CLOSE = 1e-9


def close(a: float, b: float) -> bool:
    return a == b or abs(a - b) <= CLOSE * max(1.0, abs(b))


def assert_locally_normalised(circuit: Circuit) -> None:
    for array in circuit.sums:
        assert array.weights.constraint is simplex
    masses = log_masses(circuit)
    for array in circuit.arrays:
        assert masses[id(array)].abs().max() <= 1e-9, array
    assert circuit.check().smooth
    assert circuit.check().decomposable
    assert circuit.check().normalised


@settings(max_examples=120, deadline=None)
@given(st.data(), circuits(max_roots=2))
def test_marginal_is_the_circuit_with_values_missing(data, circuit):
    gone = data.draw(st.sets(st.sampled_from(circuit.variables), max_size=len(circuit.variables) - 1))
    marginal = marginalize(circuit, gone)
    assert marginal.variables == tuple(label for label in circuit.variables if label not in gone)
    assert_locally_normalised(marginal)
    slow, fast = Oracle(circuit), Oracle(marginal)
    for row in draw_rows(data, slow, marginal.variables):
        for root in range(circuit.num_roots):
            want = slow.log_value(row, root) - slow.log_value({}, root)
            assert close(fast.log_value(row, root), want)


@settings(max_examples=80, deadline=None)
@given(st.data(), circuits(max_roots=2))
def test_divided_by_values_under_evidence_is_the_conditional(data, circuit):
    slow = Oracle(circuit)
    gone = data.draw(st.sets(st.sampled_from(circuit.variables), max_size=len(circuit.variables) - 1))
    evidence = draw_rows(data, slow, tuple(gone))[0]
    roots = range(circuit.num_roots)
    totals = [slow.log_value(evidence, root) for root in roots]
    values = slow.graph.evaluate(
        lambda node: node.leaf.log_density(evidence[node.variable]) if node.variable in evidence else 0.0
    )
    by_array = {
        id(a): torch.tensor([[values[p] for p in row] for row in slow.graph.places[id(a)]], dtype=torch.float64)
        for a in circuit.arrays
    }
    if -math.inf in totals:
        with pytest.raises(PropertyError, match="is zero"):
            divide(circuit, by_array, gone)
        return
    conditional = divide(circuit, by_array, gone)
    assert_locally_normalised(conditional)
    fast = Oracle(conditional)
    for row in draw_rows(data, slow, conditional.variables):
        for root in roots:
            assert close(fast.log_value(row, root), slow.log_value({**row, **evidence}, root) - totals[root])


def draw_rows(data, oracle, variables):
    """Two rows of the variables: values that their leaves can take, some missing in the second."""
    found = []
    for missing in (False, True):
        row = {}
        for label in variables:
            if missing and data.draw(st.booleans()):
                continue
            row[label] = data.draw(st.sampled_from(oracle.candidates(label)))
        found.append(row)
    return found


@settings(max_examples=40, deadline=None)
@given(circuits(max_roots=2))
def test_normalising_twice_changes_nothing(circuit):
    once = normalise(circuit)
    twice = normalise(once)
    assert [p.shape for p in once.parameters()] == [p.shape for p in twice.parameters()]
    for a, b in zip(once.parameters(), twice.parameters(), strict=True):
        assert torch.allclose(a.value, b.value, rtol=1e-12, atol=0)


@settings(max_examples=30, deadline=None)
@given(st.data(), circuits())
def test_order_of_marginalising_does_not_matter(data, circuit):
    gone = data.draw(st.sets(st.sampled_from(circuit.variables), max_size=len(circuit.variables) - 1))
    stepwise = normalise(circuit)
    for label in sorted(gone, key=str):
        stepwise = marginalize(stepwise, label)
    at_once = marginalize(circuit, gone)
    assert stepwise.variables == at_once.variables
    one, other = Oracle(stepwise), Oracle(at_once)
    for row in draw_rows(data, Oracle(circuit), at_once.variables):
        assert close(one.log_value(row), other.log_value(row))


def rain() -> Circuit:
    wet = [Bernoulli("wet", 0.1), Bernoulli("wet", 0.9)]
    return Circuit(0.8 * (Indicator("rain", 0) * wet[0]) + 0.2 * (Indicator("rain", 1) * wet[1]))


def test_products_with_nothing_left_to_multiply_are_gone():
    marginal = marginalize(rain(), ["rain"])
    assert marginal.variables == ("wet",)
    assert [type(a) for a in marginal.arrays] == [Input, Input, Mix]
    assert marginal.root.weights.value.tolist() == [0.8, 0.2]
    assert marginal.root.weights.constraint is simplex


def test_weights_are_pushed_by_the_masses_of_what_is_below():
    heavy = 2.0 * Bernoulli("a", 0.5) + 4.0 * Bernoulli("a", 0.25)
    circuit = Circuit(1.0 * (heavy * Bernoulli("b", 0.5)) + 2.0 * (Bernoulli("a", 0.5) * Bernoulli("b", 0.1)))
    marginal = marginalize(circuit, "b")
    inner, outer = marginal.sums
    assert inner.weights.value.tolist() == pytest.approx([1 / 3, 2 / 3], abs=1e-15)
    assert outer.weights.value.tolist() == pytest.approx([0.75, 0.25], abs=1e-15)


def test_a_sum_over_only_removed_variables_is_gone():
    circuit = Circuit((0.5 * Bernoulli("a", 0.5) + 1.5 * Bernoulli("a", 0.1)) * Bernoulli("b", 0.3))
    marginal = marginalize(circuit, "a")
    assert marginal.arrays == circuit.inputs[2:]


def test_inputs_of_weight_zero_are_gone():
    kept = Bernoulli("a", 0.25)
    circuit = normalise(Circuit(0.0 * Bernoulli("a", 0.5) + 3.0 * kept))
    assert circuit.arrays == (kept,)


def test_a_normalised_circuit_of_simplexes_stays_the_same_objects():
    pixels = Normal(range(4), torch.zeros(4, 3), 1.0)
    circuit = Circuit(mixture([0.1] * 10, [mixture([0.2, 0.3, 0.5], pixels.prod())] * 10))
    assert normalise(circuit).arrays == circuit.arrays


def test_a_sum_that_adds_up_to_one_keeps_its_numbers_and_becomes_a_simplex():
    root = normalise(rain()).root
    assert root.weights.value.tolist() == [0.8, 0.2]
    assert root.weights.constraint is simplex


def test_an_array_loses_regions_and_nothing_else():
    pixels = Normal(range(6), torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), 1.0)
    circuit = Circuit(pixels.prod().sum(Parameter(torch.full((4,), 0.25, dtype=torch.float64), simplex)))
    marginal = marginalize(circuit, [0, 3])
    kept = marginal.inputs[0]
    assert kept.variables == ((1,), (2,), (4,), (5,))
    rows = [1, 2, 4, 5]
    assert torch.equal(kept.parameters["loc"].value, pixels.parameters["loc"].value[rows])
    assert len(marginal.arrays) == len(circuit.arrays) == 3
    assert marginal.root.weights is circuit.root.weights


def test_weights_for_each_region_come_from_the_masses_of_each_region():
    units = Normal(range(2), torch.zeros(2, 2), 1.0)
    unequal = units.sum(torch.tensor([[[1.0, 1.0], [2.0, 2.0]], [[3.0, 0.0], [1.0, 0.0]]], dtype=torch.float64))
    circuit = Circuit(unequal.sum(torch.tensor([[1.0, 1.0]], dtype=torch.float64)).prod())
    root = normalise(circuit).sums[-1]
    assert root.weights.shape == (2, 1, 2)
    assert torch.allclose(root.weights.value[:, 0], torch.tensor([[1 / 3, 2 / 3], [3 / 4, 1 / 4]], dtype=torch.float64))


def test_mix_weights_for_each_unit():
    a, b = Normal(0, torch.zeros(1, 2), 1.0), Normal(0, torch.ones(1, 2), 1.0)
    scaled = a.sum(torch.tensor([[1.0, 0.0], [0.0, 3.0]], dtype=torch.float64))
    mixed = Mix((scaled, b), Parameter(torch.tensor([1.0, 1.0], dtype=torch.float64), nonnegative))
    root = normalise(Circuit(mixed)).root
    assert torch.allclose(root.weights.value, torch.tensor([[[0.5, 0.5], [0.75, 0.25]]], dtype=torch.float64))


def test_ties_and_flags_stay():
    tied = Parameter([1.0, 3.0], nonnegative, trainable=False, name="tied")
    loc = Parameter(torch.zeros(2, 2, dtype=torch.float64), NormalFamily().parameters["loc"].constraint)
    one, other = (inputs(NormalFamily(), pair, {"loc": loc, "scale": 1.0}) for pair in ((0, 1), (2, 3)))
    circuit = Circuit(concat([one.sum(tied), other.sum(tied)], axis="regions").prod())
    marginal = marginalize(circuit, [1, 3])
    (first,) = {id(s.weights): s.weights for s in marginal.sums}.values()
    assert first.value.tolist() == [0.25, 0.75]
    assert not first.trainable
    assert first.name == "tied"
    assert len({id(array.parameters["loc"]) for array in marginal.inputs}) == 1


def test_a_shared_chain_does_not_grow():
    unit: Units = Bernoulli(0, 0.5)
    for v in range(1, 60):
        unit = mixture([0.5, 0.5], [unit * Bernoulli(v, 0.2), unit * Bernoulli(v, 0.7)])
    circuit = Circuit(unit)
    marginal = marginalize(circuit, range(0, 60, 2))
    assert len(marginal.arrays) < len(circuit.arrays)
    assert len(marginal.variables) == 30


def test_a_chain_of_ten_thousand():
    unit: Units = Bernoulli(0, 0.5)
    for v in range(1, 2500):
        unit = (0.5 * (unit * Bernoulli(v, 0.2)) + 0.25 * (unit * Bernoulli(v, 0.7))).units
    circuit = Circuit(unit)
    assert circuit.summary().units >= 9_000
    marginal = marginalize(circuit, range(1, 2500, 2))
    assert_locally_normalised(marginal)


class Table(nn.Module):
    def __init__(self, regions: int, width: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.arange(float(regions * width)).reshape(regions, width))

    def parameters_for(self, columns):
        loc = self.loc[:, columns]
        return {"loc": loc, "scale": torch.ones_like(loc)}


def test_a_source_is_kept_for_the_regions_that_remain():
    table = Table(4, 3)
    pixels = Input(NormalFamily(), [(v,) for v in range(4)], Sourced(table, 4, 3))
    circuit = Circuit(pixels.prod().sum([0.5, 0.25, 0.25]))
    once = marginalize(circuit, [0])
    twice = marginalize(once, [2])
    source = twice.inputs[0].parameters.source
    assert isinstance(source, SelectedRegions)
    assert source.source is table
    columns = torch.tensor([2, 0])
    assert torch.equal(source.parameters_for(columns)["loc"], table.parameters_for(columns)["loc"][[1, 3]])
    slow, fast = Oracle(circuit), Oracle(twice)
    row = {1: 0.5, 3: 2.0}
    assert close(fast.log_value(row), slow.log_value(row))


def test_an_outer_product_loses_a_factor_and_keeps_its_width():
    a, b = Bernoulli("a", torch.tensor([[0.1, 0.2]])), Bernoulli("b", torch.tensor([[0.3, 0.4, 0.5]]))
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], dtype=torch.float64)
    circuit = Circuit(a.outer(b).sum(weights))
    for gone, left in (("a", "b"), ("b", "a")):
        marginal, slow = Oracle(marginalize(circuit, gone)), Oracle(circuit)
        for x in (0.0, 1.0):
            assert close(marginal.log_value({left: x}), slow.log_value({left: x}) - slow.log_value({}))


def test_constants_become_one():
    circuit = Circuit(Constant(5.0) * Bernoulli("a", 0.5) * Bernoulli("b", 0.5))
    assert not any(isinstance(a, Constant) for a in normalise(circuit).arrays)
    assert not any(isinstance(a, Constant) for a in marginalize(circuit, "a").arrays)


def test_regions_that_are_partly_constant():
    both = concat([Bernoulli("a", 0.2), Bernoulli("c", 0.3), Bernoulli("d", 0.6)], axis="regions")
    other = concat([Bernoulli("b", 0.4), Constant(2.0), Bernoulli("e", 0.7)], axis="regions")
    circuit = Circuit((both * other).prod())
    marginal = marginalize(circuit, "a")
    slow, fast = Oracle(circuit), Oracle(marginal)
    row = {"b": 1.0, "c": 0.0, "d": 1.0, "e": 1.0}
    assert close(fast.log_value(row), slow.log_value(row) - slow.log_value({}))


def test_unknown_variables():
    with pytest.raises(ScopeError, match=r"no variables \['snow', 3\]; it has \['rain', 'wet'\]"):
        marginalize(rain(), ["wet", "snow", 3])


def test_all_variables():
    with pytest.raises(ScopeError, match="leaves no variables"):
        marginalize(rain(), ["rain", "wet"])


def test_not_decomposable():
    circuit = Circuit(Bernoulli("a", 0.5) * Bernoulli("a", 0.5) * Bernoulli("b", 0.5))
    with pytest.raises(PropertyError, match=r"marginalize needs a decomposable circuit.*'a'"):
        marginalize(circuit, "b")


def test_not_smooth():
    circuit = Circuit(0.5 * (Bernoulli("a", 0.5) * Bernoulli("b", 0.5)) + 0.5 * Bernoulli("b", 0.5))
    with pytest.raises(PropertyError, match="normalise needs a smooth circuit"):
        normalise(circuit)


def test_a_root_that_is_zero():
    circuit = Circuit([0.0 * Bernoulli("a", 0.5), 1.0 * Bernoulli("a", 0.5)])
    with pytest.raises(PropertyError, match=r"root 0 .* is zero"):
        normalise(circuit)


def test_a_zero_below_is_weighed_by_zero():
    dead = (0.0 * Bernoulli("a", 0.5)).units
    circuit = normalise(Circuit(concat([dead, Bernoulli("a", 0.25)], axis="width").sum([0.5, 1.0])))
    assert isinstance(circuit.root, Sum)
    assert circuit.root.weights.value.tolist() == [0.0, 1.0]
    assert_locally_normalised(circuit)


def test_several_roots_share_their_children():
    shared = Categorical("a", torch.tensor([[[0.2, 0.8], [0.6, 0.4]]], dtype=torch.float64)) * Bernoulli("b", 0.5)
    circuit = Circuit(shared.sum(torch.tensor([[1.0, 1.0], [0.0, 9.0], [2.0, 6.0]], dtype=torch.float64)))
    marginal = marginalize(circuit, "b")
    assert marginal.num_roots == 3
    assert marginal.root.weights.value.flatten().tolist() == pytest.approx([0.5, 0.5, 0.0, 1.0, 0.25, 0.75])
    assert len(marginal.arrays) == 2


def test_wiring_is_looked_through():
    pixels = Normal(range(4), torch.zeros(4, 2), 1.0)
    circuit = Circuit(mixture([0.5, 0.5], pixels[[3, 1, 0, 2]].prod([[0, 1], [2, 3]])[[1, 0]].prod()))
    marginal = marginalize(circuit, [1])
    slow, fast = Oracle(circuit), Oracle(marginal)
    row = {0: 0.3, 2: -1.0, 3: 2.0}
    assert close(fast.log_value(row), slow.log_value(row))
    assert not any(isinstance(a, Wiring) and a.regions == 1 for a in marginal.arrays)
