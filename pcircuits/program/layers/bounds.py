"""Bounds on the errors of a chain's numbers, from what was seen of them at the ends of blocks of steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pcircuits.program.layers.recursion import Steps
from pcircuits.program.numbers import FAR, TINY, power_of_two, scale_of

__all__ = ["Blocks"]

LOW = 2.0**-300
"""Products of two numbers of float64 that are no smaller are exact but for rounding, and so are their products again."""


class Blocks:
    """Rescales numbers (G, B, K) at the end of every block, and keeps how."""

    def __init__(self) -> None:
        self.scales: list[Tensor] = []
        self._totals: list[Tensor] = []
        self._ends: list[int] = []

    def __call__(self, number: Tensor, begin: int, end: int) -> None:
        """The numbers add up to a number in [1, 2) now."""
        total = number.sum(-1)
        scale = scale_of(total)
        number.mul_(scale.unsqueeze(-1))
        self.scales.append(scale)
        self._totals.append(total)
        self._ends.append(end)

    def bounds(
        self,
        steps: Steps,
        exponents: tuple[Tensor, Tensor],
        slacks: tuple[Tensor, Tensor],
        reach: tuple[float, float],
        numbers: Callable[[], Tensor],
    ) -> tuple[Tensor, Tensor]:
        """The exponents (G, B) after the last step, and bounds on relative and absolute errors, (G, B, 2).

        An absolute error a of numbers that add up to 1 is one of spread · a relative to each sum of positive weights, and
        what rounding to zero takes in the steps of a block grows by 2 · gain in each of them at most. Where weights are
        zero errors would grow from block to block; but where no number came near the smallest there are none.

        **Arguments**

        - `exponents`: of the factors, (n, G, B), and of the numbers before the first step, (G, B).
        - `slacks`: bounds likewise, with a last axis of two.
        - `reach`: the largest Σ_k w_ok / min_k w_ok of the weights, and the largest Σ_k w_ok.
        - `numbers`: makes those before the first step and after every step, (n + 1, G, B, K).
        """
        scale, raised = power_of_two(torch.stack(self._totals))
        of_factors, before = exponents
        reached = before + of_factors.cumsum(0)[torch.tensor(self._ends, device=before.device) - 1]
        zero = raised == -torch.inf
        relative = slacks[1][..., 0] + slacks[0][..., 0].sum(0)
        relative = relative + FAR * (zero & (reached > -torch.inf)).any(0).to(relative.dtype)
        spread, gain = reach
        width, dtype = steps.factors.shape[-1], steps.factors.dtype
        taken = 2 * steps.block * (width * TINY[dtype] + slacks[0][..., 1].amax(0).to(dtype))
        growth = (2 * max(gain, 1.0)) ** steps.block
        absolute = slacks[1][..., 1].to(dtype)
        if spread < torch.inf:
            lost = (growth * taken * scale).masked_fill(zero, 0.0)
            relative = relative + spread * (absolute + lost[:-1].sum(0))
            absolute = lost[-1]
        else:
            for j in range(len(scale)):
                absolute = (growth * (absolute + taken) * scale[j]).masked_fill(zero[j], 0.0)
            absolute = torch.where(_far_from_zero(steps, numbers()), 0.0, absolute)
        exponent = before + of_factors.sum(0) + raised.sum(0)
        return exponent, torch.stack([relative.to(dtype), absolute.nan_to_num(FAR, posinf=FAR)], -1)


def _far_from_zero(steps: Steps, numbers: Tensor) -> Tensor:
    """Whether nothing of a row can have become zero by rounding, (G, B)."""
    smallest = torch.where(numbers > 0, numbers, 1.0).amin((0, -1))
    factors = steps.factors.amin((0, -1))
    weights = torch.where(steps.weights > 0, steps.weights, 1.0).amin()
    return (smallest >= LOW) & (factors >= LOW) & (weights >= LOW) & (numbers[0] >= LOW).all(-1)
