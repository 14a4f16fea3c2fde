"""Variables and scopes: a scope is a set of columns, kept as the bits of one integer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeGuard

import numpy as np

from pcircuits.errors import ScopeError

__all__ = ["OPEN_ENDED", "REAL", "Variable", "as_labels", "as_variables", "columns", "is_label", "order"]

Variable = int | str
"""A label of a random variable."""
OPEN_ENDED = 0
"""In place of a number of states: any integer from 0."""
REAL = -1
"""In place of a number of states: a real number."""


def is_label(value: object) -> TypeGuard[Variable]:
    """Whether `value` can name a variable; an integer of numpy names the one of the same int."""
    return isinstance(value, int | str | np.integer) and not isinstance(value, bool)


def as_labels(variables: object) -> tuple[Variable, ...]:
    """One label, or any number of labels, as a tuple of ints and strs."""
    if is_label(variables):
        return (_plain(variables),)
    if not isinstance(variables, Iterable):
        raise ScopeError(f"a variable is an int or a str, not {variables!r}")
    return tuple(map(_plain, variables))


def _plain(label: object) -> Variable:
    if type(label) is int or isinstance(label, str):
        return label
    if not is_label(label):
        raise ScopeError(f"a variable is an int or a str, not {label!r}")
    return int(label)


def as_variables(variables: object) -> tuple[Variable, ...]:
    """One label, or a sequence of labels, as a tuple."""
    labels = as_labels(variables)
    if not labels:
        raise ScopeError("no variables were given: at least one is needed")
    return labels


def order(found: Iterable[Variable], wanted: Sequence[Variable] | None) -> tuple[Variable, ...]:
    """The order of the data's columns: as wanted; else ints in order, anything else by first appearance."""
    present = dict.fromkeys(found)
    if wanted is None:
        if all(isinstance(label, int) for label in present):
            return tuple(sorted(present, key=int))
        return tuple(present)
    wanted = tuple(wanted)
    if len(set(wanted)) != len(wanted):
        twice = [label for label in dict.fromkeys(wanted) if wanted.count(label) > 1]
        raise ScopeError(f"variables {twice} are listed more than once in `variables`")
    if absent := [label for label in wanted if label not in present]:
        raise ScopeError(f"variables {absent} are in `variables` but no input unit has them in its scope")
    named = set(wanted)
    if missing := [label for label in present if label not in named]:
        raise ScopeError(f"`variables` leaves out {missing}, which input units have in their scopes")
    return wanted


def columns(scope: int) -> Iterator[int]:
    """The columns of a scope, in order.

    >>> list(columns(0b1010))
    [1, 3]
    """
    while scope:
        lowest = scope & -scope
        yield lowest.bit_length() - 1
        scope ^= lowest
