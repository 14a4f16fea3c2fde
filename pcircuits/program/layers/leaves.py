"""Products of input units of one family, all at once: as matrix products, or as look-ups in a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pcircuits.families.finite import AbstractFinite
from pcircuits.families.interface import AbstractExponentialFamily, Parameters
from pcircuits.program.edges import Flow, Visits
from pcircuits.program.layers.inputs import LARGEST, lost
from pcircuits.program.layers.layer import Build, Flows, Layer, Trace
from pcircuits.program.layers.leaf_parameters import PARAMETER_BYTES, LeafParameters
from pcircuits.program.layers.pairs import Pairs, distinct_pairs, look_up
from pcircuits.program.leaf_functions import Density, LeafFunction
from pcircuits.program.numbers import FAR, LOG2E, rebased, unflatten
from pcircuits.program.plan import Columns, Node
from pcircuits.program.state import Prepared, State

__all__ = ["TABLE_COLUMNS", "LeafColumns", "LeafProducts", "LeavesLayer", "far_only", "too_far"]

TABLE_COLUMNS = 64
"""Columns of a table that are looked up together: more of them fall out of the cache."""

TABLE_BLOCK = 2**20
"""Bytes of a table that are computed together, likewise."""

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 5e-5}
"""Rounding, in nats, that a matrix form may leave; beyond it a wider dtype or the table takes over."""


@dataclass(frozen=True)
class MatrixForm:
    """Natural parameters, over log 2, about a centre (R·A,), each (R, A, n), in the dtype of the products.

    `columns` (n,) are those of the range that this form is for, None for all of them; `result` is the answer's dtype.
    """

    columns: Tensor | None
    centre: Tensor
    natural: list[Tensor]
    constant: Tensor
    result: torch.dtype


@dataclass(frozen=True)
class LeafColumns:
    """A range of columns: parameters (R·A, n or 1, *event), matrix forms for columns that have an accurate one, and the
    columns that have none: all (None), or some (n,)."""

    parameters: Parameters
    width: int
    matrices: tuple[MatrixForm, ...]
    rest: Tensor | None


class LeafProducts(nn.Module):
    """Products over A input units: row r and factor a are leaf row r·A + a.

    Columns of an exponential family that lose few digits are products of natural parameters with sufficient statistics;
    everything else is looked up: each distinct (leaf, evidence) pair is evaluated once. A term is added for a data entry
    only where it differs from the most frequent pair of its leaf.
    """

    columns: Tensor

    def __init__(self, index: int, node: Node, build: Build) -> None:
        super().__init__()
        index_of = node.rows["columns"]
        assert isinstance(index_of, Columns)
        self.index, self.count, self.arity = index, len(index_of.index), int(index_of.index.shape[1])
        self.leaves = LeafParameters(node, build, self.count * self.arity)
        self.family, self.width = self.leaves.family, self.leaves.width
        self.register_buffer(
            "columns", torch.as_tensor(index_of.index[:, :, 0].ravel(), device=build.device), persistent=False
        )

    def by_table(self, leaf: LeafFunction) -> bool:
        """Whether all is looked up: then rows of data share the work, and are best taken together."""
        return not (isinstance(leaf, Density) and isinstance(self.family, AbstractExponentialFamily))

    def ranges(self, state: State, of_column: int, chunked: bool) -> list[tuple[int, int]]:
        """What a source makes is asked for in ranges of columns; `of_column` are the bytes that one takes."""
        return self.leaves.ranges(max(1, state.memory // max(1, of_column)) if chunked else None)

    def columns_of(self, state: State, stored: Mapping[str, Tensor], begin: int, end: int, keep: bool) -> LeafColumns:
        """A range of columns, with what is derived from their parameters and not from data, kept where that is small."""

        def made() -> LeafColumns:
            parameters = self.leaves.columns(state.prepared, stored, begin, end)
            if state.prepared.pure or self.by_table(state.leaf):
                return LeafColumns(parameters, end - begin, (), None)
            return self._derived(parameters, end - begin)

        small = 3 * 8 * self.count * self.arity * self.width <= state.memory
        if keep and small and not self.leaves.streamed:
            key = f"columns {begin} {end} {self.by_table(state.leaf)}"
            return state.prepared.ready(self, key, made)  # type: ignore[arg-type]
        return made()

    def _derived(self, parameters: Parameters, width: int) -> LeafColumns:
        """Columns by the form in which the terms that cancel leave enough digits."""
        family = self.family
        assert isinstance(family, AbstractExponentialFamily)
        fixed = {name: value.detach() for name, value in parameters.items()}
        centre = family.centre(fixed)
        with torch.no_grad():
            digits = family.cancellation(fixed, centre.unsqueeze(-1)).expand(len(centre), width)
            gone = 2 * self._by_product(digits).sum(1).amax(0).double()
        own = centre.dtype
        left = torch.ones(width, dtype=torch.bool, device=gone.device)
        matrices = []
        for dtype in dict.fromkeys((own, torch.float64)):
            fits = left & (gone * torch.finfo(dtype).eps <= _TOLERANCE.get(own, 1e-9))
            count = int(fits.sum())
            if 2 * count > width or (count and dtype == torch.float64):
                some = None if count == width else fits.nonzero().squeeze(1)
                matrices.append(self._matrix_form(parameters, centre, some, dtype))
                left = left & ~fits
        rest = None if bool(left.all()) else left.nonzero().squeeze(1)
        return LeafColumns(parameters, width, tuple(matrices), rest)

    def _matrix_form(
        self, parameters: Parameters, centre: Tensor, some: Tensor | None, dtype: torch.dtype
    ) -> MatrixForm:
        assert isinstance(self.family, AbstractExponentialFamily)
        own, centre = centre.dtype, centre.to(dtype)
        wide = {name: _some(value, some).to(dtype) for name, value in parameters.items()}
        natural, constant = self.family.natural_parameters(wide, centre.unsqueeze(-1))
        return MatrixForm(
            some, centre, [self._by_product(n) * LOG2E for n in natural], self._by_product(constant) * LOG2E, own
        )

    def _by_product(self, leaves: Tensor) -> Tensor:
        """(R·A, ...) to (R, A, ...)."""
        return unflatten(leaves, 0, (self.count, self.arity))

    def values(self, state: State, tensors: tuple[Tensor, ...], columns: LeafColumns) -> Tensor:
        """Base-2 logs of the products of a range of columns, (R, B, n); see `far` for rows where they are of no use."""
        if not columns.matrices:
            return self._table(state, tensors, columns.parameters, columns.width)
        parts = [(form.columns, self._matrix(state, tensors, form)) for form in columns.matrices]
        if columns.rest is not None and len(columns.rest):
            some = {name: _some(value, columns.rest) for name, value in columns.parameters.items()}
            parts.append((columns.rest, self._table(state, tensors, some, len(columns.rest))))
        if parts[0][0] is None:
            return parts[0][1]
        order = torch.cat([where for where, _ in parts if where is not None]).argsort()
        return torch.cat([values for _, values in parts], -1).index_select(-1, order)

    def far(self, state: State, values: Tensor) -> Tensor:
        """Whether values are so large that rounding hides how units differ, or statistics of data overflowed, (R, B)."""
        overflowed = state.saved.pop(("overflow", self.index), None)
        far = too_far(values)
        return far if overflowed is None else far | overflowed

    def _matrix(self, state: State, tensors: tuple[Tensor, ...], form: MatrixForm) -> Tensor:
        """log p(x | n) = Σ_v m_v [Σ_t η_vnt T_t(x_v − c_v) + log h_vn], m the mask of what was observed."""
        assert isinstance(self.family, AbstractExponentialFamily)
        x, observed = (t[:, self.columns] for t in tensors)
        statistics = self.family.sufficient_statistics(x.to(form.centre.dtype), form.centre)
        missing = not bool(observed.all())
        good = torch.stack([torch.isfinite(statistic) for statistic in statistics]).all(0)
        state.saved["overflow", self.index] = ~self._rows_of(good | ~observed).all(-1)
        if not missing:
            statistics = [torch.where(good, statistic, 0.0) for statistic in statistics]
            total = form.constant.sum(1, keepdim=True).expand(-1, len(x), -1)
        else:
            statistics = [torch.where(observed & good, statistic, 0.0) for statistic in statistics]
            total = torch.matmul(self._rows_of(observed.to(form.centre.dtype)), form.constant)
        for statistic, natural in zip(statistics, form.natural, strict=True):
            total = torch.baddbmm(total, self._rows_of(statistic), natural)
        if type(self.family).log_base_measure is not AbstractExponentialFamily.log_base_measure:  # that one is 0
            measure = torch.where(observed, self.family.log_base_measure(x.to(form.centre.dtype)), 0.0)
            total = total + self._rows_of(measure * LOG2E).sum(-1, keepdim=True)
        return total.to(form.result)

    def _rows_of(self, data: Tensor) -> Tensor:
        """(B, R·A) to (R, B, A)."""
        return unflatten(data, 1, (self.count, self.arity)).transpose(0, 1)

    def _table(self, state: State, tensors: tuple[Tensor, ...], parameters: Parameters, width: int) -> Tensor:
        if any(t.requires_grad for t in tensors):
            return self._directly(state, tensors, parameters, width).sum(1)
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
            parts.append(look_up(pairs, table * LOG2E))
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def _answers(self, state: State, pairs: Pairs, parameters: Parameters, width: int) -> Tensor:
        """What each pair's leaf units evaluate to, (P, n), a block at a time that stays in the cache."""
        if isinstance(self.family, AbstractFinite) and self.family.tabulated and isinstance(state.leaf, Density):
            return self._by_state(pairs, self.family.log_table(parameters))
        event = max(p.shape[2:].numel() for p in parameters.values())
        size = pairs.evidence[0].element_size()
        rows = max(1, min(TABLE_BLOCK, state.memory // 32) // (size * width * event))
        parts = []
        for begin in range(0, len(pairs.leaf), rows):
            leaf = pairs.leaf[begin : begin + rows]
            evidence = tuple(e[begin : begin + rows] for e in pairs.evidence)
            of_pairs = {name: p.index_select(0, leaf) for name, p in parameters.items()}
            made = state.leaf.answer(evidence, self.family, of_pairs)
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

    def _directly(self, state: State, tensors: tuple[Tensor, ...], parameters: Parameters, width: int) -> Tensor:
        """Base-2 logs of the leaf units themselves, (R, A, B, n)."""
        evidence = tuple(t[:, self.columns].t().reshape(self.count * self.arity, -1, 1, 1) for t in tensors)
        spread = {name: value.unsqueeze(1) for name, value in parameters.items()}
        made = state.leaf.answer(evidence, self.family, spread).to(evidence[0].dtype) * LOG2E
        return self._by_product(made.expand(len(self.columns), len(tensors[0]), width))

    def apart(self, state: State, parameters: Parameters, width: int) -> tuple[Tensor, Tensor, Tensor]:
        """Base-2 logs (R, B, n) with exponents (R, B), and the rows of data in which digits are gone: each leaf's largest
        value is taken off by itself, so that what all units have in common cancels exactly."""
        each = self._directly(state, state.leaf.tensors(), parameters, width)
        gone = lost(each, torch.float64).any(1)
        numbers, exponent = rebased(each)
        return numbers.sum(1), exponent.sum(1), gone

    def _pairs(self, state: State) -> Pairs:
        """The distinct pairs of the rows at hand, found once for each pass."""
        key = ("pairs", self.index)
        if key not in state.saved:
            state.saved[key] = distinct_pairs(state.leaf.tensors(), self.columns, self.arity, state.memory)
        found = state.saved[key]
        assert isinstance(found, Pairs)
        return found

    def forget(self, state: State) -> None:
        """Drop what was found in the data of a pass."""
        state.saved.pop(("pairs", self.index), None)

    def in_logs(self, state: State, columns: LeafColumns) -> tuple[Tensor, Tensor]:
        """Base-2 logs in float64, (R, B, n), and exponents (R, B): rows far out are computed leaf by leaf."""
        if state.prepared.pure:
            return self.apart(state, columns.parameters, columns.width)[:2]
        values = self.values(state, state.leaf.tensors(), columns)
        far = self.far(state, values)
        base = torch.zeros(values.shape[:2], dtype=torch.float64, device=values.device)
        rows = far.any(0).nonzero().squeeze(1)
        if isinstance(state.leaf, Density) and len(rows):
            some = state.part(rows)
            numbers, exponent, gone = self.apart(some, columns.parameters, columns.width)
            values = values.index_copy(1, rows, numbers)
            base[:, rows] = torch.where(exponent == -torch.inf, 0.0, exponent)
            state.saved.setdefault("lost", []).append(torch.zeros_like(far).index_copy(1, rows, gone))
        return values, base

    def read(self, state: State, to: Flows, columns: LeafColumns, begin: int, flow: Tensor) -> None:
        """Hand the flow (R, B, n) of products from `begin` on, as the flow of all their leaves."""
        shaped = {name: self._by_product(value) for name, value in columns.parameters.items()}
        to.leaves(state, self.leaves, begin, self.columns.view(self.count, self.arity, 1), shaped, flow)

    def settle(self, state: State, row: Tensor, column: Tensor, sample: Tensor, trace: Trace) -> None:
        """Settle the leaves of chosen products (V,); parameters are gathered once for each distinct column."""
        if not len(sample):
            return
        distinct, place = torch.unique(column, return_inverse=True)
        some = self.leaves.at_columns(state.prepared, self.leaves.stored(state.prepared), distinct)
        event = max(v.shape[2:].numel() for v in some.values())
        size = max(1, state.memory // (64 * self.arity * event))
        for begin in range(0, len(sample), size):
            those = slice(begin, begin + size)
            leaf = (row[those].unsqueeze(1) * self.arity + torch.arange(self.arity, device=row.device)).flatten()
            at = place[those].repeat_interleave(self.arity)
            parameters = {name: v[leaf, 0 if v.shape[1] == 1 else at] for name, v in some.items()}
            drawn = sample[those].repeat_interleave(self.arity)
            trace.write(self.family, drawn, self.columns[leaf].unsqueeze(-1), parameters)

    def gradient(self, layer: Layer, state: State, to: Flows, span: tuple[int, int], flow: Tensor) -> None:
        """Add the gradient of the parameters of a range of columns, from the flow (R, B, n) of their products."""
        gradients = to.gradients
        assert gradients is not None
        x = gradients.rows_of_x(state.rows)
        tensors = state.leaf.tensors() if x is None else (x, *state.leaf.tensors()[1:])

        def values(parameters: dict[str, Tensor]) -> Tensor:
            width = span[1] - span[0]
            if self.by_table(state.leaf):
                return self._table(state, tensors, parameters, width)
            return self.values(state, tensors, self._derived(parameters, width))

        self.leaves.gradient(layer, state.prepared, gradients, span, values, flow / LOG2E)


class LeavesLayer(Layer):
    """Products over input units of one family, as logarithms."""

    in_logs = True
    all_rows = True

    def __init__(self, index: int, node: Node, build: Build) -> None:
        super().__init__(index, node, build)
        self.product = LeafProducts(index, node, build)
        self.chunked = build.chunked

    def parameters_in(self, prepared: Prepared) -> Mapping[str, Tensor]:
        return self.product.leaves.stored(prepared)

    def _ranges(self, state: State) -> list[tuple[int, int]]:
        leaves = self.product.leaves
        of_column = 4 * PARAMETER_BYTES * len(self.product.columns) * leaves.event
        return self.product.ranges(state, of_column, self.chunked and leaves.streamed)

    def _columns(self, state: State, span: tuple[int, int]) -> LeafColumns:
        keep = state.prepared.kept
        stored = state.prepared.of(self)
        return self.product.columns_of(state, stored, *span, keep)

    def up(self, state: State) -> None:
        if state.logs:
            found = [self.product.in_logs(state, self._columns(state, span)) for span in self._ranges(state)]
            base = torch.stack([b for _, b in found]).amax(0)
            logs = torch.cat([values + (b - base).unsqueeze(-1) for values, b in found], -1)
        else:
            tensors = state.leaf.tensors()
            spans = self._ranges(state)
            logs = torch.cat([self.product.values(state, tensors, self._columns(state, span)) for span in spans], -1)
        self.product.forget(state)
        numbers, exponent = rebased(logs.double())
        if state.logs:
            state.put(self, numbers, exponent + base)
            return
        state.put(self, numbers, exponent, far_only(self.product.far(state, logs), state.dtype))

    def down(self, state: State, flow: Tensor, flows: list[Flow | None], to: Flows) -> None:
        for span in self._ranges(state):
            part = flow[..., slice(*span)]
            if to.hears_leaves:
                self.product.read(state, to, self._columns(state, span), span[0], part)
            else:
                self.product.gradient(self, state, to, span, part)
        self.product.forget(state)

    def choose(self, state: State, visits: Visits, trace: Trace) -> None:
        self.product.settle(state, visits.row, visits.column, visits.sample, trace)

    def live(self) -> int:
        return self.count * (4 * self.product.arity + 2 * self.width)


def far_only(far: Tensor, dtype: torch.dtype) -> Tensor:
    """Bounds (R, 2, B) that are zero but where a row is to be computed again."""
    relative = far.to(dtype) * FAR
    return torch.stack([relative, torch.zeros_like(relative)], 1)


def too_far(logs: Tensor) -> Tensor:
    """Whether sums of terms, (..., n), are so large that rounding hides how units differ, or overflowed, (...)."""
    top = logs.detach().amax(-1)
    return ~(top.abs() <= LARGEST[logs.dtype]) & (top != -torch.inf)


def _some(value: Tensor, columns: Tensor | None) -> Tensor:
    """Some columns of parameters (R, n or 1, *event)."""
    return value if columns is None or value.shape[1] == 1 else value.index_select(1, columns)
