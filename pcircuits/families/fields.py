"""The fields of families: plain numbers, so that families compare, hash and save."""

from __future__ import annotations

from typing import Any

from pcircuits.arguments import whole_number
from pcircuits.errors import ParameterError

__all__ = ["integer", "share"]


def integer(value: Any, name: str, least: int) -> int:
    """`value` as an int, numpy's included; `ParameterError` unless it is an integer >= `least`.

    >>> integer(256, "levels", 2)
    256
    """
    return whole_number(value, name, least, ParameterError)


def share(value: Any, name: str) -> float:
    """`value` as a float; `ParameterError` unless it is in [0, 1).

    >>> share(0, "uniform")
    0.0
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < 1:
        raise ParameterError(f"{name} is {value!r}: it must be a number in [0, 1)")
    return number
