"""Samples, given anything: an upward pass on the evidence, then choices down from the root."""

from __future__ import annotations

from operator import index

import torch
from torch import Tensor

from pcircuits.errors import CircuitError
from pcircuits.evidence import Evidence
from pcircuits.families.draws import uniform
from pcircuits.families.interface import AbstractFamily, Parameters
from pcircuits.program.steps.step import Chooser
from pcircuits.queries.question import Question

__all__ = ["Draw", "sample"]


class Draw(Chooser):
    """Choices in proportion, from an explicit generator; results depend on its seed alone."""

    def __init__(self, generator: torch.Generator | None) -> None:
        self.generator = generator

    def pick_within(self, scores: Tensor, group: Tensor) -> Tensor:
        peak = scores.amax(-1, keepdim=True)
        cumulative = (scores - torch.where(torch.isfinite(peak), peak, 0.0)).to(torch.float64).exp().cumsum(-1)
        level = uniform((len(group),), scores, self.generator) * cumulative[group, -1]
        last = (scores > -torch.inf).to(torch.int8).cumsum(-1).argmax(-1)
        return torch.minimum(_found(cumulative, level, group), last[group])

    def settle(self, family: AbstractFamily, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        return family.sample(x, observed, parameters, self.generator)


def _found(cumulative: Tensor, level: Tensor, group: Tensor) -> Tensor:
    """Where each level (V,) falls in the cumulative sums (G, K) of its group."""
    order = group.argsort(stable=True)
    counts = torch.bincount(group, minlength=len(cumulative))
    slot = torch.arange(len(group), device=group.device) - (counts.cumsum(0) - counts)[group[order]]
    padded = level.new_zeros((len(cumulative), int(counts.max()) if len(group) else 0))
    padded[group[order], slot] = level[order]
    found = torch.searchsorted(cumulative, padded, right=True)
    picked = torch.empty_like(group)
    picked[order] = found[group[order], slot]
    return picked


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
    with torch.no_grad():
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
