"""Which steps compute with scaled values: decided from weights alone, so that nothing that counts is ever lost.

A scaled row holds numbers of any size between 1 and e^-reach; what is smaller is lost. Folds over the steps decide
where that is harmless, in nats:

- `bound`, upwards: how far apart the values of a row can be. Outputs of a dense sum are no further apart than its
  weights; a product adds the bounds of its factors; leaves have none.
- `low`, upwards: how far below 1 the largest number of a row can be.
- `need`, downwards: an error of e^-need times the largest of a row is harmless to each of its values. A sum over weights
  of ratio r needs r + spare; a factor of a product needs what the product needs and the bounds of the other factors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from pcircuits.program.fetch import Fetch
from pcircuits.program.held import Held
from pcircuits.program.steps.step import Spans, Step

__all__ = ["scaled_steps"]

REACH = {torch.float32: 85.0, torch.float64: 700.0}
"""Nats between 1 and the smallest normal number."""

SPARE = {torch.float32: 25.0, torch.float64: 45.0}
"""Nats between a sum and what is below its rounding, though there be thousands of it."""


def scaled_steps(steps: Sequence[Step], root: Fetch, held: Held, dtype: torch.dtype) -> list[bool]:
    """For each step, whether it computes with scaled values."""
    ratios = _ratios(steps, held)
    spans = Spans([], [], REACH[dtype], SPARE[dtype])
    for step, ratio in zip(steps, ratios, strict=True):
        bound, low = step.bound(spans, ratio), step.low(spans, ratio)
        spans.bounds.append(bound)
        spans.lows.append(low)
    needs = [0.0] * len(steps)
    for source in root.sources:
        needs[source] = math.inf if root.by_unit or root.width > 1 else spans.spare
    for step in reversed(steps):
        for source, need in step.needs(needs[step.index], spans, ratios[step.index]):
            needs[source] = max(needs[source], need)
    return [step.scales(needs[step.index], spans, ratios[step.index]) for step in steps]


def _ratios(steps: Sequence[Step], held: Held) -> list[float]:
    """The ratio of each step's weights, 0 where it has none, inf where it is not known; read from the device together."""
    made = {step.index: ratio.reshape(()) for step in steps if (ratio := step.ratio(held)) is not None}
    numbers = torch.stack([r.double() for r in made.values()]).tolist() if made else []
    found = {index: math.inf if math.isnan(r) else r for index, r in zip(made, numbers, strict=True)}
    return [found.get(step.index, 0.0) for step in steps]
