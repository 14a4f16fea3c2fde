"""Sum layers: dense over the width of a row, and elementwise sums of the units read."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pcircuits.program.edges import Flow, Gather, Visits
from pcircuits.program.layers.layer import Build, Flows, Layer, Trace
from pcircuits.program.numbers import LOG2E, TINY, log2, logsumexp2, rescale, unflatten
from pcircuits.program.plan import Node
from pcircuits.program.rows import Rows, Spans, blocks
from pcircuits.program.state import Maximise, Prepared, State
from pcircuits.program.stores import Store, View

__all__ = ["MixLayer", "SumLayer", "Weights", "outputs_of", "quotient", "reduce_logs"]


MANY = 64
"""So many visits of a layer are worth a look at whether they have their scores in common."""

SHARE = 4
"""A table of sums for all states takes at most this part of the bound on memory, and of the rows at hand as many times."""

SPREAD = 1e25
"""How far apart weights may be for a bound on the relative error of all outputs of a sum."""


def reduce_logs(terms: Tensor, dim: int, maximise: Maximise) -> Tensor:
    """Σ or max of 2^terms along an axis, in logs; a mask that broadcasts to the result chooses for each."""
    if maximise is True:
        return terms.amax(dim)
    total = logsumexp2(terms, dim)
    return total if maximise is False else torch.where(maximise, terms.amax(dim), total)


def outputs_of(maximise: Maximise, outputs: slice) -> Maximise:
    """Of a mask (R, O), or (R, B, O), that of some outputs, for rows of data in the second axis: (R, 1 or B, o)."""
    if isinstance(maximise, bool):
        return maximise
    return maximise[:, None, outputs] if maximise.ndim == 2 else maximise[..., outputs]


def quotient(flow: Tensor, numbers: Tensor) -> Tensor:
    """flow / number of units; a unit without a number has no flow either."""
    some = numbers.clamp_min(torch.finfo(numbers.dtype).tiny)
    return torch.div(flow, some, out=some)


def _ratio(exponents: Tensor, dtype: torch.dtype) -> Tensor:
    """2^exponents as finite numbers: where they are not, in rows that are computed again, a flow is 0 and must stay so."""
    return torch.exp2(exponents).nan_to_num(0.0, posinf=0.0).clamp_max(torch.finfo(dtype).max).to(dtype)


def _multiply(numbers: Tensor, weights: Tensor, begin: int, out: Tensor) -> None:
    """Σ_k w_ok v_k of rows from `begin` on, (n, B, K) to (n, B, O), by weights (R, O, K), or (1, O, K) of all rows."""
    if len(weights) > 1 or len(numbers) == 1:
        own = weights[begin : begin + len(numbers)] if len(weights) > 1 else weights
        torch.bmm(numbers, own.transpose(1, 2), out=out)
    else:
        torch.mm(numbers.flatten(0, 1), weights[0].t(), out=out.view(-1, out.shape[-1]))


def _count(gradient: Tensor, begin: int, end: int, each: Tensor, numbers: Tensor) -> None:
    """Add Σ_b each_bo v_bk of a block of rows to the gradient of weights, (R, O, K), or (1, O, K) of all rows."""
    if len(gradient) > 1:
        torch.bmm(each.transpose(1, 2), numbers, out=gradient[begin:end])
    else:
        gradient[0].addmm_(each.flatten(0, 1).t(), numbers.flatten(0, 1))


def _within(ranges: list[tuple[int, int]], first: int, last: int) -> list[tuple[int, int]]:
    """The parts of ranges that lie in a span."""
    cut = [(max(begin, first), min(end, last)) for begin, end in ranges]
    return [(begin, end) for begin, end in cut if begin < end]


class Weights(nn.Module):
    """Weights (R, O, K) of sums: over the largest power of two of their row, or as base-2 logarithms."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view
        self.simplex = view.constraint.event_ndim == 1

    def parameters_in(self, prepared: Prepared) -> Mapping[str, Tensor]:
        """`weights` (U, O, K), and `shift` (U,): the exponent that weights were divided by."""
        derived = prepared.derived
        if prepared.logs:
            return {"weights": self.view.of(derived, Store.wide_logs) * LOG2E}
        if self.simplex:
            return {"weights": self.view.of(derived, Store.values)}
        logs = self.view.of(derived, Store.logs)
        top = (logs.detach() * LOG2E).amax((-1, -2))
        shift = torch.where(torch.isfinite(top), top.ceil(), 0.0)
        return {"weights": torch.exp2(logs * LOG2E - shift[:, None, None]), "shift": shift.double()}

    def in_logs_of(self, found: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The weights of scaled passes as logarithms."""
        logs = log2(found["weights"].double())
        return {"weights": logs + found["shift"][:, None, None] if "shift" in found else logs}

    def of_rows(self, weights: Tensor) -> Tensor:
        """(U, ...) as (R, ...), or (1, ...) where all rows share one."""
        place = self.view.place
        return weights if place is None or len(weights) == 1 else weights.index_select(0, place)

    def of_stored(self, gradient: Tensor, stored: int) -> Tensor:
        """The gradient of rows, (R, ...), as that of what is stored, (U, ...)."""
        place = self.view.place
        if place is None:
            return gradient
        if stored == 1:
            return gradient.sum(0, keepdim=True)
        return gradient.new_zeros((stored, *gradient.shape[1:])).index_add_(0, place, gradient)


class SumLayer(Layer):
    """Dense sums over the width of the row that each row reads: Σ_k w_ok v_k."""

    normal = False
    needs_own = needs_children = True

    def __init__(self, index: int, node: Node, build: Build) -> None:
        super().__init__(index, node, build)
        self.inputs: int = node.facts["inputs"]
        self.edges = build.gather(node.edges()[0])
        self.weights = Weights(build.view("weights", node))
        self.rescales = self.edges.by_unit or not all(build.locations.normal[s] for s in self.edges.sources)

    def gathers(self) -> list[Gather]:
        return [self.edges]

    def parameters_in(self, prepared: Prepared) -> Mapping[str, Tensor]:
        return self.weights.parameters_in(prepared)

    def in_logs_of(self, found: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return self.weights.in_logs_of(found)

    def up(self, state: State) -> None:
        rows, exponent, slack = self.edges.read(state)
        found = state.prepared.of(self)
        if slack is None:
            numbers, weights = rows.whole(), self.weights.of_rows(found["weights"])
            parts = []
            for begin, end in self._outputs(numbers, state):
                terms = numbers.unsqueeze(2) + weights[:, None, begin:end]
                parts.append(reduce_logs(terms, -1, outputs_of(state.maximise[self.index], slice(begin, end))))
            state.put(self, torch.cat(parts, -1) if len(parts) > 1 else parts[0], exponent)
            return
        weights = state.prepared.ready(self, "rows", lambda: self.weights.of_rows(found["weights"]))
        made, sums = self._by_states(state, rows, weights), None
        if made is None:
            made, sums = self._multiplied(state, rows, weights)
        spread, gain = state.prepared.ready(self, "spread", lambda: self._spread(weights))
        absolute = slack[:, 1] + self.inputs * TINY[state.dtype]
        of_all = absolute if sums is None else absolute / sums.clamp_min_(TINY[state.dtype])
        own_exponent, own_slack = state.bounds(self)
        own_exponent.copy_(exponent)
        torch.addcmul(slack[:, 0], of_all, spread, out=own_slack[:, 0])
        torch.mul(absolute, gain, out=own_slack[:, 1])
        if "shift" in found:
            own_exponent.add_(self.weights.of_rows(found["shift"]).unsqueeze(1))
        if self.rescales:
            rescale(made.whole(), own_exponent, own_slack)
        state.numbers[self.index] = made

    def _blocks(self, state: State) -> list[tuple[int, int]]:
        return blocks(self.count, state.slack, state.leaf.rows * max(self.inputs, self.width))

    def _multiplied(self, state: State, rows: Rows, weights: Tensor) -> tuple[Rows, Tensor | None]:
        """The sums, and what the numbers that each row reads add up to, (R, B), where they may be anything."""
        made = weights.new_empty((self.count, state.leaf.rows, self.width))
        sums = weights.new_empty((self.count, state.leaf.rows)) if self.rescales else None
        for begin, end in self._blocks(state):
            numbers = rows.block(begin, end)
            _multiply(numbers, weights, begin, made[begin:end])
            if sums is not None:
                torch.sum(numbers, -1, out=sums[begin:end])
        return Rows(made), sums

    def _by_states(self, state: State, rows: Rows, weights: Tensor) -> Rows | None:
        """Sums over units that are looked up in a table are looked up themselves, where their table is kept.

        It is made where it is small, and has few more states than there are rows of data: then it costs little more.
        """
        entry, size = rows.entry, rows.size
        numbers = self.count * size * self.width
        if entry is None or not state.prepared.kept or self.rescales or SHARE * numbers * 4 > state.memory:
            return None
        if size > SHARE * state.leaf.rows:
            return None

        def made() -> tuple[Tensor, Tensor]:
            place = entry[:, 0] // size
            table = weights.new_empty((self.count, size, self.width))
            for begin, end in blocks(self.count, weights, size * max(self.inputs, self.width)):
                of_states = rows.values.view(-1, size, self.inputs).index_select(0, place[begin:end])
                _multiply(of_states, weights, begin, table[begin:end])
            own = torch.arange(self.count, device=place.device)
            return table.flatten(0, 1), (size * (own - place)).unsqueeze(1)

        table, offset = state.prepared.ready(self, "states", made)
        return Rows(table, entry + offset, size)

    def _spread(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """For each row, (R or 1, 1): the largest Σ_k w_ok / min_k w_ok of its outputs, and 0; or, where that is too large to
        say anything, 0 and the largest Σ_k w_ok.

        A sum with positive weights is at least the smallest of them times all it reads, so that an absolute error of what
        it reads is a relative one of the sum: it no longer grows when the sum's numbers are rescaled later.
        """
        total = weights.new_ones(weights.shape[:-1]) if self.weights.simplex else weights.sum(-1)
        spread = (total / weights.amin(-1)).amax(-1, keepdim=True)
        gain = total.amax(-1, keepdim=True)
        usable = spread < SPREAD
        return torch.where(usable, spread, 0.0), torch.where(usable, 0.0, gain)

    def _outputs(self, numbers: Tensor, state: State) -> list[tuple[int, int]]:
        """Ranges of outputs such that terms (R, B, o, K) fit the bound."""
        step = (
            max(1, state.memory // max(1, 4 * numbers.numel() * numbers.element_size()))
            if state.chunked
            else self.width
        )
        return [(begin, min(begin + step, self.width)) for begin in range(0, self.width, step)]

    def down(self, state: State, flow: Tensor, flows: list[Flow | None], to: Flows) -> None:
        if state.logs:
            self._down_logs(state, self.edges.gather(state)[0], flow, flows, to)
            return
        spans = Spans()
        spans.add(slice(0, self.count), flow)
        self.down_spans(state, spans, flows, to)

    def down_spans(self, state: State, flow: Spans, flows: list[Flow | None], to: Flows) -> None:
        if state.logs:
            self.down(state, flow.whole(), flows, to)
            return
        rows, exponent, _ = self.edges.read(state)
        found, own = state.prepared.of(self), state.rows_of(self)
        weights = state.prepared.ready(self, "rows", lambda: self.weights.of_rows(found["weights"]))
        ratio = self._ratio(state, exponent) if self.rescales else None

        def each(begin: int, end: int, of: Tensor) -> Tensor:
            """Flow over value of the sums of a block of rows."""
            made = quotient(of, own.block(begin, end))
            return made if ratio is None else made.mul_(ratio[begin:end].unsqueeze(-1))

        def shares(r: int) -> Tensor:
            made = each(r, r + 1, flow.at(r).unsqueeze(0))[0]
            return made.unsqueeze(-1) * weights[r if len(weights) > 1 else 0] * rows.block(r, r + 1)[0].unsqueeze(1)

        to.edges(state, self, 0, shares, slice(None))
        wants = to.gradients is not None and to.gradients.wants(self, "weights")
        gradient = (torch.zeros_like if len(weights) == 1 else torch.empty_like)(weights) if wants else None
        together = not self.edges.one_by_one or self.edges.as_they_are
        below = own.values.new_empty((self.count, state.leaf.rows, self.inputs)) if together else None
        for first, last, part in flow.parts:
            for begin, end in _within(self._blocks(state), first, last):
                numbers, made = rows.block(begin, end), each(begin, end, part[begin - first : end - first])
                if gradient is not None:
                    _count(gradient, begin, end, made, numbers)
                out = numbers.new_empty(numbers.shape) if below is None else below[begin:end]
                _multiply(made, weights.transpose(-1, -2), begin, out)
                out.mul_(numbers)
                if below is None:
                    self.edges.scatter(out, flows, begin)
        if below is not None:
            self.edges.scatter(below, flows)
        if gradient is not None and to.gradients is not None:
            stored = len(found["weights"])
            to.gradients.add(self, "weights", self.weights.of_stored(gradient, stored) if stored > 1 else gradient)

    def _ratio(self, state: State, exponent: Tensor) -> Tensor:
        """2^(exponent of what is read - exponent of the sum), (R, B)."""
        found = state.prepared.of(self)
        above = state.exponent[self.first : self.first + self.count]
        shift = self.weights.of_rows(found["shift"]).unsqueeze(1) if "shift" in found else 0.0
        return _ratio(exponent + shift - above, state.dtype)

    def _down_logs(self, state: State, numbers: Tensor, flow: Tensor, flows: list[Flow | None], to: Flows) -> None:
        total, weights = state.of(self), self.weights.of_rows(state.prepared.of(self)["weights"])

        def shares(rows: slice, begin: int, end: int) -> Tensor:
            """The flows into the inputs, (r, B, o, K), of some rows and outputs."""
            base, own = total[rows, :, begin:end, None], weights[rows if len(weights) > 1 else slice(None)]
            terms = numbers[rows].unsqueeze(2) + own[:, None, begin:end] - torch.where(base == -torch.inf, 0.0, base)
            return torch.exp2(terms) * flow[rows, :, begin:end, None]

        to.edges(state, self, 0, lambda r: shares(slice(r, r + 1), 0, self.width)[0], slice(None))
        below = torch.zeros_like(numbers)
        for begin, end in self._outputs(numbers, state):
            below += shares(slice(None), begin, end).sum(2)
        self.edges.scatter(below, flows)

    def choose(self, state: State, visits: Visits, trace: Trace) -> None:
        batch = trace.row_of[visits.sample]
        size = state.leaf.rows
        key, group = (visits.row * self.width + visits.column) * size + batch, None
        if len(key) > MANY:  # many samples of few rows of data have their scores in common
            distinct, group = torch.unique(key, return_inverse=True)
            key, group = (distinct, group) if 2 * len(distinct) <= len(key) else (key, None)
        unit, at = torch.div(key, size, rounding_mode="floor"), key % size
        row, column = torch.div(unit, self.width, rounding_mode="floor"), unit % self.width
        everyone = torch.arange(len(key), device=key.device) if group is None else group
        at_once = max(1, state.memory // (64 * self.inputs))

        def scores(some: Tensor) -> Tensor:
            return self._scores(state, row[some], column[some], at[some])

        picked = trace.selector.pick_grouped(scores, len(key), everyone, at_once)
        self.edges.route(visits.sample, visits.row, picked, trace.visits)

    def _scores(self, state: State, row: Tensor, column: Tensor, batch: Tensor) -> Tensor:
        """Base-2 logs of what the inputs of chosen sums add, for chosen rows of data, (V, K)."""
        place = self.weights.view.place
        weights = state.prepared.of(self)["weights"][row if place is None else place[row], column]
        return self.edges.logs_at(state, row, batch) + (weights if state.logs else torch.log2(weights.double()))

    def live(self) -> int:
        return 0 if self.edges.one_by_one else self.count * self.inputs


class MixLayer(Layer):
    """Elementwise sums of the A units that each unit reads: Σ_a w_a v_a."""

    needs_own = needs_children = True

    def __init__(self, index: int, node: Node, build: Build) -> None:
        super().__init__(index, node, build)
        (edges,) = node.edges()
        self.arity = edges.rows.shape[1]
        self.edges = build.gather(edges.transposed())
        self.weights = Weights(build.view("weights", node))

    def gathers(self) -> list[Gather]:
        return [self.edges]

    def parameters_in(self, prepared: Prepared) -> Mapping[str, Tensor]:
        return self.weights.parameters_in(prepared)

    def in_logs_of(self, found: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return self.weights.in_logs_of(found)

    def _weights(self, state: State) -> Tensor:
        """(A, R or 1, 1, 1 or K)."""
        return self.weights.of_rows(state.prepared.of(self)["weights"]).permute(2, 0, 1).unsqueeze(2)

    def _shift(self, state: State) -> Tensor | float:
        """The exponents of weights, (R or 1, 1)."""
        found = state.prepared.of(self)
        return self.weights.of_rows(found["shift"]).unsqueeze(-1) if "shift" in found else 0.0

    def _read(self, state: State) -> tuple[Tensor, Tensor, Tensor | None]:
        read = self.edges.gather(state)
        shape = (self.arity, self.count)
        numbers, exponent, slack = (None if t is None else unflatten(t, 0, shape) for t in read)
        assert numbers is not None
        assert exponent is not None
        return numbers, exponent, slack

    def _blocks(self, state: State) -> list[tuple[int, int]]:
        return blocks(self.count, state.slack, self.arity * state.leaf.rows * self.width)

    def up(self, state: State) -> None:
        numbers, exponent, slack = self._read(state)
        top = exponent.amax(0)
        apart = exponent - top.clamp_min(torch.finfo(top.dtype).min)
        weights = self._weights(state)
        if slack is None:
            terms = numbers + apart.unsqueeze(-1) + weights
            state.put(self, reduce_logs(terms, 0, outputs_of(state.maximise[self.index], slice(None))), top)
            return
        factor = torch.exp2(apart).to(numbers.dtype)
        own_exponent, own_slack = state.bounds(self)
        torch.add(top, self._shift(state), out=own_exponent)
        torch.amax(slack[:, :, 0], 0, out=own_slack[:, 0])
        torch.sum(slack[:, :, 1] * factor, 0, out=own_slack[:, 1]).add_(self.arity * TINY[state.dtype])
        made = numbers.new_empty(numbers.shape[1:])
        for begin, end in self._blocks(state):
            terms = numbers[:, begin:end] * (weights if weights.shape[1] == 1 else weights[:, begin:end])
            torch.sum(terms.mul_(factor[:, begin:end].unsqueeze(-1)), 0, out=made[begin:end])
            rescale(made[begin:end], own_exponent[begin:end], own_slack[begin:end])
        state.numbers[self.index] = Rows(made)

    def down(self, state: State, flow: Tensor, flows: list[Flow | None], to: Flows) -> None:
        numbers, exponent, _ = self._read(state)
        own, weights = state.of(self), self._weights(state)
        above = state.exponent[self.first : self.first + self.count] - self._shift(state)
        apart = exponent - above.clamp_min(torch.finfo(above.dtype).min)
        if state.logs:
            base = torch.where(own == -torch.inf, 0.0, own)
            shares = torch.exp2(numbers + apart.unsqueeze(-1) + weights - base) * flow
        else:
            ratio, shares = _ratio(apart, numbers.dtype), torch.empty_like(numbers)
            wants = to.gradients is not None and to.gradients.wants(self, "weights")
            stored = state.prepared.of(self)["weights"]
            gradient = stored.new_empty((self.count, *stored.shape[1:])) if wants else None
            for begin, end in self._blocks(state):
                some = slice(begin, end)
                each = numbers[:, some] * quotient(flow[some], own[some])
                each.mul_(ratio[:, some].unsqueeze(-1))
                if gradient is not None:
                    summed = each.sum(2) if stored.shape[1] > 1 else each.sum((2, 3)).unsqueeze(-1)
                    gradient[some] = summed.permute(1, 2, 0)
                torch.mul(each, weights if weights.shape[1] == 1 else weights[:, some], out=shares[:, some])
            if gradient is not None and to.gradients is not None:
                to.gradients.add(self, "weights", self.weights.of_stored(gradient, len(stored)))
        to.edges(state, self, 0, lambda r: shares[:, r].permute(1, 2, 0), slice(None))
        self.edges.scatter(shares.flatten(0, 1), flows)

    def choose(self, state: State, visits: Visits, trace: Trace) -> None:
        factors = torch.arange(self.arity, device=visits.row.device)
        read = visits.row.unsqueeze(1) + factors * self.count
        rows = trace.row_of[visits.sample].unsqueeze(1).expand_as(read)
        column = visits.column.unsqueeze(1).expand_as(read)
        below = self.edges.unit_logs_at(state, read.flatten(), rows.flatten(), column.flatten()).view(read.shape)
        weights, place = state.prepared.of(self)["weights"], self.weights.view.place
        row = visits.row if place is None else place[visits.row]
        chosen = weights[row, 0 if weights.shape[1] == 1 else visits.column]
        picked = trace.selector.pick(below + (chosen if state.logs else torch.log2(chosen.double())))
        self.edges.route(visits.sample, visits.row + picked * self.count, visits.column, trace.visits)

    def live(self) -> int:
        return 2 * self.count * int(self.arity) * self.width
