"""Samples, given anything: an upward pass on the evidence, then choices down from the root."""

from __future__ import annotations

from collections.abc import Callable
from operator import index

import torch
from torch import Tensor

from pcircuits.errors import CircuitError
from pcircuits.evidence import Evidence
from pcircuits.families.draws import uniform
from pcircuits.families.interface import AbstractFamily, Parameters
from pcircuits.memory import naming_the_bound
from pcircuits.program.steps.step import Chooser
from pcircuits.queries.question import Question

__all__ = ["Draw", "sample"]


class Draw(Chooser):
    """Choices in proportion, from an explicit generator; results depend on its seed alone."""

    def __init__(self, generator: torch.Generator | None) -> None:
        self.generator = generator

    def pick_within(self, scores: Tensor, group: Tensor | None) -> Tensor:
        peak = scores.amax(-1, keepdim=True)
        return self._pick((scores - torch.where(torch.isfinite(peak), peak, 0.0)).to(torch.float64).exp(), group)

    def pick_linear(self, scores: Tensor) -> Tensor:
        return self._pick(scores, None)

    def pick_state(self, cumulative: Callable[[], Tensor], unit: Tensor) -> Tensor:
        table = cumulative()
        return _bisected(table, unit, self._levels(table[:, -1][unit]))

    def _pick(self, scores: Tensor, group: Tensor | None) -> Tensor:
        """Indices in proportion to scores (G, K), by the inverse of their cumulative sums."""
        cumulative = scores.cumsum(-1, dtype=torch.float64)
        total = cumulative[:, -1]
        level = self._levels(total if group is None else total[group])
        if group is None:
            return torch.searchsorted(cumulative, level.unsqueeze(1), right=True).squeeze(1)
        return _bisected(cumulative, group, level)

    def _levels(self, total: Tensor) -> Tensor:
        """Uniform in [0, total): where the first cumulative sum above it ends, there is something to choose."""
        level = uniform((len(total),), total, self.generator) * total
        return torch.minimum(level, torch.nextafter(total, torch.zeros_like(total)))

    def settle(self, family: AbstractFamily, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        return family.sample(x, observed, parameters, self.generator)


def _bisected(cumulative: Tensor, unit: Tensor, level: Tensor) -> Tensor:
    """For visits (V,) of units with cumulative sums (U, S), the first state whose sum is above the level."""
    states = cumulative.shape[1]
    flat, start = cumulative.reshape(-1), unit * states
    below, above = torch.zeros_like(unit), torch.full_like(unit, states - 1)
    for _ in range((states - 1).bit_length()):
        middle = torch.div(below + above, 2, rounding_mode="floor")
        higher = flat[start + middle] <= level
        below, above = torch.where(higher, middle + 1, below), torch.where(higher, above, middle)
    return torch.minimum(below, above)


def sample(question: Question, n: int, generator: torch.Generator | None) -> Tensor:
    """n samples of each row given: (n, B, D), or (n, D) where nothing is given."""
    question.one_root("sample")
    if not hasattr(n, "__index__") or index(n) < 0:
        raise CircuitError(f"the number of samples is an integer >= 0, not {n!r}")
    n = index(n)
    known = question.known()
    roots = question.roots(known.rows)
    draw = Draw(generator)
    parts = []
    with torch.no_grad(), naming_the_bound("sample", question.engine.program.memory):
        for rows in question.engine.chunks(known.rows):
            parts.append(_of_rows(question, Evidence(known.x[rows], known.observed[rows]), roots[rows], n, draw))
    samples = torch.cat(parts, 1) if parts else known.x.new_zeros((n, 0, known.x.shape[1]))
    return samples if question.batched else samples[:, 0]


def _of_rows(question: Question, known: Evidence, roots: Tensor, n: int, draw: Draw) -> Tensor:
    """(n, B, D) for rows that fit the bound on memory; samples are drawn in pieces that do."""
    program = question.engine.program
    _, state = question.up(known, roots)
    row_of = torch.arange(known.rows, device=roots.device).repeat(n)
    size = max(1, program.memory // (256 * max(1, known.x.shape[1]))) if program.chunked else max(1, len(row_of))
    parts = []
    for begin in range(0, len(row_of), size):
        rows = row_of[begin : begin + size]
        parts.append(program.choose(state, roots[rows], rows, known.x[rows], known.observed[rows], draw))
    flat = torch.cat(parts) if parts else known.x.new_zeros((0, known.x.shape[1]))
    return flat.view(n, known.rows, known.x.shape[1])
