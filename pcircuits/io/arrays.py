"""Arrays of units in files: for each its kind, its children among the arrays before it, and the integers it needs.

The integers of an array, by kind:

- input: family, then its parameters, then a variable for each region and place;
- sourced input: family, source, width, then the variables;
- constant, mix, sum: its parameter;
- product over groups: their number, their sizes, then their regions;
- wiring of regions: child of each region, then region;
- wiring of units: the number of regions, then child, region and column of each unit;
- product, outer: none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.selected_regions import SelectedRegions
from pcircuits.circuit.units import Constant, Input, Mix, Outer, Product, Sum, Units, Wiring
from pcircuits.errors import CircuitError, FileFormatError
from pcircuits.families.interface import AbstractFamily
from pcircuits.io.parameters import ParameterWriter, integers
from pcircuits.io.sources import SourceWriter
from pcircuits.parameters import Parameter, Sourced
from pcircuits.scope import Variable

__all__ = ["ArrayReader", "ArrayWriter"]

Ints = NDArray[np.int64]
WIDEST = 2**40
"""More units than any region has: beyond it, products of widths would overflow."""


class Kind(IntEnum):
    """The kinds of arrays, as numbers in a file."""

    INPUT = 0
    SOURCED = 1
    CONSTANT = 2
    PRODUCT = 3
    GROUPS = 4
    OUTER = 5
    MIX = 6
    SUM = 7
    REGION_WIRING = 8
    UNIT_WIRING = 9


class ArrayWriter:
    """Turns the arrays of a circuit into tables of integers; numbers families, parameters and sources on the way."""

    def __init__(self, circuit: Circuit) -> None:
        self.parameters = ParameterWriter()
        self.sources = SourceWriter()
        self.families: dict[AbstractFamily, int] = {}
        labels = dict.fromkeys(label for array in circuit.inputs for scope in array.variables for label in scope)
        self.idle_variables = [label for label in labels if label not in circuit.column_of]
        self._number_of = {label: i for i, label in enumerate([*circuit.variables, *self.idle_variables])}
        position = {id(array): i for i, array in enumerate(circuit.arrays)}
        kinds: list[int] = []
        needs: list[Ints] = []
        for array in circuit.arrays:
            kind, numbers = self._encode(array)
            kinds.append(kind)
            needs.append(np.asarray(numbers, dtype=np.int64))
        children = [[position[id(child)] for child in array.children] for array in circuit.arrays]
        self.tensors: dict[str, Tensor] = {
            "kinds": torch.tensor(kinds, dtype=torch.int64),
            "child_counts": torch.tensor([len(c) for c in children], dtype=torch.int64),
            "children": torch.tensor([c for part in children for c in part], dtype=torch.int64),
            "integer_counts": torch.tensor([len(n) for n in needs], dtype=torch.int64),
            "integers": torch.from_numpy(np.concatenate(needs)),
        }

    def _encode(self, array: Units) -> tuple[Kind, Sequence[int] | Ints]:
        if isinstance(array, Input):
            return self._input(array)
        if isinstance(array, Constant):
            return Kind.CONSTANT, [self.parameters.number(array.value)]
        if isinstance(array, Mix):
            return Kind.MIX, [self.parameters.number(array.weights)]
        if isinstance(array, Sum):
            return Kind.SUM, [self.parameters.number(array.weights)]
        if isinstance(array, Wiring):
            return _wiring(array)
        if isinstance(array, Product) and array.groups is not None:
            sizes = [len(group) for group in array.groups]
            return Kind.GROUPS, [len(sizes), *sizes, *(region for group in array.groups for region in group)]
        assert isinstance(array, Product | Outer)
        return (Kind.OUTER if isinstance(array, Outer) else Kind.PRODUCT), []

    def _family(self, family: AbstractFamily) -> int:
        if type(family).__hash__ is None:
            raise FileFormatError(f"the family {family} cannot be saved: make it a frozen dataclass")
        return self.families.setdefault(family, len(self.families))

    def _input(self, array: Input) -> tuple[Kind, list[int]]:
        family = self._family(array.family)
        columns = [self._number_of[label] for labels in array.variables for label in labels]
        if isinstance(array.parameters, Sourced):
            return Kind.SOURCED, [family, self.sources.number(array.parameters.source), array.width, *columns]
        parameters = [self.parameters.number(array.parameters[name]) for name in array.family.parameters]
        return Kind.INPUT, [family, *parameters, *columns]


def _wiring(array: Wiring) -> tuple[Kind, Ints]:
    if array.column is None:
        return Kind.REGION_WIRING, np.concatenate([array.child, array.region])
    parts = [np.array([array.regions]), array.child.ravel(), array.region.ravel(), array.column.ravel()]
    return Kind.UNIT_WIRING, np.concatenate(parts)


class ArrayReader:
    """Rebuilds arrays from the tables of integers; whatever is out of range is refused.

    **Arguments**

    - `families`: with the names of their parameters in the order of the file.
    """

    def __init__(
        self,
        variables: Sequence[Variable],
        families: Sequence[tuple[AbstractFamily, list[str]]],
        parameters: Sequence[Parameter],
        sources: Sequence[nn.Module],
    ) -> None:
        self._variables = variables
        self._families = families
        self._parameters = parameters
        self._sources = sources

    def read(self, tensors: Mapping[str, Tensor]) -> list[Units]:
        """All arrays, children before parents."""
        kinds = integers(tensors, "kinds").tolist()
        children = _ragged(tensors, "children", "child_counts", len(kinds))
        needs = _ragged(tensors, "integers", "integer_counts", len(kinds))
        arrays: list[Units] = []
        for number, (kind, below, ints) in enumerate(zip(kinds, children, needs, strict=True)):
            if len(below) and not 0 <= below.min() <= below.max() < number:
                raise FileFormatError(f"the structure is malformed: array {number} has children that do not precede it")
            try:
                array = self._array(kind, [arrays[i] for i in below], ints)
            except FileFormatError as error:
                raise FileFormatError(f"the structure is malformed at array {number}: {error}") from error
            except CircuitError as error:
                raise FileFormatError(f"the structure is malformed at array {number}: {error}") from error
            if array.width > WIDEST:
                raise FileFormatError(f"the structure is malformed: array {number} has {array.width} units in a region")
            arrays.append(array)
        return arrays

    def _array(self, kind: int, children: list[Units], ints: Ints) -> Units:
        if kind == Kind.INPUT:
            return self._input(ints)
        if kind == Kind.SOURCED:
            return self._sourced(ints)
        if kind == Kind.CONSTANT:
            return Constant(self._parameter(ints))
        if kind == Kind.MIX:
            return Mix(children, self._parameter(ints))
        if kind == Kind.SUM:
            return Sum(_only(children), self._parameter(ints))
        if kind == Kind.PRODUCT:
            return Product(children)
        if kind == Kind.OUTER:
            if math.prod(child.width for child in children) > WIDEST:
                raise FileFormatError("its outer product is wider than can be")
            return Outer(children)
        if kind == Kind.GROUPS:
            return _groups(_only(children), ints)
        if kind == Kind.REGION_WIRING:
            return _region_wiring(children, ints)
        if kind == Kind.UNIT_WIRING:
            return _unit_wiring(children, ints)
        raise FileFormatError(f"there are no arrays of kind {kind}")

    def _input(self, ints: Ints) -> Input:
        family, names = self._family(ints)
        numbers = ints[1 : 1 + len(names)].tolist()
        if len(numbers) < len(names):
            raise FileFormatError(f"{family} lacks parameters")
        parameters = {name: self._numbered(n) for name, n in zip(names, numbers, strict=True)}
        return Input(family, self._labels(ints[1 + len(names) :], family.size), parameters)

    def _sourced(self, ints: Ints) -> Input:
        family, _ = self._family(ints)
        if len(ints) < 3 or not 0 <= ints[1] < len(self._sources) or not 1 <= ints[2] <= WIDEST:
            raise FileFormatError(f"{family} has a source or a width that cannot be")
        labels, source = self._labels(ints[3:], family.size), self._sources[int(ints[1])]
        if isinstance(source, SelectedRegions) and len(source.regions) != len(labels):
            raise FileFormatError(f"its source makes {len(source.regions)} regions for {len(labels)} variables")
        return Input(family, labels, Sourced(source, len(labels), int(ints[2])))

    def _family(self, ints: Ints) -> tuple[AbstractFamily, list[str]]:
        if not len(ints) or not 0 <= ints[0] < len(self._families):
            raise FileFormatError("its family is not in the file")
        return self._families[int(ints[0])]

    def _parameter(self, ints: Ints) -> Parameter:
        if len(ints) != 1:
            raise FileFormatError(f"it needs one parameter, and has {len(ints)}")
        return self._numbered(int(ints[0]))

    def _numbered(self, number: int) -> Parameter:
        if not 0 <= number < len(self._parameters):
            raise FileFormatError(f"parameter {number} is not in the file")
        return self._parameters[number]

    def _labels(self, columns: Ints, size: int) -> list[tuple[Variable, ...]]:
        if not len(columns) or len(columns) % size or columns.min() < 0 or columns.max() >= len(self._variables):
            raise FileFormatError("its variables are not in the file")
        return [tuple(self._variables[c] for c in region) for region in columns.reshape(-1, size).tolist()]


def _ragged(tensors: Mapping[str, Tensor], name: str, counts: str, rows: int) -> list[Ints]:
    """A table with rows of different lengths."""
    lengths, values = integers(tensors, counts).numpy(), integers(tensors, name).numpy()
    if len(lengths) != rows or (lengths < 0).any() or sum(lengths.tolist()) != len(values):
        raise FileFormatError(f"the structure is malformed: the table {name!r} does not have a row for each array")
    ends = np.cumsum(lengths).tolist()
    return [values[end - length : end] for end, length in zip(ends, lengths.tolist(), strict=True)]


def _only(children: list[Units]) -> Units:
    if len(children) != 1:
        raise FileFormatError(f"it needs one child, and has {len(children)}")
    return children[0]


def _groups(child: Units, ints: Ints) -> Product:
    count = int(ints[0]) if len(ints) else 0
    sizes = ints[1 : 1 + max(count, 0)].tolist()
    members = ints[1 + max(count, 0) :].tolist()
    if count < 1 or len(sizes) != count or min(sizes) < 1 or sum(sizes) != len(members):
        raise FileFormatError("its groups do not add up")
    ends = np.cumsum(sizes).tolist()
    return Product.over_groups(child, [members[end - size : end] for end, size in zip(ends, sizes, strict=True)])


def _region_wiring(children: list[Units], ints: Ints) -> Wiring:
    if not children or len({child.width for child in children}) > 1 or not len(ints) or len(ints) % 2:
        raise FileFormatError("its regions come from arrays of different widths, or from none")
    child, region = ints.reshape(2, -1)
    _within(child, np.array(len(children)))
    _within(region, np.array([c.regions for c in children])[child])
    return Wiring(children, child, region)


def _unit_wiring(children: list[Units], ints: Ints) -> Wiring:
    regions = int(ints[0]) if len(ints) else 0
    if not children or regions < 1 or len(ints) < 4 or (len(ints) - 1) % (3 * regions):
        raise FileFormatError("its units do not make up whole regions")
    child, region, column = ints[1:].reshape(3, regions, -1)
    _within(child, np.array(len(children)))
    _within(region, np.array([c.regions for c in children])[child])
    _within(column, np.array([c.width for c in children])[child])
    return Wiring(children, child, region, column)


def _within(index: Ints, size: Ints) -> None:
    if ((index < 0) | (index >= size)).any():
        raise FileFormatError("it is wired to units that do not exist")
