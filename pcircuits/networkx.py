"""Circuits as networkx graphs, to look at, to draw, to write, and to run graph algorithms on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import networkx as nx
import torch

from pcircuits.circuit.circuit import Circuit, Unit
from pcircuits.circuit.units import AbstractSum, Constant, Input, Units
from pcircuits.errors import CircuitError
from pcircuits.parameters import Parameter, Sourced

__all__ = ["to_networkx"]


def to_networkx(circuit: Circuit, *, level: Literal["units", "arrays"] = "units") -> nx.MultiDiGraph:
    """The graph of a circuit, with an edge from each parent to each of its children.

    It is a multigraph, since a unit may be the child of another twice (`u + u`); every edge has its `position` among
    the children of its parent. Nodes and attributes are strings and numbers, so that the writers of networkx take the
    graph (GraphML, JSON, GEXF). Whatever is a list or a table is a string of JSON: in `graph.graph` the `roots`, a list
    of nodes, and the `variables`.

    - Units: a node is named "array.region.column", with the number of the array in `circuit.arrays`, and has these three
      as integers too, so that `circuit.unit(circuit.arrays[array], region, column)` is the unit. It has its `kind`
      ("input", "constant", "sum", "product") and its `scope` (JSON: labels). Inputs have `family`, `variables` (JSON:
      labels) and `parameters` (JSON: name to a number or a list of numbers), or instead of the last the class of their
      `source`; constants have `value`; edges below sums have `weight`. Wiring computes nothing, and is passed through.
    - Arrays: a node is named by the number of the array, wiring too, with `kind`, `regions`, `width` and `scope`. Inputs
      have `family`, `variables` (JSON: labels for each region) and `parameters` (JSON: name to the array of its values),
      or their `source`; constants have `value` and sums `weights` (JSON: arrays).

    **Arguments**

    - `level`: whether a node is one unit or one array of units. The first makes a Python object of every unit and edge:
      some microseconds and a kilobyte each, whatever their number (see `circuit.summary()`).

    **Raises** `CircuitError` for another level.

    >>> import pcircuits as pc
    >>> circuit = pc.Circuit(0.25 * pc.Indicator("rain", 0) + 0.75 * pc.Indicator("rain", 1))
    >>> graph = to_networkx(circuit)
    >>> [weight for _, _, weight in graph.edges(data="weight")], graph.nodes["0.0.0"]["parameters"]
    ([0.25, 0.75], '{"state": 0.0}')
    >>> "".join(nx.generate_graphml(graph))[:5]
    '<grap'
    """
    if level not in ("units", "arrays"):
        raise CircuitError(f'level is "units" or "arrays", not {level!r}')
    return _of_units(circuit) if level == "units" else _of_arrays(circuit)


def _of_units(circuit: Circuit) -> nx.MultiDiGraph:
    number_of = {id(array): i for i, array in enumerate(circuit.arrays)}

    def name(unit: Unit) -> str:
        return f"{number_of[id(unit.array)]}.{unit.region}.{unit.column}"

    graph = nx.MultiDiGraph(variables=json.dumps(circuit.variables))
    for number, array in enumerate(circuit.arrays):
        if array.kind == "wiring":
            continue
        scopes = [_scope(circuit, [scope]) for scope in circuit.numbered_scopes(array)]
        weights = array.weights.value.to(torch.float64) if isinstance(array, AbstractSum) else None
        for unit, attributes in _unit_attributes(array):
            place = {"array": number, "region": unit.region, "column": unit.column}
            graph.add_node(name(unit), kind=array.kind, scope=scopes[unit.region], **place, **attributes)
            values = [] if weights is None else array.weights_of(weights, unit.region, unit.column).tolist()  # type: ignore[attr-defined]
            for position, child in enumerate(circuit.children(unit)):
                weight = {"weight": values[position]} if values else {}
                graph.add_edge(name(unit), name(child), position=position, **weight)
    roots = (circuit.unit(circuit.root, 0, k) for k in range(circuit.num_roots))
    graph.graph["roots"] = json.dumps([name(circuit.computed(root)) for root in roots])
    return graph


def _of_arrays(circuit: Circuit) -> nx.MultiDiGraph:
    number_of = {id(array): str(i) for i, array in enumerate(circuit.arrays)}
    roots = json.dumps([number_of[id(circuit.root)]])
    graph = nx.MultiDiGraph(variables=json.dumps(circuit.variables), roots=roots)
    for array in circuit.arrays:
        node = number_of[id(array)]
        scope = _scope(circuit, circuit.numbered_scopes(array))
        size = {"regions": array.regions, "width": array.width}
        graph.add_node(node, kind=array.kind, scope=scope, **size, **_array_attributes(array))
        for position, child in enumerate(array.children):
            graph.add_edge(node, number_of[id(child)], position=position)
    return graph


def _scope(circuit: Circuit, numbers: Iterable[int]) -> str:
    """The labels of some scopes together, in the order of the columns."""
    return json.dumps(circuit.scope_labels(circuit.scope_table.union(numbers)))


def _array_attributes(array: Units) -> dict[str, str]:
    if isinstance(array, Input):
        common = {"family": str(array.family), "variables": json.dumps(array.variables)}
        if isinstance(array.parameters, Sourced):
            return {**common, "source": type(array.parameters.source).__name__}
        return {**common, "parameters": json.dumps({name: _values(p) for name, p in array.parameters.items()})}
    if isinstance(array, Constant):
        return {"value": json.dumps(_values(array.value))}
    return {"weights": json.dumps(_values(array.weights))} if isinstance(array, AbstractSum) else {}


def _values(parameter: Parameter) -> Any:
    return parameter.value.to(torch.float64).tolist()


def _unit_attributes(array: Units) -> Iterator[tuple[Unit, dict[str, str | float]]]:
    """The units of an array, with the attributes that only inputs and constants have."""
    events = _input_events(array) if isinstance(array, Input) else {}
    values = array.value.value.expand(array.shape).tolist() if isinstance(array, Constant) else None
    for region in range(array.regions):
        for column in range(array.width):
            own: dict[str, str | float] = {}
            if isinstance(array, Input):
                own = {"family": str(array.family), "variables": json.dumps(array.variables[region])}
                if isinstance(array.parameters, Sourced):
                    own["source"] = type(array.parameters.source).__name__
                else:
                    mine = {name: table[region][column] for name, table in events.items()}
                    own["parameters"] = json.dumps(mine)
            if values is not None:
                own["value"] = values[region][column]
            yield Unit(array, region, column), own


def _input_events(array: Input) -> dict[str, list[list[Any]]]:
    """For each parameter its events, by region and column."""
    if isinstance(array.parameters, Sourced):
        return {}
    tables = {}
    for name, parameter in array.parameters.items():
        event = parameter.shape[parameter.value.ndim - array.family.parameters[name].event_ndim :]
        tables[name] = parameter.value.expand(*array.shape, *event).to(torch.float64).tolist()
    return tables
