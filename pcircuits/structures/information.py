"""Mutual information between all pairs of columns, by matrix products."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pcircuits.errors import EvidenceError
from pcircuits.families.fields import integer
from pcircuits.structures.tables import Table

__all__ = ["GaussianInformation", "Information", "QuantileInformation", "StateInformation"]

COLUMNS = 1024
"""How many columns of states are multiplied with each other at a time."""
ROWS = 4096
"""How many rows of data are multiplied at a time: with `COLUMNS`, 16 MiB in single precision."""
LARGEST = 1 - 1e-15
"""The largest squared correlation, so that columns that determine each other have a finite mutual information."""


class Information(Protocol):
    """A measure of how much two columns know of each other."""

    def __call__(self, table: Table, weights: Tensor | None, /) -> Tensor:
        """For all pairs of columns a number >= 0, symmetric, (D, D), from rows of weights (B,), or all of weight 1."""


@dataclass(frozen=True)
class StateInformation:
    """The mutual information of columns of integers, in nats: I(i, j) = Σ_st p_ij(s, t) log [p_ij(s, t) / (p_i(s) p_j(t))].

    Probabilities are the shares of the rows in which both columns are known. All counts come from one matrix product of
    indicators of states, block by block: of C states in all columns together, B · C² multiplications, and memory for D²
    numbers and some blocks.

    **Raises** `EvidenceError` for values that are no integers.

    >>> from pcircuits.structures.tables import as_table
    >>> StateInformation()(as_table([[0, 0, 7], [0, 0, 9], [1, 1, 7], [1, 1, 9]]), None).exp()
    tensor([[2., 2., 1.],
            [2., 2., 1.],
            [1., 1., 2.]], dtype=torch.float64)
    """

    def __call__(self, table: Table, weights: Tensor | None = None, /) -> Tensor:
        codes = torch.empty(table.values.shape, dtype=torch.int32, device=table.values.device)
        sizes = []
        for number in range(codes.shape[1]):
            values, rows = table.column(number)
            if bool((fraction := values != values.round() if values.is_floating_point() else values != values).any()):
                raise EvidenceError(
                    f"column {table.variables[number]!r} holds {values[fraction][0].item()!r}, which is no integer: measure "
                    "real numbers by QuantileInformation(bins), or by GaussianInformation()"
                )
            seen, code = torch.unique(values, return_inverse=True)
            codes[rows, number] = code.int()
            sizes.append(max(1, len(seen)))
        return _of_codes(codes, table.known, sizes, weights)


@dataclass(frozen=True)
class QuantileInformation:
    """`StateInformation` of numbers that are cut into bins which equally many rows fall into.

    Equal values fall into one bin, so that a column may have fewer of them. The cuts do not depend on weights.

    **Arguments**

    - `bins`: the number of bins of a column, at least 2.

    >>> from pcircuits.structures.tables import as_table
    >>> QuantileInformation(2)(as_table([[0.1, 5.0], [0.2, 7.0], [3.0, 9.0], [9.0, 9.5]]), None).exp()
    tensor([[2., 2.],
            [2., 2.]], dtype=torch.float64)
    """

    bins: int = 8

    def __post_init__(self) -> None:
        object.__setattr__(self, "bins", integer(self.bins, "bins", least=2))

    def __call__(self, table: Table, weights: Tensor | None = None, /) -> Tensor:
        codes = torch.zeros(table.values.shape, dtype=torch.int32, device=table.values.device)
        for number in range(codes.shape[1]):
            values, rows = table.column(number)
            if len(values):
                numbers = values.double().contiguous()
                places = torch.arange(1, self.bins, device=numbers.device) * len(numbers) // self.bins
                codes[rows, number] = torch.bucketize(
                    numbers, torch.unique(numbers.sort().values[places]), right=True
                ).int()
        return _of_codes(codes, table.known, [self.bins] * codes.shape[1], weights)


@dataclass(frozen=True)
class GaussianInformation:
    """The mutual information of jointly Normal columns, in nats: I(i, j) = -½ log(1 - ρ_ij²).

    ρ_ij is the correlation over the rows in which both columns are known; it is 0 where either is constant there.

    >>> from pcircuits.structures.tables import as_table
    >>> information = GaussianInformation()(as_table([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [2.0, 2.0]]), None)
    >>> (1 - (-2 * information[0, 1]).exp()).sqrt().item()  # the correlation
    0.642857...
    """

    def __call__(self, table: Table, weights: Tensor | None = None, /) -> Tensor:
        shift, scale = _means_and_scales(table)
        size = table.values.shape[1]
        count, first, second, product = (torch.zeros(size, size, dtype=torch.float64) for _ in range(4))
        for rows in torch.split(torch.arange(len(table.values)), ROWS):
            known = torch.ones(len(rows), size) if table.known is None else table.known[rows].cpu()
            known = known.double()
            values = (table.values[rows].cpu().double() - shift) / scale * known
            weighted = known if weights is None else known * weights[rows].cpu().unsqueeze(1)
            count += known.T @ weighted
            first += values.T @ weighted
            second += (values**2).T @ weighted
            product += values.T @ (values if weights is None else values * weights[rows].cpu().unsqueeze(1))
        n = count.clamp(min=torch.finfo(count.dtype).tiny)
        variance = (second / n - (first / n) ** 2).clamp(min=0.0)
        covariance = product / n - first * first.T / n**2
        spread = variance * variance.T
        square = torch.where(spread > 1e-20, covariance**2 / spread, 0.0).clamp(max=LARGEST)
        return -0.5 * torch.log1p(-square)


def _means_and_scales(table: Table) -> tuple[Tensor, Tensor]:
    """The mean and the standard deviation of each column, (D,) each in float64; 1 for columns that are constant."""
    moments = []
    for number in range(table.values.shape[1]):
        values = table.column(number)[0].double()
        mean = values.mean() if len(values) else torch.zeros(())
        scale = (values - mean).square().mean().sqrt() if len(values) else torch.zeros(())
        moments.append((float(mean), float(scale) or 1.0))
    shift, scale = torch.tensor(moments, dtype=torch.float64).T
    return shift, scale


def _of_codes(codes: Tensor, known: Tensor | None, sizes: Sequence[int], weights: Tensor | None) -> Tensor:
    """`StateInformation` of codes (B, D), those of column v below `sizes[v]`."""
    information = torch.zeros(len(sizes), len(sizes), dtype=torch.float64)
    weights = None if weights is None else weights.to(codes.device)
    blocks = list(_blocks(sizes))
    for i, left in enumerate(blocks):
        for right in blocks[i:]:
            part = _of_blocks(codes, known, sizes, left, right, weights).cpu()
            information[left, right] = part
            information[right, left] = part.T
    return information


def _blocks(sizes: Sequence[int]) -> Iterator[slice]:
    """Runs of columns which together have at most `COLUMNS` states, or are one column."""
    start, states = 0, 0
    for number, size in enumerate(sizes):
        if states and states + size > COLUMNS:
            yield slice(start, number)
            start, states = number, 0
        states += size
    yield slice(start, len(sizes))


def _of_blocks(
    codes: Tensor, known: Tensor | None, sizes: Sequence[int], left: slice, right: slice, weights: Tensor | None
) -> Tensor:
    """The mutual information of the columns of two blocks: H(i) + H(j) - H(i, j), over the rows that know both."""
    dtype = torch.float32 if weights is None else torch.float64  # counts below 2^24 are exact in single precision
    counts = torch.zeros(sum(sizes[left]), sum(sizes[right]), dtype=torch.float64, device=codes.device)
    for rows in torch.split(torch.arange(len(codes), device=codes.device), ROWS):
        first = _indicators(codes, known, sizes, rows, left, dtype)
        second = first if left == right else _indicators(codes, known, sizes, rows, right, dtype)
        weighted = first if weights is None else first * weights[rows].unsqueeze(1)
        counts += weighted.T @ second
    into_left, into_right = _membership(sizes[left], counts), _membership(sizes[right], counts)
    of_left, of_right = counts @ into_right, into_left.T @ counts  # counts of a state where the other column is known
    total = of_right @ into_right
    joint = into_left.T @ torch.xlogy(counts, counts) @ into_right
    alone = into_left.T @ torch.xlogy(of_left, of_left) + torch.xlogy(of_right, of_right) @ into_right
    shares = (joint - alone + torch.xlogy(total, total)) / total
    return torch.where(total > 0, shares, 0.0).clamp(min=0.0)


def _indicators(
    codes: Tensor, known: Tensor | None, sizes: Sequence[int], rows: Tensor, block: slice, dtype: torch.dtype
) -> Tensor:
    """1 at the states that rows have in the columns of a block, side by side; nothing at what is missing."""
    states = sum(sizes[block])
    starts = torch.tensor([0, *sizes[block]], device=codes.device).cumsum(0)[:-1]
    places = codes[rows, block].long() + starts
    if known is not None:
        places = places.masked_fill(~known[rows, block], states)
    return torch.zeros(len(rows), states + 1, dtype=dtype, device=codes.device).scatter_(1, places, 1.0)[:, :states]


def _membership(sizes: Sequence[int], like: Tensor) -> Tensor:
    """1 where a state, (C,), is one of a column's, (V,)."""
    column = torch.arange(len(sizes), device=like.device)
    of_state = column.repeat_interleave(torch.tensor(sizes, device=like.device))
    return (of_state.unsqueeze(1) == column).to(like.dtype)
