"""Circuits as networkx graphs, to look at, to draw, and to run graph algorithms on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import networkx as nx
import torch
from torch import Tensor

from pcircuits.circuit.circuit import Circuit, Unit
from pcircuits.circuit.units import Constant, Input, Mix, Outer, Product, Sum, Units, Wiring
from pcircuits.errors import CircuitError
from pcircuits.parameters import Sourced

__all__ = ["to_networkx"]


def to_networkx(circuit: Circuit, *, level: Literal["units", "arrays"] = "units") -> nx.MultiDiGraph:
    """The graph of a circuit, with an edge from each parent to each of its children.

    It is a multigraph, since a unit may be the child of another twice (`u + u`); every edge has its `position` among
    the children of its parent. `graph.graph` holds `roots`, a list of nodes, and `variables`.

    - Units: the nodes are `Unit`s, as in `circuit.unit(...)`, with `kind` ("input", "constant", "sum", "product") and
      `scope` (a frozenset of labels). Inputs have `family`, `variables` and `parameters` (name to number or tuple of
      numbers), or instead of the last their `source`; constants have `value`; edges below sums have `weight`. Wiring
      computes nothing, and is passed through.
    - Arrays: the nodes are the arrays, wiring too, with `kind`, `shape` (R, K) and `scope`. Inputs have `family`,
      `variables` and `parameters` (name to `Parameter`), or their `source`; constants have `value` and sums `weights`,
      a `Parameter`.

    **Arguments**

    - `level`: whether a node is one unit or one array of units. The first makes a Python object of every unit and edge:
      some microseconds and a kilobyte each, whatever their number (see `circuit.summary()`).

    **Raises** `CircuitError` for another level.

    >>> import pcircuits as pc
    >>> circuit = pc.Circuit(0.25 * pc.Indicator("rain", 0) + 0.75 * pc.Indicator("rain", 1))
    >>> graph = to_networkx(circuit)
    >>> [weight for _, _, weight in graph.edges(data="weight")]
    [0.25, 0.75]
    """
    if level not in ("units", "arrays"):
        raise CircuitError(f'level is "units" or "arrays", not {level!r}')
    return _of_units(circuit) if level == "units" else _of_arrays(circuit)


def _of_units(circuit: Circuit) -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph(variables=circuit.variables)
    for array in circuit.arrays:
        if isinstance(array, Wiring):
            continue
        scopes = [circuit.labels(scope) for scope in circuit.region_scopes(array)]
        for unit, attributes in _unit_attributes(array):
            graph.add_node(unit, kind=_kind(array), scope=scopes[unit.region], **attributes)
            weights = _unit_weights(unit)
            for position, child in enumerate(circuit.children(unit)):
                weight = {} if weights is None else {"weight": weights[position]}
                graph.add_edge(unit, child, position=position, **weight)
    graph.graph["roots"] = [_computed(circuit, Unit(circuit.root, 0, k)) for k in range(circuit.num_roots)]
    return graph


def _of_arrays(circuit: Circuit) -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph(variables=circuit.variables, roots=[circuit.root])
    for array in circuit.arrays:
        scope = frozenset[Any]().union(*(circuit.labels(scope) for scope in set(circuit.region_scopes(array))))
        graph.add_node(array, kind=_kind(array), shape=array.shape, scope=scope, **_array_attributes(array))
        for position, child in enumerate(array.children):
            graph.add_edge(array, child, position=position)
    return graph


def _kind(array: Units) -> str:
    if isinstance(array, Wiring):
        return "wiring"
    if isinstance(array, Product | Outer):
        return "product"
    return {Input: "input", Constant: "constant", Sum: "sum", Mix: "sum"}[type(array)]


def _array_attributes(array: Units) -> dict[str, Any]:
    if isinstance(array, Input):
        common = {"family": array.family, "variables": array.variables}
        if isinstance(array.parameters, Sourced):
            return {**common, "source": array.parameters.source}
        return {**common, "parameters": dict(array.parameters)}
    if isinstance(array, Constant):
        return {"value": array.value}
    return {"weights": array.weights} if isinstance(array, Sum | Mix) else {}


def _unit_attributes(array: Units) -> Iterator[tuple[Unit, dict[str, Any]]]:
    """The units of an array, with the attributes that only inputs and constants have."""
    common = _array_attributes(array) if isinstance(array, Input) else {}
    events = _input_events(array) if isinstance(array, Input) else {}
    values = array.value.value.expand(array.shape).tolist() if isinstance(array, Constant) else None
    for region in range(array.regions):
        for column in range(array.width):
            own: dict[str, Any] = {}
            if isinstance(array, Input):
                own = {**common, "variables": array.variables[region]}
            if events:
                own["parameters"] = {name: _number(table[region][column]) for name, table in events.items()}
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
        tables[name] = parameter.value.expand(*array.shape, *event).tolist()
    return tables


def _number(event: Any) -> Any:
    return tuple(_number(part) for part in event) if isinstance(event, list) else event


def _unit_weights(unit: Unit) -> list[float] | None:
    """The weights of a sum unit, in the order of its children."""
    array = unit.array
    if not isinstance(array, Sum | Mix):
        return None
    weights: Tensor = array.weights.value
    if weights.ndim == 3:
        weights = weights[unit.region, unit.column]
    elif weights.ndim == 2:
        weights = weights[unit.column]
    return weights.to(torch.float64).tolist()


def _computed(circuit: Circuit, unit: Unit) -> Unit:
    """The unit that computes what this one is, through any wiring."""
    while isinstance(unit.array, Wiring):
        (unit,) = circuit.children(unit)
    return unit
