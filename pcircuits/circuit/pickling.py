"""Pickles of units: nothing recurses over depth, and what is shared stays shared."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcircuits.circuit.kinds.interface import Units

__all__ = ["ChildrenFirst"]

_being_written = threading.local()


class ChildrenFirst:
    """Arrays that are pickled in topological order; the pickle holds a tuple of them.

    A pickle refers to an object that it holds already by a number. So arrays that come after their children need no
    recursion, and are the same objects to everything else in the pickle. While these are written, `in_progress` tells
    each array that its children are there.
    """

    def __init__(self, arrays: Sequence[Units]) -> None:
        self._arrays = arrays

    @staticmethod
    def in_progress() -> bool:
        """Whether arrays are being written whose children come first. A pickle that failed half-way does not count."""
        held: list[weakref.ref[ChildrenFirst]] = getattr(_being_written, "lists", [])
        while held and held[-1]() is None:
            held.pop()
        return bool(held)

    def __reduce__(self) -> tuple[object, ...]:
        return _between_marks, ([_Mark(self, begins=True), *self._arrays, _Mark(self, begins=False)],)


class _Mark:
    """Says when the arrays of a list begin to be written, and when they end: pickle asks for it at that moment."""

    def __init__(self, arrays: ChildrenFirst, begins: bool) -> None:
        self._arrays = arrays
        self._begins = begins

    def __reduce__(self) -> tuple[object, ...]:
        held = _being_written.__dict__.setdefault("lists", [])
        if self._begins:
            held.append(weakref.ref(self._arrays))
        else:
            held[:] = [one for one in held if one() is not self._arrays]
        return bool, ()


def _between_marks(written: list[Units]) -> tuple[Units, ...]:
    return tuple(written[1:-1])
