"""map: the most probable completion, exact for deterministic circuits, and between bounds for all others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pcircuits.evidence import Evidence
from pcircuits.families.interface import AbstractFamily, Parameters
from pcircuits.memory import naming_the_bound
from pcircuits.program.reports import Density, Mode
from pcircuits.program.steps.step import Chooser
from pcircuits.queries.question import Question

__all__ = ["Completion", "maximum"]


@dataclass(frozen=True)
class Completion:
    """A completion of the evidence.

    - `assignment` (B, D): the evidence with the missing values filled in.
    - `log_prob` (B,): its log-probability under the conditional.
    - `upper_bound` (B,): no completion is more probable; +inf where a mode's density is unbounded.
    - `exact` (B,): whether the two meet, so that the completion is a most probable one.

    Without evidence there is no axis B.
    """

    assignment: Tensor
    log_prob: Tensor
    upper_bound: Tensor
    exact: Tensor


class _Largest(Chooser):
    def pick_within(self, scores: Tensor, group: Tensor | None) -> Tensor:
        largest = scores.argmax(-1)
        return largest if group is None else largest[group]

    def settle(self, family: AbstractFamily, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        return family.mode(x, observed, parameters)


def maximum(question: Question, exact: bool) -> Completion:
    """The completion found by a pass of maxima.

    With `exact`, the circuit must be deterministic: then the pass finds a most probable completion (Choi et al. 2020,
    section 6). Without, the completion is one candidate; its bound is a pass with modes at the missing leaves, maxima
    at the sums that were proved deterministic, and sums at all others.

    **Raises** `PropertyError` with `exact` on a circuit that was not shown to be deterministic.
    """
    question.one_root("map")
    engine = question.engine
    if exact:
        engine.circuit.check().deterministic.require(
            "map", "Ask map(exact=False) for a completion with an upper bound on the most probable one."
        )
    known = question.known()
    roots = question.roots(known.rows)
    everywhere = [True] * len(engine.program.steps)
    parts: list[tuple[Tensor, ...]] = []
    with torch.no_grad(), naming_the_bound("map", engine.program.memory):
        for rows in engine.chunks(known.rows):
            some, chosen = Evidence(known.x[rows], known.observed[rows]), roots[rows]
            total, _ = question.up(some, chosen)
            _, state = engine.program.up(Mode(some.x, some.observed), everywhere)
            row_of = torch.arange(some.rows, device=some.x.device)
            best = engine.program.choose(state, chosen, row_of, some.x, some.observed, _Largest())
            value = engine.log_values("map", Density(best, torch.ones_like(some.observed)))
            bound = engine.log_values("map", Mode(some.x, some.observed), engine.deterministic_sums)
            at = chosen.unsqueeze(1)
            parts.append((best, value.gather(1, at)[:, 0], bound.gather(1, at)[:, 0], total))
    if not parts:
        empty = known.x.new_zeros(0)
        return Completion(known.x, empty, empty, empty > 0)
    best, value, bound, total = (torch.cat(column) for column in zip(*parts, strict=True))
    slack = 64 * torch.finfo(engine.dtype).eps * (1 + value.abs() + len(engine.program.steps))
    met = bound <= value + slack
    bound = torch.maximum(bound, value) - total  # rounding may put the bound just below the value it bounds
    value = value - total
    if question.batched:
        return Completion(best, value, bound, met)
    return Completion(best[0], value[0], bound[0], met[0])
