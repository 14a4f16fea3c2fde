"""Arguments that many functions take: random generators and whole numbers, checked in the same words everywhere."""

from __future__ import annotations

import operator

import torch

from pcircuits.errors import CircuitError

__all__ = ["as_generator", "whole_number"]


def as_generator(value: object, name: str = "generator") -> torch.Generator | None:
    """`value` where it is a `torch.Generator` or None.

    A seed is refused, not turned into a generator: two calls with one seed would draw the same numbers unnoticed.

    **Raises** `CircuitError` for anything else, with the call that makes a generator of a seed.

    >>> as_generator(7)
    Traceback (most recent call last):
    ...
    pcircuits.errors.CircuitError: generator is a torch.Generator, not 7: torch.Generator().manual_seed(7) makes one
    """
    if value is None or isinstance(value, torch.Generator):
        return value
    try:
        seed = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        seed = 0
    raise CircuitError(f"{name} is a torch.Generator, not {value!r}: torch.Generator().manual_seed({seed}) makes one")


def whole_number(value: object, name: str, least: int, error: type[CircuitError] = CircuitError) -> int:
    """`value` as an int, those of NumPy and torch included.

    **Arguments**

    - `name`: how the argument is called in the error.
    - `least`: the smallest number that is admitted.
    - `error`: the class of the error.

    **Raises** `error` for numbers below `least`, for floats, also for those without a fraction, and for booleans.

    >>> whole_number(3, "n", least=0)
    3
    >>> whole_number(2.0, "n", least=0)
    Traceback (most recent call last):
    ...
    pcircuits.errors.CircuitError: n is 2.0: it must be an integer >= 0
    """
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = least - 1
    if number < least:
        raise error(f"{name} is {value!r}: it must be an integer >= {least}")
    return number
