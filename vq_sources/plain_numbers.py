"""Numbers of configs: they come from JSON and NumPy as well as from code, and other things than numbers are refused by name."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Sequence

from vq_sources.errors import ConfigError

__all__ = ["pair", "real_number", "whole_number"]


def whole_number(value: object, name: str, smallest: int) -> int:
    """An integer of at least `smallest`, also one of NumPy's.

    **Raises** `ConfigError` for anything else, such as 4.0 or "4".

    >>> whole_number(4, "num_codes", 2)
    4
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or number < smallest:
        raise ConfigError(f"{name} is {value!r}; it must be an integer, at least {smallest}")
    return number


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
        whole_number(number, f"{name} is {value!r}, whose number {i}", 1) for i, number in enumerate(value)
    )
    return rows, columns
