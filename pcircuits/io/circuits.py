"""`save` and `load`: a circuit as one file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from pcircuits.circuit.circuit import Circuit
from pcircuits.errors import CircuitError, FileFormatError
from pcircuits.io.arrays import ArrayReader, ArrayWriter
from pcircuits.io.container import File, read, write
from pcircuits.io.parameters import ParameterReader
from pcircuits.io.sources import SourceReader
from pcircuits.io.types import Types, family_entry
from pcircuits.queries.compiled import CompiledCircuit
from pcircuits.scope import Variable, is_label

__all__ = ["load", "save"]


def save(circuit: Circuit | CompiledCircuit, file: File) -> None:
    """Write a circuit to one file: its structure, its parameters bit by bit, and the weights of its sources.

    Of a model, this saves what it knows now: `model.to_circuit()`.

    The file is a safetensors file without pickle; at a path it is written whole or not at all, and replaces what was
    there. Parameters that are tied and units that are shared are stored once. Families are saved by name and fields,
    sources as `pcircuits.io.SavableSource` says.

    **Arguments**

    - `file`: a path, or an open binary file such as `io.BytesIO`.

    **Raises** `FileFormatError` for families and sources that cannot be saved, `OSError` where the file cannot be
    written, `CircuitError` for what is neither a circuit nor a model.

    >>> import pcircuits as pc, tempfile
    >>> circuit = pc.Circuit(pc.mixture([0.25, 0.75], [pc.Normal("x", 0.0, 1.0), pc.Normal("x", 3.0, 1.0)]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(circuit, f"{folder}/c.pc")
    ...     load(f"{folder}/c.pc").root.weights.value.tolist()
    [0.25, 0.75]
    """
    if isinstance(circuit, CompiledCircuit):
        circuit = circuit.to_circuit()
    if not isinstance(circuit, Circuit):
        raise CircuitError(
            f"save: expected a circuit or a model, got {type(circuit).__name__}: make one with pcircuits.Circuit(units)"
        )
    if not isinstance(file, str | os.PathLike) and not hasattr(file, "write"):
        raise CircuitError(f"save: expected a path or an open binary file, got {type(file).__name__}")
    writer = ArrayWriter(circuit)
    structure = {
        "variables": list(circuit.variables),
        "idle_variables": list(writer.idle_variables),
        "families": [family_entry(family) for family in writer.families],
        "sources": writer.sources.entries,
        "words": writer.parameters.words,
    }
    write(file, structure, {**writer.tensors, **writer.parameters.tensors, **writer.sources.tensors})


def load(file: File, types: Iterable[type] = ()) -> Circuit:
    """The circuit of a file that `save` wrote: the same structure, parameters, ties and order of variables.

    **Arguments**

    - `file`: a path; or an open binary file, which holds the circuit from where it stands to its end.
    - `types`: the user's own families and sources that the file may name.

    **Raises** `FileFormatError` where the file is truncated, altered, of a newer version, no circuit file at all, or
    names a type that is neither the library's nor in `types`; `FileNotFoundError` where there is none.

    >>> import io, pcircuits as pc
    >>> file = io.BytesIO()
    >>> save(pc.Circuit(pc.Bernoulli("a", 0.5)), file)
    >>> load(io.BytesIO(file.getvalue())).variables
    ('a',)
    """
    if not isinstance(file, str | os.PathLike) and not hasattr(file, "read"):
        raise CircuitError(f"load: expected a path or an open binary file, got {type(file).__name__}")
    known = Types(types)
    try:
        return _circuit(*read(file), known)
    except FileFormatError as error:
        name = os.fspath(file) if isinstance(file, str | os.PathLike) else getattr(file, "name", repr(file))
        raise FileFormatError(f"{name}: {error}") from error


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
