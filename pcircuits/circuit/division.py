"""One array at a time: the units that remain when each is divided by its value and some variables are gone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.pushed import PushedWeights
from pcircuits.circuit.selected_regions import select_regions
from pcircuits.circuit.units import Constant, Input, Mix, Outer, Product, Sum, Units, Wiring
from pcircuits.errors import ScopeError
from pcircuits.parameters import Parameter, Sourced
from pcircuits.scope import Variable

__all__ = ["Division", "Kept"]

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Kept:
    """What became of an array: its region r is the region `rows[r]` of `array`, or the number 1 where that is -1."""

    array: Units | None
    rows: Index

    def regions(self, wanted: Sequence[int] | Index) -> Units:
        """Some of the original's regions as units of their own; those that are the number 1 become constants."""
        rows = self.rows[np.asarray(wanted, dtype=np.int64)]
        assert self.array is not None
        if _is_range(rows, self.array.regions):
            return self.array
        if (rows >= 0).all():
            return Wiring((self.array,), np.zeros_like(rows), rows)
        ones = Constant(torch.ones(1, self.array.width, dtype=torch.float64))
        return Wiring((self.array, ones), (rows < 0).astype(np.int64), np.maximum(rows, 0))


class Division:
    """Rebuilds the arrays of a circuit, children first; see `pcircuits.circuit.normalise.divide`."""

    def __init__(self, circuit: Circuit, log_values: Mapping[int, Tensor], removed: Collection[Variable]) -> None:
        self._circuit = circuit
        self._values = log_values
        self._removed = removed
        remaining = [label for label in circuit.variables if label not in removed]
        self._remains = circuit.scope_table.meeting(remaining)
        self._weights = PushedWeights()
        self._slices: dict[tuple[int, bytes], Parameter] = {}
        self._sources: dict[tuple[int, int, bytes], Sourced] = {}

    def rebuild(self, array: Units, children: list[Kept]) -> Kept:
        """An array from what became of its children."""
        scopes = self._circuit.numbered_scopes(array)
        used = self._circuit.used(array).tolist()
        live = np.array([r for r, s in enumerate(scopes) if used[r] and self._remains[s]], dtype=np.int64)
        if not len(live):
            return Kept(None, np.full(array.regions, -1))
        if isinstance(array, Wiring):
            return _rewired(array, children, live)
        new = self._rebuilt(array, children, live)
        rows = np.full(array.regions, -1)
        rows[live] = np.arange(len(live))
        return Kept(new, rows)

    def _rebuilt(self, array: Units, children: list[Kept], live: Index) -> Units:
        if isinstance(array, Input):
            return self._input(array, live)
        if isinstance(array, Product):
            return _grouped(array, children[0], live) if array.groups is not None else _product(array, children, live)
        if isinstance(array, Outer):
            return _outer(array, children, live)
        if isinstance(array, Mix):
            return self._mix(array, children, live)
        assert isinstance(array, Sum)
        return self._sum(array, children[0], live)

    def _input(self, array: Input, live: Index) -> Units:
        variables = [array.variables[r] for r in live]
        for labels in variables:
            gone = [label for label in labels if label in self._removed]
            if gone and len(gone) < len(labels):
                raise ScopeError(
                    f"the variables {gone} cannot be taken out of {array!r} of {array.family}, whose units are over "
                    f"all of {list(labels)} together: remove all of these, or leave them missing in a query"
                )
        if len(live) == array.regions:
            return array
        if isinstance(array.parameters, Sourced):
            return Input(array.family, variables, self._selected(array.parameters, live))
        specs = array.family.parameters
        sliced = {name: self._sliced(p, live, specs[name].event_ndim) for name, p in array.parameters.items()}
        return Input(array.family, variables, sliced)

    def _selected(self, sourced: Sourced, live: Index) -> Sourced:
        key = (id(sourced.source), sourced.width, live.tobytes())
        if key not in self._sources:
            self._sources[key] = select_regions(sourced, live.tolist())
        return self._sources[key]

    def _sliced(self, parameter: Parameter, live: Index, event_ndim: int) -> Parameter:
        if parameter.value.ndim == event_ndim or parameter.shape[0] == 1:
            return parameter
        key = (id(parameter), live.tobytes())
        if key not in self._slices:
            self._slices[key] = parameter.selected(lambda value: value[torch.as_tensor(live)])
        return self._slices[key]

    def _mix(self, array: Mix, children: list[Kept], live: Index) -> Units:
        rows = [_rows(array, child, live) for child in array.children]
        shape = (len(live), array.width)
        values = [self._log_values(c, r).expand(shape) for c, r in zip(array.children, rows, strict=True)]
        weights = self._weights.mix(array.weights, torch.stack(values, -1), live)
        alive = (weights.log() > -torch.inf).reshape(-1, len(children)).any(0).nonzero().flatten().tolist()
        inputs = [children[a].regions(rows[a]) for a in alive]
        if len(alive) == 1:
            return _widened(inputs[0], shape)
        if len(alive) < len(children):
            weights = self._weights.some(weights, alive)
        elif weights is array.weights and _unchanged(inputs, array):
            return array
        if weights.value.ndim == 3:
            inputs[0] = _widened(inputs[0], shape)
        return _widened(Mix(inputs, weights), shape)

    def _sum(self, array: Sum, child: Kept, live: Index) -> Units:
        inputs = child.regions(live)
        if inputs.width == 1:
            return _widened(inputs, (len(live), array.width))
        values = self._log_values(array.children[0], live)
        weights = self._weights.dense(array.weights, values, live, array.regions)
        if weights is array.weights and inputs is array.children[0]:
            return array
        return Sum(inputs, weights)

    def _log_values(self, array: Units, rows: Index) -> Tensor:
        """The log values of some regions of an array, (len(rows), K)."""
        values = self._values[id(array)]
        return values if _is_range(rows, array.regions) else values[torch.as_tensor(rows)]


def _is_range(index: Index, size: int) -> bool:
    if len(index) != size:
        return False
    return bool(index[0] == 0) if size == 1 else bool((index == np.arange(size)).all())


def _unchanged(children: Sequence[Units], array: Units) -> bool:
    return len(children) == len(array.children) and all(a is b for a, b in zip(children, array.children, strict=True))


def _rows(array: Units, child: Units, live: Index) -> Index:
    """The regions of a child that the live regions of an array are made of: a (1, 1) child serves them all."""
    return live if child.regions == array.regions else np.zeros(1, np.int64)


def _widened(units: Units, shape: tuple[int, int]) -> Units:
    """Units that broadcast, repeated to a shape."""
    if units.shape == shape:
        return units
    rows = np.arange(shape[0]) if units.regions == shape[0] else np.zeros(shape[0], np.int64)
    region = np.repeat(rows[:, None], shape[1], 1)
    column = np.zeros_like(region) if units.width == 1 else np.repeat(np.arange(shape[1])[None], shape[0], 0)
    return Wiring((units,), np.zeros_like(region), region, column)


def _product(array: Product, children: list[Kept], live: Index) -> Units:
    factors = []
    for child, kept in zip(array.children, children, strict=True):
        rows = _rows(array, child, live)
        if (kept.rows[rows] >= 0).any():
            factors.append(kept.regions(rows))
    if len(live) == array.regions and _unchanged(factors, array):
        return array
    return _widened(factors[0] if len(factors) == 1 else Product(factors), (len(live), array.width))


def _grouped(array: Product, kept: Kept, live: Index) -> Units:
    assert array.groups is not None
    assert kept.array is not None
    groups = [[row for row in kept.rows[list(array.groups[r])].tolist() if row >= 0] for r in live]
    if all(len(group) == 1 for group in groups):
        return Kept(kept.array, np.array([row for (row,) in groups])).regions(np.arange(len(groups)))
    if kept.array is array.children[0] and _as_tuples(groups) == array.groups:
        return array
    return Product((kept.array,), _as_tuples(groups))


def _as_tuples(groups: list[list[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(group) for group in groups)


def _outer(array: Outer, children: list[Kept], live: Index) -> Units:
    remaining = [i for i, kept in enumerate(children) if (kept.rows[live] >= 0).any()]
    factors = [children[i].regions(live) for i in remaining]
    if len(live) == array.regions and _unchanged(factors, array):
        return array
    product = factors[0] if len(factors) == 1 else Outer(factors)
    widths = [child.width for child in array.children]
    places = np.unravel_index(np.arange(array.width), widths)
    columns = np.ravel_multi_index([places[i] for i in remaining], [widths[i] for i in remaining])
    if _is_range(columns, product.width):
        return product
    region, column = np.meshgrid(np.arange(len(live)), columns, indexing="ij")
    return Wiring((product,), np.zeros_like(region), region, column)


def _rewired(array: Wiring, children: list[Kept], live: Index) -> Kept:
    """Wiring looks through to what its children became; a selection of whole regions needs no node of its own."""
    child, region = array.child[live], array.region[live]
    source = np.empty_like(region)
    for number, kept in enumerate(children):
        here = child == number
        source[here] = kept.rows[region[here]]
    rows = np.full(array.regions, -1)
    rows[live] = np.arange(len(live))
    used = np.unique(child)
    parts = [part for c in used if (part := children[c].array) is not None]
    if _unchanged(parts, array) and np.array_equal(source, array.region):
        return Kept(array, rows)
    if array.column is None and len(used) == 1:
        rows[live] = source
        return Kept(parts[0], rows)
    column = None if array.column is None else array.column[live]
    return Kept(Wiring(parts, np.searchsorted(used, child), source, column), rows)
