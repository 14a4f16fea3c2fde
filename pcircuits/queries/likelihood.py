"""log_prob: marginals of any pattern of missing values, conditionals, and the probability of a box."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pcircuits.errors import EvidenceError
from pcircuits.evidence import Evidence, Variables
from pcircuits.program.reports import Box, Density
from pcircuits.queries.question import Question, require_possible

__all__ = ["log_prob", "log_probability", "log_values_given"]


def log_prob(question: Question, x: object) -> Tensor:
    """log c(x), or log c(x | given) = log c(x, given) − log c(given); (B,), or (B, C) for several roots."""
    engine = question.engine
    asked = engine.read(x)
    if question.evidence is None:
        return _of_root(question, engine.log_values("log_prob", Density(asked.x, asked.observed)))
    both = question.evidence.join(asked, engine.variables)
    joint = _of_root(question, engine.log_values("log_prob", Density(both.x, both.observed)))
    known = log_values_given(question)
    return joint - torch.where(known == -torch.inf, 0.0, known)  # of several roots, some may be ruled out: -inf


def log_values_given(question: Question) -> Tensor:
    """log c(given), (B,) or (B, C); rows of probability zero raise."""
    known = question.known()
    kept = question.known_pass(known.rows)
    found = (
        kept.values if kept is not None else question.engine.log_values("log_prob", Density(known.x, known.observed))
    )
    values = _of_root(question, found)
    require_possible(values if values.ndim == 1 else values.amax(1))
    return values


def log_probability(question: Question, lower: object, upper: object) -> Tensor:
    """log P(lower <= X <= upper | given), (B,); bounds on given variables must hold, else -inf."""
    question.one_root("probability")
    engine, known = question.engine, question.known()
    ends = _bounds(lower, -torch.inf, question), _bounds(upper, torch.inf, question)
    sizes = [known.rows, *(len(bound) for bound, _ in ends)]
    rows = max(sizes) if min(sizes) > 0 else 0
    for name, (bound, _) in zip(("lower", "upper"), ends, strict=True):
        if len(bound) not in (1, rows):
            raise EvidenceError(f"`{name}` has {len(bound)} rows, for {rows} rows")
    low, high = (bound.expand(rows, -1) for bound, _ in ends)
    known = known.expand(rows)
    values = engine.log_values("log_probability", Box(known.x, known.observed, low, high))
    chosen = values.gather(1, question.roots(rows).unsqueeze(1)).squeeze(1)
    total = log_values_given(question)
    outside = (known.observed & ((known.x < low) | (known.x > high))).any(1)
    answer = torch.where(outside, -torch.inf, chosen) - total
    return answer if question.batched or any(by_row for _, by_row in ends) else answer[0]


def _of_root(question: Question, values: Tensor) -> Tensor:
    """The column of the root that was chosen; all columns where there are several and none was."""
    if question.root is None:
        return values[:, 0] if question.engine.circuit.num_roots == 1 else values
    rows = len(question.root) if question.root.ndim == 1 and len(values) == 1 else len(values)
    return values.expand(rows, -1).gather(1, question.roots(rows).unsqueeze(1)).squeeze(1)


def _bounds(bound: object, open_end: float, question: Question) -> tuple[Tensor, bool]:
    """Bounds (B, D) from a number, a tensor (D,) or (B, D), or a dict to numbers or (B,); and whether rows were named."""
    engine = question.engine
    if isinstance(bound, Mapping):
        free = Variables(engine.variables.labels, (-1,) * len(engine.variables.labels))
        finite = {label: _numbers(value) for label, value in bound.items()}
        big = torch.finfo(torch.float64).max
        read = Evidence.read({k: v.clamp(-big, big) for k, v in finite.items()}, free, torch.float64, engine.device)
        values = torch.where(read.x.abs() >= big, read.x.sign() * torch.inf, read.x)
        return torch.where(read.observed, values, open_end).to(engine.dtype), any(v.ndim == 1 for v in finite.values())
    value = _numbers(bound).to(dtype=engine.dtype, device=engine.device)
    columns, by_row = len(engine.variables.labels), value.ndim == 2
    value = value.expand(1, columns) if value.ndim == 0 else value.reshape(1, -1) if value.ndim == 1 else value
    if value.ndim != 2 or value.shape[1] != columns:
        raise EvidenceError(f"a bound has shape {tuple(value.shape)}; it needs ({columns},), (B, {columns}), or a dict")
    return value, by_row


def _numbers(bound: object) -> Tensor:
    try:
        value = torch.as_tensor(bound, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise EvidenceError(
            f"a bound is a number, a tensor, or a dict from variables to numbers, not {bound!r}"
        ) from error
    if bool(value.isnan().any()):
        raise EvidenceError("a bound is NaN: use -inf or inf where a box is open")
    return value
