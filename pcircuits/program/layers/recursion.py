"""The recursion of a chain, u_s = e_s · (W_s u_{s−1}), and the one back, in scaled numbers: in turn, or side by side.

Arrays are (n, G, B, K): n steps of G chains over B rows of data, K units each. Numbers are brought back near 1 by powers
of two at the end of a block of steps only, so that a step is one matrix product and one multiplication.

*Side by side*, the matrices of a block are multiplied in turn, for all blocks at once; then those of blocks, in rounds
that join what is twice as long each time. That takes K times the arithmetic in about √n + log n operations in place of n,
which is faster where rows of data are few (Särkkä and García-Fernández 2021, *Temporal Parallelization of Bayesian
Smoothers*).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pcircuits.program.numbers import power_of_two, unflatten

__all__ = ["REBASED", "Steps", "down", "largest", "suits", "up"]


class Rescale(Protocol):
    """Brings numbers near 1, and keeps by which powers of two."""

    def __call__(self, number: Tensor) -> None:
        """Numbers (G, B, K) at the end of a block, in place."""

    def after(self, raw: Tensor, exponent: Tensor, scales: Tensor) -> Tensor:
        """Numbers raw · 2^exponent at the ends of c blocks, (c, G, B, K) and (c, G, B), or of the last block, new.

        `scales` (c, G, B) brought the products of the matrices of each block near 1.
        """


BLOCK = {torch.float32: 8, torch.float64: 16}
"""Steps between rescalings: numbers that shrink a thousandfold in each of them stay far from the smallest."""

BUSY = {"cpu": 6e4, "cuda": 5e7}
"""About how many multiplications a device makes in the time that it takes to start an operation on a small array."""

REBASED = 16
"""Steps in logarithms between which nothing is subtracted from them."""

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

    def matrices(self, begin: int) -> list[Tensor]:
        """The weights of each step from one on, (O, K) where there is one chain, else (G, O, K)."""
        flat = self.weights.squeeze(1)
        return list(flat[begin:].unbind(0)) if len(flat) > 1 else [flat[0]] * (self.count - begin)

    def whole_blocks(self) -> tuple[Tensor, Tensor]:
        """Weights (L or 1, c or 1, G, O, K) and factors (L, c, G, B, K) of the c blocks of L steps."""
        size, count = self.block, self.count // self.block

        def cut(values: Tensor) -> Tensor:
            return unflatten(values[: size * count], 0, (count, size)).transpose(0, 1)

        return self.weights.unsqueeze(0) if len(self.weights) == 1 else cut(self.weights), cut(self.factors)


def suits(factors: Tensor) -> bool:
    """Whether the steps of factors (n, G, B, K) are better taken side by side."""
    count, chains, rows, width = factors.shape
    return count >= MANY and 2 * chains * rows * width**3 <= BUSY.get(factors.device.type, BUSY["cuda"])


def up(steps: Steps, start: Tensor, rescale: Rescale, keep: bool) -> Tensor:
    """The numbers after every step, (n, G, B, K), from those before the first, (G, B, K); only the last, (1, G, B, K),
    where the others are not kept."""
    count, size = steps.count, steps.block
    done = count // size * size if steps.side_by_side else 0
    made = steps.factors.new_empty((count if keep else 2, *start.shape))
    number = start
    if done:
        number, before = _ends(steps, start, rescale, keep)
        if keep:
            unflatten(made[:done], 0, (-1, size)).copy_(_inside(*before, size))
            made[size - 1 : done : size] = number
        number = number[-1]
    matrices = [matrix.mT for matrix in steps.matrices(done)]
    factors, places = (t.squeeze(1).unbind(0) for t in (steps.factors[done:], made[done if keep else 0 :]))
    product = torch.mm if len(start) == 1 else torch.bmm
    current = number.squeeze(0)
    for begin in range(done, count, size):
        end = min(begin + size, count)
        for s in range(begin - done, end - done):
            place = places[s if keep else s % 2]
            product(current, matrices[s], out=place)
            current = place.mul_(factors[s])
        rescale(current.view(start.shape))
    return made if keep else current.view(1, *start.shape)


def _ends(steps: Steps, start: Tensor, rescale: Rescale, keep: bool) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The numbers at the end of every whole block, (c, G, B, K); and before each block, beside its products.

    Where steps are not kept it is the numbers after the last of these blocks only, (1, G, B, K).
    """
    products = _products(steps, keep)
    matrices, exponent, scales = _prefixes(products[..., -1, :], keep)
    raw = torch.matmul(start.unsqueeze(-2), matrices).squeeze(-2)
    number = rescale.after(raw, exponent, scales)
    return number, (torch.cat([start.unsqueeze(0), number[:-1]]), products)


def _inside(numbers: Tensor, products: Tensor, size: int) -> Tensor:
    """What the products of blocks, (c, G, B, K, L, K), make of numbers (c, G, B, K) at one end of each: (c, L, G, B, K)."""
    found = torch.matmul(numbers.unsqueeze(-2), products.flatten(-2)).squeeze(-2)
    return unflatten(found, -1, (size, -1)).movedim(-2, 1)


def _prefixes(matrices: Tensor, every: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The products of the first 1, 2, ... of c matrices (c, G, B, K, K), or of all, scaled; exponents (c or 1, G, B), and the
    scales (c, G, B) that brought single matrices near 1.

    Each round joins what is twice as long as in the round before.
    """
    scales, exponent = power_of_two(matrices.sum((-1, -2)))
    made = matrices * scales[..., None, None]
    reach = 1
    while reach < len(matrices) if every else len(made) > 1:
        if every:
            joined, raised = _near_one(torch.matmul(made[:-reach], made[reach:]))
            made = torch.cat([made[:reach], joined])
            exponent = torch.cat([exponent[:reach], exponent[:-reach] + exponent[reach:] + raised])
            reach *= 2
            continue
        half = len(made) // 2 * 2
        joined, raised = _near_one(torch.matmul(made[0:half:2], made[1:half:2]))
        made = torch.cat([joined, made[half:]])
        exponent = torch.cat([exponent[0:half:2] + exponent[1:half:2] + raised, exponent[half:]])
    return made, exponent, scales


def _near_one(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Matrices scaled by powers of two so that their entries add up to a number in [1, 2), and exponents."""
    scale, exponent = power_of_two(matrices.sum((-1, -2)))
    return matrices * scale[..., None, None], exponent


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
        spread = current.view(count, chains, rows, width, width) * factors[s].unsqueeze(-2)
        current = spread.view(count, chains, rows * width, width)
        if inside or s == size - 1:
            found[..., s if inside else 0, :] = spread
    return found


def _times(numbers: Tensor, matrices: Tensor) -> Tensor:
    """(c, G, m, K) by (c or 1, G, K, O), in one piece."""
    if len(matrices) == 1 and matrices.shape[1] == 1:
        return torch.mm(numbers.reshape(-1, numbers.shape[-1]), matrices[0, 0]).view(*numbers.shape[:-1], -1)
    return torch.matmul(numbers, matrices).contiguous()


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
    done = whole * size
    matrices, factors = steps.matrices(done), steps.factors[done:].squeeze(1).unbind(0)
    places, of_sums = (t[done:].squeeze(1).unbind(0) for t in (made, sums))
    made[-1] = last
    first = torch.empty_like(last)
    before = (made[done - 1] if done else first).squeeze(0)
    for block in reversed(range(whole, -(-count // size))):
        begin, end = block * size - done, min((block + 1) * size, count) - done
        for s in reversed(range(begin, end)):
            torch.mul(places[s], factors[s], out=of_sums[s])
            if s == end - 1:
                of_sums[s].mul_(scales[block].squeeze(0).unsqueeze(-1))
            product(of_sums[s], matrices[s], out=places[s - 1] if s else before)
    if whole:
        products, of_blocks = _products_back(steps), torch.stack(scales[:whole])
        raw = made[done - 1] * of_blocks[-1].unsqueeze(-1)
        # From the last block to the first, each times the scale of the one before it.
        back = products[..., 0, :].flip(0)
        back = torch.cat([back[:-1] * of_blocks[:-1].flip(0)[..., None, None], back[-1:]])
        joined, exponent, _ = _prefixes(back, True)
        reached = torch.matmul(raw.unsqueeze(-2), joined).squeeze(-2) * torch.exp2(exponent).unsqueeze(-1)
        first = reached[-1]
        scaled = torch.cat([raw.unsqueeze(0), reached[:-1]]).flip(0)  # at the end of each block, times its scale
        inside = _inside(scaled, products, size)
        by_block = unflatten(made[:done], 0, (whole, size))
        by_block[:, :-1] = inside[:, 1:]
        by_block[:-1, -1] = inside[1:, 0]
        part = sums[:done]
        torch.mul(made[:done], steps.factors[:done], out=part)
        part[size - 1 :: size].mul_(of_blocks.unsqueeze(-1))
    return made, sums, first


def _products_back(steps: Steps) -> Tensor:
    """For each whole block what a unit before each step makes of the unit k after the block, (c, G, B, K, L, K)."""
    weights, factors = steps.whole_blocks()
    size, count, chains, rows, width = factors.shape
    eye = torch.eye(width, dtype=factors.dtype, device=factors.device)
    current = eye.expand(count, chains, rows, width, width)
    found = current.new_empty((count, chains, rows, width, size, width))
    for s in reversed(range(size)):
        spread = (current * factors[s].unsqueeze(-2)).reshape(count, chains, rows * width, width)
        current = _times(spread, weights[s if len(weights) > 1 else 0]).view(count, chains, rows, width, width)
        found[..., s, :] = current
    return found


def largest(weights: Tensor, factors: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """The recursion of maxima in base-2 logarithms, u_s = e_s + max_k (W_s + u_{s−1}): after every step, (n, G, B, K), and
    exponents (G, B) of what was subtracted in between.

    Rows of data come last while it runs, where maxima over units are maxima of whole vectors.
    """
    count, chains = len(factors), len(start)
    flat = factors.transpose(-1, -2).contiguous().squeeze(1).unbind(0)
    turned = weights.transpose(-1, -2).contiguous().unsqueeze(-1).squeeze(1)  # (n or 1, [G,] K, O, 1)
    matrices = list(turned.unbind(0)) if len(turned) > 1 else [turned[0]] * count
    current = start.transpose(-1, -2).squeeze(0)
    exponent = torch.zeros((), dtype=torch.float64, device=start.device)
    axis, made = (0 if chains == 1 else 1), []
    for s in range(count):
        current = torch.add(current.unsqueeze(-2), matrices[s]).amax(axis).add_(flat[s])
        if s % REBASED == REBASED - 1 or s == count - 1:
            shift = current.amax(-2, keepdim=True).nan_to_num_(0.0, posinf=0.0, neginf=0.0).floor_().add_(1.0)
            current.sub_(shift)
            exponent = exponent + shift.squeeze(-2)
        made.append(current)
    exponent = torch.where(current.amax(-2) == -torch.inf, -torch.inf, exponent)
    numbers = torch.stack(made).transpose(-1, -2)
    return (numbers.unsqueeze(1) if chains == 1 else numbers), exponent.view(chains, -1)
