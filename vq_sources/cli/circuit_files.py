"""Circuit files of distilled models, each with a small JSON file beside it that says where it came from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pcircuits as pc
from pcircuits.parameters import Sourced
from vq_sources.codes import CodeSet
from vq_sources.distil import DecoderSource, load_circuit
from vq_sources.errors import DataError
from vq_sources.metrics import Sizes
from vq_sources.protocols import VQDecoder
from vq_sources.report import read_json, write_json

__all__ = ["CircuitFile", "image_shape", "open_circuit", "write_circuit"]


@dataclass(frozen=True)
class CircuitFile:
    """A circuit from a file, and what is known of where it came from.

    **Arguments**

    - `path`, `circuit`: the file, and what is in it.
    - `digest`: of the file's bytes.
    - `origin`: of a distilled model its data set, method, weights, how many codes were asked for and reached, seed,
      covered mass, the prior's identity and the three sizes; empty for other circuits.
    """

    path: Path
    circuit: pc.Circuit
    digest: str
    origin: Mapping[str, Any]


def write_circuit(path: Path, circuit: pc.Circuit, dataset: str, codes: CodeSet, weights: str, sizes: Sizes) -> None:
    """Write a distilled circuit and, after it, what is known of it; both whole or absent."""
    pc.save(circuit, path)
    provenance = asdict(codes.provenance)
    origin = {
        "dataset": dataset,
        "weights": weights,
        **{name: provenance[name] for name in ("method", "seed", "asked", "reached", "prior")},
        "details": dict(codes.provenance.details),
        "covered_mass": codes.covered_mass,
        "sizes": asdict(sizes),
    }
    write_json(path.with_suffix(".json"), {"circuit": _digest(path), **origin})


def open_circuit(path: Path) -> CircuitFile:
    """Read a circuit file, and what is beside it.

    **Raises** `FileNotFoundError` where there is no file, `FileFormatError` for files that are damaged, `DataError`
    where the JSON file beside it belongs to another circuit.
    """
    circuit = load_circuit(str(path))
    digest, beside = _digest(path), path.with_suffix(".json")
    origin = read_json(beside, "delete it, and what it says is not shown") if beside.is_file() else {}
    if origin.pop("circuit", digest) != digest:
        raise DataError(f"{beside} does not belong to {path}: delete it, and what it says is not shown")
    return CircuitFile(path, circuit, digest, origin)


def image_shape(circuit: pc.Circuit) -> tuple[int, int]:
    """(H, W) of the images that a circuit is over: its VQ model's, or else a square.

    **Raises** `DataError` for a circuit whose variables do not fill a square.
    """
    parameters = circuit.inputs[0].parameters
    if isinstance(parameters, Sourced) and isinstance(parameters.source, DecoderSource):
        model = parameters.source.model
        assert isinstance(model, VQDecoder)
        return model.data_shape
    count = len(circuit.variables)
    side = round(count**0.5)
    if side * side != count:
        raise DataError(f"a circuit over {count} variables is not over the pixels of a square image")
    return side, side


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]
