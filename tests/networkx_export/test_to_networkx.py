"""`to_networkx`: the graph is the circuit, and evaluating it by hand gives the circuit's value."""

import inspect
import io
import json
import math

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from pcircuits.circuit.algebra import concat, mixture
from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.leaves import Bernoulli, Categorical, Indicator, Normal
from pcircuits.circuit.units import Constant, Input, Units
from pcircuits.errors import CircuitError
from pcircuits.families import Normal as NormalFamily
from pcircuits.networkx import to_networkx
from pcircuits.parameters import Sourced
from pcircuits.testing.oracle import Oracle
from pcircuits.testing.strategies import circuits


def evaluate(graph: nx.MultiDiGraph, row: dict, circuit: Circuit) -> list[float]:
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
            table = json.loads(attributes["parameters"])
            parameters = {k: torch.tensor(v, dtype=torch.float64) for k, v in table.items()}
            x = torch.tensor([row[label] for label in json.loads(attributes["variables"])], dtype=torch.float64)
            family = next(a.family for a in circuit.inputs if str(a.family) == attributes["family"])
            log = family.log_prob(x, torch.ones_like(x, dtype=torch.bool), parameters)
            values[node] = log.exp().item()
    return [values[root] for root in json.loads(graph.graph["roots"])]


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
    assert len(json.loads(graph.graph["roots"])) == circuit.num_roots
    assert tuple(json.loads(graph.graph["variables"])) == circuit.variables
    oracle = Oracle(circuit)
    row = {label: oracle.candidates(label)[0] for label in circuit.variables}
    for root, value in enumerate(evaluate(graph, row, circuit)):
        want = oracle.log_value(row, root)
        if -600 < want < 600:
            assert math.log(value) == pytest.approx(want, abs=1e-6, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(circuits(max_roots=2))
def test_array_graph_is_the_circuit(circuit):
    graph = to_networkx(circuit, level="arrays")
    assert nx.is_directed_acyclic_graph(graph)
    assert list(graph.nodes) == [str(i) for i in range(len(circuit.arrays))]
    assert graph.number_of_edges() == sum(len(array.children) for array in circuit.arrays)
    (root,) = json.loads(graph.graph["roots"])
    assert circuit.arrays[int(root)] is circuit.root
    assert tuple(json.loads(graph.nodes[root]["scope"])) == circuit.variables


def node(circuit: Circuit, array: Units, region: int = 0, column: int = 0) -> str:
    return f"{circuit.arrays.index(array)}.{region}.{column}"


def test_a_child_twice_has_two_edges():
    unit = Bernoulli("a", 0.25)
    circuit = Circuit(unit + unit)
    graph = to_networkx(circuit)
    (root,) = json.loads(graph.graph["roots"])
    (child,) = set(graph.successors(root))
    assert [data["position"] for data in graph.get_edge_data(root, child).values()] == [0, 1]
    assert evaluate(graph, {"a": 1.0}, circuit) == [0.5]
    arrays = to_networkx(Circuit(unit + unit), level="arrays")
    assert arrays.number_of_edges() == 2


def test_attributes_of_units():
    wet = Bernoulli("wet", 0.1) * Categorical("sky", [0.25, 0.25, 0.5])
    circuit = Circuit(0.8 * (Indicator("rain", 0) * wet) + 0.2 * (Constant(2.0) * Indicator("rain", 1) * wet))
    graph = to_networkx(circuit)
    root = node(circuit, circuit.root)
    assert json.loads(graph.graph["roots"]) == [root]
    place = {"array": len(circuit.arrays) - 1, "region": 0, "column": 0}
    assert graph.nodes[root] == {"kind": "sum", "scope": '["rain", "wet", "sky"]', **place}
    assert [weight for _, _, weight in graph.out_edges(root, data="weight")] == [0.8, 0.2]
    inputs = {data["variables"]: data for _, data in graph.nodes(data=True) if data["kind"] == "input"}
    assert inputs['["wet"]']["parameters"] == '{"probs": 0.1}'
    assert inputs['["wet"]']["family"] == "Bernoulli()"
    assert inputs['["sky"]']["parameters"] == '{"probs": [0.25, 0.25, 0.5]}'
    assert inputs['["sky"]']["scope"] == '["sky"]'
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
            found = list(graph.out_edges(node(circuit, sums, region, column), data="weight"))
            assert [(child, w) for _, child, w in found] == [
                (node(circuit, pixels, region, k), weights[region, column, k].item()) for k in range(3)
            ]
    assert graph.nodes[node(circuit, pixels, 1, 2)]["parameters"] == '{"loc": 5.0, "scale": 1.0}'


def test_nodes_say_which_units_they_are():
    circuit = Circuit(Normal(range(2), torch.zeros(2, 3), 1.0).prod().sum([0.5, 0.25, 0.25]))
    graph = to_networkx(circuit)
    for name, data in graph.nodes(data=True):
        unit = circuit.unit(circuit.arrays[data["array"]], data["region"], data["column"])
        assert name == node(circuit, *unit)
        assert set(json.loads(data["scope"])) == circuit.scope(unit.array, unit.region)


def test_wiring_is_a_node_of_arrays_and_none_of_units():
    pixels = Normal(range(3), torch.zeros(3, 2), 1.0)
    wired = concat([pixels[[2, 0, 1]].prod(), pixels[[1, 2, 0]].prod()], axis="width")
    circuit = Circuit(wired[0, [3, 0]])
    units, arrays = to_networkx(circuit), to_networkx(circuit, level="arrays")
    assert {kind for _, kind in units.nodes(data="kind")} == {"input", "product"}
    assert [(d["regions"], d["width"]) for _, d in arrays.nodes(data=True) if d["kind"] == "wiring"]
    assert json.loads(units.graph["roots"]) == [
        node(circuit, wired.children[1], 0, 1),
        node(circuit, wired.children[0], 0, 0),
    ]


class Table(nn.Module):
    def parameters_for(self, columns):
        return {"loc": torch.zeros(2, len(columns)), "scale": torch.ones(2, len(columns))}


def with_source() -> Circuit:
    pixels = Input(NormalFamily(), [(0,), (1,)], Sourced(Table(), 2, 3))
    return Circuit(mixture([0.2, 0.3, 0.5], pixels.prod()))


def test_sourced_inputs_name_their_source():
    circuit = with_source()
    units, arrays = to_networkx(circuit), to_networkx(circuit, level="arrays")
    unit = units.nodes[node(circuit, circuit.inputs[0], 1, 2)]
    assert unit["source"] == "Table"
    assert unit["variables"] == "[1]"
    assert "parameters" not in unit
    assert arrays.nodes["0"]["source"] == "Table"
    assert json.loads(arrays.nodes["2"]["weights"]) == [0.2, 0.3, 0.5]


def through_graphml(graph: nx.MultiDiGraph) -> nx.MultiDiGraph:
    file = io.BytesIO()
    nx.write_graphml(graph, file)
    file.seek(0)
    return nx.read_graphml(file, force_multigraph=True)


def through_json(graph: nx.MultiDiGraph) -> nx.MultiDiGraph:
    # The name of the list of edges is an option since networkx 3.4, which warns where it is not given.
    option = {"edges": "edges"} if "edges" in inspect.signature(nx.node_link_data).parameters else {}
    text = json.dumps(nx.node_link_data(graph, **option), allow_nan=False)
    return nx.node_link_graph(json.loads(text), **option)


@pytest.mark.parametrize("through", [through_graphml, through_json])
@pytest.mark.parametrize("level", ["units", "arrays"])
@settings(max_examples=20, deadline=None)
@given(circuit=circuits(max_roots=2))
def test_written_and_read_back(through, level, circuit):
    for one in (circuit, with_source()):
        graph = to_networkx(one, level=level)
        again = through(graph)
        assert dict(again.nodes(data=True)) == dict(graph.nodes(data=True))
        assert sorted(again.edges(data="position")) == sorted(graph.edges(data="position"))
        assert sorted(map(str, again.edges(data="weight"))) == sorted(map(str, graph.edges(data="weight")))
        for name in ("roots", "variables"):
            assert again.graph[name] == graph.graph[name]


def test_another_level():
    with pytest.raises(CircuitError, match='level is "units" or "arrays"'):
        to_networkx(Circuit(Bernoulli("a", 0.5)), level="regions")
