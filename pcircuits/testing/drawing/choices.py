"""Where random circuits get their choices from: a numpy seed here; hypothesis, which shrinks, in the strategies."""

from __future__ import annotations

from typing import Protocol

import numpy as np

__all__ = ["Choices", "Seeded"]


class Choices(Protocol):
    """A stream of small decisions."""

    def integer(self, low: int, high: int) -> int:
        """An integer in [low, high]."""
        ...

    def flag(self) -> bool:
        """A coin."""
        ...


class Seeded:
    """Choices from a numpy generator: some microseconds each, the same for the same seed.

    **Arguments**

    - `seed`: one integer, or several, such as the seed of a run and the number of a circuit in it.

    >>> Seeded(0, 17).integer(0, 9) == Seeded(0, 17).integer(0, 9)
    True
    """

    def __init__(self, *seed: int) -> None:
        self._numbers = np.random.default_rng(seed)

    def integer(self, low: int, high: int) -> int:
        """An integer in [low, high]."""
        return int(self._numbers.integers(low, high, endpoint=True))

    def flag(self) -> bool:
        """A coin."""
        return bool(self._numbers.integers(2))
