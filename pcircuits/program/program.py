"""`Program`: the layers that a circuit compiles to, and the passes over them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from pcircuits.arguments import whole_number
from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.units import Units
from pcircuits.errors import CircuitError
from pcircuits.parameters import Sourced
from pcircuits.program.edges import Flow, Gather, Locations, Visits
from pcircuits.program.layers import LAYERS, Build, Layer
from pcircuits.program.layers.layer import Flows, Selector, Trace
from pcircuits.program.leaf_functions import LeafFunction
from pcircuits.program.lower import lower
from pcircuits.program.numbers import TOLERANCE
from pcircuits.program.plan import Index
from pcircuits.program.rewrites import DEFAULT, REWRITES, prune
from pcircuits.program.rows import Rows, Spans
from pcircuits.program.state import Maximise, Prepared, State
from pcircuits.program.stores import Stores
from pcircuits.program.tracing import plain

__all__ = ["DEFAULT_MEMORY", "Program", "Roots"]

T = TypeVar("T")

DEFAULT_MEMORY = 512 * 2**20
"""The default bound, in bytes, on what is live in a pass."""

OF_ROW = 32
"""Bytes that the exponent and the bound of one row of units take, with what is gathered of them."""


class Roots:
    """What a pass finds at the roots: base-2 logs (B, C) as number + exponent, and the rows (B,) to be computed again."""

    __slots__ = ("exponent", "logs", "loose")

    def __init__(self, logs: Tensor, exponent: Tensor, loose: Tensor) -> None:
        self.logs, self.exponent, self.loose = logs, exponent, loose


class Program(nn.Module):
    """Layers in topological order over stored parameters."""

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
        self.memory = _bytes(memory)
        self.chunked = "chunk" in chosen
        plan = prune(lower(circuit))
        for name, rewrite in REWRITES:
            plan = rewrite(plan) if name in chosen else plan
        self._circuit = circuit
        self.register_buffer("like", torch.empty(0, dtype=dtype, device=device), persistent=False)
        self.sources = nn.ModuleDict()
        self._originals: list[nn.Module] = []
        memo: dict[int, object] = {}

        def source_of(sourced: Sourced) -> nn.Module:
            return self._own(sourced.source, memo, dtype, device)

        self.stored = Stores(plan.parameters, _names(circuit), dtype, device)
        locations = Locations.of(plan)
        build = Build(self.stored, locations, source_of, device, self.memory if self.chunked else None)
        self.layers = nn.ModuleList()
        for number, node in enumerate(plan.nodes):
            layer = LAYERS[node.kind](number, node, build)
            locations.logs.append(layer.in_logs)
            locations.normal.append(layer.normal)
            self.layers.append(layer)
        self.root = Gather(plan.root, locations, device)
        self._places, self._now, self._shift = plan.places, plan.now, plan.shift
        self._locations = locations
        self._measure()
        self._kept: dict[tuple[bool, bool], tuple[list[Tensor], Prepared]] = {}
        self._structural: dict[str, Any] = {}

    def _measure(self) -> None:
        """What layers read for the last time, and how many numbers a row of data takes."""
        layers = self.ordered()
        last = {source: layer.index for layer in layers for source in layer.sources()}
        roots = set(self.root.sources)
        self._done: list[list[int]] = [[] for _ in layers]
        for source, reader in last.items():
            if source not in roots:
                self._done[reader].append(source)
        back = {source for layer in layers if layer.needs_children for source in layer.sources()}
        back |= {layer.index for layer in layers if layer.needs_own} | roots
        self._not_back = [[s for s in done if s not in back] for done in self._done]
        sizes = [layer.count * layer.width for layer in layers]
        live = peak = 0
        for layer in layers:
            live += sizes[layer.index]
            peak = max(peak, live + layer.live())
            live -= sum(sizes[done] for done in self._done[layer.index])
        self._peak = peak
        self._measure_back(sizes, [layer.held(self.memory) if layer.index in back else 0 for layer in layers])
        self._rows = sum(layer.count for layer in layers)
        self._tables = sum(layer.derived(self.memory) for layer in layers)
        self._wide = [layer.index for layer in layers if layer.all_rows]

    def _measure_back(self, sizes: list[int], held: list[int]) -> None:
        """How many numbers of a row of data are kept for the way back, and how many flows there are at once.

        In training what was kept is dropped on the way: `_spent` is the most that there is then, of both.
        """
        flows, pending, left = [0] * len(sizes), 0, sum(held)
        self._kept_numbers, self._flows, self._spent = left, 0, left
        for layer in reversed(self.ordered()):
            for source in layer.sources():
                pending += sizes[source] - flows[source]
                flows[source] = sizes[source]
            beside = pending + layer.live_down(self.memory)
            self._flows, self._spent = max(self._flows, beside), max(self._spent, left + beside)
            pending, left = pending - flows[layer.index], left - held[layer.index]

    def _own(self, original: nn.Module, memo: dict[int, object], dtype: torch.dtype, device: Any) -> nn.Module:
        """A copy of a source, with what it shares with others: the circuit stays as it is when the program is trained."""
        if not any(original is known for known in self._originals):
            self.sources[f"source_{len(self._originals)}"] = copy.deepcopy(original, memo).to(
                dtype=dtype, device=device
            )
            self._originals.append(original)
        return self.source_of(original)

    def source_of(self, original: nn.Module) -> nn.Module:
        """The program's own copy of a circuit's source, with what it has learnt."""
        number = next(n for n, known in enumerate(self._originals) if known is original)
        return self.sources[f"source_{number}"]

    def ordered(self) -> list[Layer]:
        """The layers, those that are read before those that read them."""
        return list(self.layers)  # type: ignore[arg-type]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_kept": {}, "_structural": {}}

    def prepare(self, logs: bool = False, wide: bool = False) -> Prepared:
        """The parameters as they are now, for passes of a kind.

        Where no gradients flow they are kept for the next pass, beside a copy of the numbers they were made from: the
        comparison reads the parameters once, those of sources too, and misses no change, however it was made.
        """
        if torch.is_grad_enabled() or not plain():
            prepared = Prepared(logs, wide, self.memory)
            prepared.pure = not plain()
            return prepared
        stored = (t for s in self.stored.kept() for t in (s.raw, s.edges) if t is not None)
        now = [t.detach() for t in (*stored, *self.sources.parameters(), *self.sources.buffers())]
        found = self._kept.get((logs, wide))
        same = found is not None and len(found[0]) == len(now)
        if found is not None and same and all(_equal(a, b) for a, b in zip(found[0], now, strict=True)):
            return found[1]
        prepared = Prepared(logs, wide, self.memory, kept=True)
        with torch.inference_mode(False):
            self._kept[logs, wide] = ([t.clone() for t in now], prepared)
        return prepared

    def full_precision(self) -> AbstractContextManager[object]:
        """A context in which autocast, if a caller has switched it on, leaves the program's numbers as they are."""
        kind = self.like.device.type
        return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()

    @property
    def streams(self) -> bool:
        """Whether a source is asked for parameters again and again, in ranges, since all are too many."""
        return any(getattr(module, "streamed", False) for module in self.layers.modules())

    def trains(self) -> bool:
        """Whether a parameter requires a gradient."""
        return any(s.raw.requires_grad for s in self.stored.kept()) or any(
            p.requires_grad for p in self.sources.parameters()
        )

    def rows_together(self, keep: bool, spend: bool = False) -> int | None:
        """How many rows of data fit the bound on memory together; None where nothing is cut.

        `keep` says that a way back follows, and `spend`, that it drops what was kept.
        """
        if not self.chunked:
            return None
        element = torch.finfo(self.like.dtype).bits // 8
        numbers = self._spent if spend else self._kept_numbers + self._flows if keep else self._peak
        return max(1, self._free() // (element * numbers + OF_ROW * self._rows + 32 * self.columns))

    def keeps(self, rows: int, together: int) -> bool:
        """Whether what so many rows compute fits the bound on memory, beside the flows of those taken together."""
        element = torch.finfo(self.like.dtype).bits // 8
        kept = rows * (element * self._kept_numbers + OF_ROW * self._rows)
        return not self.chunked or kept + together * element * self._flows <= self._free()

    def _free(self) -> int:
        """What tables leave of the bound on memory, and half of it at least."""
        element = torch.finfo(self.like.dtype).bits // 8
        return max(self.memory // 2, self.memory - element * self._tables)

    @property
    def columns(self) -> int:
        """D, the number of columns of data."""
        return len(self._circuit.variables)

    def state(
        self, leaf: LeafFunction, prepared: Prepared, maximise: Sequence[Maximise] | None, keep: bool, rows: Any
    ) -> State:
        """An upward pass before its first layer."""
        dtype = torch.float64 if prepared.logs else self.like.dtype
        flags: list[Maximise] = [False] * len(self.layers) if maximise is None else list(maximise)
        like, shape = leaf.tensors()[0], (0 if prepared.pure else self._rows, leaf.rows)
        exponent = torch.empty(shape, dtype=torch.float64, device=like.device)
        slack = torch.empty((0 if prepared.logs else self._rows, 2, leaf.rows), dtype=dtype, device=like.device)
        leaf = leaf if like.dtype == dtype else leaf.to(dtype)
        numbers: list[Rows | None] = [None] * len(self.layers)
        return State(leaf, prepared, self.memory, self.chunked, exponent, slack, numbers, flags, keep, rows)

    def up(
        self,
        leaf: LeafFunction,
        prepared: Prepared,
        maximise: Sequence[Maximise] | None = None,
        keep: bool = False,
        rows: Any = slice(None),
    ) -> State:
        """The values of all layers; where no pass back or down follows, each is dropped when it was read for the last time."""
        state = self.state(leaf, prepared, maximise, keep, rows)
        with self.full_precision():
            for layer in self.ordered():
                layer.up(state)
                for done in (self._not_back if keep else self._done)[layer.index]:
                    state.numbers[done] = None
        return state

    def roots(self, state: State) -> Roots:
        """What was found at the roots, each with its own exponent."""
        numbers, exponent, slack = self.root.raw(state)
        if state.logs:
            none = torch.zeros(numbers.shape[0], dtype=torch.bool, device=numbers.device)
            return Roots(numbers, exponent, none)
        loose = ~(slack <= TOLERANCE[state.dtype]).all(1)
        return Roots(numbers, exponent, loose)

    def down(self, state: State, flow: Tensor, to: Flows, spend: bool = False, last: bool = False) -> None:
        """Hand flows from the roots, (B, C), to the layers and to what is to be told of them.

        With `spend` the numbers of the pass are dropped on the way: nothing else may be asked of it. After the `last` pass,
        what layers derived from their parameters is, too.
        """
        with torch.no_grad(), self.full_precision():
            flows: list[Flow | None] = [None] * len(self.layers)
            shaped = flow.to(state.dtype).view(flow.shape[0], self.root.count, -1).transpose(0, 1)
            self.root.scatter(shaped, flows)
            for layer in reversed(self.ordered()):
                current = flows[layer.index]
                flows[layer.index] = None
                if isinstance(current, Spans):
                    layer.down_spans(state, current, flows, to)
                elif current is not None:
                    layer.down(state, current, flows, to)
                if spend:
                    state.numbers[layer.index] = None
                if last:
                    state.prepared.forget(layer)

    def choose(
        self, state: State, root: Tensor, row_of: Tensor, assignment: Tensor, observed: Tensor, selector: Selector
    ) -> Tensor:
        """Settle the missing variables of samples (S, D): sample s starts at root[s], on row row_of[s] of the pass."""
        with torch.no_grad(), self.full_precision():
            visits: list[list[Visits]] = [[] for _ in self.layers]
            trace = Trace(row_of, assignment.clone(), observed, selector, visits)
            everyone = torch.arange(len(row_of), device=row_of.device)
            read, column = torch.div(root, self.root.width, rounding_mode="floor"), root % self.root.width
            self.root.route(everyone, read, column, visits)
            for layer in reversed(self.ordered()):
                if visits[layer.index]:
                    layer.choose(state, Visits.join(visits[layer.index]), trace)
                    visits[layer.index] = []
        return trace.assignment

    def rows_of(self, array: Units) -> list[tuple[int, int, int]]:
        """For each region of an array of sums, its layer, its row there and its first column.

        (-1, -1, 0) where the root does not need it.
        """
        number = next(n for n, own in enumerate(self._circuit.arrays) if own is array)
        return [(layer, row, column) for layer, row, column in self._found([number]).tolist()]

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What a query finds out about the structure of the circuit, which no parameter changes, made on its first call."""
        if name not in self._structural:
            self._structural[name] = make()
        return self._structural[name]  # type: ignore[no-any-return]

    @cached_property
    def sum_places(self) -> Index:
        """As `rows_of`, for the regions of all arrays of sums of the circuit, one after the other: (N, 3)."""
        sums = {id(array) for array in self._circuit.sums}
        return self._found([n for n, array in enumerate(self._circuit.arrays) if id(array) in sums])

    def _found(self, numbers: Sequence[int]) -> Index:
        """For each region of arrays with these numbers, its layer, its row there and its first column, (N, 3)."""
        lowered = np.concatenate([self._places[number].rows[:, 0] for number in numbers] or [np.empty(0, np.int64)])
        rows, columns = self._now[lowered], self._shift[lowered]
        layer = np.where(rows < 0, -1, self._locations.layer[rows])
        row = np.where(rows < 0, -1, self._locations.row[rows])
        return np.stack([layer, row, columns], 1)


def _bytes(memory: int | None) -> int:
    if memory is None:
        return DEFAULT_MEMORY
    return whole_number(memory, "memory, a number of bytes such as 512 * 2**20 for 512 MiB,", least=1)


def _names(circuit: Circuit) -> list[str]:
    """A readable name for each parameter of a circuit, in order: where it first occurs."""
    names: dict[int, str] = {}
    counts: dict[str, int] = {}
    for array in circuit.arrays:
        kind = type(array).__name__.lower()
        number = counts[kind] = counts.get(kind, -1) + 1
        parameters = getattr(array, "parameters", None)
        if isinstance(parameters, dict):
            found = list(parameters.items())
        else:
            found = [(name, getattr(array, name)) for name in ("weights", "value") if hasattr(array, name)]
        for name, parameter in found:
            names.setdefault(id(parameter), f"{kind}{number}.{name}")
    return [names[id(parameter)] for parameter in circuit.parameters()]


def _equal(one: Tensor, other: Tensor) -> bool:
    return (
        one.shape == other.shape and one.dtype == other.dtype and one.device == other.device and torch.equal(one, other)
    )
