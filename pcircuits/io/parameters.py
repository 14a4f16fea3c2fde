"""Parameters in files: all values of one dtype in one vector, and a row of integers for each parameter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pcircuits.errors import FileFormatError, ParameterError
from pcircuits.io.container import Packed
from pcircuits.parameters import CONSTRAINTS, Parameter

__all__ = ["ParameterReader", "ParameterWriter"]

FIELDS = 5
"""dtype, constraint, flags, name, number of axes."""
TRAINABLE, LOGARITHM = 1, 2
"""The flags of a parameter: whether it is trained, and whether its logarithm is stored in place of its value."""
LARGEST_EXPANSION = 2**25
"""How many numbers all repeated values of a file may stand for: a small file must not ask for much memory."""
DTYPES = {
    str(dtype).removeprefix("torch."): dtype for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
}


class ParameterWriter:
    """Numbers the distinct parameters of a circuit: those that are tied have one number."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._rows: list[int] = []
        self._sizes: list[int] = []
        self._pieces: dict[str, list[Tensor]] = {}
        self._words: dict[str, dict[str, int]] = {"dtypes": {}, "constraints": {}, "names": {}}
        self._left = LARGEST_EXPANSION

    def number(self, parameter: Parameter) -> int:
        """The number of a parameter."""
        if id(parameter) not in self._numbers:
            self._numbers[id(parameter)] = len(self._numbers)
            self._add(parameter)
        return self._numbers[id(parameter)]

    @property
    def words(self) -> dict[str, list[str]]:
        """What the integers of the rows stand for, as JSON."""
        return {kind: list(words) for kind, words in self._words.items()}

    @property
    def tensors(self) -> dict[str, Tensor | Packed]:
        """The rows, the sizes of the axes (as they are, and as stored), and the values."""
        tables: dict[str, Tensor | Packed] = {
            "parameters": torch.tensor(self._rows, dtype=torch.int64),
            "parameter_sizes": torch.tensor(self._sizes, dtype=torch.int64),
        }
        return tables | {f"values.{dtype}": Packed(pieces) for dtype, pieces in self._pieces.items()}

    def _add(self, parameter: Parameter) -> None:
        value = parameter.value if parameter.log_value is None else parameter.log_value
        dtype = str(value.dtype).removeprefix("torch.")
        if dtype not in DTYPES or CONSTRAINTS.get(parameter.constraint.name) is not parameter.constraint:
            raise FileFormatError(
                f"{parameter.name} cannot be saved: it has dtype {dtype} under the constraint {parameter.constraint}; "
                f"a file holds {list(DTYPES)} under {list(CONSTRAINTS)}"
            )
        stored = self._stored(value)
        self._rows += [
            self._word("dtypes", dtype),
            self._word("constraints", parameter.constraint.name),
            TRAINABLE * parameter.trainable + LOGARITHM * (parameter.log_value is not None),
            self._word("names", parameter.name),
            value.ndim,
        ]
        self._sizes += [*parameter.shape, *stored.shape]
        self._pieces.setdefault(dtype, []).append(stored)

    def _word(self, kind: str, word: str) -> int:
        return self._words[kind].setdefault(word, len(self._words[kind]))

    def _stored(self, value: Tensor) -> Tensor:
        """The value without the axes along which it only repeats (stride 0)."""
        repeated = [stride == 0 and size > 1 for stride, size in zip(value.stride(), value.shape, strict=True)]
        if not any(repeated) or value.numel() > self._left:
            return value
        self._left -= value.numel()
        return value[tuple(slice(0, 1) if again else slice(None) for again in repeated)]


class ParameterReader:
    """The parameters of a file, by number."""

    def __init__(self, words: Any, tensors: Mapping[str, Tensor]) -> None:
        self._dtypes = _words(words, "dtypes", DTYPES)
        self._constraints = _words(words, "constraints", CONSTRAINTS)
        self._names = _words(words, "names", None)
        rows, sizes = integers(tensors, "parameters"), integers(tensors, "parameter_sizes")
        if len(rows) % FIELDS:
            raise FileFormatError("the structure is malformed: the table of parameters has an incomplete row")
        table = rows.reshape(-1, FIELDS)
        self._check(table)
        shapes = [shape.tolist() for shape in torch.split(sizes, _exact(2 * table[:, 4], len(sizes)))]
        self._left = LARGEST_EXPANSION
        values = self._values(table, shapes, tensors)
        self.parameters = [self._parameter(*row) for row in zip(table.tolist(), shapes, values, strict=True)]

    def _check(self, table: Tensor) -> None:
        limits = torch.tensor([len(self._dtypes), len(self._constraints), 4, len(self._names), 65])
        if bool(((table < 0) | (table >= limits)).any()):
            raise FileFormatError("the structure is malformed: the table of parameters has an entry out of range")

    def _values(self, table: Tensor, shapes: Sequence[list[int]], tensors: Mapping[str, Tensor]) -> list[Tensor]:
        """The stored values of all parameters, as views into one vector for each dtype."""
        counts = torch.tensor([_count(shape) for shape in shapes], dtype=torch.int64)
        found: list[Tensor] = [torch.empty(0)] * len(shapes)
        for number, dtype in enumerate(self._dtypes):
            mine = (table[:, 0] == number).nonzero().flatten().tolist()
            vector = tensors.get(f"values.{dtype}")
            if vector is None or vector.dtype != DTYPES[dtype] or vector.ndim != 1:
                raise FileFormatError(f"the structure is malformed: there are no values of dtype {dtype}")
            for i, value in zip(mine, torch.split(vector, _exact(counts[mine], len(vector))), strict=True):
                found[i] = value
        return found

    def _parameter(self, row: list[int], sizes: list[int], value: Tensor) -> Parameter:
        shape, stored = sizes[: row[4]], sizes[row[4] :]
        value = value.reshape(stored)
        if shape != stored:
            self._left -= math.prod(shape)
            if self._left < 0 or any(s not in (1, size) for s, size in zip(stored, shape, strict=True)):
                raise FileFormatError(f"the structure is malformed: values of shape {stored} stand for {shape}")
            value = value.expand(shape)
        name = self._names[row[3]]
        try:
            make = Parameter.from_log if row[2] & LOGARITHM else Parameter
            return make(value, CONSTRAINTS[self._constraints[row[1]]], bool(row[2] & TRAINABLE), name)
        except ParameterError as error:
            raise FileFormatError(f"the file holds a parameter that is none: {error}") from error


def integers(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    """A vector of integers of the file."""
    vector = tensors.get(name)
    if vector is None or vector.dtype != torch.int64 or vector.ndim != 1:
        raise FileFormatError(f"the structure is malformed: there is no table {name!r}")
    return vector


def _exact(counts: Tensor, total: int) -> list[int]:
    """Counts that share out a vector."""
    parts: list[int] = counts.tolist()
    if sum(parts) != total:
        raise FileFormatError(f"the structure is malformed: a table of {total} numbers is shared out in {sum(parts)}")
    return parts


def _count(sizes: list[int]) -> int:
    """How many numbers a parameter stores, from its shape followed by its stored shape."""
    if any(not 1 <= size < 2**40 for size in sizes):
        raise FileFormatError(f"the structure is malformed: a parameter has the shape {sizes[: len(sizes) // 2]}")
    count = math.prod(sizes[len(sizes) // 2 :])
    if count >= 2**48:
        raise FileFormatError(f"the structure is malformed: a parameter has the shape {sizes[: len(sizes) // 2]}")
    return count


def _words(words: Any, kind: str, known: Mapping[str, object] | None) -> list[str]:
    found = words.get(kind) if isinstance(words, dict) else None
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise FileFormatError(f"the structure is malformed: it has no list of {kind}")
    if known is not None and (bad := [word for word in found if word not in known]):
        raise FileFormatError(f"the structure is malformed: it has the {kind} {bad}, which are not known here")
    return found
