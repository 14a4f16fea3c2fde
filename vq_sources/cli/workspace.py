"""A folder of results: made with one set of settings, by one process at a time, in stages that are whole or absent."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from pcircuits.files import make_folder
from vq_sources.errors import ConfigError
from vq_sources.report import read_json, versions, write_json

__all__ = ["LOCK_NAME", "SETTINGS_NAME", "Workspace", "settings_of"]

SETTINGS_NAME = "settings.json"
LOCK_NAME = ".lock"
_STAGES = "stages"
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp|.+\.(json|csv|pt|png|safetensors)\.tmp")
"""The names under which `pcircuits.files` writes, before what is written is whole."""


class Workspace:
    """An open folder of results; see `Workspace.open`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    @contextmanager
    def open(
        cls, folder: Path, settings: Mapping[str, Any], growing: Mapping[str, Sequence[str]] | None = None
    ) -> Iterator[Workspace]:
        """Hold a folder for this process, after making sure that what is in it was made with the same settings.

        The lock belongs to the process and goes with it, however it ends. A new folder is made, with its parents.

        **Arguments**

        - `folder`: absent, empty, or made by an earlier run of the same command.
        - `settings`: everything that determines the results, as JSON takes it.
        - `growing`: dotted names of numbers among them that may become larger, each with the files and folders of
          results that are then made anew; such as the number of epochs.

        **Raises** `ConfigError` where the folder is in use, was made with other settings, or was not made by
        `vq-circuit`; `OSError` where it cannot be written.
        """
        make_folder(folder)
        _refuse_strange(folder)
        with open(folder / LOCK_NAME, "a+", encoding="utf-8") as lock:
            _hold(lock, folder)
            _agree(folder, settings, growing or {})
            _clear(folder)
            yield cls(folder)

    def path(self, name: str) -> Path:
        """Where a file of this name goes; the folders above it are made."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def done(self, name: str, files: Sequence[str] = ()) -> bool:
        """Whether a stage was finished, and its files are still there."""
        return self._record(name).is_file() and all((self.folder / file).is_file() for file in files)

    def stage(
        self, name: str, compute: Callable[[], Mapping[str, Any]], files: Sequence[str] = ()
    ) -> tuple[dict[str, Any], float]:
        """The result of a stage and the seconds it took: computed once, and read from the folder ever after.

        **Arguments**

        - `name`: of the stage, a path without a suffix.
        - `compute`: makes the files, each whole or absent, then returns the result; what is returned is written last.
        - `files`: the names of the files it makes; where one was deleted since, the stage is computed anew.
        """
        if not self.done(name, files):
            start = time.perf_counter()
            result = compute()
            seconds = time.perf_counter() - start
            write_json(self.path(f"{_STAGES}/{name}.json"), {"result": result, "seconds": seconds})
        stored = read_json(self._record(name), "delete it, and the stage is computed again")
        return stored["result"], stored["seconds"]

    def _record(self, name: str) -> Path:
        return self.folder / _STAGES / f"{name}.json"


def settings_of(command: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a folder that a command makes: its name, the versions that compute, and its own settings."""
    return {"command": command, "versions": versions(), **values}


def _hold(lock: IO[str], folder: Path) -> None:
    """Take the lock of the open file, or raise; the system frees it when the file is closed or the process ends."""
    try:
        import fcntl
    except ImportError as error:
        raise ConfigError(
            "folders of results are locked by fcntl, which this system lacks: use Linux or macOS"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        raise ConfigError(
            f"{folder} is in use by another vq-circuit{_holder(lock)}: wait until it ends, or choose another folder with "
            "--out"
        ) from None
    with suppress(OSError):  # a lock without a name still holds where the disk is full
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()


def _holder(lock: IO[str]) -> str:
    """Who wrote itself into the lock, in brackets."""
    lock.seek(0)
    number = lock.read(20).strip()
    return f" (process {number})" if number.isdecimal() else ""


def _refuse_strange(folder: Path) -> None:
    """Raise where a folder without settings holds anything but what a process that was killed early leaves: the lock,
    and perhaps the settings' temporary file. Nothing is touched before."""
    if (folder / SETTINGS_NAME).exists():
        return
    for path in sorted(folder.iterdir()):
        ours = path.name == f"{SETTINGS_NAME}.tmp" or (path.name == LOCK_NAME and _is_lock(path))
        if not ours:
            raise ConfigError(
                f"{folder} holds {path.name!r} and was not made by vq-circuit: choose an empty or a new folder with --out"
            )


def _is_lock(path: Path) -> bool:
    """Whether a file can be our lock: empty, or the number of a process."""
    content = path.read_bytes()[:21]
    return not content or content.isdigit()


def _agree(folder: Path, settings: Mapping[str, Any], growing: Mapping[str, Sequence[str]]) -> None:
    """Raise unless the folder was made with these settings, or smaller ones of `growing`; a new one is given them."""
    _refuse_strange(folder)
    path = folder / SETTINGS_NAME
    if not path.exists():
        write_json(path, settings)
        return
    before = read_json(path, "choose another folder with --out, or delete this one")
    differences = list(_differences(before, settings))
    grown = [name for name, theirs, ours in differences if name in growing and _less(theirs, ours)]
    refused = [
        f"{name}: {_word(theirs)} there, {_word(ours)} here" for name, theirs, ours in differences if name not in grown
    ]
    if refused:
        fewer = any(name in growing and _less(ours, theirs) for name, theirs, ours in differences)
        raise ConfigError(
            f"{folder} was made with other settings ({'; '.join(refused[:3])}): "
            + ("it can be gone on with to more, and not to fewer: " if fewer else "")
            + "choose another folder with --out, or delete that one"
        )
    if grown:
        # Results go before the new settings come: a process that is killed here leaves a folder of the old settings.
        for name in dict.fromkeys(result for setting in grown for result in growing[setting]):
            _remove(folder / name)
        write_json(path, settings)


def _less(one: Any, other: Any) -> bool:
    return type(one) is int and type(other) is int and one < other


def _remove(path: Path) -> None:
    """Remove a file, or a folder with what is in it, where it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _clear(folder: Path) -> None:
    """Remove the temporary files of a process that was killed: nobody else writes here while the lock is held."""
    for path in folder.rglob("*.tmp"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _differences(theirs: Any, ours: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each setting that differs, by its dotted name, with what it is there and here."""
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        for key in dict.fromkeys([*theirs, *ours]):
            yield from _differences(theirs.get(key), ours.get(key), f"{name}.{key}" if name else str(key))
    elif theirs != ours:
        yield name, theirs, ours


def _word(value: Any) -> str:
    return "none" if value is None else str(value)
