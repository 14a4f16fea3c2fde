"""Bounds on the errors of a chain's numbers, from what was seen of them at the ends of blocks of steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pcircuits.program.layers.recursion import Steps
from pcircuits.program.numbers import FAR, TINY, power_of_two, scale_of

__all__ = ["Blocks", "Rows"]

LOW = 2.0**-300
"""Products of two numbers of float64 that are no smaller are exact but for rounding, and so are their products again."""


@dataclass(frozen=True)
class Rows:
    """Exponents and bounds on relative and absolute errors of the rows of some numbers, each (..., G, B)."""

    exponent: Tensor
    relative: Tensor
    absolute: Tensor


class Blocks:
    """Rescales numbers (G, B, K) at the end of every block, and keeps how."""

    def __init__(self) -> None:
        self.scales: list[Tensor] = []
        self._totals: list[Tensor] = []
        self._reached: Tensor | None = None
        self._of_matrices: Tensor | None = None
        self._nothing: Tensor | None = None

    def __call__(self, number: Tensor) -> None:
        total = number.sum(-1)
        scale = scale_of(total)
        number.mul_(scale.unsqueeze(-1))
        self.scales.append(scale)
        self._totals.append(total)

    def after(self, raw: Tensor, exponent: Tensor, scales: Tensor) -> Tensor:
        scale, raised = power_of_two(raw.sum(-1))
        reached = exponent + raised
        self._reached, self._of_matrices, self._nothing = reached[-1], scales, reached[-1] == -torch.inf
        steps = reached.diff(dim=0, prepend=torch.zeros_like(reached[:1]))
        self.scales.extend(torch.exp2(-steps).nan_to_num(1.0, posinf=1.0).to(raw.dtype).unbind(0))
        return raw * scale.unsqueeze(-1)

    def bounds(
        self, steps: Steps, start: Rows, factors: Rows, reach: tuple[float, float], numbers: Callable[[], Tensor]
    ) -> Rows:
        """What is known of the rows after the last step.

        An absolute error a of numbers that add up to 1 is one of spread · a relative to each sum of positive weights, and
        what rounding to zero takes in the steps of a block grows by 2 · gain in each of them at most. Rows of products of
        matrices differ by the spread at most, too. Where weights are zero, errors could grow from block to block; but
        where no number came near the smallest there are none.

        **Arguments**

        - `reach`: the largest Σ_k w_ok / min_k w_ok of the weights, infinite beyond use, and the largest Σ_k w_ok.
        - `numbers`: makes those before the first step and after every step, (n + 1, G, B, K).
        """
        spread, gain = reach
        width, dtype = steps.factors.shape[-1], steps.factors.dtype
        taken = 2 * steps.block * (width * TINY[dtype] + factors.absolute.amax(0).to(dtype))
        growth = (2 * max(gain, 1.0)) ** steps.block
        exponent = start.exponent + factors.exponent.sum(0)
        relative = start.relative.to(dtype) + factors.relative.sum(0).to(dtype)
        absolute = start.absolute.to(dtype)
        lost = []
        if self._reached is not None and self._of_matrices is not None:
            lost.append(width**2 * spread * growth * taken * self._of_matrices)
            exponent, zero = exponent + self._reached, self._nothing
        if self._totals:
            scale, raised = power_of_two(torch.stack(self._totals))
            lost.append(growth * taken * scale)
            exponent, zero = exponent + raised.sum(0), raised[-1] == -torch.inf
        assert zero is not None
        gone = torch.cat(lost)
        if spread < torch.inf:
            relative = relative + spread * (absolute + gone[:-1].sum(0))
            absolute = gone[-1]
        else:
            for scale in self.scales:
                absolute = growth * (absolute + taken) * scale
            absolute = torch.where(_far_from_zero(steps, numbers()), 0.0, absolute)
        possible = (start.exponent > -torch.inf) & (factors.exponent > -torch.inf).all(0)
        relative = torch.where(zero, torch.where(possible, FAR, 0.0), relative.nan_to_num(FAR, posinf=FAR))
        return Rows(exponent, relative, absolute.nan_to_num(FAR, posinf=FAR).masked_fill(zero, 0.0))


def _far_from_zero(steps: Steps, numbers: Tensor) -> Tensor:
    """Whether nothing of a row can have become zero by rounding, (G, B)."""
    smallest = torch.where(numbers > 0, numbers, 1.0).amin((0, -1))
    factors = steps.factors.amin((0, -1))
    weights = torch.where(steps.weights > 0, steps.weights, 1.0).amin()
    return (smallest >= LOW) & (factors >= LOW) & (weights >= LOW) & (numbers[0] >= LOW).all(-1)
