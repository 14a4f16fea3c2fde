"""Evidence: what is known of each row of data, as values and a mask, checked against the variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pcircuits.errors import EvidenceError, ScopeError
from pcircuits.scope import Variable

__all__ = ["Evidence", "EvidenceLike", "Variables"]

EvidenceLike = Tensor | tuple[Tensor, Tensor] | Mapping[Variable, object]
"""A float tensor (NaN is missing), a tensor with a mask (True is observed), or a dict from variables to values."""


@dataclass(frozen=True)
class Variables:
    """The columns of the data: labels, and for each the number of states (0 open-ended counts, -1 real numbers)."""

    labels: tuple[Variable, ...]
    states: tuple[int, ...]

    def column(self, label: Variable) -> int:
        """The column of a variable."""
        try:
            return self.labels.index(label)
        except ValueError:
            raise ScopeError(f"there is no variable {label!r}: there are {_shown(self.labels)}") from None


@dataclass(frozen=True)
class Evidence:
    """Values (B, D), 0 where nothing is known, and a mask (B, D) of what was observed."""

    x: Tensor
    observed: Tensor

    @property
    def rows(self) -> int:
        """B, the number of rows."""
        return len(self.x)

    @staticmethod
    def read(given: object, variables: Variables, dtype: torch.dtype, device: torch.device) -> Evidence:
        """Evidence in any of its forms.

        **Raises** `EvidenceError` for shapes, infinities, NaN under a mask, values outside a variable's states;
        `ScopeError` for unknown variables.
        """
        if isinstance(given, Evidence):
            given = (given.x, given.observed)
        if isinstance(given, Mapping):
            x, observed = _from_mapping(given, variables, dtype, device)
        elif isinstance(given, tuple) and len(given) == 2:
            x, observed = _from_masked(given[0], given[1], variables)
        elif isinstance(given, Tensor):
            x = _shaped(given, len(variables.labels))
            observed = ~x.isnan() if x.dtype.is_floating_point else torch.ones_like(x, dtype=torch.bool)
        else:
            raise EvidenceError(
                "evidence is a tensor (B, D) with NaN for what is missing, a pair (tensor, mask), or a dict from variables "
                f"to values, not {type(given).__name__}: torch.as_tensor(x) makes a tensor of numbers in another form"
            )
        x, observed = x.to(device=device, dtype=torch.promote_types(x.dtype, dtype)), observed.to(device)
        _check(x, observed, variables)
        value = torch.where(observed, x.detach(), 0.0).to(dtype)
        if bool(value.isinf().any()):
            row, column = value.isinf().nonzero()[0].tolist()
            raise EvidenceError(
                f"row {row}: {variables.labels[column]!r} is {x[row, column].item():g}, which {dtype} does not hold: compile "
                "the circuit in float64"
            )
        return Evidence(value, observed)

    @staticmethod
    def nothing(rows: int, variables: Variables, dtype: torch.dtype, device: torch.device) -> Evidence:
        """Rows of which nothing is known."""
        shape = (rows, len(variables.labels))
        return Evidence(
            torch.zeros(shape, dtype=dtype, device=device), torch.zeros(shape, dtype=torch.bool, device=device)
        )

    def expand(self, rows: int) -> Evidence:
        """One row repeated, or as many as there are."""
        if self.rows == rows:
            return self
        if self.rows != 1:
            raise EvidenceError(f"{self.rows} rows of evidence do not go with {rows} rows")
        return Evidence(self.x.expand(rows, -1), self.observed.expand(rows, -1))

    def join(self, other: Evidence, variables: Variables) -> Evidence:
        """Both pieces of evidence at once; where both speak of a variable, they must agree."""
        rows = max(self.rows, other.rows) if min(self.rows, other.rows) > 0 else 0
        one, two = self.expand(rows), other.expand(rows)
        clash = one.observed & two.observed & (one.x != two.x)
        if bool(clash.any()):
            row, column = clash.nonzero()[0].tolist()
            raise EvidenceError(
                f"row {row} says {variables.labels[column]!r} is {two.x[row, column].item():g}, but the evidence given before "
                f"says {one.x[row, column].item():g}: leave it missing (NaN), or condition the whole model anew"
            )
        return Evidence(torch.where(one.observed, one.x, two.x), one.observed | two.observed)


def _shaped(x: Tensor, columns: int) -> Tensor:
    x = x.unsqueeze(0) if x.ndim == 1 and x.shape[0] == columns else x
    if x.ndim != 2 or x.shape[1] != columns:
        raise EvidenceError(
            f"evidence has shape {tuple(x.shape)}; it needs (B, {columns}), a column for each variable, NaN where one is "
            "missing"
        )
    return x


def _from_masked(x: object, observed: object, variables: Variables) -> tuple[Tensor, Tensor]:
    if not isinstance(x, Tensor) or not isinstance(observed, Tensor) or observed.dtype != torch.bool:
        raise EvidenceError(
            "evidence with a mask is a pair of tensors, the second bool (True is observed), not "
            f"({_kind(x)}, {_kind(observed)}): torch.as_tensor(...) makes tensors, and mask.bool() a mask"
        )
    columns = len(variables.labels)
    x, observed = _shaped(x, columns), _shaped(observed, columns)
    if x.shape != observed.shape:
        raise EvidenceError(
            f"the evidence has shape {tuple(x.shape)}, its mask {tuple(observed.shape)}: they need the same, (B, {columns})"
        )
    if x.dtype.is_floating_point and bool((x.isnan() & observed).any()):
        row, column = (x.isnan() & observed).nonzero()[0].tolist()
        raise EvidenceError(
            f"row {row}: {variables.labels[column]!r} is NaN, but the mask says that it was observed: give it a value, or "
            "False in the mask"
        )
    return x, observed


def _from_mapping(
    given: Mapping[Variable, object], variables: Variables, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    columns = [variables.column(label) for label in given]
    values = [_numbers(label, value).to(device) for label, value in given.items()]
    for label, value in zip(given, values, strict=True):
        if value.ndim > 1:
            raise EvidenceError(f"the value of {label!r} has shape {tuple(value.shape)}; it needs one number, or (B,)")
    lengths = {label: len(v) for label, v in zip(given, values, strict=True) if v.ndim == 1}
    if len(set(lengths.values())) > 1:
        raise EvidenceError(
            f"the values have different lengths: {lengths}: give equally many for each variable, or one number"
        )
    rows = next(iter(lengths.values()), 1)
    wide = torch.float64 if any(v.dtype == torch.float64 for v in values) else dtype
    x = torch.full((rows, len(variables.labels)), torch.nan, dtype=wide, device=device)
    for column, value in zip(columns, values, strict=True):
        x[:, column] = value.to(wide)
    return x, ~x.isnan()


def _numbers(label: Variable, value: object) -> Tensor:
    try:
        return value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise EvidenceError(
            f"the value of {label!r} is {value!r}; it needs one number, or (B,), and NaN where it is missing"
        ) from error


def _check(x: Tensor, observed: Tensor, variables: Variables) -> None:
    states = torch.tensor(variables.states, device=x.device)
    infinite = observed & x.isinf()
    below = observed & (states >= 0) & ((x < 0) | (x != x.floor()))
    above = observed & (states > 0) & (x >= states)
    wrong = infinite | below | above
    if not bool(wrong.any()):
        return
    row, column = wrong.nonzero()[0].tolist()
    count = variables.states[column]
    wants = "a finite number" if count < 0 else "an integer >= 0" if count == 0 else f"an integer in 0..{count - 1}"
    raise EvidenceError(
        f"row {row}: {variables.labels[column]!r} is {x[row, column].item():g}; it needs {wants}, or NaN where it is missing"
    )


def _kind(value: object) -> str:
    return f"tensor of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__


def _shown(labels: Sequence[Variable]) -> str:
    names = ", ".join(repr(label) for label in labels[:8])
    return names + (f", ... {len(labels)} in all" if len(labels) > 8 else "")
