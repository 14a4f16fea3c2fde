"""The learning rate as a function of the step alone, so that a resumed run needs no scheduler's memory."""

from __future__ import annotations

import math

from pcircuits.learning.settings import FitSettings

__all__ = ["learning_rate_at"]


def learning_rate_at(step: int, steps: int, settings: FitSettings) -> float:
    """The learning rate of step `step` of `steps` (from 0), as `FitSettings` defines it.

    **Example**

    >>> settings = FitSettings(learning_rate=1.0, final_fraction=0.0)
    >>> learning_rate_at(0, 10, settings), round(learning_rate_at(5, 10, settings), 6)
    (1.0, 0.5)
    """
    warmup = settings.warmup * steps
    rise = 1.0 if step + 1 >= warmup else (step + 1) / warmup
    progress = max(0.0, (step - warmup) / (steps - warmup))
    fall = settings.final_fraction + (1 - settings.final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))
    return settings.learning_rate * rise * fall
