"""The values of units as logs, or scaled: mantissas with one exponent for each region and row of data."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pcircuits.program.numbers import log

__all__ = ["Computed", "Values"]


class Values:
    """Units (R, B, K): as logs; or, with an exponent (R, B, 1), scaled: value = number · e^exponent.

    Scaled numbers need no exp or log in sums and products. The exponent is -inf where a whole row is zero. It carries
    no gradient: moving a factor between number and exponent changes no value.
    """

    __slots__ = ("_logs", "_scaled", "exponent", "numbers")

    def __init__(self, numbers: Tensor, exponent: Tensor | None = None) -> None:
        self.numbers, self.exponent = numbers, exponent
        self._logs: Tensor | None = None
        self._scaled: Values | None = None

    def logs(self) -> Tensor:
        """The logs, (R, B, K)."""
        if self.exponent is None:
            return self.numbers
        if self._logs is None:
            self._logs = log(self.numbers) + self.exponent
        return self._logs

    def scaled(self) -> Values:
        """The same values scaled, the largest number of every row being 1 if they were logs."""
        if self.exponent is not None:
            return self
        if self._scaled is None:
            peak = self.numbers.detach().amax(-1, keepdim=True)
            shift = torch.where(torch.isfinite(peak), peak, 0.0)
            exponent = torch.where(peak == -torch.inf, -torch.inf, shift)
            self._scaled = Values((self.numbers - shift).exp(), exponent)
        return self._scaled

    def levelled(self) -> Values:
        """Scaled values whose numbers add up to 1 in every row: the largest is 1/K at least.

        A sum is a product with a vector of ones, far cheaper than a maximum over a short axis.
        """
        assert self.exponent is not None
        numbers = self.numbers.detach()
        total = torch.matmul(numbers, numbers.new_ones((numbers.shape[-1], 1)))
        usable = (total > 0) & torch.isfinite(total)
        by = torch.where(usable, total, 1.0)
        raised = torch.where(total > 0, by.log(), -torch.inf)
        return Values(self.numbers * by.reciprocal(), self.exponent + raised)

    def filled(self, where: Tensor, value: float) -> Values:
        """The same, but for rows (R, B) whose units are all one value, 0 or 1."""
        mask, log_value = where.unsqueeze(-1), 0.0 if value > 0 else -math.inf
        if self.exponent is None:
            return Values(self.numbers.masked_fill(mask, log_value))
        return Values(self.numbers.masked_fill(mask, value), self.exponent.masked_fill(mask, log_value))

    def batches(self, sizes: list[int]) -> list[Values]:
        """The values of successive rows of data."""
        numbers = torch.split(self.numbers, sizes, 1)
        exponents = [None] * len(sizes) if self.exponent is None else torch.split(self.exponent, sizes, 1)
        return [Values(n, e) for n, e in zip(numbers, exponents, strict=True)]

    def rows(self, where: slice | Tensor) -> Values:
        """Some regions, by a slice or by an index."""
        if isinstance(where, slice):
            if (where.start, where.stop) == (0, len(self.numbers)):
                return self
            return Values(self.numbers[where], None if self.exponent is None else self.exponent[where])
        exponent = None if self.exponent is None else self.exponent.index_select(0, where)
        return Values(self.numbers.index_select(0, where), exponent)

    def at(self, row: Tensor, batch: Tensor, column: Tensor | slice) -> Tensor:
        """Logs of chosen units: (V,) for columns (V,), or (V, K) for all of them."""
        if self.exponent is None:
            return self.numbers[row, batch, column]
        exponent = self.exponent[row, batch]
        return log(self.numbers[row, batch, column]) + (exponent if isinstance(column, slice) else exponent[:, 0])

    @staticmethod
    def join(parts: list[Values]) -> Values:
        """The regions of several, all logs or all scaled, one after the other."""
        if len(parts) == 1:
            return parts[0]
        exponents = [p.exponent for p in parts if p.exponent is not None]
        return Values(torch.cat([p.numbers for p in parts]), torch.cat(exponents) if exponents else None)


class Computed(list[Values | None]):
    """The values of each step so far, None where they are not made yet, or not needed any more.

    `shared` holds the logs of all rows of width 1, (rows, B, 1), where nothing is differentiated: one gather reads any.
    """

    def __init__(self, steps: int, shared: Tensor | None = None) -> None:
        super().__init__([None] * steps)
        self.shared = shared
