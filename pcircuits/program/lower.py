"""From a circuit to a plan: one node for each array that computes something; wiring becomes index arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.units import Constant, Input, Mix, Outer, Product, Sum, Units, Wiring
from pcircuits.computed import SourcedWeights
from pcircuits.parameters import Parameter, Sourced
from pcircuits.program.plan import Columns, Edges, Index, Node, Owned, Plan, RowWise, SourceRows

__all__ = ["lower"]


def lower(circuit: Circuit) -> Plan:
    """The nodes of a circuit in topological order."""
    lowering = _Lowering(circuit)
    for array in circuit.arrays:
        lowering.places[id(array)] = _LOWERED[type(array)](lowering, array)
    root = lowering.places[id(circuit.root)]
    places = [lowering.places[id(array)] for array in circuit.arrays]
    rows = lowering.next_row
    return Plan(lowering.nodes, root, lowering.parameters, places, np.arange(rows), np.zeros(rows, np.int64))


def _made(circuit: Circuit) -> list[SourcedWeights]:
    """The distinct weights that sources make."""
    found = [array.weights for array in circuit.sums if isinstance(array.weights, SourcedWeights)]
    return list({id(weights): weights for weights in found}.values())


class _Lowering:
    def __init__(self, circuit: Circuit) -> None:
        self.circuit = circuit
        self.nodes: list[Node] = []
        self.places: dict[int, Edges] = {}
        self.next_row = 0
        self.widths: list[int] = []
        self.parameters = [*circuit.parameters(), *_made(circuit)]
        self.number = {id(parameter): n for n, parameter in enumerate(self.parameters)}

    def emit(self, kind: str, shape: tuple[int, int], rows: Mapping[str, RowWise], **facts: Any) -> Edges:
        """Append a node; what reads all of its rows, (R, 1)."""
        count, width = shape
        node = Node(kind, self.next_row, count, width, rows, facts)
        self.nodes.append(node)
        self.next_row += count
        self.widths.extend([width] * count)
        return Edges(np.arange(node.first, self.next_row).reshape(-1, 1))

    def owned(self, parameter: Parameter, count: int, lead: bool, block: tuple[int, ...]) -> Owned:
        """The rows of a parameter: its own, or one row repeated where it has none or a single one."""
        own = lead and parameter.shape[0] == count
        rows = np.arange(count, dtype=np.int64) if own else np.zeros(count, np.int64)
        owner = np.full(count, self.number[id(parameter)], np.int64)
        return Owned(owner, rows, block, Owned.key_of(parameter))

    def children(self, array: Units) -> list[Edges]:
        return [self.places[id(child)] for child in array.children]

    def simplified(self, edges: Edges) -> Edges:
        """Whole rows where the units read are exactly those."""
        if edges.columns is None:
            return edges
        width = edges.rows.shape[-1]
        first = edges.rows[..., 0]
        whole = (
            (edges.rows == first[..., None]).all()
            and (edges.columns == np.arange(width)).all()
            and all(self.widths[row] == width for row in first.ravel().tolist())
        )
        return Edges(first) if whole else edges


def _input(lowering: _Lowering, array: Input) -> Edges:
    # Regions that the root makes no use of may be over variables without a column: they are pruned.
    column_of = lowering.circuit.column_of
    index = np.array([[column_of.get(label, 0) for label in labels] for labels in array.variables])
    rows: dict[str, RowWise] = {"columns": Columns(index)}
    if isinstance(array.parameters, Sourced):
        rows["source"] = SourceRows(array.parameters, np.arange(array.regions))
    else:
        for name, parameter in array.parameters.items():
            event = array.family.parameters[name].event_ndim
            lead = parameter.value.ndim - event == 2
            block = tuple(parameter.shape[1:]) if lead else (1, *parameter.shape)
            rows[name] = lowering.owned(parameter, array.regions, lead, block)
    return lowering.emit("input", array.shape, rows, family=array.family)


def _constant(lowering: _Lowering, array: Constant) -> Edges:
    lead = array.value.value.ndim == 2
    rows = lowering.owned(array.value, array.regions if lead else 1, lead, (array.width,))
    return lowering.emit("constant", array.shape, {"value": rows})


def _sum(lowering: _Lowering, array: Sum) -> Edges:
    edges = lowering.simplified(lowering.children(array)[0])
    inputs = array.children[0].width
    lead = len(array.weights.shape) == 3
    weights = lowering.owned(array.weights, array.regions, lead, (array.width, inputs))
    return lowering.emit("sum", array.shape, {"edges": edges, "weights": weights}, inputs=inputs)


def _mix(lowering: _Lowering, array: Mix) -> Edges:
    edges = _elementwise(lowering.children(array), array.children, array.shape)
    lead = len(array.weights.shape) == 3
    block = (array.width if lead else 1, len(array.children))
    weights = lowering.owned(array.weights, array.regions, lead, block)
    return lowering.emit("mix", array.shape, {"edges": edges, "weights": weights})


def _outer(lowering: _Lowering, array: Outer) -> Edges:
    factors = {f"factor {n}": lowering.simplified(edges) for n, edges in enumerate(lowering.children(array))}
    return lowering.emit("outer", array.shape, factors, widths=tuple(child.width for child in array.children))


def _product(lowering: _Lowering, array: Product) -> Edges:
    if array.groups is None:
        edges = _elementwise(lowering.children(array), array.children, array.shape)
        return lowering.emit("product", array.shape, {"edges": edges})
    child = lowering.children(array)[0]
    place: dict[int, int] = {}
    for arity in dict.fromkeys(len(group) for group in array.groups):  # groups of one size become one node
        chosen = [g for g, group in enumerate(array.groups) if len(group) == arity]
        regions = np.array([array.groups[g] for g in chosen])
        edges = Edges(child.rows[regions, 0], None if child.columns is None else child.columns[regions, 0])
        made = lowering.emit("product", (len(chosen), array.width), {"edges": edges})
        place.update(zip(chosen, made.rows[:, 0].tolist(), strict=True))
    return Edges(np.array([[place[g]] for g in range(len(array.groups))]))


def _wiring(lowering: _Lowering, array: Wiring) -> Edges:
    children = lowering.children(array)
    if array.column is None:
        if all(c.columns is None for c in children):
            return Edges(_pick([c.rows for c in children], array.child, array.region))
        each = [_by_unit(c, array.width) for c in children]
        rows = _pick([c.rows for c in each], array.child, array.region)
        return Edges(rows, _pick([c.columns for c in each if c.columns is not None], array.child, array.region))
    rows, columns = np.empty(array.shape, np.int64), np.empty(array.shape, np.int64)
    for number, (child, units) in enumerate(zip(children, array.children, strict=True)):
        here = array.child == number
        wide = _by_unit(child, units.width)
        assert wide.columns is not None
        rows[here] = wide.rows[array.region[here], 0, array.column[here]]
        columns[here] = wide.columns[array.region[here], 0, array.column[here]]
    return lowering.simplified(Edges(rows[:, None], columns[:, None]))


_LOWERED: Mapping[type[Units], Callable[[_Lowering, Any], Edges]] = {
    Input: _input,
    Constant: _constant,
    Sum: _sum,
    Mix: _mix,
    Outer: _outer,
    Product: _product,
    Wiring: _wiring,
}


def _by_unit(edges: Edges, width: int) -> Edges:
    """Edges (R, A) to whole rows as edges to their single units."""
    if edges.columns is not None:
        return edges
    shape = (*edges.rows.shape, width)
    return Edges(np.broadcast_to(edges.rows[..., None], shape), np.broadcast_to(np.arange(width), shape))


def _elementwise(children: list[Edges], arrays: tuple[Units, ...], shape: tuple[int, int]) -> Edges:
    """The factors of an elementwise operation on (R, K) units, together (R, A); (1, 1) children repeat."""
    regions, width = shape
    spread = []
    for edges, array in zip(children, arrays, strict=True):
        if array.shape != shape:
            edges = edges if width == 1 else _by_unit(edges, 1)
            wide = (regions, *edges.rows.shape[1:-1], width if width > 1 else edges.rows.shape[-1])
            rows = np.broadcast_to(edges.rows, wide)
            edges = Edges(rows, None if edges.columns is None else np.broadcast_to(edges.columns, wide))
        spread.append(edges)
    if all(edges.columns is None for edges in spread):
        return Edges(np.concatenate([edges.rows for edges in spread], 1))
    units = [_by_unit(edges, width) for edges in spread]
    columns = np.concatenate([edges.columns for edges in units if edges.columns is not None], 1)
    return Edges(np.concatenate([edges.rows for edges in units], 1), columns)


def _pick(arrays: list[Index], child: Index, region: Index) -> Index:
    out = np.empty((len(child), *arrays[0].shape[1:]), np.int64)
    for number, values in enumerate(arrays):
        here = child == number
        out[here] = values[region[here]]
    return out
