"""What a user sees when something goes wrong: one line, and an exit code; never a traceback for a user's error."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from pcircuits.errors import CircuitError
from pcircuits.memory import is_out_of_memory

__all__ = ["FAILED", "INTERRUPTED", "reporting"]

FAILED, INTERRUPTED = 1, 130
"""Exit codes; wrong usage is 2, as everywhere."""

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def reporting(interrupted: str = "Nothing is left half-written; run the same command again.") -> Iterator[None]:
    """Turn the errors of users, files and missing packages into one line on stderr and exit code 1, Ctrl-C into 130.

    **Arguments**

    - `interrupted`: what a second run of the command will do after Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        _say(f"stopped by Ctrl-C. {interrupted}", "yellow")
        raise typer.Exit(INTERRUPTED) from None
    except (CircuitError, OSError, ImportError) as error:
        _say(f"error: {_one_line(error)}", "red")
        raise typer.Exit(FAILED) from None
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        _say(f"error: {_out_of_memory(error)}", "red")
        raise typer.Exit(FAILED) from None


def _one_line(error: Exception) -> str:
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.strerror}: {error.filename}{_remedy(error)}"
    text = " ".join(text.split()) or type(error).__name__
    if isinstance(error, ImportError) and "pip install" not in text:
        text += ': pip install "pcircuits[vq]"'
    return text


def _remedy(error: OSError) -> str:
    if error.errno in _NO_SPACE:
        return "; free some space, or choose another folder with --out, and run the same command again"
    if error.errno in _NOT_ALLOWED:
        return "; choose a folder that you may write with --out"
    return ""


def _out_of_memory(error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return (
        f"out of memory ({reason}). Nothing is left half-written: free some memory, or choose smaller circuits (--max-n, "
        "--size), and run the same command again. From Python, circuit.compile(memory=...) bounds what a query takes"
    )


def _say(text: str, style: str) -> None:
    Console(stderr=True).print(text, style=style, markup=False, highlight=False, soft_wrap=True)
