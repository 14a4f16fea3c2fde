"""Smooth, decomposable, homogeneous, normalised: yes and no, each no with a witness."""

import pytest
import torch
from hypothesis import given, settings

import pcircuits as pc
from pcircuits.circuit.mass import log_masses
from pcircuits.testing import Enumeration, Oracle
from pcircuits.testing.strategies import broken_circuits, circuits

A, B, C = (pc.Bernoulli(label, 0.5) for label in "abc")


def check(root, **options):
    return pc.Circuit(root, **options).check()


class TestSmooth:
    def test_a_sum_over_different_scopes_is_not(self):
        verdict = check(0.5 * A + 0.5 * (A * B)).smooth
        assert verdict.holds is False
        assert verdict.witness.scopes == ({"a"}, {"a", "b"})
        assert verdict.witness.variables == {"b"}
        assert str(verdict) == (
            "smooth: no (Mix(1, 1), region 0: its inputs have different scopes: {'a'} and {'a', 'b'})"
        )

    def test_a_constant_beside_an_input_is_not(self):
        assert check(0.5 * A + 0.5 * pc.Constant(1.0)).smooth.witness.scopes == ({"a"}, frozenset())

    def test_a_region_wired_from_different_scopes_is_not(self):
        wired = pc.concat([A, B], axis="width")
        verdict = check(wired.sum([0.5, 0.5])).smooth
        assert verdict.holds is False
        assert verdict.witness.unit == "Wiring(1, 2), region 0"
        assert verdict.witness.variables == {"a", "b"}

    def test_the_region_is_named(self):
        array = pc.Bernoulli(["a", "b", "c"], 0.5)
        mixed = 0.5 * array + 0.5 * array[[0, 2, 1]]
        verdict = check(mixed.prod()).smooth
        assert verdict.witness.unit == "Mix(3, 1), region 1"
        assert verdict.witness.variables == {"b", "c"}

    def test_roots_of_different_scopes_are_not(self):
        assert check([A * B, A * C]).smooth.holds is False

    def test_permuted_products_are(self):
        assert check(0.5 * (A * B) + 0.5 * (B * A)).smooth


class TestDecomposable:
    def test_factors_that_overlap_are_not(self):
        verdict = check((A * B) * (B * C)).decomposable
        assert verdict.holds is False
        assert verdict.witness.scopes == ({"a", "b"}, {"b", "c"})
        assert verdict.witness.variables == {"b"}
        assert "two of its factors share {'b'}" in str(verdict)

    def test_the_two_factors_are_named_among_many(self):
        verdict = check(pc.concat([A, B, C, B], axis="regions").prod()).decomposable
        assert verdict.witness.scopes == ({"b"}, {"b"})

    def test_a_square_is_not(self):
        assert check(A * A).decomposable.witness.variables == {"a"}

    def test_outer_products_are_looked_at(self):
        assert check(A.outer(B)).decomposable
        assert check(A.outer(A)).decomposable.witness.variables == {"a"}

    def test_groups_are_looked_at(self):
        array = pc.Bernoulli(["a", "b", "c"], 0.5)
        verdict = check(array.prod([[0, 1], [2, 2]]).prod()).decomposable
        assert verdict.witness.unit == "Product(2, 1), region 1"

    def test_constants_never_overlap(self):
        one = pc.Constant(1.0)
        assert check((one * A) * (one * B)).decomposable


class TestHomogeneous:
    def test_a_mass_and_a_density_do_not_add(self):
        verdict = check(0.5 * pc.Normal("a", 0.0, 1.0) + 0.5 * pc.Indicator("a", 0)).homogeneous
        assert verdict.holds is False
        assert verdict.witness.variables == {"a"}
        assert "density" in verdict.witness.reason
        assert "probability mass" in verdict.witness.reason

    def test_numbers_of_states_must_agree(self):
        verdict = check(0.5 * A + 0.5 * pc.Categorical("a", [0.2, 0.3, 0.5])).homogeneous
        assert verdict.holds is False
        assert "2 states" in verdict.witness.reason
        assert "3 in" in verdict.witness.reason

    def test_an_indicator_goes_with_any_states_and_hides_no_clash(self):
        gate = pc.Indicator("a", 1)
        assert check(0.5 * gate + 0.5 * pc.Categorical("a", [0.2, 0.3, 0.5])).homogeneous
        assert check(0.5 * A + 0.5 * gate).homogeneous
        three = pc.Categorical("a", [0.2, 0.3, 0.5])
        assert check(0.2 * gate + 0.5 * A + 0.3 * three).homogeneous.holds is False

    def test_different_variables_may_differ(self):
        assert check(A * pc.Normal("b", 0.0, 1.0) * pc.Categorical("c", [0.2, 0.3, 0.5])).homogeneous

    def test_families_of_one_measure_and_number_of_states_mix(self):
        discretised = pc.DiscretizedNormal("a", 0.5, 0.1, levels=2)
        assert check(0.5 * A + 0.5 * discretised).homogeneous


class TestNormalised:
    def test_weights_that_do_not_sum_to_one_are_not(self):
        verdict = check(0.5 * A + 0.25 * A).normalised
        assert verdict.holds is False
        assert verdict.witness.unit == "root 0"

    def test_the_root_is_named(self):
        verdict = check(A.sum([[1.0], [2.0]])).normalised
        assert verdict.witness.unit == "root 1"
        assert "exp(0.693147)" in verdict.witness.reason

    def test_inner_weights_may_make_up_for_each_other(self):
        assert check(0.5 * (pc.Constant(4.0) * (0.25 * A + 0.25 * A))).normalised

    def test_a_root_that_is_zero_is_not(self):
        assert check(0.0 * A).normalised.holds is False

    def test_unknown_where_masses_do_not_multiply(self):
        verdicts = check((0.5 * A + 0.5 * B) * C)
        assert verdicts.normalised.holds is None
        assert verdicts.normalised.witness == verdicts.smooth.witness
        assert check(A * A).normalised.holds is None

    def test_simplex_weights_of_low_precision_are(self):
        weights = torch.softmax(torch.randn(1000, generator=torch.Generator().manual_seed(0)), 0)
        assert check(pc.mixture(weights, pc.Bernoulli("a", torch.full((1, 1000), 0.5)))).normalised


class TestVerdicts:
    def test_only_a_yes_is_true(self):
        assert check(A).smooth
        assert not check(A * A).decomposable
        assert not check(A * A).normalised

    def test_require_names_the_query_the_property_the_witness_and_the_remedy(self):
        verdict = check(A * A).decomposable
        with pytest.raises(
            pc.PropertyError, match=r"log_prob needs a decomposable circuit, .* share {'a'}\. Drop one\."
        ):
            verdict.require("log_prob", "Drop one.")
        check(A).decomposable.require("log_prob", "")

    def test_require_says_what_could_not_be_shown(self):
        with pytest.raises(pc.PropertyError, match="could not be shown to be"):
            check(A * A).normalised.require("sample", "")

    def test_all_of_them_in_words(self):
        lines = str(check(0.5 * A + 0.5 * (A * B))).splitlines()
        assert [line.split(":")[0] for line in lines] == [
            "smooth",
            "decomposable",
            "deterministic",
            "normalised",
            "homogeneous",
        ]


@settings(max_examples=60, deadline=None)
@given(circuits(max_roots=3))
def test_circuits_built_right_are_found_right(circuit):
    verdicts = circuit.check()
    assert verdicts.smooth
    assert verdicts.decomposable
    assert verdicts.homogeneous
    assert verdicts.normalised.holds is not None


@settings(max_examples=60, deadline=None)
@given(broken_circuits())
def test_circuits_built_wrong_are_found_out(broken):
    circuit, what = broken
    verdicts = circuit.check()
    assert getattr(verdicts, what).holds is False
    assert getattr(verdicts, what).witness.variables
    assert getattr(verdicts, "smooth" if what == "decomposable" else "decomposable").holds is True


@settings(max_examples=60, deadline=None)
@given(circuits(densities=False))
def test_normalised_is_what_enumeration_sums_to(circuit):
    total = sum(Enumeration(circuit).enumerate().values())
    assert circuit.check().normalised.holds is (abs(total - 1) < 1e-6)


def test_masses_of_an_outer_product_are_in_the_order_of_its_units():
    outer = A.sum([[2.0], [3.0]]).outer(B.sum([[5.0], [7.0], [11.0]]))
    circuit = pc.Circuit(outer)
    assert log_masses(circuit)[id(outer)].exp().flatten().tolist() == pytest.approx([10, 14, 22, 15, 21, 33])


@settings(max_examples=60, deadline=None)
@given(circuits(max_roots=2))
def test_masses_of_all_units_are_the_oracles(circuit):
    oracle, masses = Oracle(circuit), log_masses(circuit)
    values = oracle.graph.evaluate(lambda leaf: 0.0)
    for array in circuit.arrays:
        wanted = [[values[position] for position in row] for row in oracle.graph.places[id(array)]]
        assert masses[id(array)].tolist() == [pytest.approx(row, rel=1e-12, abs=1e-12) for row in wanted]
