"""Dense sums over products of input units, streamed over the products."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pcircuits.program.edges import Flow, Visits
from pcircuits.program.layers.layer import Build, Flows, Layer, Trace
from pcircuits.program.layers.leaf_parameters import PARAMETER_BYTES
from pcircuits.program.layers.leaves import TABLE_COLUMNS, LeafColumns, LeafProducts, far_only
from pcircuits.program.layers.pairs import PAIR_BYTES
from pcircuits.program.layers.sums import Weights, outputs_of, reduce_logs
from pcircuits.program.numbers import LOG2E, TINY, TOLERANCE, from_logs
from pcircuits.program.plan import Node, Owned
from pcircuits.program.state import Prepared, State
from pcircuits.program.stores import Store

__all__ = ["MixtureLayer"]

STATISTIC_BYTES = 64
"""What one entry of data takes while its statistics are multiplied with natural parameters."""

VALUE_BYTES = 48
"""What the value of a product takes while it is summed over."""


class MixtureLayer(Layer):
    """Dense sums over the products of input units of a row: Σ_k w_ok Π_a leaf_ak, as logarithms in float64.

    Ranges of columns are the outer loop and rows of data the inner one, so that (B, K) values and the parameters that
    a source makes are never all in memory; the way back makes each range again. Outputs share the largest value of a
    range, unless some of their weights are zero for good: then each has its own, so that roots over products of their
    own, one for each class, lose nothing beside each other.
    """

    in_logs = True
    all_rows = True
    needs_own = True

    def __init__(self, index: int, node: Node, build: Build) -> None:
        super().__init__(index, node, build)
        self.inputs: int = node.facts["inputs"]
        self.product = LeafProducts(index, node, build)
        rows = node.rows["weights"]
        assert isinstance(rows, Owned)
        self.weights = Weights(build.view("weights", node))
        self.outputs = node.width // int(rows.owner.shape[1])
        self.separate = self.weights.view.structural and self.width > 1
        self.chunked = build.chunked

    def parameters_in(self, prepared: Prepared) -> Mapping[str, Tensor]:
        if self.separate and not prepared.logs:
            weights: Mapping[str, Tensor] = {"weights": self.weights.view.of(prepared.derived, Store.logs) * LOG2E}
        else:
            weights = self.weights.parameters_in(prepared)
        return {**weights, **{f"leaf {name}": t for name, t in self.product.leaves.stored(prepared).items()}}

    def in_logs_of(self, found: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        leaves = {name: tensor.double() for name, tensor in found.items() if name.startswith("leaf ")}
        weights = {"weights": found["weights"].double()} if self.separate else self.weights.in_logs_of(found)
        return {**leaves, **weights}

    def _stored(self, state: State) -> dict[str, Tensor]:
        found = state.prepared.of(self)
        return {name.removeprefix("leaf "): t for name, t in found.items() if name.startswith("leaf ")}

    def _of_rows(self, weights: Tensor) -> Tensor:
        """(U, O, ...) of single sums as (R, all outputs, ...)."""
        place = self.weights.view.place
        rows = weights if place is None else weights.index_select(0, place)
        return rows.reshape(self.count, self.width, *weights.shape[2:])

    def _weights(self, state: State) -> tuple[Tensor, Tensor]:
        """Weights (R, O, K), and their exponents (R, 1, O)."""
        found = state.prepared.of(self)
        weights = self._of_rows(found["weights"])
        if "shift" not in found:
            return weights, weights.new_zeros((), dtype=torch.float64)
        return weights, self._of_rows(found["shift"][:, None].expand(-1, self.outputs)).unsqueeze(1)

    def _cut(self, state: State) -> tuple[list[tuple[int, int]], list[slice]]:
        """Ranges of columns and slices of rows that fit shares of the bound on memory: where rows share the work of a
        table, there are more ranges rather than more slices."""
        batch, arity = state.leaf.rows, self.product.arity
        if not self.chunked:
            return [(0, self.inputs)], [slice(0, batch)]
        memory = state.memory // self.count
        event = self.product.leaves.event if self.product.leaves.streamed else 1
        columns, share, of_entry = memory // (4 * PARAMETER_BYTES * (arity * event + 8)), 4, STATISTIC_BYTES
        if self.product.by_table(state.leaf):
            share, of_entry = 2, PAIR_BYTES
            beside = memory // (share * max(1, batch)) - of_entry * arity
            columns = min(columns, max(1, beside // (VALUE_BYTES * TABLE_COLUMNS)) * TABLE_COLUMNS)
        ranges = self.product.leaves.ranges(columns)
        rows = max(1, memory // (share * (VALUE_BYTES * ranges[0][1] + of_entry * arity)))
        return ranges, [slice(begin, min(begin + rows, batch)) for begin in range(0, batch, rows)]

    def _parts(self, state: State, rows: list[slice]) -> list[State]:
        """The pass over slices of its rows, each found once."""
        key = ("parts", self.index)
        if key not in state.saved:
            state.saved[key] = [state] if len(rows) == 1 else [state.part(cut) for cut in rows]
        return state.saved[key]  # type: ignore[no-any-return]

    def _columns(self, state: State, begin: int, end: int) -> LeafColumns:
        return self.product.columns_of(state, self._stored(state), begin, end, state.prepared.kept)

    def up(self, state: State) -> None:
        ranges, rows = self._cut(state)
        parts = self._parts(state, rows)
        found = []
        for begin, end in ranges:
            columns = self._columns(state, begin, end)
            made = [self._reduced(part, columns, begin, end) for part in parts]
            found.append(torch.cat(made, 1) if len(made) > 1 else made[0])
            if not state.keep and len(found) == 2:
                found = [self._summed(state, found)]
        masks = {}
        for key in ("lost", "far"):
            of_parts = [part.saved.pop(key, None) if part is not state or key == "far" else None for part in parts]
            masks[key] = self._any_range(parts, of_parts) if any(of_parts) else None
        if masks["lost"] is not None:
            state.saved.setdefault("lost", []).append(masks["lost"])
        if not state.keep:
            for part in parts:
                self.product.forget(part)
        total = self._summed(state, found)
        if state.keep:
            state.saved["partial", self.index] = torch.stack(found, -1).detach()
        far = masks["far"]
        state.put(self, total, 0.0, 0.0 if far is None else far_only(far, state.dtype))

    def _any_range(self, parts: list[State], masks: list[list[Tensor] | None]) -> Tensor:
        """Of masks (R, b) that each part has for its ranges, whether one of the ranges is marked, (R, B)."""
        nothing = [torch.zeros((self.count, p.leaf.rows), dtype=torch.bool, device=p.exponent.device) for p in parts]
        return torch.cat([torch.stack([n, *(m or ())]).any(0) for n, m in zip(nothing, masks, strict=True)], 1)

    def _summed(self, state: State, parts: list[Tensor]) -> Tensor:
        """The sum, or maximum, of ranges of columns."""
        if len(parts) == 1:
            return parts[0]
        return reduce_logs(torch.stack(parts, -1), -1, outputs_of(state.maximise[self.index], slice(None)))

    def _values(self, part: State, columns: LeafColumns, begin: int) -> tuple[Tensor, Tensor]:
        """Base-2 logs of the products of a range of columns, (R, B, n), and exponents of rows (R, B)."""
        key = ("values", self.index, begin)
        if key in part.saved:
            return part.saved[key]  # type: ignore[no-any-return]
        if part.logs:
            values, base = self.product.in_logs(part, columns)
        else:
            values = self.product.values(part, part.leaf.tensors(), columns)
            base = values.new_zeros((), dtype=torch.float64)
        size = self.count * part.leaf.rows * self.inputs * values.element_size()
        if part.keep and not values.requires_grad and 4 * size <= part.memory:
            part.saved[key] = (values, base)
        return values, base

    def _reduced(self, part: State, columns: LeafColumns, begin: int, end: int) -> Tensor:
        """The logs of the sums over a range of columns, (R, B, O), in float64."""
        values, base = self._values(part, columns, begin)
        weights, shift = self._weights(part)
        weights = weights[..., begin:end]
        if part.logs or self.separate:
            if not part.logs:
                part.saved.setdefault("far", []).append(self.product.far(part, values))
            maximise = part.maximise[self.index]
            made = []
            for o in range(self.width):
                terms = values + weights[:, o, None]
                peak = terms.detach().amax(-1, keepdim=True)
                peak = torch.where(torch.isfinite(peak), peak, 0.0)
                of_output = outputs_of(maximise, slice(o, o + 1))
                of_output = of_output if isinstance(of_output, bool) else of_output.squeeze(-1)
                made.append(reduce_logs(terms - peak, -1, of_output).double() + peak.squeeze(-1))
            return torch.stack(made, -1) + base.unsqueeze(-1)
        numbers, exponent = from_logs(values)
        total = torch.matmul(numbers, weights.transpose(-1, -2))
        small = total.amin(-1) * TOLERANCE[part.dtype] <= numbers.shape[-1] * TINY[part.dtype]
        part.saved.setdefault("far", []).append(small | self.product.far(part, values))
        return torch.log2(total).double() + exponent.unsqueeze(-1) + shift

    def down(self, state: State, flow: Tensor, flows: list[Flow | None], to: Flows) -> None:
        total = state.of(self)
        gradients = to.gradients
        weights, shift = self._weights(state)
        wants = gradients is not None and gradients.wants(self, "weights")
        of_weights = torch.zeros_like(weights) if wants else None
        ranges, rows = self._cut(state)
        parts = self._parts(state, rows)
        for begin, end in ranges:
            columns = self._columns(state, begin, end)
            below = []
            for cut, part in zip(rows, parts, strict=True):
                values, base = self._values(part, columns, begin)
                apart = total[:, cut] - base.unsqueeze(-1) - shift
                share = self._shares(values, weights[..., begin:end], apart, flow[:, cut], state.logs)
                to.edges(state, self, begin, share.each, cut)
                if of_weights is not None:
                    of_weights[..., begin:end] += share.of_weights()
                below.append(share.below())
            joined = torch.cat(below, 1) if len(below) > 1 else below[0]
            if to.hears_leaves:
                self.product.read(state, to, columns, begin, joined)
            else:
                self._gradient(state, to, (begin, end), parts, rows, joined)
        for part in parts:
            self.product.forget(part)
        if of_weights is not None and gradients is not None:
            of_sums = of_weights.reshape(-1, self.outputs, self.inputs)
            stored = len(state.prepared.of(self)["weights"])
            gradients.add(self, "weights", self.weights.of_stored(of_sums, stored))

    def _gradient(
        self, state: State, to: Flows, span: tuple[int, int], parts: list[State], rows: list[slice], flow: Tensor
    ) -> None:
        """The gradient of leaves' parameters, known by the names they have here."""
        for part, cut in zip(parts, rows, strict=True):
            self.product.gradient(self, part, to, span, flow[:, cut])

    def _shares(self, values: Tensor, weights: Tensor, total: Tensor, flow: Tensor, logs: bool) -> _LogShares | _Shares:
        kind = _LogShares if logs or self.separate else _Shares
        return kind(values, weights, total, flow)

    def choose(self, state: State, visits: Visits, trace: Trace) -> None:
        partial = state.saved["partial", self.index]
        batch = trace.row_of[visits.sample]
        ranges, _ = self._cut(state)
        if len(ranges) == 1:
            self._choose_within(state, visits, batch, trace, ranges[0])
            return
        chosen = trace.selector.pick(partial[visits.row, batch, visits.column])
        for number, span in enumerate(ranges):
            here = chosen == number
            if bool(here.any()):
                self._choose_within(state, visits.where(here), batch[here], trace, span)

    def _choose_within(self, state: State, visits: Visits, batch: Tensor, trace: Trace, span: tuple[int, int]) -> None:
        """Choose for visits within a range of columns: all of one row and output from the same scores."""
        begin, end = span
        columns = self._columns(state, begin, end)
        weights, _ = self._weights(state)
        logs = weights[..., begin:end] if state.logs or self.separate else torch.log2(weights[..., begin:end].double())
        _, rows = self._cut(state)
        for cut, part in zip(rows, self._parts(state, rows), strict=True):
            here = ((batch >= cut.start) & (batch < cut.stop)).nonzero().squeeze(1)
            if not len(here):
                continue
            size = cut.stop - cut.start
            values, _ = self._values(part, columns, begin)
            sample, row, column, at = (
                visits.sample[here],
                visits.row[here],
                visits.column[here],
                batch[here] - cut.start,
            )
            distinct, group = torch.unique((row * self.width + column) * size + at, return_inverse=True)
            unit, place = torch.div(distinct, size, rounding_mode="floor"), distinct % size
            owner, output = torch.div(unit, self.width, rounding_mode="floor"), unit % self.width

            def scores(
                g: Tensor, v: Tensor = values, r: Tensor = owner, p: Tensor = place, o: Tensor = output
            ) -> Tensor:
                return v[r[g], p[g]] + logs[r[g], o[g]]

            at_once = max(1, state.memory // (32 * (end - begin)))
            picked = trace.selector.pick_grouped(scores, len(distinct), group, at_once)
            self.product.settle(state, row, begin + picked, sample, trace)

    def live(self) -> int:
        """Little for each row: it cuts rows of data itself."""
        return self.count * self.width

    def live_down(self, memory: int) -> int:
        """The flows into a range of columns, its products' pairs, and the sums of all ranges."""
        arity = self.product.arity
        columns = min(self.inputs, memory // self.count // (4 * PARAMETER_BYTES * (arity + 8)))
        sums = 2 * self.width * (self.inputs // TABLE_COLUMNS + 1)
        return self.count * (2 * columns + 4 * arity + sums)


class _Shares:
    """The flows into products from shared numbers: v_k Σ_o w_ok · flow_o / total_o."""

    def __init__(self, values: Tensor, weights: Tensor, total: Tensor, flow: Tensor) -> None:
        self.numbers, exponent = from_logs(values)
        self.weights = weights
        exponent = torch.where(exponent == -torch.inf, 0.0, exponent).unsqueeze(-1)
        self.quotient = (flow * torch.exp2(exponent - total)).nan_to_num(0.0, posinf=0.0).to(values.dtype)

    def below(self) -> Tensor:
        """(R, B, n)."""
        return torch.matmul(self.quotient, self.weights).mul_(self.numbers)

    def of_weights(self) -> Tensor:
        """The gradient of weights, (R, O, n)."""
        return torch.matmul(self.quotient.transpose(1, 2), self.numbers)

    def each(self, r: int) -> Tensor:
        """(B, O, n), of one row."""
        return self.quotient[r].unsqueeze(-1) * self.weights[r] * self.numbers[r].unsqueeze(1)


class _LogShares:
    """The flows into products from logarithms: flow_o · 2^(log v_k + log w_ok − log total_o)."""

    def __init__(self, values: Tensor, weights: Tensor, total: Tensor, flow: Tensor) -> None:
        self.values, self.weights, self.total, self.flow = values, weights, total, flow

    def _of(self, o: int) -> Tensor:
        """A float64 total is taken off in two parts, so that shares add up to 1 however large it is."""
        total = self.total[:, :, o, None]
        gone = total == -torch.inf
        near = torch.where(gone, 0.0, total).to(self.values.dtype)
        rest = torch.where(gone, 0.0, total - near).to(self.values.dtype)
        share = torch.exp2(self.values + self.weights[:, o, None] - near - rest)
        return torch.where(gone, 0.0, share * self.flow[:, :, o, None])

    def below(self) -> Tensor:
        """(R, B, n)."""
        total = self._of(0)
        for o in range(1, self.weights.shape[1]):
            total = total + self._of(o)
        return total

    def of_weights(self) -> Tensor:
        """The gradient of base-2 log weights, (R, O, n)."""
        return torch.stack([self._of(o).sum(1) for o in range(self.weights.shape[1])], 1) / LOG2E

    def each(self, r: int) -> Tensor:
        """(B, O, n), of one row."""
        return torch.stack([self._of(o)[r] for o in range(self.weights.shape[1])], 1)
