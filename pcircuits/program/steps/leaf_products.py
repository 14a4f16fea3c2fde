"""Products of input units of one family, all at once: as matrix products, or as look-ups in a table."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from pcircuits.families.finite import AbstractFinite
from pcircuits.families.interface import AbstractExponentialFamily, Parameters
from pcircuits.program.numbers import unflatten
from pcircuits.program.operations import FusedOp
from pcircuits.program.reports import Density, Report
from pcircuits.program.steps.inputs import LeafParameters
from pcircuits.program.steps.step import Build, Choice, Reader, State

__all__ = ["LeafColumns", "LeafProducts"]

TABLE_COLUMNS = 64
"""Columns of a table that are looked up together: more of them fall out of the cache."""

TABLE_BLOCK = 2**20
"""Bytes of a table that are computed together, likewise."""

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 5e-5}
"""Rounding, in nats, that a matrix form may leave; beyond it a wider dtype or the table takes over."""


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


@dataclass(frozen=True)
class MatrixForm:
    """Natural parameters about a centre (R·A,), each (R, A, n), in the dtype of the products; `result` is the answer's."""

    centre: Tensor
    natural: list[Tensor]
    constant: Tensor
    result: torch.dtype


@dataclass(frozen=True)
class LeafColumns:
    """A range of columns: parameters (R·A, n or 1, *event), and their matrix form where they have an accurate one."""

    parameters: Parameters
    width: int
    matrix: MatrixForm | None


class LeafProducts(nn.Module):
    """Products over A input units: row r and factor a are leaf row r·A + a.

    Exponential families with few digits lost are products of natural parameters with sufficient statistics; everything
    else is looked up: each distinct (leaf, evidence) pair is evaluated once. A term is added for a data entry only
    where it differs from the most frequent pair of its leaf.
    """

    columns: Tensor

    def __init__(self, op: FusedOp, build: Build) -> None:
        super().__init__()
        self.count, self.arity, self.width = op.count, op.arity, op.width
        self.family = op.leaves.family
        self.leaves = LeafParameters(op.leaves, build)
        columns = torch.as_tensor(op.leaves.columns.index[:, 0], device=build.device)
        self.register_buffer("columns", columns, persistent=False)

    def columns_of(self, state: State, begin: int, end: int) -> LeafColumns:
        """A range of columns, with what is derived from their parameters and not from data.

        That is kept for the next call while no parameter has changed, where all of it fits the bound on memory.
        """

        def made() -> LeafColumns:
            return self._derived(self.leaves.columns(state.held, begin, end, self.columns.device), end - begin)

        if self.by_table(state.report):
            return LeafColumns(self.leaves.columns(state.held, begin, end, self.columns.device), end - begin, None)
        small = 3 * 8 * self.count * self.arity * self.width <= state.memory
        keep = small and state.held.kept and self.leaves.source is None
        return state.held.once((self, begin, end), made) if keep else made()

    def _derived(self, parameters: Parameters, width: int) -> LeafColumns:
        """Parameters with their matrix form, in a dtype in which the terms that cancel leave enough digits."""
        family = self.family
        if not isinstance(family, AbstractExponentialFamily):
            return LeafColumns(parameters, width, None)
        centre = family.centre({name: value.detach() for name, value in parameters.items()})
        with torch.no_grad():
            lost = (
                2 * self._by_product(family.cancellation(parameters, centre.unsqueeze(-1))).sum(1).max().double().item()
            )
        own = centre.dtype
        fits = [d for d in (own, torch.float64) if lost * torch.finfo(d).eps <= _TOLERANCE.get(own, 1e-9)]
        if not fits:
            return LeafColumns(parameters, width, None)
        wide = {name: value.to(fits[0]) for name, value in parameters.items()}
        centre = centre.to(fits[0])
        natural, constant = family.natural_parameters(wide, centre.unsqueeze(-1))
        matrix = MatrixForm(centre, [self._by_product(n) for n in natural], self._by_product(constant), own)
        return LeafColumns(parameters, width, matrix)

    def _by_product(self, leaves: Tensor) -> Tensor:
        """(R·A, ...) to (R, A, ...)."""
        return unflatten(leaves, 0, (self.count, self.arity))

    def by_table(self, report: Report) -> bool:
        """Whether a report is surely looked up: then rows of data share the work, and are best taken together."""
        return not (isinstance(report, Density) and isinstance(self.family, AbstractExponentialFamily))

    def values(self, state: State, columns: LeafColumns) -> Tensor:
        """The logs of the products of a range of columns, (R, B, n)."""
        if columns.matrix is not None and isinstance(state.report, Density):
            made = self._matrix(state.report, columns.matrix)
            if made is not None:
                return made
        return self._table(state, columns.parameters, columns.width)

    def _matrix(self, report: Density, form: MatrixForm) -> Tensor | None:
        """log p(x | n) = Σ_v m_v [Σ_t η_vnt T_t(x_v − c_v) + h_vn], m the mask of what was observed.

        None where the statistics of some data overflow.
        """
        assert isinstance(self.family, AbstractExponentialFamily)
        observed = report.observed[:, self.columns]
        statistics = self.family.sufficient_statistics(report.x[:, self.columns].to(form.centre.dtype), form.centre)
        if not all(bool(torch.isfinite(statistic).all()) for statistic in statistics):
            return None
        if bool(observed.all()):
            total = form.constant.sum(1, keepdim=True).expand(-1, report.rows, -1)
        else:
            statistics = [torch.where(observed, statistic, 0.0) for statistic in statistics]
            total = torch.matmul(self._rows_of(observed.to(form.centre.dtype)), form.constant)
        for statistic, natural in zip(statistics, form.natural, strict=True):
            total = torch.baddbmm(total, self._rows_of(statistic), natural)
        return total.to(form.result)

    def _rows_of(self, data: Tensor) -> Tensor:
        """(B, R·A) to (R, B, A)."""
        return unflatten(data, 1, (self.count, self.arity)).transpose(0, 1)

    def _table(self, state: State, parameters: Parameters, width: int) -> Tensor:
        pairs = self._pairs(state)
        entries = state.memory // (4 * 3 * pairs.evidence[0].element_size())
        size = min(TABLE_COLUMNS, max(8, entries // len(pairs.leaf)))
        parts = []
        for begin in range(0, width, size):
            chunk = {
                name: p if p.shape[1] == 1 else p[:, begin : begin + size].contiguous()
                for name, p in parameters.items()
            }
            table = self._answers(state, pairs, chunk, min(size, width - begin))
            parts.append(self._look_up(pairs, table))
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def _answers(self, state: State, pairs: Pairs, parameters: Parameters, width: int) -> Tensor:
        """What each pair's leaf units report, (P, n), a block at a time that stays in the cache."""
        if isinstance(self.family, AbstractFinite) and self.family.tabulated and isinstance(state.report, Density):
            return self._by_state(pairs, self.family.log_table(parameters))
        event = max(p.shape[2:].numel() for p in parameters.values())
        size = pairs.evidence[0].element_size()
        rows = max(1, min(TABLE_BLOCK, state.memory // 32) // (size * width * event))
        parts = []
        for begin in range(0, len(pairs.leaf), rows):
            leaf = pairs.leaf[begin : begin + rows]
            evidence = tuple(e[begin : begin + rows] for e in pairs.evidence)
            made = state.report.answer(
                evidence, self.family, {name: p.index_select(0, leaf) for name, p in parameters.items()}
            )
            parts.append(made.to(pairs.evidence[0].dtype).expand(len(leaf), width))
        return torch.cat(parts)

    def _by_state(self, pairs: Pairs, table: Tensor) -> Tensor:
        """The entries of a table (R·A, n or 1, S) for the states of pairs, (P, n)."""
        x, observed = (e.view(-1, 1) for e in pairs.evidence)
        states = table.shape[2]
        possible = (x >= 0) & (x < states) & (x == x.floor())
        entry = torch.where(possible & observed, x, 0.0).long().squeeze(1)
        found = table.transpose(1, 2).reshape(-1, table.shape[1]).index_select(0, pairs.leaf * states + entry)
        found = torch.where(possible, found, -torch.inf)
        return torch.where(observed, found, 0.0).to(x.dtype)

    def _look_up(self, pairs: Pairs, table: Tensor) -> Tensor:
        """For each row of data and product, the sum of its entries' rows of the table, (R, B, n)."""
        batch = len(pairs.entry)
        if pairs.few and bool(torch.isfinite(table.detach().sum())):
            base = table[pairs.base]
            differ = _summed(table - base.index_select(0, pairs.leaf), pairs.differing, pairs.counts)
            added = self._by_product(base).sum(1).unsqueeze(1)
            total = differ.view(batch, self.count, -1).transpose(0, 1) + added
            lost = self._by_product(base.detach().abs()).sum(1).unsqueeze(1) * torch.finfo(table.dtype).eps
            if bool((lost <= LOST[table.dtype] * total.detach().abs().clamp(min=1.0)).all()):
                return total
        counts = torch.full((batch * self.count,), self.arity, device=table.device)
        return _summed(table, pairs.entry.reshape(-1).long(), counts).view(batch, self.count, -1).transpose(0, 1)

    def _pairs(self, state: State) -> Pairs:
        """The distinct pairs of the rows at hand, found once for each pass."""
        found = state.saved.get(self)
        if not isinstance(found, Pairs):
            block = min(PAIR_BLOCK, state.memory // 256)
            found = state.saved[self] = _distinct(state.report, self.columns, self.arity, block)
        return found

    def forget(self, state: State) -> None:
        """Let go of what was found in the data of a pass."""
        state.saved.pop(self, None)

    def read(self, reader: Reader, columns: LeafColumns, flow: Tensor) -> None:
        """Hand the flow (R, B, n) of products to a reader, as the flow of all their leaves."""
        shaped = {name: self._by_product(value) for name, value in columns.parameters.items()}
        reader.leaves(self.family, self.columns.view(self.count, self.arity, 1), shaped, flow)

    def settle(self, state: State, row: Tensor, column: Tensor, sample: Tensor, choice: Choice) -> None:
        """Settle the leaves of chosen products (V,); parameters are gathered once for each distinct column."""
        if not len(sample):
            return
        distinct, place = torch.unique(column, return_inverse=True)
        some = self.leaves.at_columns(state.held, distinct)
        event = max(v.shape[2:].numel() for v in some.values())
        size = max(1, state.memory // (64 * self.arity * event))
        for begin in range(0, len(sample), size):
            those = slice(begin, begin + size)
            leaf = (row[those].unsqueeze(1) * self.arity + torch.arange(self.arity, device=row.device)).flatten()
            at = place[those].repeat_interleave(self.arity)
            parameters = {name: v[leaf, 0 if v.shape[1] == 1 else at] for name, v in some.items()}
            drawn = sample[those].repeat_interleave(self.arity)
            choice.write(self.family, drawn, self.columns[leaf].unsqueeze(-1), parameters)


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


def _distinct(report: Report, columns: Tensor, arity: int, block: int) -> Pairs:
    """The distinct (leaf row, evidence) pairs, in the order of their leaf rows, for a block of leaf rows at a time."""
    tensors = report.tensors()
    batch, leaves = report.rows, len(columns)
    entry = torch.empty((batch, leaves), dtype=torch.int32, device=columns.device)
    size = max(1, block // max(1, batch))
    leaf, base, evidence = [], [], []
    found = 0
    for begin in range(0, leaves, size):
        gathered = [tensor[:, columns[begin : begin + size]] for tensor in tensors]
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
