"""Choices that hypothesis draws, so that what is made of them shrinks."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

__all__ = ["Draw", "Drawn"]

Draw = Callable[[st.SearchStrategy[object]], object]


class Drawn:
    """The choices of one example.

    **Arguments**

    - `draw`: the draw function of a hypothesis composite.
    """

    def __init__(self, draw: Draw) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        """An integer in [low, high]; shrinks to `low`."""
        value = self._draw(st.integers(low, high))
        assert isinstance(value, int)
        return value

    def flag(self) -> bool:
        """A coin; shrinks to False."""
        return bool(self._draw(st.booleans()))
