"""Tables with named columns: data frames, single rows of them, structured arrays; by what they can do, not by import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from pcircuits.errors import EvidenceError, ScopeError
from pcircuits.evidence.variables import Variables, shown
from pcircuits.scope import is_label

__all__ = ["SupportsToNumpy", "named_columns"]


@runtime_checkable
class SupportsToNumpy(Protocol):
    """A data frame or a series, of pandas, polars or another library."""

    def to_numpy(self, *args: Any, **kwargs: Any) -> Any:
        """The values as a NumPy array."""
        ...


def named_columns(given: object, variables: Variables) -> dict[Any, Any] | None:
    """The columns of a table by their names; None where `given` is no table.

    A series with an index (one row of a pandas frame) names variables by it. Row labels are not looked at.

    **Raises** `ScopeError` naming the columns that are no variables, `EvidenceError` where two have one name.
    """
    if isinstance(given, Tensor | Mapping | list | tuple):
        return None
    names, table = _names(given)
    if names is None:
        return None
    if len(set(names)) != len(names):
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        raise EvidenceError(f"the columns {shown(twice)} come more than once in the {_kind(given)}: keep one of each")
    known = set(variables.labels)
    if unknown := [name for name in names if not is_label(name) or name not in known]:
        raise ScopeError(
            f"the {_kind(given)} names {shown(unknown)}, which are no variables: there are {shown(variables.labels)}. "
            "Select those that are, as in frame[[...]]; a series is one row, and {label: series} gives a column; "
            "x.to_numpy() is read by position"
        )
    return {name: table[name] for name in names}


def _names(given: Any) -> tuple[list[Any] | None, Any]:
    """The names of the columns, and what looks up a column by its name."""
    if isinstance(given, np.ndarray):
        return (list(given.dtype.names), given) if given.dtype.names else (None, None)
    if hasattr(given, "column_names") and not callable(given.column_names):  # pyarrow
        return list(given.column_names), given
    columns = getattr(given, "columns", None)
    if columns is not None and not callable(columns) and hasattr(given, "__getitem__"):
        return list(columns), given
    index = getattr(given, "index", None)
    if index is not None and not callable(index) and hasattr(given, "to_numpy"):
        names = list(index)
        return names, dict(zip(names, given.to_numpy().tolist(), strict=True))
    return None, None


def _kind(given: object) -> str:
    return type(given).__name__
