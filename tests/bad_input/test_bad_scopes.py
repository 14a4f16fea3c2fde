"""Scopes that clash, leaves that do not add, and variables that are not there: named where a user meets them."""

import pytest

import pcircuits as pc

pytestmark = pytest.mark.errors
A, B, C = (pc.Bernoulli(label, 0.5) for label in "abc")
MENDED = r".*circuit\.check\(\) shows all verdicts"


@pytest.mark.parametrize(
    ("root", "says"),
    [
        (0.5 * (A * B) + 0.5 * (A * C), r"smooth.*Mix\(1, 1\), region 0: .*\{'a', 'b'\} and \{'a', 'c'\}"),
        (pc.concat([A, B], axis="width").sum([0.5, 0.5]), r"smooth.*Wiring\(1, 2\).*\{'a'\} and \{'b'\}"),
        ((A * B) * (B * C), r"decomposable.*Product\(1, 1\), region 0: two of its factors share \{'b'\}"),
        ((A * B).outer(B), r"decomposable.*Outer\(1, 1\), region 0: .*share \{'b'\}"),
        (pc.Bernoulli(["a", "b"], 0.5).prod([[0, 1, 0]]), r"decomposable.*share \{'a'\}"),
    ],
)
def test_scopes_that_clash_are_named_where_it_is_compiled(root, says):
    circuit = pc.Circuit(root)
    with pytest.raises(pc.PropertyError, match=rf"compile needs a {says}{MENDED}"):
        circuit.compile()


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (
            pc.Normal("a", 0.0, 1.0),
            r"'a' is a probability mass in Bernoulli\(\) and a density in Normal\(\), which do not add",
        ),
        (pc.Categorical("a", [0.2, 0.3, 0.5]), r"'a' is of 2 states in Bernoulli\(\) and of 3 in Categorical"),
        (
            pc.DiscretizedNormal("a", 0.5, 0.1, levels=16),
            r"'a' is of 2 states in Bernoulli\(\) and of 16 in Discretized",
        ),
        (pc.Indicator("a", 2), r"'a' is in state 2 in Indicator\(\) and of 2 states in Bernoulli\(\)"),
    ],
)
def test_leaves_of_one_variable_that_do_not_add(other, says):
    with pytest.raises(pc.PropertyError, match=rf"compile needs a homogeneous circuit.*variable {says}{MENDED}"):
        pc.Circuit(0.5 * A + 0.5 * other).compile()


def test_variables_that_are_not_there():
    circuit = pc.Circuit(A * B)
    with pytest.raises(pc.ScopeError, match=r"marginalize: .* has no variables \['z'\]; it has \['a', 'b'\]"):
        pc.marginalize(circuit, ["a", "z"])
    with pytest.raises(pc.ScopeError, match=r"leaves no variables.*keep at least one"):
        pc.marginalize(circuit, ["a", "b"])
    with pytest.raises(pc.ScopeError, match="there is no variable 'z'"):
        pc.condition(circuit, {"z": 1})
    with pytest.raises(pc.ScopeError, match=r"variables \['a'\] are listed more than once"):
        pc.Circuit(A * B, ["a", "b", "a"])
    assert pc.marginalize(circuit, ["a", "a"]).variables == ("b",)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: pc.Circuit([]), "the list of roots is empty: give one or more"),
        (lambda: pc.Circuit(()), "the list of roots is empty"),
        (lambda: pc.Circuit(None), "expected units, got NoneType"),
        (lambda: pc.Circuit(pc.Constant(1.0)), "at least one input unit"),
        (lambda: pc.Bernoulli("a", []), "holds no units"),
        (lambda: pc.Bernoulli([], 0.5), "no variables were given"),
        (lambda: pc.mixture([], []), "sum to 1"),
    ],
)
def test_circuits_of_nothing(make, says):
    with pytest.raises(pc.CircuitError, match=says):
        make()
