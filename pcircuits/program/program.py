"""`Program`: the steps a circuit compiles to, and the three passes over them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from operator import index
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.units import Units
from pcircuits.errors import CircuitError
from pcircuits.parameters import Parameter
from pcircuits.program.fetch import Fetch, Locations, Visits
from pcircuits.program.forms import scaled_steps
from pcircuits.program.held import Held
from pcircuits.program.lower import lower
from pcircuits.program.numbers import unflatten
from pcircuits.program.operations import (
    ConstantOp,
    FusedOp,
    InputOp,
    Lowered,
    MixOp,
    MixtureOp,
    Operation,
    OuterOp,
    ProductOp,
    SourceRows,
    SumOp,
)
from pcircuits.program.pools import Pools
from pcircuits.program.reports import Report
from pcircuits.program.rewrites import DEFAULT, REWRITES
from pcircuits.program.rewrites.prune import prune
from pcircuits.program.steps.fused import FusedStep, MixtureStep
from pcircuits.program.steps.inputs import ConstantStep, InputStep
from pcircuits.program.steps.products import OuterStep, ProductStep
from pcircuits.program.steps.step import Build, Choice, Chooser, Maximise, Reader, State, Step
from pcircuits.program.steps.sums import MixStep, SumStep
from pcircuits.program.values import Computed, Values

__all__ = ["DEFAULT_MEMORY", "Program"]

DEFAULT_MEMORY = 512 * 2**20
"""The default bound, in bytes, on what is live in a pass."""

EVIDENCE_BYTES = 32
"""What a question about one variable of a row takes: a value, a mask, and two bounds."""

CACHE = 40 * 2**20
"""Bytes that the largest step should take: then the next one finds them in the cache."""

LEAST_ROWS = 16
"""Rows of data below which steps are mostly overhead; multiples of it suit matrix products."""

FEW_STEPS = 8
"""Up to so many steps, a scalar circuit reads from step to step; beyond, from one buffer of all its rows."""

STEPS: Mapping[type[Operation], Callable[[int, Any, Build], Step]] = {
    InputOp: InputStep,
    ConstantOp: ConstantStep,
    ProductOp: ProductStep,
    OuterOp: OuterStep,
    MixOp: MixStep,
    SumOp: SumStep,
    FusedOp: FusedStep,
    MixtureOp: MixtureStep,
}
"""The step that each operation becomes."""


class Program(nn.Module):
    """Steps in topological order over pooled parameters."""

    like: Tensor
    """Follows the module's dtype and device, also where it has no parameters."""

    def __init__(
        self,
        circuit: Circuit,
        dtype: torch.dtype,
        device: torch.device | None,
        memory: int | None,
        rewrites: Collection[str] | None,
    ) -> None:
        super().__init__()
        chosen = tuple(DEFAULT if rewrites is None else rewrites)
        if unknown := [name for name in chosen if name not in DEFAULT]:
            raise CircuitError(f"unknown rewrites {unknown}: there are {list(DEFAULT)}")
        if memory is not None and (not hasattr(memory, "__index__") or index(memory) < 1):
            raise CircuitError(f"memory is a number of bytes, an integer >= 1, not {memory!r}: 512 MiB are 512 * 2**20")
        self.memory = DEFAULT_MEMORY if memory is None else index(memory)
        self.chunked = "chunk" in chosen
        lowered = prune(lower(circuit))
        for name, rewrite in REWRITES.items():
            if name in chosen:
                lowered = rewrite(lowered)
        self._places = {id(array): (array, lowered.places[id(array)]) for array in circuit.arrays}
        self._now, self._shift = lowered.now, lowered.shift
        self.locations = _locate(lowered)
        self.register_buffer("like", torch.empty(0, dtype=dtype, device=device), persistent=False)
        self.pools = Pools(dtype, device)
        self.pools.deal(rows for op in lowered.operations for rows in op.parameter_rows())
        self.sources = nn.ModuleDict()
        self._originals: dict[int, tuple[nn.Module, str]] = {}
        memo: dict[int, object] = {}

        def source_of(op: InputOp) -> nn.Module | None:
            if not isinstance(op.parameters, SourceRows):
                return None
            return self._own(op.parameters.sourced.source, memo, dtype, device)

        build = Build(self.pools, self.locations, source_of, device, self.chunked)
        self.steps = nn.ModuleList([STEPS[type(op)](n, op, build) for n, op in enumerate(lowered.operations)])
        self.root = Fetch(lowered.root, self.locations, device)
        self._last_reader = _last_readers(lowered)
        self._firsts = self.locations.firsts()
        self._narrow = max(self.locations.widths) == 1 and len(self.steps) > FEW_STEPS
        self._kept: tuple[object, Held] | None = None

    def _own(
        self, original: nn.Module, memo: dict[int, object], dtype: torch.dtype, device: torch.device | None
    ) -> nn.Module:
        """A copy of a source, with what it shares with others: the circuit stays as it is when the program is trained."""
        if id(original) not in self._originals:
            name = f"source_{len(self._originals)}"
            self._originals[id(original)] = original, name
            self.sources[name] = copy.deepcopy(original, memo).to(dtype=dtype, device=device)
        return self.source_of(original)

    def source_of(self, original: nn.Module) -> nn.Module:
        """The program's own copy of a circuit's source, with what it has learnt."""
        return self.sources[self._originals[id(original)][1]]

    def trained(self) -> Mapping[int, Parameter]:
        """For each symbolic parameter (by id), one with the value it has now."""
        return self.pools.trained()

    def ordered(self) -> list[Step]:
        """The steps, those that are read before those that read them."""
        return [step for step in self.steps if isinstance(step, Step)]

    def held(self) -> Held:
        """What is derived from the parameters as they are now; of its own where gradients flow through it."""
        pools = self.pools.all()
        if torch.is_grad_enabled() and any(pool.raw.requires_grad for pool in pools):
            return Held(kept=False)
        version = tuple(pool.version() for pool in pools)
        if self._kept is None or self._kept[0] != version:
            self._kept = version, Held(kept=True)
        return self._kept[1]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._kept = None
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_kept": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """What is found by identity is found by the identities that things have now."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._places = {id(found[0]): found for found in self._places.values()}
        self._originals = {id(found[0]): found for found in self._originals.values()}

    def rows_in_memory(self, element_size: int, columns: int) -> int | None:
        """How many rows of data fit the bound on memory together, or None where nothing is cut."""
        if not self.chunked:
            return None
        steps = self.ordered()
        live = sum(s.count * s.width for s in steps) + max(s.live() for s in steps) + 3 * columns
        live += sum(s.live_down(self.memory) for s in steps)
        return max(1, self.memory // (2 * element_size * live))

    def rows_of_leaves(self, element_size: int, columns: int) -> int | None:
        """How many rows of data fit the bound on memory where only the values of leaves are kept."""
        if not self.chunked:
            return None
        leaves = [s for s in self.ordered() if not s.reads()]
        live = sum(s.count * s.width for s in leaves) + max(s.live() for s in leaves)
        return max(1, self.memory // (4 * element_size * live + EVIDENCE_BYTES * columns))

    def rows_in_cache(self, element_size: int) -> int | None:
        """How many rows of data are best taken together, so that what a step makes is in the cache for the next."""
        if not self.chunked:
            return None
        if self._narrow:
            return max(1, self.memory // (4 * element_size * len(self.locations.step)))
        largest = max((s.count * s.width for s in self.ordered() if s.reads()), default=1)
        return max(LEAST_ROWS, CACHE // (element_size * largest) // LEAST_ROWS * LEAST_ROWS)

    def state(self, report: Report, held: Held, maximise: Sequence[Maximise] | None, keep: bool) -> State:
        """An upward pass before its first step; values are scaled only where no maxima and no modes are asked for."""
        steps = self.ordered()
        flags: list[Maximise] = [False] * len(steps) if maximise is None else list(maximise)
        scaled = [False] * len(steps)
        if maximise is None and report.bounded:
            dtype = report.tensors()[0].dtype
            scaled = held.once(("scaled", dtype), lambda: scaled_steps(steps, self.root, held, dtype))
        return State(report, held, Computed(len(steps)), flags, scaled, self.memory, keep)

    def _share(self, state: State) -> None:
        """Give a pass a buffer of all narrow rows, where that is of use."""
        if self._narrow and not torch.is_grad_enabled():
            like = state.report.tensors()[0]
            state.values.shared = like.new_empty((len(self.locations.step), state.report.rows, 1))

    def up(self, report: Report, maximise: Sequence[Maximise] | None = None) -> tuple[Tensor, State]:
        """The log values of the roots, (B, C), and the pass with all its values, for another pass over them."""
        state = self.state(report, self.held(), maximise, keep=True)
        self._share(state)
        for step in self.ordered():
            self._settle(state, step, step.up(state))
        return self._roots(state), state

    def _settle(self, state: State, step: Step, values: Values) -> None:
        """Keep what a step computed, in the buffer of narrow rows where there is one."""
        state.values[step.index] = values
        if state.values.shared is not None and step.width == 1:
            first = int(self._firsts[step.index])
            rows = state.values.shared[first : first + step.count]
            rows.copy_(values.logs())
            state.values[step.index] = Values(rows)

    def log_values(self, report: Report, held: Held, maximise: Sequence[Maximise] | None = None) -> Tensor:
        """The log values of the roots, (B, C); no other value is kept.

        Leaves are evaluated for all rows of data together, and what is above them for as many as suit the cache.
        """
        steps = self.ordered()
        whole = self.state(report, held, maximise, keep=False)
        size = self.rows_in_cache(report.tensors()[0].element_size()) or report.rows
        sizes = [min(size, report.rows - begin) for begin in range(0, report.rows, size)]
        leaves = {step.index: step.up(whole).batches(sizes) for step in steps if not step.reads()}
        parts = []
        for number, rows in enumerate(sizes):
            begin = number * size
            state = self.state(report.take(slice(begin, begin + rows)), held, maximise, keep=False)
            self._share(state)
            for step in steps:
                made = leaves[step.index][number] if step.index in leaves else step.up(state)
                self._settle(state, step, made)
                for done in self._last_reader[step.index]:
                    state.values[done] = None
            parts.append(self._roots(state))
        return torch.cat(parts)

    def _roots(self, state: State) -> Tensor:
        roots = self.root.gather(state.values).logs().transpose(0, 1).flatten(1)
        return torch.where(roots == -torch.inf, -torch.inf, roots)  # so that impossible rows have no gradient

    def down(self, state: State, flow: Tensor, reader: Reader) -> None:
        """Hand flows from the roots, (B, C), to the reader; at most one root of each row should have any."""
        with torch.no_grad():
            flows: list[Tensor | None] = [None] * len(self.steps)
            count = self.root.count
            shaped = unflatten(flow, 1, (count, -1)).transpose(0, 1)
            self.root.scatter(shaped, flows, state.values)
            for step in reversed(self.ordered()):
                current = flows[step.index]
                flows[step.index] = None
                if current is not None:
                    step.down(state, current, flows, reader)

    def choose(
        self, state: State, root: Tensor, row_of: Tensor, assignment: Tensor, observed: Tensor, chooser: Chooser
    ) -> Tensor:
        """Settle the missing variables of samples (S, D): sample s starts at root[s], on row row_of[s] of the pass."""
        with torch.no_grad():
            visits: list[list[Visits]] = [[] for _ in self.steps]
            choice = Choice(row_of, assignment.clone(), observed, chooser, visits)
            everyone = torch.arange(len(row_of), device=row_of.device)
            read, column = torch.div(root, self.root.width, rounding_mode="floor"), root % self.root.width
            self.root.route(everyone, read, column, visits)
            for step in reversed(self.ordered()):
                if visits[step.index]:
                    step.choose(state, Visits.join(visits[step.index]), choice)
                    visits[step.index] = []
        return choice.assignment

    def rows_of(self, array: Units) -> list[tuple[int, int, int]]:
        """For each region of an array of sums, its step, its row there and its first column.

        (-1, -1, 0) where the root does not need it.
        """
        lowered = self._places[id(array)][1].rows[:, 0]
        rows, columns = self._now[lowered], self._shift[lowered]
        step = np.where(rows < 0, -1, self.locations.step[rows])
        row = np.where(rows < 0, -1, self.locations.row[rows])
        return list(zip(step.tolist(), row.tolist(), columns.tolist(), strict=True))


def _locate(lowered: Lowered) -> Locations:
    step = lowered.owners()
    row = np.concatenate([np.arange(op.count) for op in lowered.operations])
    return Locations(step, row, tuple(op.width for op in lowered.operations))


def _last_readers(lowered: Lowered) -> list[list[int]]:
    """For each step, the steps whose values nothing reads after it."""
    owner = lowered.owners()
    last: dict[int, int] = {}
    for number, op in enumerate(lowered.operations):
        for reads in op.reads():
            for read in np.unique(owner[reads.rows.ravel()]).tolist():
                last[read] = number
    for read in np.unique(owner[lowered.root.rows.ravel()]).tolist():
        last.pop(read, None)
    done: list[list[int]] = [[] for _ in lowered.operations]
    for read, number in last.items():
        done[number].append(read)
    return done
