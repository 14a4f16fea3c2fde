"""`Program`: the steps a circuit compiles to, and the three passes over them."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.units import Units
from pcircuits.errors import CircuitError
from pcircuits.parameters import Parameter, Sourced
from pcircuits.program.fetch import Fetch, Locations, Visits
from pcircuits.program.lower import lower
from pcircuits.program.numbers import unflatten
from pcircuits.program.operations import (
    ConstantOp,
    FusedOp,
    Index,
    InputOp,
    Lowered,
    MixOp,
    MixtureOp,
    Operation,
    OuterOp,
    ParameterRows,
    ProductOp,
    Reads,
    SumOp,
)
from pcircuits.program.pools import Pools
from pcircuits.program.reports import Report
from pcircuits.program.rewrites import DEFAULT, REWRITES
from pcircuits.program.steps.fused import FusedStep, MixtureStep
from pcircuits.program.steps.inputs import ConstantStep, InputStep
from pcircuits.program.steps.products import OuterStep, ProductStep
from pcircuits.program.steps.step import Choice, Chooser, Maximise, Reader, State, Step
from pcircuits.program.steps.sums import MixStep, SumStep

__all__ = ["DEFAULT_MEMORY", "Program"]

DEFAULT_MEMORY = 512 * 2**20
"""The default bound, in bytes, on what is live in a pass."""


class Program(nn.Module):
    """Steps in topological order over pooled parameters."""

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
        if memory is not None and memory < 1:
            raise CircuitError(f"memory is a number of bytes >= 1, not {memory}")
        self.memory = DEFAULT_MEMORY if memory is None else memory
        self.chunked = "chunk" in chosen
        lowered = lower(circuit)
        for name, rewrite in REWRITES.items():
            if name in chosen:
                lowered = rewrite(lowered)
        self.places: Mapping[int, Reads] = lowered.places
        self.locations = _locate(lowered)
        self.pools = Pools(dtype, device)
        self.pools.deal(rows for op in lowered.operations for rows in _parameter_rows(op))
        self.sources = nn.ModuleDict()
        self._source_names: dict[int, str] = {}
        self.steps = nn.ModuleList(
            [self._step(number, op, dtype, device) for number, op in enumerate(lowered.operations)]
        )
        self.root = Fetch(lowered.root, self.locations, device)
        self._last_reader = _last_readers(lowered)

    def _step(self, index: int, op: Operation, dtype: torch.dtype, device: torch.device | None) -> Step:
        if isinstance(op, InputOp):
            return InputStep(index, op, self.pools, self._source(op, dtype, device), device)
        if isinstance(op, FusedOp):
            return FusedStep(index, op, self.pools, self._source(op.leaves, dtype, device), device)
        if isinstance(op, MixtureOp):
            source = self._source(op.product.leaves, dtype, device)
            return MixtureStep(index, op, self.pools, source, device, self.chunked)
        if isinstance(op, ConstantOp):
            return ConstantStep(index, op, self.pools)
        if isinstance(op, ProductOp):
            return ProductStep(index, op, self.locations, device)
        if isinstance(op, OuterOp):
            return OuterStep(index, op, self.locations, device)
        if isinstance(op, SumOp):
            return SumStep(index, op, self.pools, self.locations, device)
        assert isinstance(op, MixOp)
        return MixStep(index, op, self.pools, self.locations, device)

    def _source(self, op: InputOp, dtype: torch.dtype, device: torch.device | None) -> nn.Module | None:
        """A copy of the source: the circuit stays as it is when the program is trained."""
        if not isinstance(op.parameters, Sourced):
            return None
        original = op.parameters.source
        if id(original) not in self._source_names:
            name = self._source_names[id(original)] = f"source_{len(self._source_names)}"
            self.sources[name] = copy.deepcopy(original).to(dtype=dtype, device=device)
        return self.sources[self._source_names[id(original)]]

    def source_of(self, original: nn.Module) -> nn.Module:
        """The program's own copy of a circuit's source, with what it has learnt."""
        return self.sources[self._source_names[id(original)]]

    def trained(self) -> Mapping[int, Parameter]:
        """For each symbolic parameter (by id), one with the value it has now."""
        return self.pools.trained()

    def ordered(self) -> list[Step]:
        """The steps, those that are read before those that read them."""
        return [step for step in self.steps if isinstance(step, Step)]

    def rows_at_once(self, element_size: int, columns: int) -> int | None:
        """How many rows of data fit the bound on memory, or None where nothing is cut."""
        if not self.chunked:
            return None
        steps = self.ordered()
        live = sum(s.count * s.width for s in steps) + max(s.live() for s in steps) + 8 * columns
        return max(1, self.memory // (2 * element_size * live))

    def up(self, report: Report, maximise: Sequence[Maximise] | None = None, keep: bool = True) -> tuple[Tensor, State]:
        """The log values of the roots, (B, C), and the pass's state; values that are not kept are let go when read."""
        steps = self.ordered()
        flags: list[Maximise] = [False] * len(steps) if maximise is None else list(maximise)
        state = State(report, [None] * len(steps), flags, self.memory, keep)
        for step in steps:
            state.values[step.index] = step.up(state)
            if not keep:
                for done in self._last_reader[step.index]:
                    state.values[done] = None
        roots = self.root.gather(state.values).transpose(0, 1).flatten(1)
        return torch.where(roots == -torch.inf, -torch.inf, roots), state  # so that impossible rows have no gradient

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

    def rows_of(self, array: Units) -> list[tuple[int, int]]:
        """For each region of an array that is computed as whole rows, its step and its row there."""
        reads = self.places[id(array)]
        assert reads.columns is None
        rows = reads.rows.ravel()
        return list(zip(self.locations.step[rows].tolist(), self.locations.row[rows].tolist(), strict=True))


def _locate(lowered: Lowered) -> Locations:
    step = np.repeat(np.arange(len(lowered.operations)), [op.count for op in lowered.operations])
    row = np.concatenate([np.arange(op.count) for op in lowered.operations])
    return Locations(step, row, tuple(op.width for op in lowered.operations))


def _parameter_rows(op: Operation) -> list[ParameterRows]:
    if isinstance(op, InputOp):
        return list(op.parameters.values()) if isinstance(op.parameters, dict) else []
    if isinstance(op, FusedOp):
        return _parameter_rows(op.leaves)
    if isinstance(op, MixtureOp):
        return [*_parameter_rows(op.product), op.weights]
    if isinstance(op, ConstantOp):
        return [op.value]
    return [op.weights] if isinstance(op, SumOp | MixOp) else []


def _last_readers(lowered: Lowered) -> list[list[int]]:
    """For each step, the steps whose values nothing reads after it."""
    owner: Index = np.repeat(np.arange(len(lowered.operations)), [op.count for op in lowered.operations])
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
