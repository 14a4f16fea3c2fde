"""The recursion of a chain, u_s = e_s · (W_s u_{s−1}), and the one back, in scaled numbers: in turn, or side by side.

Arrays are (n, G, B, K): n steps of G chains over B rows of data, K units each. Numbers are brought back near 1 by powers
of two at the end of a block of steps only, so that a step is one matrix product and one multiplication.

*Side by side*, the matrices of a block are multiplied, for all blocks at once, and then the blocks are gone through in
turn. That takes K times the arithmetic in √n times as many operations, which is faster where rows of data are few.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Steps", "down", "suits", "up"]

Rescale = Callable[[Tensor, int, int], None]
"""Is told numbers (G, B, K) after the steps of a block [begin, end), and rescales them in place."""

BLOCK = {torch.float32: 8, torch.float64: 16}
"""Steps between rescalings: numbers that shrink a thousandfold in each of them stay far from the smallest."""

BUSY = {"cpu": 6e4, "cuda": 5e7}
"""About how many multiplications a device makes in the time that it takes to start an operation on a small array."""

MANY = 32
"""So many steps are worth being taken side by side."""


@dataclass(frozen=True)
class Steps:
    """Weights (n or 1, G, O, K) and factors (n, G, B, K) of n steps, and whether blocks of them are taken side by side."""

    weights: Tensor
    factors: Tensor
    side_by_side: bool

    @property
    def count(self) -> int:
        """n."""
        return len(self.factors)

    @property
    def block(self) -> int:
        """How many steps a block has; the last may have fewer."""
        return int(self.count**0.5) if self.side_by_side else BLOCK[self.factors.dtype]

    def matrices(self) -> list[Tensor]:
        """The weights of each step, (O, K) where there is one chain, else (G, O, K)."""
        flat = self.weights.squeeze(1) if self.weights.shape[1] == 1 else self.weights
        return list(flat.unbind(0)) if len(flat) > 1 else [flat[0]] * self.count

    def whole_blocks(self) -> tuple[Tensor, Tensor]:
        """Weights (L or 1, c or 1, G, O, K) and factors (L, c, G, B, K) of the c blocks of L steps."""
        size, count = self.block, self.count // self.block

        def cut(values: Tensor) -> Tensor:
            return values[: size * count].unflatten(0, (count, size)).transpose(0, 1)

        return self.weights.unsqueeze(0) if len(self.weights) == 1 else cut(self.weights), cut(self.factors)


def suits(factors: Tensor) -> bool:
    """Whether the steps of factors (n, G, B, K) are better taken side by side."""
    count, chains, rows, width = factors.shape
    return count >= MANY and 2 * chains * rows * width**3 <= BUSY.get(factors.device.type, BUSY["cuda"])


def _one(values: Tensor, axis: int) -> Tensor:
    """Without the axis of chains where there is one: products of matrices are faster without it."""
    return values.squeeze(axis)


def up(steps: Steps, start: Tensor, rescale: Rescale, keep: bool) -> Tensor:
    """The numbers after every step, (n, G, B, K), from those before the first, (G, B, K); only the last, (1, G, B, K),
    where the others are not kept."""
    count, size = steps.count, steps.block
    made = steps.factors.new_empty((count if keep else 2, *start.shape))
    number, done = start, 0
    if steps.side_by_side:
        products = _products(steps, keep)
        for block in products:
            end = done + size
            inside = torch.matmul(number.unsqueeze(-2), block.flatten(-2)).squeeze(-2).unflatten(-1, block.shape[-2:])
            number = made[done:end] if keep else made[:1]
            number.copy_(inside.movedim(-2, 0))
            number = number[-1]
            rescale(number, done, end)
            done = end
    chains = len(start)
    product = torch.mm if chains == 1 else torch.bmm
    matrices, factors, places = steps.matrices(), *(_one(t, 1).unbind(0) for t in (steps.factors, made))
    current = _one(number if keep or not done else number.clone(), 0)
    for begin in range(done, count, size):
        end = min(begin + size, count)
        for s in range(begin, end):
            place = places[s if keep else s % 2]
            product(current, matrices[s].mT, out=place)
            current = place.mul_(factors[s])
        rescale(current.view(start.shape), begin, end)
    return made if keep else current.view(1, *start.shape)


def _products(steps: Steps, inside: bool) -> Tensor:
    """For each whole block the products of its matrices up to each step, (c, G, B, K, L, K); or up to its last, L = 1.

    Row k is what the block makes of the unit k.
    """
    weights, factors = steps.whole_blocks()
    size, count, chains, rows, width = factors.shape
    eye = torch.eye(width, dtype=factors.dtype, device=factors.device)
    current = eye.expand(count, chains, rows, width, width).reshape(count, chains, rows * width, width)
    found = current.new_empty((count, chains, rows, width, size if inside else 1, width))
    for s in range(size):
        current = _times(current, weights[s if len(weights) > 1 else 0].mT)
        spread = current.view(count, chains, rows, width, width).mul_(factors[s].unsqueeze(-2))
        if inside or s == size - 1:
            found[..., s if inside else 0, :] = spread
    return found


def _times(numbers: Tensor, matrices: Tensor) -> Tensor:
    """(c, G, m, K) by (c or 1, G, K, O), new."""
    if len(matrices) == 1 and matrices.shape[1] == 1:
        return torch.mm(numbers.reshape(-1, numbers.shape[-1]), matrices[0, 0]).view(*numbers.shape[:-1], -1)
    return torch.matmul(numbers, matrices)


def down(steps: Steps, last: Tensor, scales: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """What a unit after each step adds to the result, g_s (n, G, B, K), with g = `last` after the last; what the sums of
    each step do, c_s · e_s · g_s; and what units before the first step do, (G, B, K).

    The numbers of block j were multiplied by scales[j] (G, B) at its end: c_s is that after its last step, and 1 elsewhere.
    """
    count, size = steps.count, steps.block
    made = steps.factors.new_empty((count, *last.shape))
    sums = torch.empty_like(made)
    chains = len(last)
    product = torch.mm if chains == 1 else torch.bmm
    whole = count // size if steps.side_by_side else 0
    matrices, factors, places, of_sums = steps.matrices(), *(_one(t, 1).unbind(0) for t in (steps.factors, made, sums))
    made[-1] = last
    first = torch.empty_like(last)
    for block in reversed(range(whole, -(-count // size))):
        begin, end = block * size, min((block + 1) * size, count)
        for s in reversed(range(begin, end)):
            torch.mul(places[s], factors[s], out=of_sums[s])
            if s == end - 1:
                of_sums[s].mul_(_one(scales[block], 0).unsqueeze(-1))
            product(of_sums[s], matrices[s], out=places[s - 1] if s else _one(first, 0))
    if whole:
        products = _products_back(steps)
        for block in reversed(range(whole)):
            begin, end = block * size, (block + 1) * size
            raw = (made[end - 1] * scales[block].unsqueeze(-1)).unsqueeze(-2)
            inside = torch.matmul(raw, products[block].flatten(-2)).squeeze(-2).unflatten(-1, (size, -1)).movedim(-2, 0)
            made[begin : end - 1] = inside[1:]
            (first if begin == 0 else made[begin - 1]).copy_(inside[0])
        part = sums[: whole * size]
        torch.mul(made[: whole * size], steps.factors[: whole * size], out=part)
        part[size - 1 :: size].mul_(torch.stack(scales[:whole]).unsqueeze(-1))
    return made, sums, first


def _products_back(steps: Steps) -> Tensor:
    """For each whole block what a unit before each step makes of the unit k after the block, (c, G, B, K, L, K)."""
    weights, factors = steps.whole_blocks()
    size, count, chains, rows, width = factors.shape
    eye = torch.eye(width, dtype=factors.dtype, device=factors.device)
    current = eye.expand(count, chains, rows, width, width)
    found = current.new_empty((count, chains, rows, width, size, width))
    for s in reversed(range(size)):
        spread = (current * factors[s].unsqueeze(-2)).view(count, chains, rows * width, width)
        current = _times(spread, weights[s if len(weights) > 1 else 0]).view(count, chains, rows, width, width)
        found[..., s, :] = current
    return found
