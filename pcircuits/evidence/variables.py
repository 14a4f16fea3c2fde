"""The columns of the data: which variable each is, and which values it may have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pcircuits.errors import CircuitError, ScopeError
from pcircuits.evidence.transforms import is_transformed
from pcircuits.scope import OPEN_ENDED, REAL, Variable, as_label

__all__ = ["Variables", "exact_integers", "shown"]


@dataclass(frozen=True)
class Variables:
    """The columns of the data: labels, and for each the number of states (0 open-ended counts, -1 real numbers).

    >>> rain = Variables(("rain", "temperature"), (2, -1))
    >>> rain.column("temperature")
    1
    >>> rain.label(torch.tensor([[1.0, 20.5], [0.0, 24.0]]))
    {'rain': tensor([1., 0.]), 'temperature': tensor([20.5000, 24.0000])}
    """

    labels: tuple[Variable, ...]
    states: tuple[int, ...]

    def column(self, label: object) -> int:
        """The column of a variable, in constant time.

        **Raises** `ScopeError` where there is no such variable.
        """
        found = self._columns.get(as_label(label))
        if found is None:
            raise ScopeError(f"there is no variable {label!r}: there are {shown(self.labels)}")
        return found

    def label(self, values: Tensor) -> dict[Variable, Tensor]:
        """Columns (..., D) by the labels of their variables, each (...): an answer that does not depend on their order.

        **Raises** `CircuitError` where the last axis is not D.
        """
        if values.ndim == 0 or values.shape[-1] != len(self.labels):
            raise CircuitError(
                f"values of shape {tuple(values.shape)} cannot be labelled: the last axis needs {len(self.labels)} columns, "
                f"for {shown(self.labels)}"
            )
        return dict(zip(self.labels, values.unbind(-1), strict=True))

    def nearest(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """The admissible values (B, D) nearest below x (B, D): x itself exactly where it is admissible; NaN never is.

        Admissible is what `dtype` holds: finite numbers, and of the integers those that it does not round.
        """
        if self._all_real:
            largest = torch.finfo(dtype).max
            return x.clamp(-largest, largest)
        low, high, real = self._limits(x.device, x.dtype, dtype)
        near = x.floor() if real is None else torch.where(real, x, x.floor())
        return near.clamp(low, high)

    @cached_property
    def _all_real(self) -> bool:
        return all(count == REAL for count in self.states)

    @cached_property
    def _columns(self) -> dict[Variable, int]:
        return {label: column for column, label in enumerate(self.labels)}

    @cached_property
    def _kept_limits(self) -> dict[tuple[torch.device, torch.dtype, torch.dtype], tuple[Tensor, Tensor, Tensor | None]]:
        return {}

    def _limits(
        self, device: torch.device, wide: torch.dtype, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The smallest and the largest value of each column, (D,), and which are real (None where none is).

        They are kept: every row that is read is compared with them, and making them takes longer than comparing.
        """
        key = device, wide, dtype
        found = self._kept_limits.get(key)
        if found is None:
            largest, whole = torch.finfo(dtype).max, exact_integers(dtype)
            low = [-largest if count == REAL else 0 for count in self.states]
            high = [
                largest if count == REAL else whole if count == OPEN_ENDED else min(count - 1, whole)
                for count in self.states
            ]
            with torch.inference_mode(False):
                real = torch.tensor([count == REAL for count in self.states], device=device)
                found = (
                    torch.tensor(low, dtype=wide, device=device),
                    torch.tensor(high, dtype=wide, device=device),
                    real if any(count == REAL for count in self.states) else None,
                )
            # Tensors made inside of a transform, or of a mode of fake tensors, are of no use outside of it.
            if type(real) is Tensor and not is_transformed(real):
                self._kept_limits[key] = found
        return found

    def __reduce__(self) -> tuple[type[Variables], tuple[tuple[Variable, ...], tuple[int, ...]]]:
        """Without the tables that are kept, whose tensors belong to a device."""
        return Variables, (self.labels, self.states)


def exact_integers(dtype: torch.dtype) -> int:
    """The integer up to which `dtype` holds every integer.

    In float64 it is one less, since Python and NumPy round to 2**53 what is just above it before it is read.

    >>> exact_integers(torch.float32), exact_integers(torch.float64) == 2**53 - 1
    (16777216, True)
    """
    whole = round(2 / torch.finfo(dtype).eps)
    return whole - 1 if dtype == torch.float64 else whole


def shown(labels: Sequence[object]) -> str:
    """Labels for an error, the first few of many.

    >>> shown(("a", 3))
    "'a', 3"
    """
    names = ", ".join(repr(label) for label in labels[:8])
    return names + (f", ... {len(labels)} in all" if len(labels) > 8 else "")
