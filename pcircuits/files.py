"""Files that are whole or absent."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["make_folder", "replacing", "write_whole"]


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes the place of `path` at once when the block ends; when it fails, nothing is left of it.

    The temporary file has a name of its own, so that two writers of one path do not mix: the last to finish wins.

    **Raises** `OSError` naming `path`, where the folder cannot be written or the disk is full.
    """
    with _through(path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp"), path) as file:
        yield file


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, unless it is there.

    **Raises** `OSError` naming `path`, where it cannot be made: a file is in its place, or nobody may write there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "a file has its name" if isinstance(error, FileExistsError) else error.strerror or str(error)
        raise OSError(error.errno, f"the folder cannot be made ({reason}), choose another", str(path)) from error


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a binary file that takes the place of `path` at once.

    Whenever the process dies, `path` holds its old content or its new one. The temporary name is always the same, so
    that what a killed process left is overwritten, not heaped up: for folders that one process at a time writes.

    **Raises** `OSError` naming `path`, where the folder cannot be written or the disk is full.
    """
    with _through(path.with_name(path.name + ".tmp"), path) as file:
        write(file)


@contextmanager
def _through(temporary: Path, path: Path) -> Iterator[BinaryIO]:
    """Python's own `open` makes the file, so that it has the mode that the user's umask gives new files."""
    try:
        with open(temporary, "wb") as file:
            yield file
        os.replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        raise OSError(error.errno, f"the file was not written: {error.strerror or error}", str(path)) from error
    except BaseException:
        _remove(temporary)
        raise


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
