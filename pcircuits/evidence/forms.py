"""The forms that evidence comes in, each turned into values (B, D) and a mask."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcircuits.errors import EvidenceError, ScopeError
from pcircuits.evidence.frames import SupportsToNumpy, named_columns
from pcircuits.evidence.transforms import everywhere
from pcircuits.evidence.variables import Variables
from pcircuits.scope import Variable
from pcircuits.values import as_values

__all__ = ["values_and_mask"]


def values_and_mask(
    given: object, variables: Variables, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """Values (B, D) of any real dtype, and a mask (B, D) of what was observed: None where NaN says what was not.

    **Raises** `EvidenceError` for shapes, masks and what is no real number; `ScopeError` for unknown variables.
    """
    columns = len(variables.labels)
    if isinstance(given, Tensor):
        return _of_array(given, columns)
    if isinstance(given, tuple) and len(given) == 2:
        return _of_pair(given[0], given[1], variables, dtype, device)
    if isinstance(given, Mapping):
        return _of_mapping(given, variables, dtype, device), None
    if (named := named_columns(given, variables)) is not None:
        rows = 1 if named else len(given)  # type: ignore[arg-type]  # a frame without columns has rows all the same
        return _of_mapping(named, variables, dtype, device, rows), None
    if isinstance(given, list | tuple) and any(named_columns(row, variables) is not None for row in given):
        raise EvidenceError(
            "evidence is a list of rows with names: make one frame of them, as in pandas.DataFrame(rows)"
        )
    known = isinstance(given, np.ndarray | list | tuple | SupportsToNumpy)
    if not known and not any(hasattr(given, name) for name in ("__array__", "toarray")):
        raise EvidenceError(
            "evidence is an array (B, D) with NaN for what is missing, a pair (values, mask), a data frame, or a dict from "
            f"variables to values, not {type(given).__name__}"
        )
    return _of_array(given, columns)


def _of_array(given: object, columns: int) -> tuple[Tensor, Tensor | None]:
    try:
        x, observed = as_values(given)
    except TypeError as error:
        raise EvidenceError(f"evidence is {_kind(given)} that cannot be read: {error}") from error
    if observed is None:
        return _shaped(x, columns), None
    if x.dtype.is_floating_point and not isinstance(given, Tensor):
        observed = observed & ~x.isnan()  # in an array of numpy.ma, NaN is missing beside what is masked
    return _shaped(x, columns), _shaped(observed, columns)


def _shaped(x: Tensor, columns: int) -> Tensor:
    if x.ndim == 1 and x.shape[0] == columns:
        x = x.unsqueeze(0)
    if x.ndim != 2 or x.shape[1] != columns:
        transposed = "; transpose it (x.T)" if x.ndim == 2 and x.shape[0] == columns else ""
        raise EvidenceError(
            f"evidence has shape {tuple(x.shape)}; it needs (B, {columns}), a column for each variable, NaN where one is "
            f"missing{transposed}"
        )
    return x


def _of_pair(
    values: object, mask: object, variables: Variables, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    columns = len(variables.labels)
    named = [part if isinstance(part, Mapping) else named_columns(part, variables) for part in (values, mask)]
    if named[0] is not None and named[1] is not None:
        values, mask = (_of_mapping(part, variables, dtype, device) for part in (named[0], named[1]))
        mask = _as_bool(mask)
    elif named[0] is not None or named[1] is not None:
        raise EvidenceError(
            f"values and mask have their columns by name, or neither has, {_pair(values, mask)}: frame.notna() is the mask of "
            "a frame, and frame.to_numpy() is read by position"
        )
    try:
        x, known = as_values(values)
        observed, all_of_it = as_values(mask)
    except TypeError as error:
        raise EvidenceError(f"evidence with a mask is a pair of arrays, {_pair(values, mask)}: {error}") from error
    if all_of_it is not None or observed.dtype.is_floating_point or not _is_binary(observed):
        raise EvidenceError(
            f"evidence with a mask is a pair (values, mask), where the mask is bool, or 0 and 1 as integers (True and 1 are "
            f"observed), {_pair(values, mask)}: x == x is the mask of what is not NaN"
        )
    x, observed = _shaped(x, columns), _shaped(observed, columns).bool()
    if x.shape != observed.shape:
        raise EvidenceError(
            f"the evidence has shape {tuple(x.shape)}, its mask {tuple(observed.shape)}: they need the same, (B, {columns}); "
            "mask.expand(B, -1) repeats one row"
        )
    observed = observed.to(x.device)
    return x, observed if known is None else observed & _shaped(known, columns).to(x.device)


def _as_bool(mask: Tensor) -> Tensor:
    """A mask whose columns came by name, as numbers: columns that are not there are not observed."""
    mask = mask.nan_to_num(0.0)
    return mask.bool() if _is_binary(mask) else mask


def _is_binary(mask: Tensor) -> bool:
    return mask.dtype == torch.bool or torch.compiler.is_compiling() or everywhere((mask == 0) | (mask == 1))


def _of_mapping(
    given: Mapping[Any, object], variables: Variables, dtype: torch.dtype, device: torch.device, rows: int = 1
) -> Tensor:
    """Values (B, D) with NaN where nothing is known; the cost is linear in the number of labels.

    There are `rows` rows where all values are single numbers.
    """
    columns = [variables.column(label) for label in given]
    if len(set(columns)) != len(columns):
        raise ScopeError(f"the evidence names a variable more than once: {list(given)}")
    values = _columns_of(given, device)
    lengths = {label: len(v) for label, v in zip(given, values, strict=True) if v.ndim == 1}
    if len(set(lengths.values())) > 1:
        raise EvidenceError(
            f"the values have different lengths: {lengths}: give equally many for each variable, or one number"
        )
    rows = next(iter(lengths.values()), rows)
    wide = reduce(torch.promote_types, (v.dtype for v in values), dtype)
    if not values:
        return torch.full((rows, len(variables.labels)), torch.nan, dtype=wide, device=device)
    known = torch.stack([v.to(wide).expand(rows) for v in values], 1)
    if columns == list(range(len(variables.labels))):
        return known
    nothing = torch.full((rows, len(variables.labels)), torch.nan, dtype=wide, device=device)
    return nothing.index_copy(1, torch.tensor(columns, device=device), known)


def _columns_of(given: Mapping[Any, object], device: torch.device) -> list[Tensor]:
    """Each value as a floating tensor, () or (B,), NaN where it is missing."""
    if all(type(v) is float or (type(v) in (int, bool) and abs(v) < 2**53) for v in given.values()):  # type: ignore[arg-type]
        return list(torch.tensor(list(given.values()), dtype=torch.float64, device=device).unbind())
    return [_column(label, value).to(device) for label, value in given.items()]


def _column(label: Variable, value: object) -> Tensor:
    try:
        x, known = as_values(value)
    except TypeError as error:
        raise EvidenceError(
            f"the value of {label!r} is {value!r}; it needs one number, or (B,), and NaN where it is missing ({error})"
        ) from error
    if x.ndim > 1:
        raise EvidenceError(f"the value of {label!r} has shape {tuple(x.shape)}; it needs one number, or (B,)")
    x = x if x.dtype.is_floating_point else x.to(torch.float64)
    return x if known is None else torch.where(known, x, torch.nan)


def _pair(values: object, mask: object) -> str:
    return f"not ({_kind(values)}, {_kind(mask)})"


def _kind(value: object) -> str:
    return f"a tensor of {value.dtype}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
