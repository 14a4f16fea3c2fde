"""Probabilities of states, and most probable values of some variables, on every circuit of the table."""

import itertools
import math

import pytest
import torch

import pcircuits as pc


def discrete(circuit):
    """The columns of variables with a known number of states."""
    return [i for i, states in enumerate(circuit.states) if states > 0]


@pytest.mark.parametrize("given", [False, True])
def test_probabilities_of_states(cell, given):
    case, circuit = cell.case, cell.case.circuit
    columns = discrete(circuit)
    if not columns:
        return
    labels, most = [circuit.variables[c] for c in columns], max(circuit.states[c] for c in columns)

    def compute(root):
        rows = [case.row(r) for r in case.given] if given else [{}]

        def chance(row, label, state):
            if label in row:
                return float(row[label] == state)
            return case.oracle.probability({label: state}, {label: state}, row, root)

        return [[[chance(row, label, state) for state in range(most)] for label in labels] for row in rows]

    for root in case.roots:
        want = case.answer(("probabilities", given, root), lambda k=root: compute(k))
        model = cell.of_root(root)
        if given:
            cell.close(model.given(case.given).probabilities(labels), want)
        else:
            cell.close(model.probabilities(labels), want[0])
            cell.close(model.probabilities(labels[0]), want[0, :1, : circuit.states[columns[0]]])


def test_most_probable_values_of_some_variables(cell):
    """A candidate's value is that of the oracle, the best of all lies between it and the bound; where exact, it is it."""
    case, circuit = cell.case, cell.case.circuit
    columns = discrete(circuit)[::2]
    if not columns:
        return
    labels = [circuit.variables[c] for c in columns]

    def best(row, root):
        left = [label for label in labels if label not in row]
        states = [case.oracle.candidates(label) for label in left]
        rows = (dict(zip(left, values, strict=True)) for values in itertools.product(*states))
        return max(case.oracle.log_prob({**row, **part}, row, root) for part in rows)

    for root in case.roots:
        want = case.answer(("best of some", root), lambda k=root: [best(case.row(e), k) for e in case.given])
        found = cell.of_root(root).given(case.given).marginal_map(labels, exact=False)
        wanted = torch.zeros(len(circuit.variables), dtype=torch.bool)
        wanted[columns] = True
        assert torch.equal(found.assignment.isnan(), case.given.isnan() & ~wanted)
        value = torch.tensor(
            [
                case.oracle.log_prob(case.row(x), case.row(e), root)
                for x, e in zip(found.assignment, case.given, strict=True)
            ],
            dtype=torch.float64,
        )
        cell.close(found.log_prob, value)
        slack = 2 * cell.tolerance * want.abs().clamp(min=1.0)
        assert bool((found.upper_bound.double() >= want - slack).all())
        assert bool(((value >= want - slack) | ~found.exact).all())
        by_mask = cell.of_root(root).given(case.given).marginal_map(wanted.expand(len(want), -1), exact=False)
        assert torch.equal(by_mask.log_prob, found.log_prob)
        alone = torch.zeros((len(want), len(wanted)), dtype=torch.bool)
        alone[0] = wanted  # rows that ask for different variables are answered each by itself
        mixed = cell.of_root(root).given(case.given).marginal_map(alone, exact=False)
        cell.close(mixed.log_prob[:1], value[:1])
        cell.close(mixed.upper_bound[:1], found.upper_bound[:1].double())
        cell.close(mixed.log_prob[1:], torch.zeros_like(value[1:]))


def test_exact_where_a_wanted_or_a_given_variable_decides(named_case):
    circuit = named_case("rain").circuit
    model = circuit.compile(dtype=torch.float64)
    best = model.marginal_map("rain")
    assert best.log_prob.exp().item() == pytest.approx(0.8)
    assert best.assignment.tolist()[0] == 0.0
    assert math.isnan(best.assignment[1].item())
    assert model.given({"rain": 1}).marginal_map("wet").log_prob.exp().item() == pytest.approx(0.9)
    with pytest.raises(pc.PropertyError, match=r"in row 0 none decides Mix\(1, 1\), region 0.*with_latents"):
        model.marginal_map("wet")


@pytest.mark.errors
def test_what_cannot_be_asked(named_case):
    model = named_case("scalar_graph").circuit.compile(dtype=torch.float64)
    with pytest.raises(
        pc.CircuitError, match=r"probabilities is about variables of known numbers of states, and \['c'\]"
    ):
        model.probabilities(["a", "c"])
    with pytest.raises(pc.ScopeError, match=r"probabilities.*no variables \['d'\]"):
        model.probabilities("d")
    with pytest.raises(pc.ScopeError, match=r"marginal_map.*no variables \['d'\]"):
        model.marginal_map("d")
    with pytest.raises(pc.EvidenceError, match=r"shape \(2,\); it needs \(3,\) or \(1, 3\)"):
        model.marginal_map(torch.tensor([True, False]))
    with pytest.raises(pc.CircuitError, match="marginal_map needs one root"):
        named_case("several_roots").circuit.compile(dtype=torch.float64).marginal_map("kind")


def test_states_of_indicators(named_case):
    model = named_case("rain").circuit.compile(dtype=torch.float64)
    got = model.given({"wet": [1]}).probabilities("rain")
    assert torch.allclose(got, torch.tensor([[[0.08, 0.18]]], dtype=torch.float64) / 0.26, rtol=1e-12, atol=0)


def test_no_rows(named_case):
    model = named_case("rain").circuit.compile(dtype=torch.float64)
    given = model.given(torch.empty((0, 2), dtype=torch.float64))
    assert given.probabilities(["rain", "wet"]).shape == (0, 2, 2)
    assert given.marginal_map("rain").log_prob.shape == (0,)
