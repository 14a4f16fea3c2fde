"""Samples, given anything: an upward pass on the evidence, then choices down from the root."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pcircuits.arguments import as_generator, whole_number
from pcircuits.families.draws import uniform
from pcircuits.families.interface import AbstractFamily, Parameters
from pcircuits.memory import naming_the_bound
from pcircuits.program.layers.layer import Selector
from pcircuits.program.state import State
from pcircuits.queries.conditional import Conditional

__all__ = ["Draw", "sample"]


class Draw(Selector):
    """Choices in proportion, from an explicit generator; results depend on its seed alone."""

    def __init__(self, generator: torch.Generator | None) -> None:
        self.generator = generator

    def pick_within(self, scores: Tensor, group: Tensor | None) -> Tensor:
        peak = scores.amax(-1, keepdim=True)
        return self._pick(torch.exp2((scores - torch.where(torch.isfinite(peak), peak, 0.0)).to(torch.float64)), group)

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


def sample(given: Conditional, n: int, generator: torch.Generator | None) -> Tensor:
    """n samples of each row given: (n, B, D), or (n, D) where nothing is given."""
    given.one_root("sample")
    n = whole_number(n, "the number of samples", least=0)
    known = given.known()
    draw = Draw(as_generator(generator))
    samples = known.x.new_zeros((n, *known.x.shape))
    everyone = torch.arange(known.rows, device=known.x.device)
    with torch.no_grad(), naming_the_bound("sample", given.program.memory):
        for state, some, roots, good in given.passes() if known.rows else ():
            rows = good.nonzero().squeeze(1)
            drawn = _of_rows(given, state, roots, rows, n, draw, some.x, some.observed)
            if len(rows) == known.rows:
                samples = drawn
            else:
                samples[:, everyone[state.rows][rows]] = drawn
    return samples if given.batched else samples[:, 0]


def _of_rows(
    given: Conditional,
    state: State,
    roots: Tensor,
    rows: Tensor,
    n: int,
    draw: Draw,
    x: Tensor,
    observed: Tensor,
) -> Tensor:
    """(n, b, D) for chosen rows of a pass; samples are drawn in pieces that fit the bound on memory."""
    program = given.program
    row_of = rows.repeat(n)
    size = max(1, program.memory // (256 * max(1, x.shape[1]))) if program.chunked else max(1, len(row_of))
    parts = [
        program.choose(state, roots[some], some, x[some], observed[some], draw)
        for some in torch.split(row_of, size)
        if len(some)
    ]
    flat = torch.cat(parts) if parts else x.new_zeros((0, x.shape[1]))
    return flat.view(n, len(rows), x.shape[1])
