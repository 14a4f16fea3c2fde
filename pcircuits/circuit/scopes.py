"""The distinct scopes of a circuit, numbered, so that most questions about scopes are comparisons of small integers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from pcircuits.scope import Variable

__all__ = ["ScopeTable"]

Positions = NDArray[np.int64]
Members = int | Positions
"""The variables of a scope: the bits of an integer, or sorted positions where bits would be mostly zeros."""
ALWAYS_BITS = 2048
"""Up to so many variables every scope is kept as bits: a quarter of a kilobyte."""


class ScopeTable:
    """Numbers for scopes: equal scopes have one number, the empty scope has 0.

    A fully factorised circuit has as many scopes as variables, and the bits of each would take memory that is quadratic
    in the number of variables. Scopes of few variables are therefore kept as the positions of these.

    **Arguments**

    - `labels`: the variables; the scope of variable i alone has the number i + 1.

    >>> table = ScopeTable(["a", "b", "c"])
    >>> pair = table.union([table.of(["a"]), table.of(["c"])])
    >>> table.labels(pair), pair == table.of(["c", "a"]), table.sizes[pair]
    (['a', 'c'], True, 2)
    """

    def __init__(self, labels: Sequence[Variable]) -> None:
        self._labels = labels
        self._number_of = {label: i + 1 for i, label in enumerate(labels)}
        self._composed: list[Members] = []  # of the scopes of two variables and more
        self._numbers: dict[int | bytes, int] = {}
        self._unions: dict[frozenset[int], int] = {}
        self.sizes = [0, *[1] * len(labels)]
        """For each scope, its number of variables."""

    def of(self, labels: Sequence[Variable]) -> int:
        """The scope of some variables."""
        if len(labels) == 1:
            return self._number_of[labels[0]]
        return self.union([self._number_of[label] for label in labels])

    def union(self, scopes: Iterable[int]) -> int:
        """The union of scopes."""
        distinct = set(scopes)
        distinct.discard(0)
        if len(distinct) < 2:
            return distinct.pop() if distinct else 0
        key = frozenset(distinct)
        number = self._unions.get(key)
        if number is None:
            number = self._unions[key] = self._number(self._joined(key))
        return number

    def positions(self, scope: int) -> Positions:
        """The positions of a scope's variables among the labels, sorted."""
        if scope <= len(self._labels):
            return np.arange(scope - 1, scope) if scope else np.zeros(0, np.int64)
        members = self._composed[scope - len(self._labels) - 1]
        return _positions(members) if isinstance(members, int) else members

    def labels(self, scope: int) -> list[Variable]:
        """The variables of a scope."""
        return [self._labels[i] for i in self.positions(scope).tolist()]

    def meeting(self, labels: Iterable[Variable]) -> list[bool]:
        """For each scope, whether it has a variable among these."""
        wanted = np.zeros(len(self._labels), bool)
        wanted[[self._number_of[label] - 1 for label in labels]] = True
        bits = _bits(np.flatnonzero(wanted), len(wanted))
        composed = (bool(m & bits) if isinstance(m, int) else bool(wanted[m].any()) for m in self._composed)
        return [False, *wanted.tolist(), *composed]

    def _joined(self, scopes: frozenset[int]) -> Members:
        bits, few, count = 0, [], len(self._labels)
        for scope in scopes:
            if scope > count:
                members = self._composed[scope - count - 1]
                if isinstance(members, int):
                    bits |= members
                else:
                    few.append(members)
        few.append(np.array([scope - 1 for scope in scopes if scope <= count], dtype=np.int64))
        positions = np.unique(np.concatenate(few))
        if not bits and count > ALWAYS_BITS and 64 * len(positions) < count:
            return positions
        return bits | _bits(positions, count)

    def _number(self, members: Members) -> int:
        key = members if isinstance(members, int) else members.tobytes()
        if key not in self._numbers:
            self._numbers[key] = len(self.sizes)
            self.sizes.append(members.bit_count() if isinstance(members, int) else len(members))
            self._composed.append(members)
        return self._numbers[key]


def _bits(positions: Positions, count: int) -> int:
    mask = np.zeros(count, bool)
    mask[positions] = True
    return int.from_bytes(np.packbits(mask, bitorder="little").tobytes(), "little")


def _positions(bits: int) -> Positions:
    raw = np.frombuffer(bits.to_bytes((bits.bit_length() + 7) // 8, "little"), np.uint8)
    return np.flatnonzero(np.unpackbits(raw, bitorder="little"))
