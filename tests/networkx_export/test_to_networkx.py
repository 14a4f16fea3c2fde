"""`to_networkx`: the graph is the circuit, and evaluating it by hand gives the circuit's value."""

import math

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from pcircuits.circuit.algebra import concat, mixture
from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.leaves import Bernoulli, Categorical, Indicator, Normal
from pcircuits.circuit.units import Constant, Input, Wiring
from pcircuits.errors import CircuitError
from pcircuits.families import Normal as NormalFamily
from pcircuits.networkx import to_networkx
from pcircuits.parameters import Sourced
from pcircuits.testing.oracle import Oracle
from pcircuits.testing.strategies import circuits


def evaluate(graph: nx.MultiDiGraph, row: dict) -> list[float]:
    """The values of the roots, from the attributes of the graph alone."""
    values: dict = {}
    for node in reversed(list(nx.topological_sort(graph))):
        attributes = graph.nodes[node]
        below = [(values[child], data) for _, child, data in graph.out_edges(node, data=True)]
        if attributes["kind"] == "sum":
            values[node] = sum(value * data["weight"] for value, data in below)
        elif attributes["kind"] == "product":
            values[node] = math.prod(value for value, _ in below)
        elif attributes["kind"] == "constant":
            values[node] = attributes["value"]
        else:
            parameters = {k: torch.tensor(v, dtype=torch.float64) for k, v in attributes["parameters"].items()}
            x = torch.tensor([row[label] for label in attributes["variables"]], dtype=torch.float64)
            log = attributes["family"].log_prob(x, torch.ones_like(x, dtype=torch.bool), parameters)
            values[node] = log.exp().item()
    return [values[root] for root in graph.graph["roots"]]


@settings(max_examples=60, deadline=None)
@given(circuits(max_roots=2))
def test_unit_graph_is_the_circuit(circuit):
    graph, summary = to_networkx(circuit), circuit.summary()
    assert nx.is_directed_acyclic_graph(graph)
    assert (graph.number_of_nodes(), graph.number_of_edges()) == (summary.units, summary.edges)
    kinds = [kind for _, kind in graph.nodes(data="kind")]
    assert kinds.count("sum") == summary.sums
    assert kinds.count("product") == summary.products
    assert kinds.count("input") + kinds.count("constant") == summary.inputs
    assert len(graph.graph["roots"]) == circuit.num_roots
    assert graph.graph["variables"] == circuit.variables
    oracle = Oracle(circuit)
    row = {label: oracle.candidates(label)[0] for label in circuit.variables}
    for root, value in enumerate(evaluate(graph, row)):
        want = oracle.log_value(row, root)
        if -600 < want < 600:
            assert math.log(value) == pytest.approx(want, abs=1e-6, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(circuits(max_roots=2))
def test_array_graph_is_the_circuit(circuit):
    graph = to_networkx(circuit, level="arrays")
    assert nx.is_directed_acyclic_graph(graph)
    assert set(graph.nodes) == set(circuit.arrays)
    assert graph.number_of_edges() == sum(len(array.children) for array in circuit.arrays)
    assert graph.graph["roots"] == [circuit.root]
    assert graph.nodes[circuit.root]["scope"] == frozenset(circuit.variables)


def test_a_child_twice_has_two_edges():
    unit = Bernoulli("a", 0.25)
    graph = to_networkx(Circuit(unit + unit))
    (root,) = graph.graph["roots"]
    (child,) = set(graph.successors(root))
    assert [data["position"] for data in graph.get_edge_data(root, child).values()] == [0, 1]
    assert evaluate(graph, {"a": 1.0}) == [0.5]
    arrays = to_networkx(Circuit(unit + unit), level="arrays")
    assert arrays.number_of_edges() == 2


def test_attributes_of_units():
    wet = Bernoulli("wet", 0.1) * Categorical("sky", [0.25, 0.25, 0.5])
    circuit = Circuit(0.8 * (Indicator("rain", 0) * wet) + 0.2 * (Constant(2.0) * Indicator("rain", 1) * wet))
    graph = to_networkx(circuit)
    root = circuit.unit(circuit.root)
    assert graph.graph["roots"] == [root]
    assert graph.nodes[root] == {"kind": "sum", "scope": frozenset({"rain", "wet", "sky"})}
    assert [weight for _, _, weight in graph.out_edges(root, data="weight")] == [0.8, 0.2]
    inputs = {data["variables"]: data for _, data in graph.nodes(data=True) if data["kind"] == "input"}
    assert inputs[("wet",)]["parameters"] == {"probs": 0.1}
    assert inputs[("sky",)]["parameters"] == {"probs": (0.25, 0.25, 0.5)}
    assert inputs[("sky",)]["scope"] == {"sky"}
    assert [d["value"] for _, d in graph.nodes(data=True) if d["kind"] == "constant"] == [2.0]
    products = [n for n, d in graph.nodes(data=True) if d["kind"] == "product"]
    assert all("weight" not in data for _, _, data in graph.out_edges(products, data=True))


def test_weights_of_arrays_follow_their_units():
    pixels = Normal(range(2), torch.arange(6.0).reshape(2, 3), 1.0)
    weights = torch.arange(12, dtype=torch.float64).reshape(2, 2, 3)
    circuit = Circuit(pixels.sum(weights).prod().sum([1.0, 1.0]))
    graph = to_networkx(circuit)
    sums = circuit.sums[0]
    for region in range(2):
        for column in range(2):
            unit = circuit.unit(sums, region, column)
            found = [(child.region, child.column, w) for _, child, w in graph.out_edges(unit, data="weight")]
            assert found == [(region, k, weights[region, column, k].item()) for k in range(3)]
    assert graph.nodes[circuit.unit(pixels, 1, 2)]["parameters"] == {"loc": 5.0, "scale": 1.0}


def test_wiring_is_a_node_of_arrays_and_none_of_units():
    pixels = Normal(range(3), torch.zeros(3, 2), 1.0)
    wired = concat([pixels[[2, 0, 1]].prod(), pixels[[1, 2, 0]].prod()], axis="width")
    circuit = Circuit(wired[0, [3, 0]])
    units, arrays = to_networkx(circuit), to_networkx(circuit, level="arrays")
    assert {kind for _, kind in units.nodes(data="kind")} == {"input", "product"}
    assert [data["shape"] for node, data in arrays.nodes(data=True) if isinstance(node, Wiring)]
    assert units.graph["roots"] == [circuit.unit(wired.children[1], 0, 1), circuit.unit(wired.children[0], 0, 0)]


class Table(nn.Module):
    def parameters_for(self, columns):
        return {"loc": torch.zeros(2, len(columns)), "scale": torch.ones(2, len(columns))}


def test_sourced_inputs_name_their_source():
    table = Table()
    pixels = Input(NormalFamily(), [(0,), (1,)], Sourced(table, 2, 3))
    circuit = Circuit(mixture([0.2, 0.3, 0.5], pixels.prod()))
    units, arrays = to_networkx(circuit), to_networkx(circuit, level="arrays")
    unit = units.nodes[circuit.unit(pixels, 1, 2)]
    assert unit["source"] is table
    assert unit["variables"] == (1,)
    assert "parameters" not in unit
    assert arrays.nodes[pixels]["source"] is table
    assert arrays.nodes[circuit.root]["weights"] is circuit.sums[0].weights


def test_another_level():
    with pytest.raises(CircuitError, match='level is "units" or "arrays"'):
        to_networkx(Circuit(Bernoulli("a", 0.5)), level="regions")
