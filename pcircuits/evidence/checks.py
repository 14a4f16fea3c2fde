"""What evidence is checked for, by one comparison where nothing is wrong; and what an error says of what is."""

from __future__ import annotations

import torch
from torch import Tensor

from pcircuits.errors import CircuitError, EvidenceError
from pcircuits.evidence.transforms import everywhere, is_transformed
from pcircuits.evidence.variables import Variables, exact_integers
from pcircuits.scope import OPEN_ENDED, REAL

__all__ = ["admissible", "refuse", "refuse_tracing"]


def admissible(x: Tensor, variables: Variables, dtype: torch.dtype) -> bool:
    """Whether all values (B, D) are admissible in a model of `dtype`, none of them NaN."""
    x = x.detach() if x.requires_grad else x
    nearest = variables.nearest(x, dtype)
    if is_transformed(x):
        return everywhere(nearest == x)
    return torch.equal(nearest, x)


def refuse(x: Tensor, variables: Variables, dtype: torch.dtype, masked: bool) -> None:
    """Raise `EvidenceError` for the first value that is not admissible, where there is one."""
    if admissible(x, variables, dtype):
        return
    x = x.detach()
    wrong = variables.nearest(x, dtype) != x
    if is_transformed(wrong):
        raise EvidenceError(
            "evidence within torch.vmap holds a value that its variable cannot have: the same call without vmap names it"
        )
    row, column = wrong.nonzero()[0].tolist()
    label, value, count = variables.labels[column], x[row, column].item(), variables.states[column]
    if value != value and masked:
        raise EvidenceError(
            f"row {row}: {label!r} is NaN, but the mask says that it was observed: give it a value, or False in the mask"
        )
    if _is_rounded(value, count, dtype):
        wide = "compile the circuit in float64" if dtype != torch.float64 else "no dtype of models does"
        raise EvidenceError(f"row {row}: {label!r} is {_exactly(value)}, which {dtype} does not hold: {wide}")
    wants = {REAL: "a finite number", OPEN_ENDED: "an integer >= 0"}.get(count, f"an integer in 0..{count - 1}")
    raise EvidenceError(f"row {row}: {label!r} is {value:g}; it needs {wants}, or NaN where it is missing")


def refuse_tracing() -> None:
    """Raise `CircuitError` where `torch.jit.trace` records: its result would answer for one pattern of missing values."""
    if torch._C._get_tracing_state() is not None:
        raise CircuitError(
            "torch.jit.trace records what one example takes, and would answer wrongly where other values are missing: "
            "torch.export.export(...) or torch.compile(...) take the model as it is"
        )


def _is_rounded(value: float, count: int, dtype: torch.dtype) -> bool:
    """Whether a variable may have the value, but the dtype cannot tell it from another."""
    if value in (float("inf"), -float("inf")) or value != value:
        return False
    if count == REAL:
        return True
    return value == int(value) and value > exact_integers(dtype) and (count == OPEN_ENDED or value < count)


def _exactly(value: float) -> str:
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e18 else f"{value:g}"
