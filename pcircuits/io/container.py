"""Safetensors files with a digest of every byte, read only after their header was checked against their size.

A file is the length of its header (8 bytes, little-endian), the header (JSON: name to dtype, shape and place, and
`__metadata__`: str to str), and the tensors end to end. The digest is the SHA-256 of all of it, with zeros in the place
of the digest itself.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from pcircuits.errors import FileFormatError
from pcircuits.files import replacing

__all__ = ["VERSION", "Packed", "read", "write"]

FORMAT, VERSION = "pcircuits", 1
LONGEST_HEADER = 100_000_000
"""What the safetensors library accepts, in bytes."""
NO_DIGEST = "0" * 64

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Packed:
    """Tensors of one dtype that are stored end to end as one vector."""

    pieces: Sequence[Tensor]


@dataclass(frozen=True)
class _Entry:
    """Where a tensor lies in a file."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


def write(path: Path, structure: Mapping[str, object], tensors: Mapping[str, Tensor | Packed]) -> None:
    """Write one file: whole, or not at all; `structure` is JSON, kept in the header's metadata.

    **Raises** `FileFormatError` for a dtype that safetensors does not have and a structure that is not JSON; `OSError`
    where the file cannot be written.
    """
    names = sorted(tensors, key=lambda name: (-_dtype(tensors[name], name).itemsize, name))
    header = _header(structure, {name: tensors[name] for name in names})
    digest = hashlib.sha256(header)
    with replacing(path) as file:
        file.write(header)
        for name in names:
            for piece in _pieces(tensors[name]):
                raw = _bytes(piece)
                digest.update(raw)
                file.write(raw)
        file.seek(header.index(f'"digest":"{NO_DIGEST}"'.encode()) + len('"digest":"'))
        file.write(digest.hexdigest().encode())


def read(path: Path) -> tuple[Any, dict[str, Tensor]]:
    """The structure and the tensors of a file.

    **Raises** `FileFormatError` for anything but a whole, unaltered file of this format, before any memory is taken
    for what its header declares.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        raw = _read_header(file, size)
        metadata, entries = _parse_header(raw)
        _identify(metadata)
        _fits(entries, size - len(raw))
        digest = hashlib.sha256(_without_digest(raw, metadata))
        tensors = {entry.name: _read_tensor(file, entry, digest) for entry in entries}
    if digest.hexdigest() != metadata["digest"]:
        raise FileFormatError(
            "the file was altered after it was saved: its content does not have the digest in its header; "
            "take another copy, or save the circuit again"
        )
    return parse_json(metadata.get("structure", ""), "the structure"), tensors


def parse_json(text: str | bytes, what: str) -> Any:
    """JSON without the numbers that it does not have (NaN, Infinity)."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{what} is not JSON ({error}): the file is damaged, or not a circuit file") from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _pieces(value: Tensor | Packed) -> Iterator[Tensor]:
    yield from value.pieces if isinstance(value, Packed) else (value,)


def _bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, without a copy where it lies on the CPU in one piece."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    if flat.stride(0) != 1:  # a single number may have any stride and still count as contiguous
        flat = flat.clone(memory_format=torch.contiguous_format)
    return memoryview(flat.view(torch.uint8).numpy())  # type: ignore[arg-type]


def _dtype(value: Tensor | Packed, name: str) -> torch.dtype:
    dtype = value.pieces[0].dtype if isinstance(value, Packed) else value.dtype
    if dtype not in NAMES:
        raise FileFormatError(f"{name} has dtype {dtype}, which a circuit file cannot hold: it holds {list(DTYPES)}")
    return dtype


def _header(structure: Mapping[str, object], tensors: Mapping[str, Tensor | Packed]) -> bytes:
    """The length and the header, padded to whole words, with zeros for the digest."""
    try:
        text = json.dumps(structure, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise FileFormatError(
            f"the structure cannot be written as JSON ({error}): families and the config of a source hold strings, "
            "finite numbers, and lists and dicts of them"
        ) from error
    header: dict[str, object] = {
        "__metadata__": {"format": FORMAT, "version": str(VERSION), "digest": NO_DIGEST, "structure": text}
    }
    begin = 0
    for name, value in tensors.items():
        count = sum(piece.numel() for piece in _pieces(value))
        end = begin + count * _dtype(value, name).itemsize
        shape = [count] if isinstance(value, Packed) else list(value.shape)
        header[name] = {"dtype": NAMES[_dtype(value, name)], "shape": shape, "data_offsets": [begin, end]}
        begin = end
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    if len(raw) > LONGEST_HEADER:
        raise FileFormatError(
            f"the header would be {len(raw)} bytes; a safetensors header has at most {LONGEST_HEADER}"
        )
    return len(raw).to_bytes(8, "little") + raw


def _read_header(file: BinaryIO, size: int) -> bytes:
    """The header with its length, read only if the file is long enough to hold it."""
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or not 2 <= length <= min(size - 8, LONGEST_HEADER):
        raise FileFormatError(
            f"not a circuit file, or truncated: it has {size} bytes, and its header would take {length} of them; "
            "a circuit file is made by pcircuits.save"
        )
    raw = file.read(length)
    if len(raw) < length or not raw.startswith(b"{"):
        raise FileFormatError(
            "not a circuit file: it has no safetensors header; a circuit file is made by pcircuits.save"
        )
    return start + raw


def _parse_header(raw: bytes) -> tuple[dict[str, str], list[_Entry]]:
    header = parse_json(raw[8:], "the header")
    metadata = header.pop("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FileFormatError("the header is malformed: its metadata is not a table of strings; the file is damaged")
    entries = [_entry(name, value) for name, value in header.items()]
    return metadata, sorted(entries, key=lambda entry: (entry.begin, entry.end))


def _entry(name: str, value: Any) -> _Entry:
    fields: dict[str, Any] = value if isinstance(value, dict) else {}
    dtype: Any = fields.get("dtype")
    shape: Any = fields.get("shape")
    place: Any = fields.get("data_offsets")
    if not isinstance(dtype, str) or not _counts(shape) or not _counts(place) or len(place) != 2:
        raise FileFormatError(f"the header is malformed at tensor {name!r}; the file is damaged")
    if dtype not in DTYPES:
        raise FileFormatError(f"tensor {name!r} has the dtype {dtype!r}, which is not known here")
    return _Entry(name, DTYPES[dtype], tuple(shape), place[0], place[1])


def _counts(values: Any) -> bool:
    """A short list of integers >= 0, none beyond what a tensor can have."""
    return isinstance(values, list) and len(values) <= 64 and all(type(v) is int and 0 <= v < 2**48 for v in values)


def _identify(metadata: Mapping[str, str]) -> None:
    """Refuse other formats and newer versions, by name."""
    if metadata.get("format") != FORMAT:
        raise FileFormatError("a safetensors file, but not of a circuit: a circuit file is made by pcircuits.save")
    version = metadata.get("version", "")
    if not re.fullmatch("[1-9][0-9]{0,8}", version):
        raise FileFormatError("the header is malformed: it has no version; the file is damaged")
    if int(version) > VERSION:
        raise FileFormatError(
            f"written by a newer pcircuits, in version {version} of the format; this one reads up to {VERSION}: "
            "upgrade pcircuits"
        )
    if not re.fullmatch("[0-9a-f]{64}", metadata.get("digest", "")):
        raise FileFormatError("the header is malformed: it has no digest; the file is damaged")


def _fits(entries: Sequence[_Entry], size: int) -> None:
    """The tensors lie end to end, have the bytes that their shapes need, and fill the rest of the file."""
    end = 0
    for entry in entries:
        needed = math.prod(entry.shape) * entry.dtype.itemsize
        if entry.begin != end or entry.end - entry.begin != needed:
            raise FileFormatError(
                f"the header is malformed: tensor {entry.name!r} of shape {list(entry.shape)} needs {needed} bytes "
                f"from {end}, and is said to lie at {entry.begin} to {entry.end}; the file is damaged"
            )
        end = entry.end
    if end != size:
        cut = "truncated" if end > size else "damaged"
        raise FileFormatError(
            f"{cut}: the header declares {end} bytes of tensors, the file has {size}; take another copy"
        )


def _without_digest(raw: bytes, metadata: Mapping[str, str]) -> bytes:
    digest = f'"digest":"{metadata["digest"]}"'.encode()
    if raw.count(digest) != 1:
        raise FileFormatError("the header is malformed: its digest is not in the one place for it; the file is damaged")
    return raw.replace(digest, f'"digest":"{NO_DIGEST}"'.encode())


def _read_tensor(file: BinaryIO, entry: _Entry, digest: Any) -> Tensor:
    raw = torch.empty(entry.end - entry.begin, dtype=torch.uint8)
    view = _bytes(raw)
    if len(view) and file.readinto(view) != len(view):  # type: ignore[attr-defined]
        raise FileFormatError("truncated while it was read; take another copy")
    digest.update(view)
    return raw.view(entry.dtype).reshape(entry.shape)
