"""Evidence: what is known of each row of data, as values and a mask, checked against the variables."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pcircuits.errors import EvidenceError
from pcircuits.evidence.checks import admissible, refuse, refuse_tracing
from pcircuits.evidence.forms import values_and_mask
from pcircuits.evidence.transforms import everywhere, is_transformed
from pcircuits.evidence.variables import Variables

__all__ = ["Evidence"]

_SMALL_INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16)
"""Dtypes whose every number float32 holds."""


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
    def read(
        given: object, variables: Variables, dtype: torch.dtype, device: torch.device, copy: bool = True
    ) -> Evidence:
        """Evidence in any of its forms; `x` keeps the graph of floating tensors, so that answers have gradients in it.

        **Arguments**

        - `given`: an array (B, D) or (D,) with NaN for what is missing, a pair (values, mask), a data frame, or a dict.
        - `variables`: the columns.
        - `dtype`, `device`: those of the model that is asked.
        - `copy`: False lets the evidence share memory with what was given, for a query that does not keep it.

        Under `torch.compile` and `torch.export` values are not checked, since a graph cannot depend on them.

        **Raises** `EvidenceError` for shapes, infinities, NaN under a mask, values outside a variable's states or that
        `dtype` rounds to another; `ScopeError` for unknown variables; `CircuitError` under `torch.jit.trace`.
        """
        refuse_tracing()
        if isinstance(given, Evidence):
            given = (given.x, given.observed)
        x, mask = values_and_mask(given, variables, dtype, device)
        wide, observed = x.to(device, _wide_enough(x.dtype, dtype)), None if mask is None else mask.to(device)
        wide, observed = _checked(wide, observed, variables, dtype)
        value = wide.to(dtype)
        if (copy and value is x) or _is_foreign_to_autograd(value):
            value = value.clone()
        return Evidence(value, observed.clone() if copy and observed is mask else observed)

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
        if not torch.compiler.is_compiling():
            agree = ~(one.observed & two.observed) | (one.x == two.x)
            if not everywhere(agree):
                raise EvidenceError(_contradiction(one, two, agree, variables))
        return Evidence(torch.where(one.observed, one.x, two.x), one.observed | two.observed)


def _contradiction(one: Evidence, two: Evidence, agree: Tensor, variables: Variables) -> str:
    remedy = "leave it missing (NaN), or condition the whole model anew"
    if is_transformed(agree):
        return f"a row contradicts the evidence given before, within torch.vmap or torch.func: {remedy}"
    row, column = (~agree).nonzero()[0].tolist()
    return (
        f"row {row} says {variables.labels[column]!r} is {two.x[row, column].item():g}, but the evidence given before "
        f"says {one.x[row, column].item():g}: {remedy}"
    )


def _wide_enough(given: torch.dtype, dtype: torch.dtype) -> torch.dtype:
    """A floating dtype that holds `dtype`, and what is given without rounding it, but for integers above 2**53."""
    if given is dtype:
        return dtype
    if given.is_floating_point:
        return dtype if given.itemsize < 4 else torch.promote_types(given, dtype)
    return dtype if given in _SMALL_INTEGERS else torch.float64


def _is_foreign_to_autograd(x: Tensor) -> bool:
    """Whether autograd could not keep x for a backward pass: it was made in `torch.inference_mode`, and is used outside."""
    return not torch.compiler.is_compiling() and x.is_inference() and not torch.is_inference_mode_enabled()


def _checked(x: Tensor, observed: Tensor | None, variables: Variables, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Values with 0 where nothing is known, and what was observed; all that depends on values is asked here.

    Where nothing is missing and nothing wrong, one comparison says both.
    """
    masked = observed is not None
    if torch.compiler.is_compiling():
        observed = ~x.isnan() if observed is None else observed
        return torch.where(observed, x, 0.0), observed
    if observed is None:
        if admissible(x, variables, dtype):
            return x, torch.ones_like(x, dtype=torch.bool)
        observed = ~x.isnan()
    known = torch.where(observed, x, 0.0)
    refuse(known, variables, dtype, masked)
    return known, observed
