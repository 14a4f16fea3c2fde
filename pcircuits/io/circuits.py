"""`save` and `load`: a circuit as one file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from pcircuits.circuit.circuit import Circuit
from pcircuits.errors import CircuitError, FileFormatError
from pcircuits.io.arrays import ArrayReader, ArrayWriter
from pcircuits.io.container import read, write
from pcircuits.io.parameters import ParameterReader
from pcircuits.io.sources import SourceReader
from pcircuits.io.types import Types, family_entry
from pcircuits.scope import Variable, is_label

__all__ = ["load", "save"]


def save(circuit: Circuit, path: str | os.PathLike[str]) -> None:
    """Write a circuit to one file: its structure, its parameters bit by bit, and the weights of its sources.

    The file is a safetensors file without pickle; it is written whole or not at all, and replaces what was there.
    Parameters that are tied and units that are shared are stored once. Families are saved by name and fields, sources
    as `pcircuits.io.SavableSource` says.

    **Raises** `FileFormatError` for families and sources that cannot be saved, `OSError` where the file cannot be
    written.

    >>> import pcircuits as pc, tempfile
    >>> circuit = pc.Circuit(pc.mixture([0.25, 0.75], [pc.Normal("x", 0.0, 1.0), pc.Normal("x", 3.0, 1.0)]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(circuit, f"{folder}/c.pc")
    ...     load(f"{folder}/c.pc").root.weights.value.tolist()
    [0.25, 0.75]
    """
    writer = ArrayWriter(circuit)
    structure = {
        "variables": list(circuit.variables),
        "idle_variables": list(writer.idle_variables),
        "families": [family_entry(family) for family in writer.families],
        "sources": writer.sources.entries,
        "words": writer.parameters.words,
    }
    write(Path(path), structure, {**writer.tensors, **writer.parameters.tensors, **writer.sources.tensors})


def load(path: str | os.PathLike[str], types: Iterable[type] = ()) -> Circuit:
    """The circuit of a file that `save` wrote: the same structure, parameters, ties and order of variables.

    **Arguments**

    - `types`: the user's own families and sources that the file may name.

    **Raises** `FileFormatError` where the file is truncated, altered, of a newer version, no circuit file at all, or
    names a type that is neither the library's nor in `types`; `FileNotFoundError` where there is none.
    """
    known = Types(types)
    try:
        return _circuit(*read(Path(path)), known)
    except FileFormatError as error:
        raise FileFormatError(f"{os.fspath(path)}: {error}") from error


def _circuit(structure: Any, tensors: dict[str, Tensor], types: Types) -> Circuit:
    if not isinstance(structure, dict) or not isinstance(families := structure.get("families"), list):
        raise FileFormatError("the structure is malformed: it has no list of families")
    variables = _variables(structure.get("variables"))
    idle = _variables(structure.get("idle_variables", []))  # files of before there were any have no list of them
    reader = ArrayReader(
        [*variables, *idle],
        [types.family(entry) for entry in families],
        ParameterReader(structure.get("words"), tensors).parameters,
        SourceReader(structure.get("sources"), tensors, types).sources,
    )
    arrays = reader.read(tensors)
    if not arrays:
        raise FileFormatError("the structure is malformed: it has no arrays of units")
    try:
        return Circuit(arrays[-1], variables)
    except CircuitError as error:
        raise FileFormatError(f"the structure is malformed: {error}") from error


def _variables(labels: Any) -> list[Variable]:
    if not isinstance(labels, list) or not all(is_label(label) for label in labels):
        raise FileFormatError("the structure is malformed: it has no list of variables")
    return labels
