"""What users write over units: terms and combinations, selections, concatenations and mixtures."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from functools import cached_property
from typing import Literal, NoReturn

import numpy as np
import torch
from torch import Tensor

from pcircuits.circuit.units import Index, Mix, Outer, Product, Sum, Units, Wiring
from pcircuits.errors import CircuitError, ParameterError
from pcircuits.parameters import Parameter, Sourced, as_parameter, nonnegative, simplex

__all__ = ["Combination", "add", "as_units", "concat", "mixture", "multiply", "select"]


class Combination:
    """Weighted terms that still grow: `0.3 * u + 0.7 * v`.

    It becomes one sum unit when it is used for anything but adding more terms, and the same unit each time it is used.
    """

    __array_ufunc__ = None

    def __init__(self, terms: tuple[tuple[object, Units], ...]) -> None:
        self.terms = terms

    @cached_property
    def units(self) -> Mix:
        """The sum unit of these terms."""
        children = tuple(child for _, child in self.terms)
        shape = max(child.shape for child in children)
        return Mix(children, _stack([weight for weight, _ in self.terms], shape))

    @property
    def shape(self) -> tuple[int, int]:
        """(R, K) of the sum unit."""
        return self.units.shape

    def __repr__(self) -> str:
        return f"Combination of {len(self.terms)} terms"

    def __mul__(self, other: object) -> Units | Combination:
        return multiply(self.units, other)

    __rmul__ = __mul__

    def __add__(self, other: object) -> Combination:
        return add(self, other)

    __radd__ = __add__

    def __getitem__(self, index: object) -> Units:
        return select(self.units, index)

    def __iter__(self) -> NoReturn:
        iter(self.units)

    def prod(self, groups: Sequence[Sequence[int]] | None = None) -> Product:
        """The product over regions of the sum; see `Units.prod`."""
        return self.units.prod(groups)

    def outer(self, other: Units | Combination) -> Outer:
        """The outer product with the sum; see `Units.outer`."""
        return self.units.outer(other)

    def sum(self, weights: object) -> Sum:
        """Weighted sums over the width of the sum; see `Units.sum`."""
        return self.units.sum(weights)


def _stack(weights: list[object], shape: tuple[int, int]) -> Parameter:
    """The weights of the terms as one parameter, (A,) where all are numbers, else (R, K, A)."""
    if all(isinstance(weight, numbers.Real) for weight in weights):
        return as_parameter([float(weight) for weight in weights], nonnegative, "the weights of a sum")  # type: ignore[arg-type]
    tensors = [
        weight if isinstance(weight, Tensor) else torch.tensor(float(weight), dtype=torch.float64)  # type: ignore[arg-type]
        for weight in weights
    ]
    for tensor in tensors:
        if tensor.ndim not in (0, 2) or (tensor.ndim == 2 and tuple(tensor.shape) != shape):
            raise ParameterError(
                f"a weight is a number or an array of the units' shape {shape}, not {tuple(tensor.shape)}"
            )
    dtype = tensors[0].dtype
    for tensor in tensors[1:]:
        dtype = torch.promote_types(dtype, tensor.dtype)
    if all(tensor.ndim == 0 for tensor in tensors):
        return Parameter(torch.stack([t.to(dtype) for t in tensors]), nonnegative, name="the weights of a sum")
    return Parameter(
        torch.stack([t.to(dtype).expand(shape) for t in tensors], -1), nonnegative, name="the weights of a sum"
    )


def as_units(value: object) -> Units:
    """Units, or a combination turned into its sum unit."""
    if isinstance(value, Units):
        return value
    if isinstance(value, Combination):
        return value.units
    raise CircuitError(
        f"expected units, got {type(value).__name__}: make them with pcircuits.Normal(...) or another leaf"
    )


def _is_weight(value: object) -> bool:
    return (isinstance(value, numbers.Real) and not isinstance(value, bool)) or isinstance(value, Tensor)


def multiply(left: Units, right: object) -> Units | Combination:
    """`u * v` is a product; `c * u` a term of a sum."""
    if isinstance(right, Units | Combination):
        return Product((left, as_units(right)))
    if isinstance(right, np.ndarray):
        right = torch.as_tensor(np.array(right))
    if _is_weight(right):
        return Combination(((right, left),))
    return NotImplemented  # type: ignore[no-any-return]


def add(left: Units | Combination, right: object) -> Combination:
    """`u + v`: terms add to a combination; units that are not terms have weight 1."""
    if isinstance(right, numbers.Real) and right == 0:  # so that sum([...]) works
        return Combination(_terms(left))
    if not isinstance(right, Units | Combination):
        return NotImplemented  # type: ignore[no-any-return]
    return Combination(_terms(left) + _terms(right))


def _terms(value: Units | Combination) -> tuple[tuple[object, Units], ...]:
    return value.terms if isinstance(value, Combination) else ((1.0, value),)


def _positions(index: object, size: int, axis: str) -> Index:
    """The positions that an int, a slice or a sequence of ints selects."""
    everything = np.arange(size, dtype=np.int64)
    if isinstance(index, slice):
        return np.asarray(everything[index])
    wanted = np.atleast_1d(np.asarray(index.cpu() if isinstance(index, Tensor) else index))
    if wanted.dtype == bool and wanted.shape == (size,):
        return np.asarray(everything[wanted])
    if not np.issubdtype(wanted.dtype, np.integer) or wanted.ndim != 1:
        raise CircuitError(f"{axis} are selected by an int, a slice or a sequence of ints, not {index!r}")
    if bad := [int(i) for i in wanted if not -size <= i < size]:
        raise CircuitError(f"{axis} {bad} do not exist: there are {size}")
    chosen: Index = everything[wanted]
    return chosen


def select(units: Units, index: object) -> Wiring:
    """`u[r]` selects regions, `u[r, k]` regions and columns (every pair of them); both axes are kept."""
    if isinstance(index, tuple) and len(index) != 2:
        raise CircuitError(f"u[{index!r}]: units have two axes, regions and columns; select several by a list")
    region_index, column_index = index if isinstance(index, tuple) else (index, slice(None))
    regions = _positions(region_index, units.regions, "regions")
    chosen = _positions(column_index, units.width, "columns")
    if not len(regions) or not len(chosen):
        raise CircuitError(f"u[{index!r}] selects nothing from {units!r}")
    if len(chosen) == units.width and (chosen == np.arange(units.width)).all():
        return Wiring((units,), np.zeros_like(regions), regions)
    region, column = np.meshgrid(regions, chosen, indexing="ij")
    return Wiring((units,), np.zeros_like(region), region, column)


def concat(units: Sequence[Units | Combination], axis: Literal["regions", "width"]) -> Wiring:
    """Arrays of units end to end, along their regions (equal widths) or along their width (equally many regions).

    **Raises** `CircuitError` where the other axis differs.

    >>> from pcircuits import Normal
    >>> a, b = Normal(0, 0.0, 1.0), Normal(0, 3.0, 1.0)
    >>> concat([a, b], axis="width").shape
    (1, 2)
    """
    arrays = tuple(as_units(u) for u in units)
    if not arrays:
        raise CircuitError("concat needs at least one array of units")
    if axis not in ("regions", "width"):
        raise CircuitError(f'axis is "regions" or "width", not {axis!r}')
    other = 1 if axis == "regions" else 0
    sizes = {array.shape[other] for array in arrays}
    if len(sizes) > 1:
        name = ("regions", "width")[other]
        raise CircuitError(f"concat along {axis} needs arrays with the same {name}, not {sorted(sizes)}")
    if axis == "regions":
        child = np.repeat(np.arange(len(arrays)), [a.regions for a in arrays])
        return Wiring(arrays, child, np.concatenate([np.arange(a.regions) for a in arrays]))
    child = np.repeat(np.arange(len(arrays)), [a.width for a in arrays])
    column = np.concatenate([np.arange(a.width) for a in arrays])
    shape = (arrays[0].regions, len(child))
    region = np.broadcast_to(np.arange(shape[0])[:, None], shape)
    return Wiring(arrays, np.broadcast_to(child, shape).copy(), region.copy(), np.broadcast_to(column, shape).copy())


def mixture(weights: object, units: Units | Combination | Sequence[Units | Combination]) -> Units:
    """A sum whose weights lie on the simplex, and stay there in training.

    Over a list of units of one shape it weighs them elementwise; over one array it sums over the width.

    **Raises** `ParameterError` unless the weights are >= 0 and sum to 1.

    >>> from pcircuits import Bernoulli
    >>> mixture([0.5, 0.5], [Bernoulli("a", 0.1), Bernoulli("a", 0.9)])
    Mix(1, 1)
    """
    parameter = weights if isinstance(weights, Sourced) else as_parameter(weights, simplex, "the weights of a mixture")
    if isinstance(units, Units | Combination):
        return Sum(as_units(units), parameter)
    return Mix(tuple(as_units(u) for u in units), parameter)
