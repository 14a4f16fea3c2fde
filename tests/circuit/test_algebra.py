"""What users write over units, and what it builds."""

import numpy as np
import pytest
import torch

import pcircuits as pc
from pcircuits.circuit.units import Mix, Outer, Product, Sum, Wiring
from pcircuits.testing import Oracle


@pytest.fixture
def wet():
    return [pc.Bernoulli("wet", 0.1), pc.Bernoulli("wet", 0.9)]


def values_of(units, row):
    """The values of a region of units at a row, by the oracle."""
    circuit = pc.Circuit(units)
    return [np.exp(Oracle(circuit).log_value(row, root)) for root in range(circuit.num_roots)]


def test_the_example_of_the_design(wet):
    root = 0.8 * (pc.Indicator("rain", 0) * wet[0]) + 0.2 * (pc.Indicator("rain", 1) * wet[1])
    circuit = pc.Circuit(root)
    assert circuit.variables == ("rain", "wet")
    assert values_of(root, {"rain": 0, "wet": 1}) == pytest.approx([0.8 * 0.1])
    assert values_of(root, {"wet": 1}) == pytest.approx([0.8 * 0.1 + 0.2 * 0.9])
    verdicts = circuit.check()
    for verdict in (verdicts.smooth, verdicts.decomposable, verdicts.deterministic, verdicts.normalised):
        assert verdict.holds is True
        assert verdict.witness is None
    assert verdicts.homogeneous.holds is True


def test_an_array_is_a_mixture_of_products():
    loc = torch.randn(784, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pixels = pc.Normal(range(784), loc, 0.5)
    circuit = pc.Circuit(pixels.prod().sum(torch.full((5,), 0.2)))
    assert pixels.shape == (784, 5)
    assert circuit.variables == tuple(range(784))
    assert circuit.root.shape == (1, 1)


class TestCombinations:
    def test_terms_make_one_sum(self, wet):
        three = 0.2 * wet[0] + 0.3 * wet[1] + 0.5 * wet[0]
        assert isinstance(three.units, Mix)
        assert three.units.children == (wet[0], wet[1], wet[0])
        assert three.units.weights.value.tolist() == [0.2, 0.3, 0.5]

    def test_the_same_sum_is_used_every_time(self, wet):
        mixed = 0.4 * wet[0] + 0.6 * wet[1]
        rain = [pc.Indicator("rain", 0), pc.Indicator("rain", 1)]
        circuit = pc.Circuit(0.5 * (rain[0] * mixed) + 0.5 * (mixed * rain[1]))
        assert len(circuit.sums) == 2
        assert mixed.units is mixed.units

    def test_a_number_times_a_combination_is_a_term_with_the_sum(self, wet):
        mixed = 0.4 * wet[0] + 0.6 * wet[1]
        outer = 0.5 * mixed + 0.5 * wet[0]
        assert outer.units.children[0] is mixed.units
        assert values_of(outer, {"wet": 1}) == pytest.approx([0.5 * 0.58 + 0.5 * 0.1])

    def test_adding_to_a_combination_extends_it_and_leaves_it_as_it_was(self, wet):
        one = 0.4 * wet[0] + 0.6 * wet[1]
        unit = one.units
        more = one + wet[0]
        assert more.units.weights.value.tolist() == [0.4, 0.6, 1.0]
        assert one.units is unit
        assert len(one.terms) == 2

    def test_plain_addition_has_weights_one(self, wet):
        assert (wet[0] + wet[1]).units.weights.value.tolist() == [1.0, 1.0]
        assert sum(wet).units.weights.value.tolist() == [1.0, 1.0]

    @pytest.mark.parametrize("number", [2, 2.0, np.float64(2), np.float32(2), np.int64(2), torch.tensor(2.0)])
    def test_any_number_is_a_weight_on_either_side(self, wet, number):
        for combination in (number * wet[0], wet[0] * number):
            assert values_of(combination, {"wet": 0}) == pytest.approx([1.8])

    @pytest.mark.parametrize("make", [torch.tensor, np.array])
    def test_arrays_weigh_unit_by_unit(self, make):
        units = pc.Bernoulli("a", [0.0, 0.5, 1.0])
        weights = make([[1.0, 2.0, 3.0]])
        assert values_of((weights * units + 0.5 * units).units, {"a": 1}) == pytest.approx([0.0, 1.25, 3.5])
        assert values_of((units * weights).units, {"a": 1}) == pytest.approx([0.0, 1.0, 3.0])

    def test_one_unit_broadcasts(self, wet):
        units = pc.Bernoulli("wet", [0.0, 1.0])
        assert values_of((0.5 * units + 0.5 * wet[0]).units, {"wet": 1}) == pytest.approx([0.05, 0.55])
        assert values_of(units * pc.Indicator("rain", 0), {"wet": 1, "rain": 0}) == pytest.approx([0.0, 1.0])

    def test_combinations_select_multiply_and_sum_as_units_do(self, wet):
        units = pc.Bernoulli("wet", [0.2, 0.4])
        mixed = 0.5 * units + 0.5 * units
        assert isinstance(mixed[0, 1], Wiring)
        assert isinstance(mixed.prod(), Product)
        assert isinstance(mixed.outer(pc.Bernoulli("a", [0.1, 0.2, 0.3])), Outer)
        assert isinstance(mixed.sum([0.5, 0.5]), Sum)
        assert isinstance(mixed * pc.Bernoulli("b", 0.5), Product)

    def test_the_repr_of_an_unfinished_combination(self, wet):
        assert repr(0.5 * wet[0] + wet[1]) == "Combination of 2 terms"


class TestProducts:
    def test_groups_of_regions(self):
        array = pc.Bernoulli(["a", "b", "c"], [[0.1], [0.2], [0.4]])
        pairs = array.prod([[0, 1], [2]])
        assert pairs.shape == (2, 1)
        assert values_of(pairs.prod(), {"a": 1, "b": 1, "c": 1}) == pytest.approx([0.1 * 0.2 * 0.4])
        assert values_of(pairs[0] * pc.Bernoulli("c", 1.0), {"a": 1, "b": 1}) == pytest.approx([0.02])

    def test_the_last_factor_of_an_outer_product_runs_fastest(self):
        outer = pc.Bernoulli("a", [0.1, 0.2]).outer(pc.Bernoulli("b", [0.3, 0.5, 0.7]))
        wanted = [p * q for p in (0.1, 0.2) for q in (0.3, 0.5, 0.7)]
        assert values_of(outer, {"a": 1, "b": 1}) == pytest.approx(wanted)

    @pytest.mark.parametrize(
        ("weights", "wanted"),
        [
            ([0.5, 0.25], [[0.5 * 0.1 + 0.25 * 0.2], [0.5 * 0.3 + 0.25 * 0.4]]),
            ([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]], [[0.1, 0.4, 0.3], [0.3, 0.8, 0.7]]),
            ([[[1.0, 0.0]], [[0.0, 2.0]]], [[0.1], [0.8]]),
        ],
    )
    def test_dense_sums(self, weights, wanted):
        array = pc.Bernoulli(["a", "a"], [[0.1, 0.2], [0.3, 0.4]])
        summed = array.sum(weights)
        assert summed.shape == (2, len(wanted[0]))
        for region in range(2):
            circuit = pc.Circuit(summed[region])
            values = [np.exp(Oracle(circuit).log_value({"a": 1}, k)) for k in range(circuit.num_roots)]
            assert values == pytest.approx(wanted[region])


class TestWiring:
    def test_selections_keep_both_axes(self):
        array = pc.Bernoulli(["a", "b", "c"], torch.rand(3, 4, generator=torch.Generator().manual_seed(0)))
        assert array[1].shape == (1, 4)
        assert array[-1].shape == (1, 4)
        assert array[1:].shape == (2, 4)
        assert array[[2, 0, 2], [3, 1]].shape == (3, 2)
        assert array[1, 2].shape == (1, 1)
        assert array[torch.tensor([True, False, True])].shape == (2, 4)

    def test_selections_repeat_and_reorder(self):
        units = pc.Bernoulli("a", [0.1, 0.2, 0.3])
        assert values_of(units[0, [2, 0, 2]], {"a": 1}) == pytest.approx([0.3, 0.1, 0.3])
        assert values_of(units[0, ::-1], {"a": 1}) == pytest.approx([0.3, 0.2, 0.1])

    def test_concat_along_the_width(self):
        joined = pc.concat([pc.Bernoulli("a", [0.1, 0.2]), pc.Bernoulli("a", 0.3)], axis="width")
        assert values_of(joined, {"a": 1}) == pytest.approx([0.1, 0.2, 0.3])

    def test_concat_along_the_regions(self):
        joined = pc.concat([pc.Bernoulli(["a", "b"], 0.5), pc.Normal("c", 0.0, 1.0)], axis="regions")
        assert joined.shape == (3, 1)
        circuit = pc.Circuit(joined.prod())
        assert [circuit.scope(joined, r) for r in range(3)] == [{"a"}, {"b"}, {"c"}]


class TestMixture:
    def test_over_a_list_it_weighs_unit_by_unit(self, wet):
        mixed = pc.mixture([0.25, 0.75], wet)
        assert isinstance(mixed, Mix)
        assert mixed.weights.constraint is pc.simplex
        assert values_of(mixed, {"wet": 1}) == pytest.approx([0.25 * 0.1 + 0.75 * 0.9])

    def test_over_an_array_it_sums_over_the_width(self):
        mixed = pc.mixture([[0.25, 0.75], [1.0, 0.0]], pc.Bernoulli("a", [0.2, 0.4]))
        assert isinstance(mixed, Sum)
        assert values_of(mixed, {"a": 1}) == pytest.approx([0.35, 0.2])

    def test_simplex_weights_stay_a_simplex_in_a_plain_sum(self):
        weights = pc.Parameter(torch.tensor([0.5, 0.5]), pc.simplex)
        assert pc.Bernoulli("a", [0.2, 0.4]).sum(weights).weights is weights


class TestLeaves:
    def test_shapes(self):
        assert pc.Bernoulli("a", 0.5).shape == (1, 1)
        assert pc.Bernoulli("a", [0.5, 0.1]).shape == (1, 2)
        assert pc.Bernoulli(["a", "b"], 0.5).shape == (2, 1)
        assert pc.Categorical("c", [0.2, 0.8]).shape == (1, 1)
        assert pc.Categorical("c", [[0.2, 0.8], [0.5, 0.5], [0.0, 1.0]]).shape == (1, 3)
        assert pc.Categorical(["c", "d"], torch.full((2, 3, 4), 0.25)).shape == (2, 3)
        assert pc.Indicator("c", [0, 1, 2]).shape == (1, 3)
        assert pc.Normal(range(4), torch.zeros(4, 1), torch.ones(1, 6)).shape == (4, 6)
        assert pc.DiscretizedNormal(range(2), 0.5, 0.1, levels=17).shape == (2, 1)
        assert pc.DiscretizedLogistic(0, torch.zeros(1, 3), 0.1, levels=256, uniform=0.1).shape == (1, 3)

    def test_a_parameter_is_shared_and_not_copied(self):
        probs = pc.Parameter(torch.tensor(0.3), pc.unit_interval)
        one, other = pc.Bernoulli("a", probs), pc.Bernoulli("b", probs)
        assert list(pc.Circuit(one * other).parameters()) == [probs]

    def test_a_parameter_array_sets_the_width(self):
        loc = pc.Parameter(torch.zeros(2, 3), pc.real)
        assert pc.Normal(["a", "b"], loc, 1.0).shape == (2, 3)

    def test_python_numbers_are_float64_and_tensors_keep_their_dtype(self):
        assert pc.Bernoulli("a", 0.1).parameters["probs"].value.dtype == torch.float64
        assert pc.Bernoulli("a", torch.tensor(0.1)).parameters["probs"].value.dtype == torch.float32

    def test_states_are_never_trained(self):
        assert not pc.Indicator("a", 1).parameters["state"].trainable


@pytest.mark.parametrize("columns", [slice(None, None, -1), [1, 0, 2]], ids=["reversed", "listed"])
def test_reversed_regions_and_columns_have_masses_and_conditionals(columns):
    """A selection with a negative step is a view that torch does not take."""
    weights = [[0.1, 0.2, 0.7], [0.3, 0.3, 0.4]]
    units = pc.Bernoulli(["a", "b"], torch.tensor(weights, dtype=torch.float64))
    flipped = units[::-1][:, columns]
    circuit = pc.Circuit((2.0 * flipped.prod()).units.sum([0.2, 0.3, 0.5]))
    assert circuit.check().normalised.holds is False
    same = pc.normalise(circuit)
    assert same.check().normalised.holds is True
    order = np.arange(3)[columns]
    a, b = (np.array(row)[order] for row in weights)
    joint = np.array([0.2, 0.3, 0.5]) * a * b
    assert values_of(same.root, {"a": 1, "b": 1}) == pytest.approx([joint.sum()])
    given_a = pc.condition(circuit, {"a": 1.0})
    assert values_of(given_a.root, {"b": 1}) == pytest.approx([joint.sum() / (np.array([0.2, 0.3, 0.5]) * a).sum()])
