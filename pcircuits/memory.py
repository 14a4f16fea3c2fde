"""Memory that runs out, said so that the user knows what to lower; and objects made by the hundred thousand."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pcircuits.errors import MemoryBoundError

__all__ = ["collector_paused", "is_out_of_memory", "naming_the_bound"]

_OF_THE_CPU = ("can't allocate memory", "not enough memory")
"""How torch's allocator of the CPU says it, in a plain `RuntimeError`: on Linux and macOS, and on Windows."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left, on any device.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shapes do not fit"))
    (True, False)
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _OF_THE_CPU)


@contextmanager
def naming_the_bound(query: str, memory: int) -> Iterator[None]:
    """Turn out of memory inside the block into an error that names the bound to lower; all else passes.

    **Arguments**

    - `query`: what was asked.
    - `memory`: the bound in bytes that the circuit was compiled with.

    **Raises** `MemoryBoundError`.

    >>> with naming_the_bound("log_prob", 2**29):
    ...     raise MemoryError
    Traceback (most recent call last):
    ...
    pcircuits.errors.MemoryBoundError: log_prob ran out of memory, with a bound of 512 MiB ...
    """
    try:
        yield
    except MemoryBoundError:
        raise
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryBoundError(
            f"{query} ran out of memory, with a bound of {_size(memory)} on what is live in a pass beside the answer and "
            f"the parameters: compile with a lower one, such as circuit.compile(memory={max(1, memory // 4)}), "
            f"or ask about fewer rows at once ({_first_line(error)})"
        ) from error


def _size(number: int) -> str:
    return f"{number / 2**20:.0f} MiB" if number >= 2**20 else f"{number} bytes"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause Python's collector of cycles: while very many objects are made to stay, it walks them again and again.

    >>> with collector_paused():
    ...     gc.isenabled()
    False
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
