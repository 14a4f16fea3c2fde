"""Look-ups of sums of leaf values: each distinct (leaf, evidence) pair is evaluated once for all rows of data."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from pcircuits.program.numbers import unflatten

__all__ = ["PAIR_BYTES", "Pairs", "distinct_pairs", "look_up"]

LOST = {torch.float64: 1e-10, torch.float32: 1e-5}
"""The largest rounding that a look-up by differences may add, relative to max(1, |answer|)."""

PAIR_BLOCK = 2**20
"""Entries of data whose distinct pairs are found together: what that takes besides is a few times as much."""

PAIR_BYTES = 24
"""What one entry of data takes while its pair is found and looked up."""


@dataclass(frozen=True)
class Pairs:
    """The distinct (leaf row, evidence) pairs of some rows of data, and where each of their entries is found."""

    leaf: Tensor
    """(P,), ascending."""
    evidence: tuple[Tensor, ...]
    """Each (P, 1, 1)."""
    entry: Tensor
    """(B, R·A), int32: the pair of each entry."""
    base: Tensor
    """(R·A,): the most frequent pair of each leaf row."""
    arity: int
    """A."""

    @cached_property
    def others(self) -> Tensor:
        """(B, R·A): whether an entry differs from the most frequent pair of its leaf row."""
        return self.entry != self.base

    @cached_property
    def few(self) -> bool:
        """Whether less than half of the entries do."""
        return bool(self.others.float().mean() < 0.5)

    @cached_property
    def counts(self) -> Tensor:
        """(B·R,): how many do, in each row of data and product."""
        return self.others.view(-1, self.arity).sum(1)

    @cached_property
    def differing(self) -> Tensor:
        """The pairs of the entries that do, one row of data and product after the other."""
        return self.entry[self.others].long()


def look_up(pairs: Pairs, table: Tensor) -> Tensor:
    """For each row of data and product, the sum of its entries' rows of a table (P, n), as (R, B, n)."""
    batch, count = len(pairs.entry), pairs.entry.shape[1] // pairs.arity
    if pairs.few and bool(torch.isfinite(table.detach().sum())):
        base = table[pairs.base]
        differ = _summed(table - base.index_select(0, pairs.leaf), pairs.differing, pairs.counts)
        by_product = unflatten(base, 0, (count, pairs.arity))
        total = differ.view(batch, count, -1).transpose(0, 1) + by_product.sum(1).unsqueeze(1)
        lost = by_product.detach().abs().sum(1).unsqueeze(1) * torch.finfo(table.dtype).eps
        if bool((lost <= LOST[table.dtype] * total.detach().abs().clamp(min=1.0)).all()):
            return total
    counts = torch.full((batch * count,), pairs.arity, device=table.device)
    return _summed(table, pairs.entry.reshape(-1).long(), counts).view(batch, count, -1).transpose(0, 1)


class _Bags(torch.autograd.Function):
    """Sums of rows of a table, (bags, n); the gradient of `embedding_bag` itself has no gradient."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, counts: Tensor) -> Tensor:
        ctx.save_for_backward(rows, counts)
        ctx.rows = len(table)
        ends = counts.cumsum(0)
        if table.dtype == torch.float64 and table.device.type == "cpu":  # where embedding_bag adds number by number
            made = _ones(rows, ends, table) @ table
        else:
            made = embedding_bag(rows, table.contiguous(), ends - counts, mode="sum")
        assert isinstance(made, Tensor)
        return made

    @staticmethod
    def backward(ctx: Any, flow: Tensor) -> tuple[Tensor, None, None]:
        rows, counts = ctx.saved_tensors
        each = flow.index_select(0, torch.arange(len(counts), device=rows.device).repeat_interleave(counts))
        return flow.new_zeros((ctx.rows, flow.shape[1])).index_add(0, rows, each), None, None


def _ones(rows: Tensor, ends: Tensor, table: Tensor) -> Tensor:
    """The sparse matrix (bags, P) of how often a row of the table is in a bag."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support", UserWarning)
        starts = torch.cat([ends.new_zeros(1), ends])
        ones = table.new_ones(len(rows))
        return torch.sparse_csr_tensor(starts, rows, ones, size=(len(ends), len(table)), check_invariants=False)


def _summed(table: Tensor, rows: Tensor, counts: Tensor) -> Tensor:
    """For bags of `counts` successive entries of `rows`, the sum of those rows of a table."""
    made = _Bags.apply(table, rows, counts)
    assert isinstance(made, Tensor)
    return made


def distinct_pairs(tensors: tuple[Tensor, ...], columns: Tensor, arity: int, memory: int) -> Pairs:
    """The distinct (leaf row, evidence) pairs, in the order of their leaf rows, for a block of leaf rows at a time."""
    batch, leaves = len(tensors[0]), len(columns)
    entry = torch.empty((batch, leaves), dtype=torch.int32, device=columns.device)
    size = max(1, min(PAIR_BLOCK, memory // 256) // max(1, batch))
    leaf, base, evidence = [], [], []
    found = 0
    for begin in range(0, leaves, size):
        gathered = [tensor.detach()[:, columns[begin : begin + size]] for tensor in tensors]
        places, where, count = _finest(gathered)
        entry[:, begin : begin + size] = places + found
        of = where % gathered[0].shape[1]
        order = count.argsort(stable=True)
        order = order[of[order].argsort(stable=True)]  # by leaf row, and in it by count
        most = order[of.bincount(minlength=gathered[0].shape[1]).cumsum(0) - 1]
        leaf.append(of + begin)
        base.append(most + found)
        evidence.append([tensor.reshape(-1)[where].view(-1, 1, 1) for tensor in gathered])
        found += len(where)
    joined = tuple(torch.cat(e) for e in zip(*evidence, strict=True))
    return Pairs(torch.cat(leaf), joined, entry, torch.cat(base), arity)


def _finest(tensors: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """What differs by column and by the entries of tensors (B, n): the class of each place (B, n), a place and a count of
    each class. Classes ascend by column."""
    batch, leaves = tensors[0].shape
    device = tensors[0].device
    key = torch.arange(leaves, device=device).expand(batch, leaves)
    count = torch.full((leaves,), batch, device=device)
    for tensor in tensors:
        if bool((tensor == tensor[0, 0]).all()):
            continue
        values, code = torch.unique(tensor, return_inverse=True)
        _, key, count = torch.unique(key * len(values) + code, return_inverse=True, return_counts=True)
    where = torch.empty(len(count), dtype=torch.int64, device=device)
    where[key.reshape(-1)] = torch.arange(batch * leaves, device=device)
    return key, where, count
