"""Data that structures are learnt from: a column for each variable, with what is missing marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pcircuits.errors import EvidenceError, ScopeError
from pcircuits.scope import Variable, as_variables
from pcircuits.values import as_values

__all__ = ["Table", "as_row_weights", "as_table"]


@dataclass(frozen=True)
class Table:
    """Rows of data.

    - `values`: (B, D), in the dtype that they came in; what is missing is 0.
    - `known`: (B, D), False where a value is missing; None where none is.
    - `variables`: the labels of the columns.
    """

    values: Tensor
    known: Tensor | None
    variables: tuple[Variable, ...]

    def cpu(self) -> Table:
        """The same in the memory of the CPU, where circuits are built."""
        return Table(self.values.cpu(), None if self.known is None else self.known.cpu(), self.variables)

    def column(self, number: int) -> tuple[Tensor, Tensor]:
        """The known values of a column, (n,), and the numbers of their rows, (n,)."""
        values = self.values[:, number]
        if self.known is None:
            return values, torch.arange(len(values), device=values.device)
        rows = self.known[:, number].nonzero()[:, 0]
        return values[rows], rows


def as_table(data: object, variables: Sequence[Variable] | None = None) -> Table:
    """Data of any form that the library reads values in: tensors, arrays, lists, masked arrays, data frames.

    **Arguments**

    - `data`: (B, D), of at least one row; NaN is missing.
    - `variables`: the labels of the columns; by default the names of a frame's columns, else 0..D-1.

    **Raises** `EvidenceError` for what is no table of numbers, for a table without rows, and for infinite values;
    `ScopeError` for another number of labels, or labels that come twice.

    >>> as_table([[0, 1], [None, 2]]).known.tolist()
    [[True, True], [False, True]]
    """
    try:
        values, known = as_values(data)
    except TypeError as error:
        raise EvidenceError(f"data is a table of numbers, (B, D): {error}") from error
    values = values.detach()
    if values.ndim != 2 or 0 in values.shape:
        raise EvidenceError(
            f"data has shape {tuple(values.shape)}: it needs B rows and D columns, at least one of each"
        )
    if values.is_floating_point():
        missing = values.isnan()
        if bool((infinite := values.isinf()).any()):
            row, column = infinite.nonzero()[0].tolist()
            raise EvidenceError(f"data[{row}, {column}] is {values[row, column].item()}: leave out what is infinite")
        if bool(missing.any()):
            known = ~missing if known is None else known & ~missing
    if known is not None:
        values = values.masked_fill(~known, 0)
    return Table(values, known, _labels(data, values.shape[1], variables))


def _labels(data: object, count: int, variables: Sequence[Variable] | None) -> tuple[Variable, ...]:
    named = getattr(data, "columns", None) if variables is None else variables
    labels = tuple(range(count)) if named is None else as_variables(list(named))
    if len(labels) != count or len(set(labels)) != count:
        raise ScopeError(f"{count} columns need {count} different labels, not {list(labels)}")
    return labels


def as_row_weights(weights: object, rows: int) -> Tensor | None:
    """Weights of rows, (B,) in float64 on the CPU, or None where none are given.

    **Raises** `EvidenceError` for another shape, negative or infinite weights, and where all are zero.

    >>> as_row_weights([1, 2], 2)
    tensor([1., 2.], dtype=torch.float64)
    """
    if weights is None:
        return None
    given = as_values(weights)[0].detach().double().cpu()
    if tuple(given.shape) != (rows,):
        raise EvidenceError(f"weights have shape {tuple(given.shape)}: {rows} rows need ({rows},)")
    if not bool(((given >= 0) & given.isfinite()).all()) or not bool(given.any()):
        raise EvidenceError("weights of rows are finite numbers >= 0, not all of them zero")
    return given
