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
from vq_sources.protocols import ImageVQDecoder
from vq_sources.report import read_json, write_json

__all__ = ["CircuitFile", "chosen_root", "image_shape", "open_circuit", "write_circuit"]


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

    **Raises** `FileNotFoundError` where there is no file, `FileFormatError` for files that are damaged, `DataError` for
    folders and files of other kinds, and where the JSON file beside it belongs to another circuit.
    """
    _refuse_other_things(path)
    circuit = load_circuit(str(path))
    digest, beside = _digest(path), path.with_suffix(".json")
    origin = read_json(beside, "delete it, and what it says is not shown") if beside.is_file() else {}
    if origin.pop("circuit", digest) != digest:
        raise DataError(f"{beside} does not belong to {path}: delete it, and what it says is not shown")
    return CircuitFile(path, circuit, digest, origin)


def chosen_root(file: CircuitFile, root: int | None) -> int:
    """The root that is asked of; it must be named where there are several.

    **Raises** `DataError` where it is not there, or not named.
    """
    count = file.circuit.num_roots
    if root is None and count > 1:
        raise DataError(f"{file.path} has {count} roots, 0 to {count - 1}: say which one with --root")
    if root is not None and root >= count:
        there = f"{count} roots, 0 to {count - 1}" if count > 1 else "one root, 0"
        raise DataError(f"{file.path} has {there}, and --root is {root}")
    return root or 0


def image_shape(circuit: pc.Circuit) -> tuple[int, int]:
    """(H, W) of the images that a circuit is over: its VQ model's, or else a square.

    **Raises** `DataError` for a circuit whose variables do not fill a square.
    """
    parameters = circuit.inputs[0].parameters
    if isinstance(parameters, Sourced) and isinstance(parameters.source, DecoderSource):
        model = parameters.source.model
        assert isinstance(model, ImageVQDecoder)
        return model.data_shape
    count = len(circuit.variables)
    side = round(count**0.5)
    if side * side != count:
        raise DataError(f"a circuit over {count} variables is not over the pixels of a square image")
    return side, side


_BEGINNINGS = {
    b"\x89PNG": "a picture (PNG)",
    b"\xff\xd8\xff": "a picture (JPEG)",
    b"GIF8": "a picture (GIF)",
    b"BM": "a picture (BMP)",
    b"PK\x03\x04": "a zip archive, as torch.save and training checkpoints are",
    b"\x1f\x8b": "a gzip archive",
    b"%PDF": "a PDF document",
    b"{": "a text file that may be JSON",
}


def _refuse_other_things(path: Path) -> None:
    """Raise `DataError` for a folder, and for files that are known to be something else by how they begin."""
    if path.is_dir():
        inside = sorted(str(found.relative_to(path)) for found in path.rglob("*.pc"))[:3]
        remedy = f"name one in it, such as {', '.join(inside)}" if inside else "and there is none in it"
        raise DataError(f"{path} is a folder, where a circuit file (.pc) is needed: {remedy}")
    if not path.is_file():
        return
    with path.open("rb") as file:
        begins = file.read(8)
    for beginning, kind in _BEGINNINGS.items():
        if begins.startswith(beginning):
            raise DataError(f"{path} is {kind}, not a circuit file: vq-circuit distil and pcircuits.save make these")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]
