"""From a circuit to operations: one for each array that computes something; wiring becomes index arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.units import Constant, Input, Mix, Outer, Product, Sum, Units, Wiring
from pcircuits.parameters import Parameter, Sourced
from pcircuits.program.operations import (
    Columns,
    ConstantOp,
    Index,
    InputOp,
    Lowered,
    MixOp,
    Operation,
    OuterOp,
    ParameterRows,
    ProductOp,
    Reads,
    SourceRows,
    SumOp,
)

__all__ = ["lower"]


def lower(circuit: Circuit) -> Lowered:
    """The operations of a circuit in topological order."""
    lowering = _Lowering(circuit)
    for array in circuit.arrays:
        lowering.places[id(array)] = lowering.place(array)
    root = lowering.places[id(circuit.root)]
    rows = lowering.next_row
    return Lowered(lowering.operations, root, lowering.places, np.arange(rows), np.zeros(rows, np.int64))


class _Lowering:
    def __init__(self, circuit: Circuit) -> None:
        self.circuit = circuit
        self.operations: list[Operation] = []
        self.places: dict[int, Reads] = {}
        self.next_row = 0
        self.depths: list[int] = []
        self.widths: list[int] = []

    def place(self, array: Units) -> Reads:
        """Where the units of an array are computed, (R, 1); new operations are appended."""
        if isinstance(array, Input):
            return self._emit(self._input(array))
        if isinstance(array, Constant):
            lead = array.value.value.ndim == 2
            rows = _rows(array.value, array.regions if lead else 1, lead, (array.width,))
            return self._emit(ConstantOp(**self._header(array.regions, array.width, ()), value=rows))
        if isinstance(array, Wiring):
            return self._wiring(array)
        children = [self.places[id(child)] for child in array.children]
        if isinstance(array, Product) and array.groups is not None:
            return self._grouped(array, children[0])
        if isinstance(array, Sum):
            return self._sum(array, self._whole(children[0], array.children[0].width))
        if isinstance(array, Outer):
            factors = tuple(self._whole(c, child.width) for c, child in zip(children, array.children, strict=True))
            header = self._header(array.regions, array.width, factors)
            return self._emit(OuterOp(**header, factors=factors, widths=tuple(c.width for c in array.children)))
        edges = _elementwise(children, array.children, array.shape)
        header = self._header(array.regions, array.width, (edges,))
        if isinstance(array, Mix):
            lead = array.weights.value.ndim == 3
            block = (array.width if lead else 1, len(array.children))
            return self._emit(MixOp(**header, edges=edges, weights=_rows(array.weights, array.regions, lead, block)))
        return self._emit(ProductOp(**header, edges=edges))

    def _header(self, count: int, width: int, reads: tuple[Reads, ...]) -> Any:
        depth = 1 + max((self._depth(r) for r in reads), default=-1)
        return {"first": self.next_row, "count": count, "width": width, "depth": depth}

    def _depth(self, reads: Reads) -> int:
        return max(map(self.depths.__getitem__, reads.rows.ravel().tolist()))

    def _emit(self, operation: Operation) -> Reads:
        self.operations.append(operation)
        self.next_row += operation.count
        self.depths.extend([operation.depth] * operation.count)
        self.widths.extend([operation.width] * operation.count)
        return Reads(np.arange(operation.first, self.next_row).reshape(-1, 1))

    def _input(self, array: Input) -> InputOp:
        # Regions that the root makes no use of may be over variables without a column: they are pruned.
        column_of = self.circuit.column_of
        columns = Columns(np.array([[column_of.get(label, 0) for label in labels] for labels in array.variables]))
        header = self._header(array.regions, array.width, ())
        if isinstance(array.parameters, Sourced):
            made = SourceRows(array.parameters, np.arange(array.regions))
            return InputOp(**header, family=array.family, columns=columns, parameters=made)
        packed = {}
        for name, parameter in array.parameters.items():
            event = array.family.parameters[name].event_ndim
            lead = parameter.value.ndim - event == 2
            block = parameter.shape[1:] if lead else (1, *parameter.shape)
            packed[name] = _rows(parameter, array.regions, lead, tuple(block))
        return InputOp(**header, family=array.family, columns=columns, parameters=packed)

    def _sum(self, array: Sum, edges: Reads) -> Reads:
        lead = array.weights.value.ndim == 3
        weights = _rows(array.weights, array.regions, lead, (array.width, array.children[0].width))
        header = self._header(array.regions, array.width, (edges,))
        return self._emit(SumOp(**header, edges=edges, weights=weights, inputs=array.children[0].width))

    def _grouped(self, array: Product, child: Reads) -> Reads:
        """Groups of one size become one operation."""
        assert array.groups is not None
        place: dict[int, int] = {}
        for arity in dict.fromkeys(len(group) for group in array.groups):
            chosen = [g for g, group in enumerate(array.groups) if len(group) == arity]
            regions = np.array([array.groups[g] for g in chosen])
            edges = Reads(child.rows[regions, 0], None if child.columns is None else child.columns[regions, 0])
            made = self._emit(ProductOp(**self._header(len(chosen), array.width, (edges,)), edges=edges))
            place.update(zip(chosen, made.rows[:, 0].tolist(), strict=True))
        return Reads(np.array([[place[g]] for g in range(len(array.groups))]))

    def _wiring(self, array: Wiring) -> Reads:
        children = [self.places[id(child)] for child in array.children]
        if array.column is None:
            if all(c.columns is None for c in children):
                return Reads(_pick([c.rows for c in children], array.child, array.region))
            each = [_by_unit(c, array.width) for c in children]
            regions = _pick([c.rows for c in each], array.child, array.region)
            return Reads(regions, _pick([c.columns for c in each if c.columns is not None], array.child, array.region))
        rows, columns = np.empty(array.shape, np.int64), np.empty(array.shape, np.int64)
        for number, (child, units) in enumerate(zip(children, array.children, strict=True)):
            here = array.child == number
            wide = _by_unit(child, units.width)
            assert wide.columns is not None
            rows[here] = wide.rows[array.region[here], 0, array.column[here]]
            columns[here] = wide.columns[array.region[here], 0, array.column[here]]
        return self._simplified(Reads(rows[:, None], columns[:, None]))

    def _simplified(self, reads: Reads) -> Reads:
        """Whole rows where the units read are exactly those."""
        assert reads.columns is not None
        width = reads.rows.shape[-1]
        first = reads.rows[..., 0]
        whole = (
            (reads.rows == first[..., None]).all()
            and (reads.columns == np.arange(width)).all()
            and all(self.widths[row] == width for row in first.ravel().tolist())
        )
        return Reads(first) if whole else reads

    def _whole(self, reads: Reads, width: int) -> Reads:
        return reads if reads.columns is None else self._simplified(reads)


def _rows(parameter: Parameter, count: int, lead: bool, block: tuple[int, ...]) -> ParameterRows:
    """The rows of a parameter: its own, or one row repeated where it has none or a single one."""
    own = lead and parameter.shape[0] == count
    rows = np.arange(count, dtype=np.int64) if own else np.zeros(count, np.int64)
    return ParameterRows((parameter,) * count, rows, block)


def _by_unit(reads: Reads, width: int) -> Reads:
    """Reads (R, A) of whole rows as reads of their single units."""
    if reads.columns is not None:
        return reads
    shape = (*reads.rows.shape, width)
    return Reads(np.broadcast_to(reads.rows[..., None], shape), np.broadcast_to(np.arange(width), shape))


def _elementwise(children: list[Reads], arrays: tuple[Units, ...], shape: tuple[int, int]) -> Reads:
    """The factors of an elementwise operation on (R, K) units, together (R, A); (1, 1) children repeat."""
    if all(reads.columns is None and array.shape == shape for reads, array in zip(children, arrays, strict=True)):
        return Reads(np.concatenate([reads.rows for reads in children], 1))
    regions, width = shape
    spread = []
    for reads, array in zip(children, arrays, strict=True):
        if array.shape != shape:
            reads = reads if width == 1 else _by_unit(reads, 1)
            rows = np.broadcast_to(
                reads.rows, (regions, *reads.rows.shape[1:-1], width if width > 1 else reads.rows.shape[-1])
            )
            columns = None if reads.columns is None else np.broadcast_to(reads.columns, rows.shape)
            reads = Reads(rows, columns)
        spread.append(reads)
    if all(reads.columns is None for reads in spread):
        return Reads(np.concatenate([reads.rows for reads in spread], 1))
    units = [_by_unit(reads, width) for reads in spread]
    columns = np.concatenate([reads.columns for reads in units if reads.columns is not None], 1)
    return Reads(np.concatenate([reads.rows for reads in units], 1), columns)


def _pick(arrays: list[Index], child: Index, region: Index) -> Index:
    out = np.empty((len(child), *arrays[0].shape[1:]), np.int64)
    for number, values in enumerate(arrays):
        here = child == number
        out[here] = values[region[here]]
    return out
