"""Variables and scopes: a scope is a set of columns, kept as the bits of one integer."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeGuard

from pcircuits.errors import ScopeError

__all__ = ["OPEN_ENDED", "REAL", "Variable", "as_label", "as_labels", "as_variables", "columns", "is_label", "order"]

Variable = int | str
"""A label of a random variable."""
OPEN_ENDED = 0
"""In place of a number of states: any integer from 0."""
REAL = -1
"""In place of a number of states: a real number."""


def is_label(value: object) -> TypeGuard[Variable]:
    """Whether `value` can name a variable: a str, or an integer of Python, NumPy or torch.

    >>> is_label(3), is_label("rain"), is_label(3.0), is_label(True)
    (True, True, False, False)
    """
    try:
        as_label(value)
    except ScopeError:
        return False
    return True


def as_label(value: object) -> Variable:
    """A label as an int or a str of Python, whatever library the number or the string comes from.

    **Raises** `ScopeError` for anything else, also for booleans and for floats without a fraction.
    """
    if type(value) is int or type(value) is str:
        return value
    if isinstance(value, str):
        return str(value)
    # bool and its kin in NumPy and torch can stand for integers, and are never meant as labels.
    if "bool" not in str(getattr(value, "dtype", type(value).__name__)):
        try:
            return operator.index(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            pass
    raise ScopeError(f"a variable is an int or a str, not {value!r}")


def as_labels(variables: object) -> tuple[Variable, ...]:
    """One label, or any number of labels, as a tuple of ints and strs of Python."""
    if is_label(variables):
        return (as_label(variables),)
    if not isinstance(variables, Iterable) or getattr(variables, "ndim", 1) == 0:
        raise ScopeError(f"a variable is an int or a str, not {variables!r}")
    return tuple(map(as_label, variables))


def as_variables(variables: object) -> tuple[Variable, ...]:
    """One label, or a sequence of labels, as a tuple of ints and strs of Python."""
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
