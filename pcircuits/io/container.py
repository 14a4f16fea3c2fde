"""Safetensors files with a digest of every byte, which is checked before the library reads them.

A file is the length of its header (8 bytes, little-endian), the header (JSON: name to dtype, shape and place, and
`__metadata__`: str to str), and the tensors end to end. The digest is the SHA-256 of all of it, with zeros in the place
of the digest itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from torch import Tensor

from pcircuits.errors import FileFormatError
from pcircuits.files import replacing

__all__ = ["VERSION", "File", "Packed", "read", "write"]

File = str | os.PathLike[str] | BinaryIO
"""A path, or an open binary file such as `io.BytesIO`."""

FORMAT, VERSION = "pcircuits", 1
LONGEST_HEADER = 100_000_000
"""What the safetensors library accepts, in bytes."""
NO_DIGEST = "0" * 64

NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""The dtypes that are written; the library knows which it can read."""


@dataclass(frozen=True)
class Packed:
    """Tensors of one dtype that are stored end to end as one vector."""

    pieces: Sequence[Tensor]


def write(target: File, structure: Mapping[str, object], tensors: Mapping[str, Tensor | Packed]) -> None:
    """Write one file; `structure` is JSON, kept in the header's metadata. A path is written whole, or not at all.

    **Raises** `FileFormatError` for a dtype that safetensors does not have and a structure that is not JSON; `OSError`
    where the file cannot be written.
    """
    names = sorted(tensors, key=lambda name: (-_dtype(tensors[name], name).itemsize, name))
    header = _header(structure, {name: tensors[name] for name in names})
    digest = hashlib.sha256(header)
    for part in _data(tensors, names):
        digest.update(part)
    with replacing(Path(target)) if isinstance(target, str | os.PathLike) else nullcontext(target) as file:
        file.write(header.replace(_digest_entry(NO_DIGEST), _digest_entry(digest.hexdigest())))
        for part in _data(tensors, names):
            file.write(part)


def read(source: File) -> tuple[Any, dict[str, Tensor]]:
    """The structure and the tensors of a file, or of what is left of an open one.

    **Raises** `FileFormatError` for anything but a whole, unaltered file of this format, before any memory is taken
    for what its header declares.
    """
    raw = Path(source).read_bytes() if isinstance(source, str | os.PathLike) else source.read()
    length = _header_length(raw)
    metadata, end = _parse_header(raw[8:length])
    _identify(metadata)
    if len(raw) != length + end:
        cut = "truncated" if len(raw) < length + end else "damaged"
        raise FileFormatError(
            f"{cut}: the header declares {end} bytes of tensors, the file has {len(raw) - length}; take another copy"
        )
    if _digest(raw, length, metadata["digest"]) != metadata["digest"]:
        raise FileFormatError(
            "the file was altered after it was saved: its content does not have the digest in its header; "
            "take another copy, or save the circuit again"
        )
    try:
        tensors = read_tensors(raw)
    except (SafetensorError, KeyError) as error:  # a KeyError: torch lacks the dtype
        raise FileFormatError(f"the header is malformed ({error}); the file is damaged") from error
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


def _data(tensors: Mapping[str, Tensor | Packed], names: Sequence[str]) -> Iterator[memoryview]:
    return (_bytes(piece) for name in names for piece in _pieces(tensors[name]))


def _bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, without a copy where it lies on the CPU in one piece."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    if flat.stride(0) != 1:  # a single number may have any stride and still count as contiguous
        flat = flat.clone(memory_format=torch.contiguous_format)
    return memoryview(flat.view(torch.uint8).numpy())  # type: ignore[arg-type]


def _dtype(value: Tensor | Packed, name: str) -> torch.dtype:
    dtype = value.pieces[0].dtype if isinstance(value, Packed) else value.dtype
    if dtype not in NAMES:
        raise FileFormatError(
            f"{name} has dtype {dtype}, which a circuit file cannot hold: it holds {list(NAMES.values())}"
        )
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


def _header_length(raw: bytes) -> int:
    """The length of the header with what says its length."""
    length = int.from_bytes(raw[:8], "little")
    if not 2 <= length <= min(len(raw) - 8, LONGEST_HEADER):
        raise FileFormatError(
            f"not a circuit file, or truncated: it has {len(raw)} bytes, and its header would take {length} of them; "
            "a circuit file is made by pcircuits.save"
        )
    if not raw.startswith(b"{", 8):
        raise FileFormatError(
            "not a circuit file: it has no safetensors header; a circuit file is made by pcircuits.save"
        )
    return 8 + length


def _parse_header(raw: bytes) -> tuple[dict[str, str], int]:
    """The metadata, and how many bytes of tensors the header declares."""
    header = parse_json(raw, "the header")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FileFormatError("the header is malformed: its metadata is not a table of strings; the file is damaged")
    try:
        return metadata, max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except (TypeError, ValueError, LookupError) as error:
        raise FileFormatError("the header is malformed: a tensor has no place; the file is damaged") from error


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


def _digest(raw: bytes, length: int, said: str) -> str:
    """The digest of a file, with zeros in the one place for it."""
    header, entry = raw[:length], _digest_entry(said)
    if header.count(entry) != 1:
        raise FileFormatError("the header is malformed: its digest is not in the one place for it; the file is damaged")
    digest = hashlib.sha256(header.replace(entry, _digest_entry(NO_DIGEST)))
    digest.update(memoryview(raw)[length:])
    return digest.hexdigest()


def _digest_entry(digest: str) -> bytes:
    return f'"digest":"{digest}"'.encode()
