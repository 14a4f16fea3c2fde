"""Arrays of units in files: for each its kind, its children among the arrays before it, and the integers it needs.

What the integers of an array are is said where its kind is: `to_integers` and `from_integers` in
`pcircuits.circuit.kinds`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.kinds import KINDS, Index, Units
from pcircuits.errors import CircuitError, FileFormatError
from pcircuits.families.interface import AbstractFamily
from pcircuits.io.parameters import ParameterWriter, integers
from pcircuits.io.sources import SourceWriter
from pcircuits.parameters import Parameter
from pcircuits.scope import Variable

__all__ = ["ArrayReader", "ArrayWriter"]

WIDEST = 2**40
"""More units than any region has: beyond it, products of widths would overflow."""
BY_CODE = {code: kind for kind in KINDS for code in kind.codes}


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
        codes: list[int] = []
        needs: list[Index] = []
        for array in circuit.arrays:
            code, numbers = array.to_integers(self)
            if BY_CODE.get(code) is not type(array):
                raise FileFormatError(
                    f"{array!r} cannot be saved: files know the kinds {[kind.__name__ for kind in KINDS]} alone"
                )
            codes.append(code)
            needs.append(np.asarray(numbers, dtype=np.int64))
        children = [[position[id(child)] for child in array.children] for array in circuit.arrays]
        self.tensors: dict[str, Tensor] = {
            "kinds": torch.tensor(codes, dtype=torch.int64),
            "child_counts": torch.tensor([len(c) for c in children], dtype=torch.int64),
            "children": torch.tensor([c for part in children for c in part], dtype=torch.int64),
            "integer_counts": torch.tensor([len(n) for n in needs], dtype=torch.int64),
            "integers": torch.from_numpy(np.concatenate(needs)),
        }

    def parameter(self, parameter: Parameter) -> int:
        """The number of a parameter; tied ones have one."""
        return self.parameters.number(parameter)

    def family(self, family: AbstractFamily) -> int:
        """The number of a family."""
        if type(family).__hash__ is None:
            raise FileFormatError(f"the family {family} cannot be saved: make it a frozen dataclass")
        return self.families.setdefault(family, len(self.families))

    def source(self, source: nn.Module) -> int:
        """The number of a source."""
        return self.sources.number(source)

    def columns(self, variables: Iterable[tuple[Variable, ...]]) -> list[int]:
        """The numbers of variables, one after another."""
        return [self._number_of[label] for labels in variables for label in labels]


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
        codes = integers(tensors, "kinds").tolist()
        children = _ragged(tensors, "children", "child_counts", len(codes))
        needs = _ragged(tensors, "integers", "integer_counts", len(codes))
        arrays: list[Units] = []
        for number, (code, below, ints) in enumerate(zip(codes, children, needs, strict=True)):
            if len(below) and not 0 <= below.min() <= below.max() < number:
                raise FileFormatError(f"the structure is malformed: array {number} has children that do not precede it")
            try:
                if code not in BY_CODE:
                    raise FileFormatError(f"there are no arrays of kind {code}")
                array = BY_CODE[code].from_integers(code, [arrays[i] for i in below], ints, self)
            except CircuitError as error:
                raise FileFormatError(f"the structure is malformed at array {number}: {error}") from error
            if array.width > WIDEST:
                raise FileFormatError(f"the structure is malformed: array {number} has {array.width} units in a region")
            arrays.append(array)
        return arrays

    def family(self, number: int) -> tuple[AbstractFamily, list[str]]:
        """A family by its number, with the names of its parameters."""
        if not 0 <= number < len(self._families):
            raise FileFormatError("its family is not in the file")
        return self._families[number]

    def parameter(self, number: int) -> Parameter:
        """A parameter by its number."""
        if not 0 <= number < len(self._parameters):
            raise FileFormatError(f"parameter {number} is not in the file")
        return self._parameters[number]

    def source(self, number: int) -> nn.Module:
        """A source by its number."""
        if not 0 <= number < len(self._sources):
            raise FileFormatError(f"source {number} is not in the file")
        return self._sources[number]

    def variables(self, columns: Index, size: int) -> list[tuple[Variable, ...]]:
        """Variables by their numbers, `size` for each region."""
        if not len(columns) or len(columns) % size or columns.min() < 0 or columns.max() >= len(self._variables):
            raise FileFormatError("its variables are not in the file")
        return [tuple(self._variables[c] for c in region) for region in columns.reshape(-1, size).tolist()]


def _ragged(tensors: Mapping[str, Tensor], name: str, counts: str, rows: int) -> list[Index]:
    """A table with rows of different lengths."""
    lengths, values = integers(tensors, counts).numpy(), integers(tensors, name).numpy()
    if len(lengths) != rows or (lengths < 0).any() or sum(lengths.tolist()) != len(values):
        raise FileFormatError(f"the structure is malformed: the table {name!r} does not have a row for each array")
    ends = np.cumsum(lengths).tolist()
    return [values[end - length : end] for end, length in zip(ends, lengths.tolist(), strict=True)]
