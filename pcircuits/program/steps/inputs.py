"""Steps without children: input units and constants."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pcircuits.families.finite import AbstractFinite
from pcircuits.families.interface import Parameters
from pcircuits.parameters import Source
from pcircuits.program.fetch import Visits
from pcircuits.program.held import Held
from pcircuits.program.numbers import unflatten
from pcircuits.program.operations import ConstantOp, InputOp, SourceRows
from pcircuits.program.pools import ParameterView
from pcircuits.program.reports import Density
from pcircuits.program.steps.step import Build, Choice, Reader, Spans, State, Step
from pcircuits.program.values import Values

__all__ = ["PARAMETER_BYTES", "ConstantStep", "InputStep", "LeafParameters", "again"]

PARAMETER_BYTES = 64
"""What a leaf unit's parameters take, with what is derived from them."""


class LeafParameters(nn.Module):
    """The parameters of rows of leaf units, stored or made by a source, as (R, n, *event) for a range of columns."""

    source_rows: Tensor | None

    def __init__(self, op: InputOp, build: Build) -> None:
        super().__init__()
        self.count, self.width = op.count, op.width
        self._source = (build.source_of(op),)
        self.views = nn.ModuleDict()
        rows: Tensor | None = None
        if isinstance(op.parameters, SourceRows):
            regions = op.parameters.sourced.regions
            if not np.array_equal(op.parameters.rows, np.arange(regions)):
                rows = torch.as_tensor(op.parameters.rows, device=build.device)
        else:
            for name, stored in op.parameters.items():
                self.views[name] = build.pools.view(stored)
        self.register_buffer("source_rows", rows, persistent=False)

    @property
    def source(self) -> nn.Module | None:
        """The module that makes the parameters, if one does."""
        return self._source[0]

    def columns(self, held: Held, begin: int, end: int, device: torch.device) -> dict[str, Tensor]:
        """Parameters (R, n or 1, *event) of the columns begin..end-1."""
        if self.source is not None:
            return self.at_columns(held, torch.arange(begin, end, device=device))
        whole = {name: self._values(held, name) for name in self.views}
        if (begin, end) == (0, self.width):
            return whole
        return {name: v if v.shape[1] == 1 else v[:, begin:end] for name, v in whole.items()}

    def at_columns(self, held: Held, columns: Tensor) -> dict[str, Tensor]:
        """Parameters (R, n or 1, *event) of chosen columns (n,)."""
        if self.source is not None:
            made = self._made(columns)
            return made if self.source_rows is None else {name: v[self.source_rows] for name, v in made.items()}
        whole = {name: self._values(held, name) for name in self.views}
        return {name: v if v.shape[1] == 1 else v.index_select(1, columns) for name, v in whole.items()}

    def units(self, held: Held, row: Tensor, column: Tensor) -> dict[str, Tensor]:
        """Parameters (V, *event) of chosen units."""
        if self.source is not None:
            distinct, place = torch.unique(column, return_inverse=True)
            return {name: value[row, place] for name, value in self.at_columns(held, distinct).items()}
        whole = {name: self._values(held, name) for name in self.views}
        return {name: v[row, 0 if v.shape[1] == 1 else column] for name, v in whole.items()}

    def ranges(self, most: int | None) -> list[tuple[int, int]]:
        """Ranges of at most so many columns."""
        step = self.width if most is None else max(1, min(self.width, most))
        return [(begin, min(begin + step, self.width)) for begin in range(0, self.width, step)]

    def logs(self, held: Held, name: str) -> Tensor:
        """The logs of a stored parameter, (R, n or 1, *event)."""
        view = self.views[name]
        assert isinstance(view, ParameterView)
        return view.logs(held)

    def _values(self, held: Held, name: str) -> Tensor:
        view = self.views[name]
        assert isinstance(view, ParameterView)
        return view.values(held)

    def _made(self, columns: Tensor) -> dict[str, Tensor]:
        assert isinstance(self.source, Source)
        return self.source.parameters_for(columns)


class InputStep(Step):
    """Input units: row r is over the columns `columns[r]`."""

    columns: Tensor

    def __init__(self, index: int, op: InputOp, build: Build) -> None:
        super().__init__(index, op.count, op.width)
        self.family = op.family
        self.chunked = build.chunked
        self.leaves = LeafParameters(op, build)
        self.register_buffer("columns", torch.as_tensor(op.columns.index, device=build.device), persistent=False)

    def up(self, state: State) -> Values:
        if self._tabulated(state):
            return self._looked_up(state)
        evidence = tuple(t[:, self.columns].transpose(0, 1).unsqueeze(2) for t in state.report.tensors())
        parts = [
            again(self._answers(state, evidence, begin, end), self.leaves.source) for begin, end in self._ranges(state)
        ]
        return Values(parts[0] if len(parts) == 1 else torch.cat(parts, -1))

    def _answers(self, state: State, evidence: tuple[Tensor, ...], begin: int, end: int) -> Callable[[], Tensor]:
        def answers() -> Tensor:
            values = state.report.answer(evidence, self.family, self._spread(state, begin, end))
            return values.to(evidence[0].dtype).expand(self.count, state.report.rows, end - begin)

        return answers

    def _ranges(self, state: State) -> list[tuple[int, int]]:
        """What a source makes is asked for in ranges of columns."""
        streamed = self.chunked and self.leaves.source is not None
        return self.leaves.ranges(state.memory // (4 * PARAMETER_BYTES * self.count) if streamed else None)

    def _spread(self, state: State, begin: int, end: int) -> Parameters:
        """Parameters (R, 1, n, *event), for rows of data in the second axis."""
        made = self.leaves.columns(state.held, begin, end, self.columns.device)
        return {name: value.unsqueeze(1) for name, value in made.items()}

    def _tabulated(self, state: State) -> bool:
        """Whether log p of all states is worth making: where the family makes it anyway, and it fits a share of memory."""
        if not isinstance(self.family, AbstractFinite) or not isinstance(state.report, Density):
            return False
        size = 8 * self.count * self.width * (self.family.states + 1)
        cheap = self.family.tabulated or state.held.kept
        return cheap and self.leaves.source is None and (not self.chunked or 2 * size <= state.memory)

    def _looked_up(self, state: State) -> Values:
        """Rows of the table by the state observed."""
        assert isinstance(self.family, AbstractFinite)
        states = self.family.states
        x, observed = (tensor[:, self.columns[:, 0]].t().contiguous() for tensor in state.report.tensors())
        possible = (x >= 0) & (x < states)
        kept = state.held.kept
        rows = states + 1 if kept else states  # what is kept has a row for what is missing
        entry = torch.where(possible, x, 0.0).long()
        entry = torch.where(observed, entry, states if kept else 0)
        entry = entry + torch.arange(0, self.count * rows, rows, device=x.device).unsqueeze(1)
        scaled = state.scaled[self.index]

        def made() -> Values:
            values = self._table(state, scaled, x.dtype)
            return self._with_missing(values) if kept else values

        table = state.held.once((self, "table", scaled, x.dtype), made)
        exponent = None if table.exponent is None else table.exponent[entry]
        numbers = table.numbers.index_select(0, entry.flatten())
        found = Values(unflatten(numbers, 0, tuple(entry.shape)), exponent)
        if scaled and not kept:
            found = found.levelled()
        if not kept and not bool(observed.all()):
            found = found.filled(~observed, 1.0)
        if not bool((possible | ~observed).all()):
            found = found.filled(observed & ~possible, 0.0)
        return found

    def _table(self, state: State, scaled: bool, dtype: torch.dtype) -> Values:
        """What the units report for each state, (R·S, K); levelled here where it is kept, and where it is read if not."""
        assert isinstance(self.family, AbstractFinite)
        held, name = state.held, self.family.table_of
        if scaled and name is not None:
            direct = self.leaves.columns(held, 0, self.width, self.columns.device)[name]
            if direct.dtype == dtype:  # no probability is too small for it
                numbers = self._by_state(direct)
                made = Values(numbers, numbers.new_zeros((len(numbers), 1)))
                return made.levelled() if held.kept else made
        if name is not None:
            logs = self.leaves.logs(held, name)
        else:
            logs = self.family.log_table(self.leaves.columns(held, 0, self.width, self.columns.device))
        values = Values(self._by_state(logs.to(dtype)))
        if not scaled:
            return values
        return values.scaled().levelled() if held.kept else values.scaled()

    def _with_missing(self, values: Values) -> Values:
        """A table with one more row for each leaf row, (R·(S + 1), K): the value 1 of what is missing."""

        def extended(table: Tensor, value: float) -> Tensor:
            rows = unflatten(table, 0, (self.count, -1))
            return torch.cat([rows, rows.new_full((self.count, 1, rows.shape[2]), value)], 1).flatten(0, 1)

        if values.exponent is None:
            return Values(extended(values.numbers, 0.0))
        return Values(extended(values.numbers, 1.0), extended(values.exponent, 0.0))

    def _by_state(self, table: Tensor) -> Tensor:
        """(R or 1, K or 1, S) to (R·S, K)."""
        return table.expand(self.count, self.width, -1).transpose(1, 2).reshape(-1, self.width)

    def down(self, state: State, flow: Tensor, flows: list[Tensor | None], reader: Reader) -> None:
        for begin, end in self._ranges(state):
            reader.leaves(self.family, self.columns.unsqueeze(1), self._spread(state, begin, end), flow[..., begin:end])

    def choose(self, state: State, visits: Visits, choice: Choice) -> None:
        columns = self.columns[visits.row]
        if self._tabulated(state) and state.held.kept:
            states = choice.chooser.pick_state(lambda: self._cumulative(state), visits.row * self.width + visits.column)
            if states is not None:
                choice.write_states(visits.sample, columns[:, 0], states)
                return
        choice.write(self.family, visits.sample, columns, self.leaves.units(state.held, visits.row, visits.column))

    def _cumulative(self, state: State) -> Tensor:
        """The cumulative probabilities of each unit's states, (R·K, S)."""

        def made() -> Tensor:
            assert isinstance(self.family, AbstractFinite)
            logs = self.family.log_table(self.leaves.columns(state.held, 0, self.width, self.columns.device))
            return logs.double().exp().cumsum(-1).expand(self.count, self.width, -1).reshape(-1, self.family.states)

        return state.held.once((self, "cumulative"), made)

    def low(self, spans: Spans, ratio: float) -> float:
        return math.log(self.width)

    def scales(self, need: float, spans: Spans, ratio: float) -> bool:
        """A table may be kept scaled; other leaves are logs until a step scales them."""
        return self.width > 1 and need <= spans.reach


class ConstantStep(Step):
    """Units of empty scope."""

    def __init__(self, index: int, op: ConstantOp, build: Build) -> None:
        super().__init__(index, op.count, op.width)
        self.value = build.pools.view(op.value)

    def up(self, state: State) -> Values:
        logs = self.value.logs(state.held)
        return Values(logs.unsqueeze(1).expand(self.count, state.report.rows, self.width))

    def down(self, state: State, flow: Tensor, flows: list[Tensor | None], reader: Reader) -> None:
        """A constant has nothing below it."""

    def choose(self, state: State, visits: Visits, choice: Choice) -> None:
        """A constant has no variables to settle."""


def again(make: Callable[[], Tensor], source: nn.Module | None) -> Tensor:
    """What is made from a source is made again on the way back, so that its parameters are not kept."""
    if source is None or not torch.is_grad_enabled():
        return make()
    made = checkpoint(make, use_reentrant=False, preserve_rng_state=False)
    assert isinstance(made, Tensor)
    return made
