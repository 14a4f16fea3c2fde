"""log_prob: marginals of any pattern of missing values, conditionals, and the probability of a box."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pcircuits.errors import EvidenceError
from pcircuits.evidence import Evidence, Variables
from pcircuits.program.leaf_functions import Box, Density
from pcircuits.queries.conditional import Conditional
from pcircuits.values import as_values

__all__ = ["log_prob", "log_probability"]


def log_prob(given: Conditional, x: object) -> Tensor:
    """log c(x), or log c(x | given) = log c(x, given) − log c(given); (B,), or (B, C) for several roots.

    Both logarithms are sums of a number and a whole exponent, and exponents are subtracted first: what is common to both,
    such as a value far out, cancels exactly.
    """
    asked = given.read(x, copy=False)
    if given.evidence is None:
        numbers, exponent = given.log_values("log_prob", Density(asked.x, asked.observed))
        return given.of_root(given.to_natural(numbers + exponent))
    both = given.evidence.join(asked, given.columns)
    numbers, exponent = given.log_values("log_prob", Density(both.x, both.observed))
    known, raised = given.log_known()
    possible = known + raised > -torch.inf  # of several roots, some may be ruled out: -inf
    less = given.of_root(exponent) - torch.where(possible, raised, 0.0)
    return given.to_natural(given.of_root(numbers) - torch.where(possible, known, 0.0) + less)


def log_probability(given: Conditional, lower: object, upper: object) -> Tensor:
    """log P(lower <= X <= upper | given), (B,); bounds on given variables must hold, else -inf."""
    given.one_root("probability")
    known = given.known()
    ends = _bounds(lower, -torch.inf, given), _bounds(upper, torch.inf, given)
    sizes = [known.rows, *(len(bound) for bound, _ in ends)]
    rows = max(sizes) if min(sizes) > 0 else 0
    for name, (bound, _) in zip(("lower", "upper"), ends, strict=True):
        if len(bound) not in (1, rows):
            raise EvidenceError(f"`{name}` has {len(bound)} rows, for {rows} rows")
    low, high = (bound.expand(rows, -1) for bound, _ in ends)
    known = known.expand(rows)
    numbers, exponent = given.log_values("log_probability", Box(known.x, known.observed, low, high))
    at = given.roots(rows).unsqueeze(1)
    total, raised = given.log_known()
    outside = (known.observed & ((known.x < low) | (known.x > high))).any(1)
    value = numbers.gather(1, at).squeeze(1) - total + (exponent.gather(1, at).squeeze(1) - raised)
    answer = torch.where(outside, -torch.inf, given.to_natural(value))
    return answer if given.batched or any(by_row for _, by_row in ends) else answer[0]


def _bounds(bound: object, open_end: float, given: Conditional) -> tuple[Tensor, bool]:
    """Bounds (B, D) from a number, a tensor (D,) or (B, D), or a dict to numbers or (B,); and whether rows were named."""
    if isinstance(bound, Mapping):
        free = Variables(given.columns.labels, (-1,) * len(given.columns.labels))
        finite = {label: _numbers(value) for label, value in bound.items()}
        big = torch.finfo(torch.float64).max
        read = Evidence.read({k: v.clamp(-big, big) for k, v in finite.items()}, free, torch.float64, given.device)
        values = torch.where(read.x.abs() >= big, read.x.sign() * torch.inf, read.x)
        return torch.where(read.observed, values, open_end).to(given.dtype), any(v.ndim == 1 for v in finite.values())
    value = _numbers(bound).to(dtype=given.dtype, device=given.device)
    columns, by_row = len(given.columns.labels), value.ndim == 2
    value = value.expand(1, columns) if value.ndim == 0 else value.reshape(1, -1) if value.ndim == 1 else value
    if value.ndim != 2 or value.shape[1] != columns:
        raise EvidenceError(f"a bound has shape {tuple(value.shape)}; it needs ({columns},), (B, {columns}), or a dict")
    return value, by_row


def _numbers(bound: object) -> Tensor:
    try:
        value = as_values(bound)[0].to(torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise EvidenceError(
            f"a bound is a number, a tensor, or a dict from variables to numbers, not {bound!r}"
        ) from error
    if bool(value.isnan().any()):
        raise EvidenceError("a bound is NaN: use -inf or inf where a box is open")
    return value
