"""Regions that the root makes no use of: they are kept, and have no say in anything."""

import json
import math

import networkx as nx
import pytest
import torch

import pcircuits as pc
from pcircuits.circuit.normalise import normalise
from pcircuits.scope import columns
from pcircuits.testing.oracle import Oracle


def pixels(count=6, width=2):
    loc = torch.linspace(-1.0, 1.0, count * width, dtype=torch.float64).reshape(count, width)
    return pc.Normal(range(count), loc, 1.0)


def some_of(units):
    return units[[1, 3]].prod().sum([0.25, 0.75])


def test_the_variables_are_those_of_the_root():
    units = pixels()
    circuit = pc.Circuit(some_of(units))
    assert circuit.variables == (1, 3)
    assert dict(circuit.column_of) == {1: 0, 3: 1}
    assert circuit.states == (-1, -1)
    assert circuit.used(units).tolist() == [False, True, False, True, False, False]
    assert circuit.used_variables(units) == (1, 3)
    assert pc.Circuit(some_of(units), [3, 1]).variables == (3, 1)


def test_labels_that_are_not_used_do_not_order_the_others():
    circuit = pc.Circuit(pc.Bernoulli(["z", 5, 2], 0.5)[[1, 2]].prod())
    assert circuit.variables == (2, 5)


def test_scopes_name_unused_variables_after_the_others():
    units = pixels()
    circuit = pc.Circuit(some_of(units))
    assert [set(columns(bits)) for bits in circuit.region_scopes(units)] == [{2}, {0}, {3}, {1}, {4}, {5}]
    assert [circuit.scope(units, r) for r in range(6)] == [{r} for r in range(6)]
    assert circuit.scope(circuit.root) == {1, 3}


@pytest.mark.parametrize(
    "wire",
    [
        lambda u, v: pc.concat([u, v], axis="regions")[0],
        lambda u, v: pc.concat([u, v], axis="regions")[0, [0, 1]],
        lambda u, v: pc.concat([u, v], axis="regions").prod([[0], [1]])[0],
        lambda u, v: (pc.concat([u, v], axis="regions") * pc.Constant(1.0))[0],
        lambda u, v: (0.5 * pc.concat([u, v], axis="regions") + 0.5 * pc.concat([u, v], axis="regions"))[0],
        lambda u, v: pc.concat([u, v], axis="regions").sum(torch.eye(2))[0],
        lambda u, v: pc.concat([u, v], axis="regions").outer(pc.Constant(torch.ones(2, 1)))[0],
    ],
)
def test_use_passes_through_every_kind_of_array(wire):
    u, v = pc.Bernoulli("u", [0.1, 0.2]), pc.Bernoulli("v", [0.3, 0.4])
    circuit = pc.Circuit(wire(u, v).sum([0.5, 0.5]))
    assert circuit.variables == ("u",)
    assert circuit.used(u).tolist() == [True]
    assert circuit.used(v).tolist() == [False]


def test_an_array_that_is_only_used_by_an_unused_region_is_not_used():
    u, v = pc.Bernoulli("u", 0.1), pc.Bernoulli(["v", "w"], 0.3)
    circuit = pc.Circuit(pc.concat([u, v.prod()], axis="regions")[0])
    assert circuit.variables == ("u",)
    assert circuit.used(v).tolist() == [False, False]


@pytest.mark.parametrize(
    "broken",
    [
        0.5 * pc.Bernoulli("a", 0.5) + 0.5 * pc.Bernoulli("b", 0.5),
        pc.Bernoulli("a", 0.5) * pc.Bernoulli("a", 0.5),
        pc.Bernoulli(["a", "a"], 0.5).prod(),
        0.5 * pc.Bernoulli("a", 0.5) + 0.5 * pc.Bernoulli("a", 0.25),
        pc.Normal("a", 0.0, 1.0),
        pc.Categorical("a", [0.2, 0.3, 0.5]),
        pc.Indicator("a", 7),
        3.0 * pc.Bernoulli("a", 0.5) * pc.Constant(0.0),
    ],
)
def test_unused_regions_break_no_property(broken):
    good = pc.Bernoulli("a", 0.5)
    circuit = pc.Circuit(pc.concat([good, broken], axis="regions")[0])
    checked = circuit.check()
    verdicts = (checked.smooth, checked.decomposable, checked.homogeneous, checked.normalised, checked.deterministic)
    assert [str(verdict) for verdict in verdicts if not verdict] == []
    assert circuit.states == (2,)
    assert pc.marginalize(pc.Circuit(circuit.root * pc.Bernoulli("rest", 0.1)), "a").variables == ("rest",)


def test_the_same_regions_break_properties_when_they_are_used():
    good, other = pc.Bernoulli("a", 0.5), pc.Normal("a", 0.0, 1.0)
    pair = pc.concat([good, other], axis="regions")
    assert not pc.Circuit(pair.prod()).check().homogeneous
    assert not pc.Circuit(pair.prod()).check().decomposable


def test_normalised_circuits_have_no_unused_regions():
    units = pixels()
    made = normalise(pc.Circuit(units[[1, 3]].prod().sum([1.0, 3.0])))
    (inputs,) = made.inputs
    assert made.variables == (1, 3)
    assert inputs.variables == ((1,), (3,))
    assert made.root.weights.value.tolist() == [0.25, 0.75]


def test_marginals_know_only_variables_of_the_root():
    circuit = pc.Circuit(some_of(pixels()))
    rest = pc.marginalize(circuit, [3])
    assert rest.variables == (1,)
    assert Oracle(rest).log_value({1: 0.3}) == pytest.approx(Oracle(circuit).log_value({1: 0.3}), abs=1e-12)
    with pytest.raises(pc.ScopeError, match=r"no variables \[0\]; it has \[1, 3\]"):
        pc.marginalize(circuit, [0])


def test_the_oracle_answers_for_the_variables_of_the_root():
    circuit = pc.Circuit(some_of(pixels()))
    oracle = Oracle(circuit)
    cut = Oracle(pc.Circuit(some_of(pixels()[[0, 1, 2, 3]])))
    assert set(oracle.mean()) == {1, 3}
    assert oracle.mean() == cut.mean()
    assert oracle.log_value({1: 0.5, 3: -0.5}) == cut.log_value({1: 0.5, 3: -0.5})
    assert math.isfinite(oracle.map().log_prob)


def test_files_keep_unused_regions(tmp_path):
    units = pixels()
    circuit = pc.Circuit(some_of(units), [3, 1])
    pc.save(circuit, tmp_path / "c.pc")
    again = pc.load(tmp_path / "c.pc")
    (inputs,) = again.inputs
    assert again.variables == (3, 1)
    assert inputs.variables == units.variables
    assert torch.equal(inputs.parameters["loc"].value, units.parameters["loc"].value)
    assert str(again.summary()) == str(circuit.summary())


def test_graphs_and_counts_are_of_all_units_that_the_arrays_hold():
    units = pixels()
    circuit = pc.Circuit(some_of(units))
    graph = pc.to_networkx(circuit)
    assert json.loads(graph.graph["variables"]) == [1, 3]
    assert circuit.summary().variables == 2
    assert circuit.summary().units == graph.number_of_nodes() == 12 + 2 + 1
    (root,) = json.loads(graph.graph["roots"])
    nodes = {node: data for node, data in graph.nodes(data=True) if circuit.arrays[data["array"]] is units}
    reached = {nodes[node]["region"] for node in nx.descendants(graph, root) if node in nodes}
    assert reached == set(circuit.used(units).nonzero()[0].tolist())
    assert {(data["region"], data["scope"]) for data in nodes.values()} == {(r, f"[{r}]") for r in range(6)}
