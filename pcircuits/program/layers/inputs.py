"""Layers without children: input units and constants."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pcircuits.families.finite import AbstractFinite
from pcircuits.families.interface import Parameters
from pcircuits.program.edges import Flow, Visits
from pcircuits.program.layers.layer import Build, Flows, Layer, Trace
from pcircuits.program.layers.leaf_parameters import PARAMETER_BYTES, LeafParameters
from pcircuits.program.leaf_functions import Density, PartialMode
from pcircuits.program.numbers import FAR, LOG2E, TINY, from_logs, rebased
from pcircuits.program.plan import Columns, Node
from pcircuits.program.rows import Rows, blocks
from pcircuits.program.state import Prepared, State
from pcircuits.program.stores import Store

__all__ = ["LARGEST", "ConstantLayer", "InputLayer", "lost"]

LARGEST = {torch.float32: 2.0**13, torch.float64: 2.0**31}
"""How large the base-2 logs of units may be before rounding hides how units differ: by 1e-3 in float32, 1e-7 in float64."""

BESIDE = 4
"""The rows of a table beside those of states: for what is impossible, at both ends, for what is missing, and the mode."""

WHOLE = 2.0**51
"""Up to here sums of exponents are exact integers."""


def lost(logs: Tensor, dtype: torch.dtype) -> Tensor:
    """Whether rows of logs (..., K) are so far from 0 that what sets units apart is gone, (...)."""
    found = logs.detach()
    if found.shape[-1] == 1:  # one unit is not set apart from others
        size = found.squeeze(-1).abs()
        return (size > WHOLE) & (size < torch.inf)
    top = found.amax(-1)
    far = torch.isfinite(top) & (top.abs() > LARGEST[dtype])
    return far & ((found.amin(-1) < top) | (top.abs() > WHOLE))


class InputLayer(Layer):
    """Input units: row r is over the columns `columns[r]`."""

    columns: Tensor

    def __init__(self, index: int, node: Node, build: Build) -> None:
        super().__init__(index, node, build)
        self.leaves = LeafParameters(node, build, node.count)
        self.family = self.leaves.family
        self.chunked = build.chunked
        self.all_rows = self.leaves.streamed
        self.in_logs = build.locations.by_unit[index]  # read unit by unit: each is then scaled
        columns = node.rows["columns"]
        assert isinstance(columns, Columns)
        self.register_buffer("columns", torch.as_tensor(columns.index, device=build.device), persistent=False)

    def parameters_in(self, prepared: Prepared) -> Mapping[str, Tensor]:
        if self._table_of(prepared) == "differentiable":
            return {"table": self.leaves.log_table(prepared)}
        return self.leaves.stored(prepared)

    def _table_of(self, prepared: Prepared) -> str | None:
        """Which table of the log-probabilities of all states is made: one that autograd follows, one to keep, or none."""
        if prepared.wide or not self._fits(prepared.memory):
            return None
        return "differentiable" if self.leaves.tabulated() else "kept" if prepared.kept else None

    def held(self, memory: int) -> int:
        """Of what is looked up in a table, only where it is."""
        return 2 * self.count if self._fits(memory) else self.count * self.width

    def derived(self, memory: int) -> int:
        """A table of all states."""
        if not self._fits(memory) or self.family.states is None:
            return 0
        place = self.leaves.place
        stored = self.count if place is None else int(place.max()) + 1
        return stored * self.width * (self.family.states + BESIDE)

    def _fits(self, memory: int) -> bool:
        """Whether units are looked up in a table of all states, which fits the bound."""
        if not isinstance(self.family, AbstractFinite) or self.leaves.streamed:
            return False
        return not self.chunked or 32 * self.count * self.width * (self.family.states + BESIDE) <= memory

    def up(self, state: State) -> None:
        if isinstance(state.leaf, Density | PartialMode) and self._table_of(state.prepared) is not None:
            self._look_up(state)
            return
        found = state.prepared.of(self)
        stored = self.leaves.stored(state.prepared) if "table" in found else found
        parts = []
        for span in self._ranges(state):
            parameters = self.leaves.columns(state.prepared, stored, *span)
            parts.append(self._answers(state, state.leaf.tensors(), parameters))
        self._put(state, parts[0] if len(parts) == 1 else torch.cat(parts, -1))

    def _put(self, state: State, logs: Tensor) -> None:
        logs = logs * LOG2E
        if state.logs:
            state.saved.setdefault("lost", []).append(lost(logs, torch.float64))
            state.put(self, *rebased(logs))
            return
        numbers, exponent = rebased(logs.double()) if self.in_logs else from_logs(logs)
        own_exponent, slack = state.bounds(self)
        own_exponent.copy_(exponent)
        slack[:, 0].copy_(lost(logs, state.dtype)).mul_(FAR)
        slack[:, 1] = 0.0 if self.width == 1 else TINY[state.dtype]
        state.numbers[self.index] = Rows(numbers)

    def _answers(self, state: State, tensors: tuple[Tensor, ...], parameters: Parameters) -> Tensor:
        """Natural logs of the units of some columns, (R, B, n)."""
        evidence = tuple(t[:, self.columns].transpose(0, 1).unsqueeze(2) for t in tensors)
        spread = {name: value.unsqueeze(1) for name, value in parameters.items()}
        values = state.leaf.answer(evidence, self.family, spread)
        width = max(values.shape[-1], *(1 if v.ndim < 2 else v.shape[1] for v in parameters.values()))
        return values.to(evidence[0].dtype).expand(self.count, state.leaf.rows, width)

    def _ranges(self, state: State) -> list[tuple[int, int]]:
        """What a source makes is asked for in ranges of columns."""
        streamed = self.chunked and self.leaves.streamed
        most = state.memory // (4 * PARAMETER_BYTES * self.count * self.leaves.event)
        return self.leaves.ranges(most if streamed else None)

    def _entries(self, state: State) -> Tensor:
        """The row of the table for each unit row and row of data, (R, B)."""
        assert isinstance(self.family, AbstractFinite)
        states = self.family.states
        x, observed, *wanted = (t.t().index_select(0, self.columns[:, 0]) for t in state.leaf.tensors())
        missing = torch.where(wanted[0], states + 2, states + 1) if wanted else states + 1
        entry = torch.where(observed, x.clamp(-1, states).long(), missing)
        return entry.add_(state.prepared.ready(self, "first entries", self._first_entries))

    def _first_entries(self) -> Tensor:
        """Where the table of each row has its first state, (R, 1); before it comes what is impossible."""
        place = self.leaves.place
        rows = torch.arange(self.count, device=self.columns.device) if place is None else place
        assert self.family.states is not None
        return (rows * (self.family.states + BESIDE) + 1).unsqueeze(1)

    def _look_up(self, state: State) -> None:
        """Rows of the table by the state observed."""
        assert isinstance(self.family, AbstractFinite)
        states, entry = self.family.states, self._entries(state)
        if state.keep:
            state.saved[self.index] = entry
        if state.logs and not state.prepared.kept:  # autograd follows such a pass itself
            numbers, exponent = self._filled(state)
            state.put(self, Rows(numbers, entry, states + BESIDE), exponent[entry])
            return
        numbers, exponent, slack = state.prepared.ready(self, "table", lambda: self._table(state))
        at = entry.flatten()
        found = slack.index_select(1, at).view(2, *entry.shape).transpose(0, 1)
        state.put(self, Rows(numbers, entry, states + BESIDE), exponent.index_select(0, at).view(entry.shape), found)

    def _log_table(self, state: State) -> Tensor:
        """(U, K, S)."""
        found = state.prepared.of(self)
        return found["table"] if "table" in found else self.leaves.log_table(state.prepared)

    def _filled(self, state: State) -> tuple[Tensor, Tensor]:
        """Base-2 logs of the rows of the table, (U·(S + 4), K): states between two rows for what is impossible, then what
        is missing, and the mode."""
        by_state = self._log_table(state).transpose(1, 2).to(state.dtype) * LOG2E
        missing = by_state.new_zeros((len(by_state), 1, self.width))
        impossible, mode = missing - torch.inf, by_state.amax(1, keepdim=True)
        return rebased(torch.cat([impossible, by_state, impossible, missing, mode], 1).flatten(0, 1))

    def _table(self, state: State) -> tuple[Tensor, Tensor, Tensor]:
        """The numbers of what `_filled` has, (U·(S + 4), K), with exponents and bounds (2, U·(S + 4))."""
        table = self._log_table(state)
        stored, _, states = table.shape
        scaled = rebased if state.logs or self.in_logs else from_logs
        numbers = table.new_empty((stored, states + BESIDE, self.width), dtype=state.dtype)
        exponent = numbers.new_empty((stored, states + BESIDE), dtype=torch.float64)
        of_states = slice(1, states + 1)
        for begin, end in blocks(stored, numbers, numbers[0].numel()):
            logs = (table[begin:end] * LOG2E).to(state.dtype)
            made, exponent[begin:end, of_states] = scaled(logs, 1)
            numbers[begin:end, of_states] = made.transpose(1, 2)
            numbers[begin:end, -1], exponent[begin:end, -1] = scaled(logs.amax(-1))
        for entry, log in ((0, -torch.inf), (states + 1, -torch.inf), (states + 2, 0.0)):
            numbers[:, entry], exponent[:, entry] = scaled(numbers.new_full((1, self.width), log))
        exponent = exponent.flatten()
        far = (exponent.abs() > LARGEST[state.dtype]) & (exponent > -torch.inf)
        tiny = TINY[state.dtype] if self.width > 1 else 0.0
        slack = torch.stack([torch.where(far, FAR, 0.0), torch.where(exponent > -torch.inf, tiny, 0.0)])
        return numbers.flatten(0, 1), exponent, slack.to(state.dtype)

    def down(self, state: State, flow: Tensor, flows: list[Flow | None], to: Flows) -> None:
        in_table = to.gradients is not None and to.gradients.wants(self, "table") and "table" in state.prepared.of(self)
        if in_table or not to.hears_leaves:
            self._gradient(state, flow, to)
            return
        if self._table_of(state.prepared) is not None:
            place = self.leaves.place
            if to.tables(self.columns[:, 0], lambda: self.leaves.log_table(state.prepared), place, flow):
                return
        stored = self.leaves.stored(state.prepared)
        for begin, end in self._ranges(state):
            parameters = self.leaves.columns(state.prepared, stored, begin, end)
            spread = {name: value.unsqueeze(1) for name, value in parameters.items()}
            to.leaves(state, self.leaves, begin, self.columns.unsqueeze(1), spread, flow[..., begin:end])

    def _gradient(self, state: State, flow: Tensor, to: Flows) -> None:
        gradients = to.gradients
        assert gradients is not None
        found = state.prepared.of(self)
        if "table" in found:
            if gradients.wants(self, "table"):
                stored, _, states = found["table"].shape
                entry = state.saved.get(self.index)
                entry = self._entries(state) if entry is None else entry

                def by_unit(total: Tensor) -> Tensor:
                    return total.view(stored, states + BESIDE, -1)[:, 1 : states + 1].transpose(1, 2)

                shape = (stored * (states + BESIDE), self.width)
                gradients.add_rows(self, "table", shape, entry.flatten(), flow.reshape(-1, self.width), by_unit)
            return
        for begin, end in self._ranges(state):
            x = gradients.rows_of_x(state.rows)
            tensors = state.leaf.tensors() if x is None else (x, *state.leaf.tensors()[1:])

            def values(made: dict[str, Tensor], t: tuple[Tensor, ...] = tensors) -> Tensor:
                return self._answers(state, t, made)

            part = flow[..., begin:end]
            self.leaves.gradient(self, state.prepared, gradients, (begin, end), values, part)

    def choose(self, state: State, visits: Visits, trace: Trace) -> None:
        columns = self.columns[visits.row]
        missing = ~trace.observed[visits.sample.unsqueeze(1), columns].all(1)
        if not bool(missing.all()):  # what was observed needs no choice
            visits, columns = visits.where(missing), columns[missing]
        if not len(visits.sample):
            return
        if isinstance(self.family, AbstractFinite) and not self.leaves.streamed and self._small(state):
            unit = visits.row * self.width + visits.column
            states = trace.selector.pick_mode(lambda: self._modes(state), unit)
            if states is None:
                states = trace.selector.pick_state(lambda: self._cumulative(state), unit)
            if states is not None:
                trace.write_states(visits.sample, columns[:, 0], states)
                return
        trace.write(self.family, visits.sample, columns, self.leaves.units(state.prepared, visits.row, visits.column))

    def _small(self, state: State) -> bool:
        states = self.family.states
        assert states is not None
        return state.prepared.kept and 2 * 8 * self.count * self.width * (states + 1) <= state.memory

    def _modes(self, state: State) -> Tensor:
        """The most probable state of each unit, (R·K,)."""

        def made() -> Tensor:
            modes = self.leaves.log_table(state.prepared).argmax(-1)
            rows = modes if self.leaves.place is None else modes.index_select(0, self.leaves.place)
            return rows.expand(self.count, self.width).reshape(-1)

        return state.prepared.ready(self, "modes", made)

    def _cumulative(self, state: State) -> Tensor:
        """The cumulative probabilities of each unit's states, (R·K, S)."""

        def made() -> Tensor:
            table = self.leaves.log_table(state.prepared)
            place = self.leaves.place
            rows = table if place is None else table.index_select(0, place)
            return rows.double().exp().cumsum(-1).expand(self.count, self.width, -1).reshape(-1, rows.shape[-1])

        return state.prepared.ready(self, "cumulative", made)


class ConstantLayer(Layer):
    """Units of empty scope."""

    def __init__(self, index: int, node: Node, build: Build) -> None:
        super().__init__(index, node, build)
        self.value = build.view("value", node)

    def parameters_in(self, prepared: Prepared) -> Mapping[str, Tensor]:
        logs = self.value.of(prepared.derived, Store.wide_logs if prepared.logs else Store.logs) * LOG2E
        return {"logs": logs}

    def up(self, state: State) -> None:
        logs = state.prepared.of(self)["logs"]
        place = self.value.place
        logs = logs if place is None else logs.index_select(0, place)
        numbers, exponent = (rebased if state.logs else from_logs)(logs)
        spread = numbers.unsqueeze(1).expand(self.count, state.leaf.rows, self.width)
        slack = spread.new_tensor([0.0, TINY[state.dtype] if self.width > 1 else 0.0], dtype=state.dtype)
        state.put(self, spread, exponent.unsqueeze(1), slack.view(1, 2, 1))

    def down(self, state: State, flow: Tensor, flows: list[Flow | None], to: Flows) -> None:
        if to.gradients is not None and to.gradients.wants(self, "logs"):
            logs, place = state.prepared.of(self)["logs"], self.value.place
            summed = flow.sum(1) / LOG2E
            if place is not None:
                summed = summed.new_zeros(logs.shape).index_add_(0, place, summed)
            to.gradients.add(self, "logs", summed.to(logs.dtype))

    def choose(self, state: State, visits: Visits, trace: Trace) -> None:
        """A constant has no variables to settle."""
