"""Reports as JSON files: whole or absent, with the versions that made them."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import pcircuits
from pcircuits.errors import FileFormatError
from pcircuits.files import write_whole

__all__ = ["read_json", "versions", "write_bytes", "write_json"]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` to `path`, whole or not at all; numbers keep all of their digits."""
    write_bytes(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    write_whole(path, lambda file: file.write(content))


def read_json(path: Path, remedy: str = "delete it, and make it again") -> dict[str, Any]:
    """The object in a JSON file.

    **Arguments**

    - `remedy`: what to do, or what follows, where it cannot be read.

    **Raises** `FileNotFoundError` where there is no file, `FileFormatError` where it holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FileFormatError(f"{path} cannot be read ({error}): {remedy}") from error
    if not isinstance(content, dict):
        raise FileFormatError(f"{path} holds no JSON object: {remedy}")
    return content


def versions() -> dict[str, str]:
    """What computed a report: this package, Python, torch, and the quantiser's package where it is installed."""
    found = {"pcircuits": pcircuits.__version__, "python": platform.python_version(), "torch": str(torch.__version__)}
    with suppress(metadata.PackageNotFoundError):
        found["vector-quantize-pytorch"] = metadata.version("vector-quantize-pytorch")
    return found
