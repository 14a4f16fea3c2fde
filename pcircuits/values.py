"""Numbers in every form that users have them in, as a tensor: arrays, lists, masked arrays, series, exact fractions."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.masked import MaskedTensor

__all__ = ["as_values", "is_missing"]

_REAL_KINDS = "biuf"
"""NumPy's letters for the dtypes that are real numbers: bool, signed, unsigned, floating."""


def as_values(given: object) -> tuple[Tensor, Tensor | None]:
    """Numbers as a dense tensor of a real dtype, and the mask of those that are known where they came with one.

    Tensors keep their graph, and tensors and arrays their dtype; a result may share their memory. Where entries are
    Python objects, `None`, NaN and the NA of pandas become NaN; a masked entry of `numpy.ma` is False in the mask.

    **Raises** `TypeError` that says what is no real number; the caller knows what it is the value of.

    >>> as_values([[0.5, None]])
    (tensor([[0.5000,    nan]], dtype=torch.float64), None)
    >>> as_values(np.ma.masked_array([1, 2], [False, True]))
    (tensor([1, 2]), tensor([ True, False]))
    """
    if isinstance(given, Tensor):
        return _dense(given)
    if isinstance(given, list | tuple):
        return _of_sequence(given)
    if isinstance(given, np.ma.MaskedArray):
        return _of_masked(given)
    if given is None or isinstance(given, str | bytes | Mapping):
        raise TypeError(f"{given!r} is no number")
    if hasattr(given, "nnz") and hasattr(given, "toarray"):
        raise TypeError("it is sparse: x.toarray() makes a dense array of it")
    if not hasattr(given, "__array__") and hasattr(given, "to_numpy"):
        given = given.to_numpy()
    return _of_array(np.asarray(given)), None


def is_missing(value: object) -> bool:
    """Whether an entry says that it is missing: `None`, NaN of any type, NA and NaT of pandas, `numpy.ma.masked`.

    >>> [is_missing(v) for v in (None, float("nan"), Decimal("NaN"), np.ma.masked, 0.0)]
    [True, True, True, True, False]
    """
    if value is None or value is np.ma.masked:
        return True
    try:
        return bool(value != value)
    except TypeError:  # NA of pandas is neither equal to itself nor not
        return type(value).__name__ == "NAType"


def _dense(given: Tensor) -> tuple[Tensor, Tensor | None]:
    mask = None
    if isinstance(given, MaskedTensor):
        given, mask = given.get_data(), given.get_mask()  # type: ignore[no-untyped-call, attr-defined]
    if given.layout is not torch.strided or given.is_nested:
        raise TypeError(
            "it is a sparse or nested tensor: x.to_dense(), or x.to_padded_tensor(torch.nan), makes it dense"
        )
    if given.is_meta:
        raise TypeError("it is on the device 'meta', and holds no data")
    if given.is_complex() or given.is_quantized:
        raise TypeError(f"it is a tensor of {given.dtype}, which are no real numbers")
    return given, mask


def _of_sequence(given: list[Any] | tuple[Any, ...]) -> tuple[Tensor, Tensor | None]:
    """Lists, nested to any depth; of tensors and masked arrays too, which keep their graphs and masks."""
    if any(isinstance(v, Tensor | np.ma.MaskedArray) for v in given):
        parts = [as_values(v) for v in given]
        try:
            values = torch.stack([value for value, _ in parts])
            masks = [torch.ones_like(v, dtype=torch.bool) if known is None else known for v, known in parts]
        except RuntimeError as error:
            raise TypeError("its parts are of different shapes") from error
        return values, None if all(known is None for _, known in parts) else torch.stack(masks)
    try:
        array = np.asarray(given)
    except (TypeError, ValueError, RuntimeError):
        if any(isinstance(v, list | tuple) for v in given):  # ragged, or with tensors or masks further inside
            return _of_sequence([as_values(v)[0] for v in given])
        raise TypeError("its parts are no numbers, or of different shapes") from None
    if array.dtype.kind not in _REAL_KINDS:
        array = np.array(given, dtype=object)
    return _of_array(array), None


def _of_masked(given: np.ma.MaskedArray[Any, Any]) -> tuple[Tensor, Tensor | None]:
    known = ~np.ma.getmaskarray(given)
    data = np.asarray(given.data)
    if data.dtype == object:
        data = np.where(known, data, 0.0)
    return _of_array(data), torch.from_numpy(np.array(known))


def _of_array(array: NDArray[Any]) -> Tensor:
    if array.dtype == object:
        flat = [_number(value) for value in array.ravel().tolist()]
        return torch.tensor(flat, dtype=torch.float64).reshape(array.shape)
    if array.dtype.kind in "mM":
        raise TypeError("it holds dates or durations: turn them into numbers, such as days since a first date")
    if array.dtype.kind not in _REAL_KINDS:
        raise TypeError(f"its dtype is {array.dtype}, which are no real numbers")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    # A copy where torch takes no view: of negative strides, of another order of bytes, and of what cannot be written.
    views = all(stride >= 0 and stride % array.itemsize == 0 for stride in array.strides)
    plain = views and array.flags.writeable and array.dtype.isnative
    return torch.from_numpy(array if plain else np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _number(value: object) -> float:
    if is_missing(value):
        return float("nan")
    if isinstance(value, numbers.Real | Decimal | np.number | np.bool_) and not isinstance(value, np.complexfloating):
        try:
            return float(value)
        except OverflowError as error:
            raise TypeError(f"{value!r} is beyond the largest float") from error
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex() and not value.requires_grad:
        return float(value)
    raise TypeError(f"{value!r} is no number")
