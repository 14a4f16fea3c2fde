"""A circuit unrolled to single units in plain Python: numbers, lists and loops, nothing shared with the engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.units import Constant, Input, Mix, Outer, Product, Sum, Units, Wiring
from pcircuits.computed import SourcedWeights
from pcircuits.errors import CircuitError
from pcircuits.families.interface import AbstractFamily
from pcircuits.parameters import Parameter, Sourced
from pcircuits.scope import Variable
from pcircuits.testing.oracle.arithmetic import log, log_add, log_sum
from pcircuits.testing.oracle.leaves import Build, Leaf, from_reference

__all__ = ["Graph", "InputNode", "Node", "ProductNode", "SumNode", "unroll"]


@dataclass(frozen=True, slots=True)
class InputNode:
    """One input unit."""

    variable: Variable
    leaf: Leaf


@dataclass(frozen=True, slots=True)
class SumNode:
    """One sum unit; a child is the position of its node."""

    children: tuple[int, ...]
    log_weights: tuple[float, ...]

    def log_terms(self, values: Sequence[float]) -> list[float]:
        """log(weight · child) for each child."""
        return [log_add(w, values[c]) for w, c in zip(self.log_weights, self.children, strict=True)]


@dataclass(frozen=True, slots=True)
class ProductNode:
    """One product unit, times a constant (a constant unit is a product of nothing else)."""

    children: tuple[int, ...]
    log_constant: float = 0.0


Node = InputNode | SumNode | ProductNode
Place = list[list[int]]
"""For region r and column k of an array, the position of its node: place[r][k]."""


@dataclass(frozen=True)
class Graph:
    """The nodes, children first; `places` says, by `id(array)`, which nodes the units of an array are."""

    nodes: list[Node]
    places: Mapping[int, Place]
    scopes: list[frozenset[Variable]]

    def evaluate(self, value: Callable[[InputNode], float], maximised: frozenset[int] = frozenset()) -> list[float]:
        """The log-value of every node, given the log-values of the inputs; at `maximised` sums the largest term."""
        values: list[float] = []
        for position, node in enumerate(self.nodes):
            if isinstance(node, InputNode):
                values.append(value(node))
            elif isinstance(node, SumNode):
                terms = node.log_terms(values)
                values.append(max(terms, default=-math.inf) if position in maximised else log_sum(terms))
            else:
                values.append(_product(node, values))
        return values

    def used(self, roots: Sequence[int]) -> dict[int, Node]:
        """The nodes that some root depends on, by their positions, children first."""
        wanted = [False] * len(self.nodes)
        for root in roots:
            wanted[root] = True
        for position in range(len(self.nodes) - 1, -1, -1):
            node = self.nodes[position]
            if wanted[position] and not isinstance(node, InputNode):
                for child in node.children:
                    wanted[child] = True
        return {position: node for position, node in enumerate(self.nodes) if wanted[position]}


def _product(node: ProductNode, values: Sequence[float]) -> float:
    factors = [values[child] for child in node.children]
    if node.log_constant == -math.inf or -math.inf in factors:
        return -math.inf
    return math.fsum([node.log_constant, *factors])


def unroll(circuit: Circuit, leaves: Mapping[str, Build]) -> Graph:
    """The graph of single units of a circuit."""
    nodes: list[Node] = []
    places: dict[int, Place] = {}
    for array in _children_first(circuit.root):
        places[id(array)] = _place(array, places, nodes, leaves)
    return Graph(nodes, places, _scopes(nodes))


def _children_first(root: Units) -> list[Units]:
    finished: dict[int, Units] = {}
    stack = [root]
    while stack:
        array = stack[-1]
        waiting = [child for child in array.children if id(child) not in finished]
        if waiting:
            stack.extend(waiting)
        else:
            finished[id(array)] = stack.pop()
    return list(finished.values())


def _scopes(nodes: Sequence[Node]) -> list[frozenset[Variable]]:
    scopes: list[frozenset[Variable]] = []
    for node in nodes:
        if isinstance(node, InputNode):
            scopes.append(frozenset([node.variable]))
        else:
            scopes.append(frozenset().union(*{scopes[child] for child in node.children}))
    return scopes


def _place(array: Units, places: Mapping[int, Place], nodes: list[Node], leaves: Mapping[str, Build]) -> Place:
    if isinstance(array, Wiring):
        return _wired(array, places)
    make = _maker(array, [places[id(child)] for child in array.children], leaves)
    place = []
    for r in range(array.regions):
        row = []
        for k in range(array.width):
            row.append(len(nodes))
            nodes.append(make(r, k))
        place.append(row)
    return place


def _wired(array: Wiring, places: Mapping[int, Place]) -> Place:
    below = [places[id(child)] for child in array.children]
    child, region = array.child.tolist(), array.region.tolist()
    if array.column is None:
        return [below[child[r]][region[r]] for r in range(array.regions)]
    column = array.column.tolist()
    return [[below[child[r][k]][region[r][k]][column[r][k]] for k in range(array.width)] for r in range(array.regions)]


def _maker(array: Units, below: list[Place], leaves: Mapping[str, Build]) -> Callable[[int, int], Node]:
    """What makes the node of region r and column k of an array."""
    if isinstance(array, Input):
        return _inputs(array, leaves)
    if isinstance(array, Constant):
        value = _logs(array.value)
        return lambda r, k: ProductNode((), value[r][k] if isinstance(value, list) else value)
    if isinstance(array, Sum):
        return _sums(array, below[0])
    if isinstance(array, Mix):
        return _mixes(array, below)
    if isinstance(array, Outer):
        return _outers(array, below)
    assert isinstance(array, Product)
    if array.groups is not None:
        groups = array.groups
        return lambda r, k: ProductNode(tuple(below[0][member][k] for member in groups[r]))
    return lambda r, k: ProductNode(tuple(_elementwise(place, r, k) for place in below))


def _elementwise(place: Place, r: int, k: int) -> int:
    return place[0][0] if len(place) == len(place[0]) == 1 else place[r][k]


def _outers(array: Outer, below: list[Place]) -> Callable[[int, int], Node]:
    def make(r: int, k: int) -> Node:
        found = []
        for place in reversed(below):
            found.append(place[r][k % len(place[r])])
            k //= len(place[r])
        return ProductNode(tuple(reversed(found)))

    return make


def _sums(array: Sum, place: Place) -> Callable[[int, int], Node]:
    weights = _logs(array.weights)
    shape = array.weights.shape

    def make(r: int, o: int) -> Node:
        row = weights if len(shape) == 1 else weights[o] if len(shape) == 2 else weights[r][o]
        return SumNode(tuple(place[r]), _log_weights(row, array.weights))

    return make


def _mixes(array: Mix, below: list[Place]) -> Callable[[int, int], Node]:
    weights = _logs(array.weights)
    own = len(array.weights.shape) == 3

    def make(r: int, k: int) -> Node:
        row = weights[r][k] if own else weights
        return SumNode(tuple(_elementwise(place, r, k) for place in below), _log_weights(row, array.weights))

    return make


def _logs(parameter: Parameter) -> Any:
    """The logarithms of a parameter, as nested lists: as it was given them, or those of its values."""
    if isinstance(parameter, SourcedWeights):
        with torch.no_grad():
            made = parameter.sourced.source.parameters_for(torch.arange(parameter.sourced.width))  # type: ignore[operator]
        ((name, value),) = made.items()
        numbers = value.reshape(parameter.shape).tolist()
        return numbers if name == "log_weights" else _log_of(numbers)
    if parameter.log_value is not None:
        return parameter.log_value.tolist()
    return _log_of(parameter.value.tolist())


def _log_of(value: Any) -> Any:
    return [_log_of(part) for part in value] if isinstance(value, list) else log(value)


def _log_weights(row: Sequence[float], parameter: Parameter) -> tuple[float, ...]:
    """The logarithms of the weights of one sum; of a simplex renormalised to the last digit."""
    total = log_sum(row) if parameter.constraint.name == "simplex" else 0.0
    return tuple(w - total for w in row)


def _on_its_simplex(row: Sequence[float], parameter: Parameter) -> list[float]:
    """What is declared a simplex is renormalised to the last digit."""
    total = math.fsum(row) if parameter.constraint.name == "simplex" else 1.0
    return [w / total for w in row]


def _inputs(array: Input, leaves: Mapping[str, Build]) -> Callable[[int, int], Node]:
    name = type(array.family).__name__
    if name not in leaves and type(array.family).reference is AbstractFamily.reference:
        raise CircuitError(
            f"the oracle has no leaf for {array.family}: give the family a method `reference`, or its leaf as "
            f"Oracle(circuit, {{{name!r}: build, **LEAVES}})"
        )
    build = leaves.get(name, from_reference)
    values = _sourced(array) if isinstance(array.parameters, Sourced) else _given(array)

    def make(r: int, k: int) -> Node:
        of_unit = {parameter: value(r, k) for parameter, value in values.items()}
        return InputNode(array.variables[r][0], build(array.family, of_unit))

    return make


def _sourced(array: Input) -> dict[str, Callable[[int, int], Any]]:
    assert isinstance(array.parameters, Sourced)
    with torch.no_grad():
        made = array.parameters.source.parameters_for(torch.arange(array.width))  # type: ignore[operator]
    return {name: _at(tensor.tolist(), 2) for name, tensor in made.items()}


def _given(array: Input) -> dict[str, Callable[[int, int], Any]]:
    assert not isinstance(array.parameters, Sourced)
    values = {}
    for name, parameter in array.parameters.items():
        lead = len(parameter.shape) - array.family.parameters[name].event_ndim
        values[name] = _at(parameter.value.tolist(), lead, parameter)
    return values


def _at(numbers: Any, lead: int, parameter: Parameter | None = None) -> Callable[[int, int], Any]:
    """The event of unit (r, k) in nested lists with 0 or 2 leading axes, of which those of size 1 repeat."""

    def event(r: int, k: int) -> Any:
        value = numbers
        if lead == 2:
            row = value[r if len(value) > 1 else 0]
            value = row[k if len(row) > 1 else 0]
        return _on_its_simplex(value, parameter) if parameter is not None and isinstance(value, list) else value

    return event
