"""Numbers of configs: they come from JSON and NumPy as well as from code, and other things than numbers are refused by name."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence

from pcircuits.arguments import whole_number
from vq_sources.errors import ConfigError

__all__ = ["pair", "real_number"]


def real_number(value: object, name: str) -> float:
    """A finite real number, also one of NumPy's.

    **Raises** `ConfigError` for anything else, such as "1e-3", True or nan.

    >>> real_number(0.25, "decay")
    0.25
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise ConfigError(f"{name} is {value!r}; it must be a finite number")
    return value if isinstance(value, int | float) else float(value)


def pair(value: object, name: str) -> tuple[int, int]:
    """Two integers (rows, columns), each at least 1, from a tuple or a list.

    **Raises** `ConfigError` for anything else.

    >>> pair([2, 3], "grid")
    (2, 3)
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise ConfigError(f"{name} is {value!r}; it must be two numbers (rows, columns), each at least 1")
    rows, columns = (
        whole_number(number, f"{name} is {value!r}, whose number {i}", 1, ConfigError) for i, number in enumerate(value)
    )
    return rows, columns
