"""map: the most probable completion, exact for deterministic circuits, and between bounds for all others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pcircuits.families.interface import AbstractFamily, Parameters
from pcircuits.memory import naming_the_bound
from pcircuits.program.layers.layer import Selector
from pcircuits.program.leaf_functions import Mode
from pcircuits.program.passes import evaluate
from pcircuits.queries.conditional import Conditional

__all__ = ["Completion", "Largest", "maximum", "rounding_of"]


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


class Largest(Selector):
    """Chooses the input that adds most."""

    def pick_within(self, scores: Tensor, group: Tensor | None) -> Tensor:
        largest = scores.argmax(-1)
        return largest if group is None else largest[group]

    def pick_mode(self, modes: Callable[[], Tensor], unit: Tensor) -> Tensor:
        return modes()[unit]

    def settle(self, family: AbstractFamily, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        return family.mode(x, observed, parameters)


def maximum(given: Conditional, exact: bool) -> Completion:
    """The completion found by a pass of maxima.

    With `exact`, the circuit must be deterministic: then the pass finds a most probable completion (Choi et al. 2020,
    section 6). Without, the completion is one candidate; its bound is a pass with modes at the missing leaves, maxima
    at the sums that were proved deterministic, and sums at all others. All passes compute in float64, so that bound and
    value meet only where they are one number up to the rounding of these passes.

    **Raises** `PropertyError` with `exact` on a circuit that was not shown to be deterministic.
    """
    given.one_root("map")
    if exact:
        given.circuit_asked.check().deterministic.require(
            "map", "Ask map(exact=False) for a completion with an upper bound on the most probable one."
        )
    known = given.known()
    if not known.rows:
        empty = known.x.new_zeros(0)
        return Completion(known.x, empty, empty, empty > 0)
    roots, at = given.roots(known.rows), given.roots(known.rows).unsqueeze(1)
    with torch.no_grad(), naming_the_bound("map", given.program.memory):
        total = torch.stack(given.log_known())
        best, bound = _candidates(given, roots)
        everything = torch.ones_like(known.observed)
        value = torch.stack(evaluate(given.program, Mode(best, everything)))
        maximise = given.deterministic_sums
        if not all(flag is True for flag in maximise):  # else maxima everywhere are the bound, too
            bound = torch.stack(evaluate(given.program, Mode(known.x, known.observed), maximise))
        value, bound = (found.gather(2, at.expand(2, -1, -1)).squeeze(2) for found in (value, bound))
        gap = (bound[0] - value[0]) + (bound[1] - value[1])
        met = gap <= rounding_of(given, value.sum(0))
        value = given.to_natural((value - total).sum(0))
        bound = torch.maximum(given.to_natural((bound - total).sum(0)), value)  # rounding may put it just below
    if given.batched:
        return Completion(best, value, bound, met)
    return Completion(best[0], value[0], bound[0], met[0])


def _candidates(given: Conditional, roots: Tensor) -> tuple[Tensor, Tensor]:
    """The completions of all rows that passes of maxima choose, (B, D), and the roots of those passes, (2, B, C)."""
    program, known = given.program, given.known()
    prepared = program.prepare(logs=True)
    size = max(1, (program.rows_together(keep=True) or 4 * known.rows) // 4)
    everywhere = [True] * len(program.layers)
    parts, tops = [], []
    for begin in range(0, known.rows, size):
        rows = slice(begin, begin + size)
        x, observed = known.x[rows], known.observed[rows]
        state = program.up(Mode(x, observed), prepared, everywhere, keep=True, rows=rows)
        found = program.roots(state)
        tops.append(torch.stack([found.logs, found.exponent]))
        row_of = torch.arange(len(x), device=x.device)
        parts.append(program.choose(state, roots[rows], row_of, x, observed, Largest()))
    return torch.cat(parts), torch.cat(tops, 1)


def rounding_of(given: Conditional, value: Tensor) -> Tensor:
    """How far apart rounding can put a value and the bound that it meets: steps of logarithms, and sums of leaves."""
    eps = torch.finfo(torch.float64).eps
    terms = sum(not layer.gathers() for layer in given.program.ordered()) * len(given.columns.labels)
    return eps * (256 * (1 + len(given.program.layers)) + 4 * value.abs() + 64 * terms)
