"""Errors of units and circuits: raised where the mistake is made, naming what is wrong and what to do."""

import numpy as np
import pytest
import torch

import pcircuits as pc

pytestmark = pytest.mark.errors

A = pc.Bernoulli("a", [0.1, 0.2, 0.3])
AB = pc.Bernoulli(["a", "b"], [[0.1, 0.2], [0.3, 0.4]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: A * AB, r"one shape .*\(1, 3\), \(2, 2\)"),
        (lambda: (0.5 * A + 0.5 * AB).units, "one shape"),
        (lambda: AB.prod([]), "at least one group"),
        (lambda: AB.prod([[0], []]), "a region in each"),
        (lambda: AB.prod([[0, 2]]), r"group 0 names regions \[2\]; .* has regions 0..1"),
        (lambda: AB.outer(A), r"equally many regions, not \[1, 2\]"),
        (lambda: pc.concat([], axis="width"), "at least one array"),
        (lambda: pc.concat([A, AB], axis="width"), r"same regions, not \[1, 2\]"),
        (lambda: pc.concat([A, AB], axis="regions"), r"same width, not \[2, 3\]"),
        (lambda: pc.concat([A, A], axis="columns"), '"regions" or "width"'),
        (lambda: A[1], r"regions \[1\] do not exist: there are 1"),
        (lambda: A[0, 3], r"columns \[3\] do not exist: there are 3"),
        (lambda: A[0, 1.5], "an int, a slice or a sequence of ints"),
        (lambda: A[0, 3:], "selects nothing"),
        (lambda: A[0, 1, 2], "two axes"),
        (lambda: pc.concat([A, "b"], axis="width"), "expected units, got str"),
        (lambda: pc.mixture([0.5, 0.5], [A, 3.0]), "expected units, got float"),
        (lambda: pc.Circuit(3.0), "expected units, got float"),
        (lambda: pc.Circuit([]), "the list of roots is empty"),
        (lambda: pc.Circuit(AB), r"2 regions; a circuit has one.* u.prod\(\)"),
        (lambda: pc.Normal(0, torch.zeros(1, 0), 1.0), "holds no units"),
    ],
)
def test_units_that_do_not_fit(make, message):
    with pytest.raises(pc.CircuitError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: A.sum([0.5, 0.5]), r"have shape \(2,\); they need \(1, O, 3\), \(O, 3\) shared .* or \(3,\)"),
        (lambda: AB.sum(torch.ones(3, 1, 2)), r"have shape \(3, 1, 2\)"),
        (lambda: A.sum(0.5), r"have shape \(\)"),
        (lambda: A.sum("half"), "not a number or an array of numbers: 'half'"),
        (lambda: A.sum([[0.5], [0.5, 0.5]]), "not a number or an array of numbers"),
        (lambda: A.sum([0.5, -0.25, 0.75]), r"at \[1\] is -0.25: it must be finite and >= 0"),
        (lambda: A.sum([0.5, float("nan"), 0.5]), r"at \[1\] is nan"),
        (lambda: A.sum([0.5, float("inf"), 0.5]), r"at \[1\] is inf"),
        (lambda: (-0.5 * A + A).units, r"weights of a sum at \[0\] is -0.5"),
        (lambda: (torch.ones(3) * A).units, r"units' shape \(1, 3\), not \(3,\)"),
        (lambda: pc.mixture([0.5, 0.6], [A, A]), r"sum 1.1\): it must be >= 0 and sum to 1"),
        (lambda: pc.mixture([[1.0, 0.0, 0.0], [0.5, 0.0, 0.0]], A), r"at \[1\] is \[0.5, 0, 0\] \(sum 0.5\)"),
        (lambda: pc.mixture(1.0, A), "a single number where a vector is needed"),
        (lambda: pc.mixture([0.5, 0.5], [A, A, A]), r"sum of 3 arrays .* have shape \(2,\)"),
        (lambda: pc.mixture(pc.Parameter(torch.ones(1), pc.nonnegative), [A]), "needs a simplex parameter"),
        (lambda: A.sum(pc.Parameter(torch.ones(3), pc.real)), "needs a nonnegative parameter, not a real one"),
        (lambda: pc.Constant(-1.0), "value of a constant is -1.0"),
        (lambda: pc.Constant([1.0, 2.0]), r"a number or an \(R, K\) array"),
    ],
)
def test_weights(make, message):
    with pytest.raises(pc.ParameterError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pc.Bernoulli("a", [0.5, 1.5]), r"probs of Bernoulli\(\) over 1 variable at \[0, 1\] is 1.5"),
        (lambda: pc.Bernoulli("a", float("nan")), r"\[0, 1\]"),
        (lambda: pc.Normal("a", 0.0, -1.0), r"scale .* is -1.0: it must be finite and > 0"),
        (lambda: pc.Normal("a", 0.0, 0.0), "scale"),
        (lambda: pc.Normal("a", float("inf"), 1.0), "loc .* is inf: it must be finite"),
        (lambda: pc.Categorical("a", [0.5, 0.6]), r"sum 1.1\)"),
        (lambda: pc.Categorical("a", 0.5), "single number where a vector"),
        (lambda: pc.Categorical("a", "half"), "not a number or an array of numbers"),
        (lambda: pc.Categorical("a", [[0.5], [0.5, 0.5]]), "not a number or an array of numbers"),
        (lambda: pc.Indicator("a", 0.5), "state of Indicator is 0.5"),
        (lambda: pc.Indicator("a", -1), "state of Indicator is -1"),
        (lambda: pc.Bernoulli("a", None), "not a number or an array of numbers: None"),
        (lambda: pc.Normal(range(3), [0.0, 1.0, 2.0], 1.0), r"\(3,\), which could mean .* give it as \(3, K\)"),
        (lambda: pc.Normal(range(3), torch.zeros(2, 4), 1.0), r"shape \(2, 4\); it needs \(3, 4\)"),
        (lambda: pc.Normal(range(3), torch.zeros(3, 4), torch.ones(3, 2)), "shape"),
        (lambda: pc.Categorical(["a", "b"], torch.full((3, 2), 0.5)), "could mean"),
        (lambda: pc.Bernoulli("a", pc.Parameter(torch.tensor(0.5), pc.real)), "needs a unit_interval parameter"),
        (lambda: pc.DiscretizedNormal("a", 0.5, 0.1, levels=0), "levels"),
        (lambda: pc.DiscretizedLogistic("a", 0.5, 0.1, levels=4, uniform=1.5), "uniform"),
    ],
)
def test_parameters_of_leaves(make, message):
    with pytest.raises(pc.ParameterError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pc.Bernoulli([], 0.5), "at least one"),
        (lambda: pc.Bernoulli(0.5, 0.5), "an int or a str, not 0.5"),
        (lambda: pc.Bernoulli(["a", 0.5], 0.5), "an int or a str, not 0.5"),
        (lambda: pc.Bernoulli(True, 0.5), "an int or a str, not True"),
        (lambda: pc.Circuit(pc.Constant(1.0)), "only constants"),
        (lambda: pc.Circuit(pc.concat([pc.Constant(1.0), A[0, 0]], axis="regions")[0]), "only constants"),
        (lambda: pc.Circuit(AB[0], ["a", "b"]), "does not depend on 'b', which `variables` lists"),
        (lambda: pc.Circuit(AB[0], ["a", "b", "c"]), "does not depend on 'b', which `variables` lists"),
        (lambda: pc.Circuit(AB[0], ["a", 0.5]), "an int or a str, not 0.5"),
        (lambda: pc.Circuit(AB[0], []), "no variables were given"),
        (lambda: pc.Circuit(AB.prod()[0, 0], ["a"]), r"leaves out \['b'\]"),
        (lambda: pc.Circuit(AB.prod()[0, 0], ["a", "b", "c"]), r"\['c'\] are in `variables` but no input"),
        (lambda: pc.Circuit(AB.prod()[0, 0], ["a", "b", "a"]), r"\['a'\] are listed more than once"),
    ],
)
def test_variables(make, message):
    with pytest.raises(pc.ScopeError, match=message):
        make()


@pytest.mark.parametrize("other", ["a", None, True, [1.0], pc.Parameter(1.0, pc.nonnegative)])
def test_what_cannot_be_multiplied_is_a_type_error(other):
    with pytest.raises(TypeError, match=r"unsupported operand|can't multiply"):
        A * other


@pytest.mark.parametrize("units", [AB, AB.prod(), 0.5 * A + 0.5 * A])
def test_units_are_selected_and_not_iterated_over(units):
    with pytest.raises(TypeError, match=r"is not iterable: select its regions one by one with u\[r\]"):
        list(units)


def test_what_cannot_be_added_is_a_type_error():
    for other in (1.0, "a", np.ones(3)):
        with pytest.raises(TypeError):
            A + other


def test_views_of_foreign_units():
    circuit = pc.Circuit(A[0, 0])
    with pytest.raises(pc.CircuitError, match="not part of this circuit"):
        circuit.scope(AB)
    with pytest.raises(pc.CircuitError, match="no unit at region 0, column 3"):
        circuit.unit(A, 0, 3)
