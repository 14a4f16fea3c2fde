"""The numbers of states of a circuit's variables, and leaves that disagree on them."""

import pytest

import pcircuits as pc
from pcircuits.scope import OPEN_ENDED, REAL

THREE = pc.Categorical("v", [0.2, 0.3, 0.5])


def test_states_are_those_that_the_leaves_declare():
    units = pc.Bernoulli("a", 0.5) * pc.Normal("b", 0.0, 1.0) * pc.Indicator("c", 4) * THREE
    assert pc.Circuit(units).states == (2, REAL, OPEN_ENDED, 3)
    assert pc.Circuit(units, ["v", "c", "b", "a"]).states == (3, OPEN_ENDED, REAL, 2)
    assert pc.Circuit(0.5 * pc.Indicator("v", 2) + 0.5 * THREE).states == (3,)


@pytest.mark.parametrize("indicator_first", [True, False])
def test_an_indicator_outside_of_its_siblings_states_does_not_add_to_them(indicator_first):
    pair = [pc.Indicator("v", [2, 5]).sum([0.5, 0.5]), THREE]
    circuit = pc.Circuit(pc.mixture([0.5, 0.5], pair if indicator_first else pair[::-1]))
    verdict = circuit.check().homogeneous
    assert verdict.holds is False
    assert verdict.witness.variables == {"v"}
    assert "variable 'v' is in state 5 in Indicator() and of 3 states in Categorical(num_states=3)" in str(verdict)
    with pytest.raises(pc.PropertyError, match=r"homogeneous circuit, and this one is not: .* state 5"):
        circuit.compile()


def test_only_the_regions_of_a_variable_say_what_states_it_has():
    both = pc.Indicator(["v", "w"], [[2], [5]]).prod()
    three = THREE * pc.Categorical("w", [0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    assert pc.Circuit(0.5 * both + 0.5 * three).check().homogeneous
    shared = pc.Indicator(["v", "w"], pc.Parameter(5.0, pc.fixed)).prod()
    assert not pc.Circuit(0.5 * shared + 0.5 * three).check().homogeneous


def test_indicators_alone_leave_the_states_open():
    circuit = pc.Circuit(0.5 * pc.Indicator("v", 0) + 0.5 * pc.Indicator("v", 9))
    assert circuit.check().homogeneous
    assert circuit.compile().log_prob({"v": [9.0, 100.0]}).tolist() == pytest.approx([-0.6931472, float("-inf")])
