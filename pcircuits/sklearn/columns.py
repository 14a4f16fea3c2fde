"""The columns of a user's table: of which kind each is, and how its values become numbers and come back."""

from __future__ import annotations

import datetime
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["KINDS", "Column", "Raw", "decoded", "encoded", "learned_columns", "raw_columns"]

KINDS = ("continuous", "counts", "categories", "booleans")
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Raw:
    """A column as it came: its name, its values (B,), and what type its data frame says that it has ("" in arrays)."""

    name: int | str
    values: NDArray[Any]
    dtype: str = ""

    @property
    def categorical(self) -> bool:
        """Whether the frame says that these are categories."""
        return self.dtype.startswith(("categ", "enum"))

    @property
    def whole(self) -> bool:
        """Whether the frame says that these are integers, of which some may be missing."""
        return self.dtype.startswith(("int", "uint"))


@dataclass(frozen=True)
class Column:
    """A column of the table that was fitted.

    - `kind`: one of `KINDS`.
    - `states`: the values of categories and booleans, in the order of their states.
    - `unseen`: whether the last state is that of categories that were not in the table.
    - `shift`, `scale`: what continuous columns are standardised by.
    """

    name: int | str
    kind: str
    states: tuple[Any, ...] = ()
    unseen: bool = False
    shift: float = 0.0
    scale: float = 1.0

    @property
    def count(self) -> int:
        """The number of states of a discrete column with finitely many; else 0."""
        return len(self.states) + self.unseen

    def encode(self, raw: Raw, refuse: bool = True) -> Numbers:
        """Values (B,) as numbers in the user's units, or states; NaN is missing.

        **Raises** `ValueError` naming the column for values that it cannot hold.
        """
        if self.kind in ("categories", "booleans"):
            return self._states(raw, refuse)
        found = _numbers(raw)
        if np.isinf(found).any():
            raise ValueError(f"Input X contains infinity in column {self.name!r}: mark such values as missing (NaN)")
        if self.kind == "counts":
            bad = ~np.isnan(found) & ((found < 0) | (found != np.floor(found)))
            if bad.any():
                raise ValueError(
                    f"column {self.name!r} holds counts, and {float(found[bad][0])!r} is none: counts are integers from 0. Say "
                    f'column_types={{{self.name!r}: "continuous"}} where it measures something'
                )
        return found

    def _states(self, raw: Raw, refuse: bool) -> Numbers:
        place = {state: float(number) for number, state in enumerate(self.states)}
        found = np.full(len(raw.values), np.nan)
        for row, value in enumerate(raw.values.tolist()):
            if _missing(value):
                continue
            state = place.get(_plain(value))
            if state is not None:
                found[row] = state
            elif self.unseen:
                found[row] = len(self.states)
            elif refuse:
                shown = ", ".join(map(repr, self.states[:6])) + (", ..." if len(self.states) > 6 else "")
                raise ValueError(
                    f"column {self.name!r} has the category {value!r} in row {row}, which was not there when it was "
                    f'fitted (there were {shown}): unseen="state" gives such categories a state of their own, and '
                    'unseen="missing" takes them as missing'
                )
        return found

    def decode(self, values: Numbers, whole: bool) -> NDArray[Any]:
        """Numbers (B,) as the user's values; `whole` says that counts are integers, and not means of some."""
        if self.kind in ("categories", "booleans"):
            states = [*self.states, None][: self.count] if self.unseen else list(self.states)
            table = np.empty(len(states), dtype=object)
            table[:] = states
            made = table[values.astype(np.int64)]
            return made.astype(bool) if self.kind == "booleans" and not self.unseen else made
        return values.astype(np.int64) if self.kind == "counts" and whole else values


def raw_columns(table: Any) -> list[Raw]:
    """The columns of a data frame of any library, or of an array (B, D).

    **Raises** `ValueError` where two columns have one name; `TypeError` for dates.
    """
    names = getattr(table, "columns", None)
    if names is None or callable(names):
        array = np.asarray(table)
        if array.dtype.names:
            return [_checked(Raw(n, np.asarray(array[n]), str(array.dtype[n]))) for n in array.dtype.names]
        return [_checked(Raw(column, array[:, column])) for column in range(array.shape[1])]
    labels = [name if isinstance(name, int) and not isinstance(name, bool) else str(name) for name in names]
    twice = [name for name in dict.fromkeys(labels) if labels.count(name) > 1]
    if twice:
        raise ValueError(f"the columns {', '.join(map(repr, twice))} come more than once: keep one of each")
    found = []
    for label, name in zip(labels, names, strict=True):
        column = table[name]
        kind = str(getattr(column, "dtype", "")).lower()
        found.append(_checked(Raw(label, np.asarray(column), kind or "object")))
    return found


def _checked(raw: Raw) -> Raw:
    if raw.values.dtype.kind in "mM":
        raise TypeError(_about_dates(raw.name, raw.values.dtype))
    if raw.values.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: column {raw.name!r} holds complex numbers")
    return raw


def _about_dates(name: int | str, what: object) -> str:
    return (
        f"column {name!r} holds dates or times ({what}), which no family is for: give it as numbers, such as days since a "
        "date, or as categories, such as months"
    )


def learned_columns(raws: Sequence[Raw], types: Mapping[Any, str] | None, unseen: str) -> list[Column]:
    """The columns of a table, each of the kind that was said, or of the kind that its values look like.

    **Raises** `ValueError` naming the column, where all of it is missing, and for kinds that do not exist.
    """
    said = dict(types or {})
    names = {raw.name for raw in raws}
    if unknown := [name for name in said if name not in names]:
        raise ValueError(
            f"column_types names {unknown[0]!r}, and there is no such column: there are {sorted(map(str, names))}"
        )
    columns = []
    for raw in raws:
        kind = said.get(raw.name) or _kind_of(raw)
        if kind not in KINDS:
            raise ValueError(
                f"column_types says that column {raw.name!r} is {kind!r}: it must be one of {', '.join(KINDS)}"
            )
        columns.append(_learned(raw, kind, unseen))
    return columns


def _kind_of(raw: Raw) -> str:
    values = raw.values
    if raw.categorical:
        return "categories"
    if values.dtype.kind == "b":
        return "booleans"
    if values.dtype.kind in "iu" or (raw.whole and values.dtype.kind == "f"):
        return "continuous" if bool((values < 0).any()) else "counts"
    if values.dtype.kind == "f":
        return "continuous"
    seen = [value for value in values.tolist() if not _missing(value)]
    if any(isinstance(value, datetime.date | datetime.time | datetime.timedelta) for value in seen):
        raise TypeError(_about_dates(raw.name, type(seen[0]).__name__))
    if all(isinstance(value, bool) for value in seen):
        return "booleans"
    if all(isinstance(value, str) for value in seen):
        return "categories"
    if all(isinstance(value, numbers.Real) for value in seen):
        whole = all(isinstance(value, numbers.Integral) and int(value) >= 0 for value in seen)
        return "counts" if whole else "continuous"
    kinds = sorted({type(value).__name__ for value in seen})
    raise TypeError(
        f"column {raw.name!r} holds values of the types {', '.join(kinds)}: argument must be a string or a number, one of them "
        f'in the whole column. column_types={{{raw.name!r}: "categories"}} takes them all as categories'
    )


def _learned(raw: Raw, kind: str, unseen: str) -> Column:
    if kind in ("categories", "booleans"):
        seen = {_plain(value) for value in raw.values.tolist() if not _missing(value)}
        if not seen:
            raise ValueError(_all_missing(raw.name))
        states = (False, True) if kind == "booleans" else tuple(sorted(seen, key=lambda v: (type(v).__name__, v)))
        if kind == "booleans" and not seen <= {False, True}:
            raise ValueError(f"column {raw.name!r} holds booleans, and {sorted(map(str, seen))[0]} is none")
        return Column(raw.name, kind, states, unseen == "state" and kind == "categories")
    column = Column(raw.name, kind)
    found = column.encode(raw)
    known = found[~np.isnan(found)]
    if not len(known):
        raise ValueError(_all_missing(raw.name))
    return column if kind == "counts" else Column(raw.name, kind, (), False, *_standard(known))


def _all_missing(name: int | str) -> str:
    return f"all values of column {name!r} are missing: nothing can be learnt of it, and the table must be without it"


def _standard(known: Numbers) -> tuple[float, float]:
    """A middle and a spread that a few values, however far out, do not move: the median, and quartiles.

    Where the middle half is one value, the mean distance of the others; where all are, 1 unit of their size.
    """
    low, middle, high = (float(q) for q in np.quantile(known, [0.25, 0.5, 0.75]))
    spread = (high - low) / 1.349
    if not spread > 1e-12 * max(abs(low), abs(high)):
        apart = np.abs(known - middle)
        apart = apart[apart > 1e-12 * abs(middle)]
        spread = float(np.median(apart)) if len(apart) else abs(middle)
    return middle, spread if spread > 1e-290 else 1.0


def _numbers(raw: Raw) -> Numbers:
    if raw.values.dtype.kind in "biuf":
        return raw.values.astype(np.float64)
    found = np.full(len(raw.values), np.nan)
    for row, value in enumerate(raw.values.tolist()):
        if _missing(value):
            continue
        try:
            found[row] = float(value)
        except (TypeError, ValueError):
            raise TypeError(
                f"column {raw.name!r} holds {value!r} in row {row}, where numbers were expected: argument must be a string "
                "or a number that float() reads"
            ) from None
    return found


def _plain(value: Any) -> Any:
    """A category as a value that compares: numpy's strings and numbers as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _missing(value: Any) -> bool:
    """None, NaN, and the NA of pandas."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and math.isnan(value)


def encoded(columns: Sequence[Column], raws: Sequence[Raw], unseen: str) -> Numbers:
    """The table as numbers (B, D), NaN where it is missing."""
    pairs = zip(columns, raws, strict=True)
    return np.stack([column.encode(raw, unseen == "refuse") for column, raw in pairs], 1)


def decoded(columns: Sequence[Column], values: Numbers, like: Any, whole: bool) -> Any:
    """Numbers (B, D) as a table like the one that was given: a data frame of its library, or an array."""
    made = [column.decode(values[:, number], whole) for number, column in enumerate(columns)]
    if _is_frame(like):
        return _frame(like, dict(zip(list(like.columns), made, strict=True)), len(values))
    if all(column.kind in ("continuous", "counts") for column in columns):
        return values
    table = np.empty(values.shape, dtype=object)
    for number, column in enumerate(made):
        table[:, number] = column
    return table


def _is_frame(table: Any) -> bool:
    return hasattr(table, "columns") and not callable(table.columns) and not isinstance(table, np.ndarray)


def _frame(like: Any, columns: Mapping[Any, NDArray[Any]], rows: int) -> Any:
    """A frame of the same library; with the row labels of a frame of as many rows, where it has some."""
    ready = {name: v.tolist() if v.dtype == object else v for name, v in columns.items()}
    index = getattr(like, "index", None)
    if index is not None and not callable(index) and len(index) == rows:
        return type(like)(ready, index=index)
    return type(like)(ready)
