"""What every query starts from: the program, which root, and what is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from pcircuits.circuit.circuit import Circuit
from pcircuits.errors import CircuitError, EvidenceError, ParameterError
from pcircuits.evidence import Evidence, Variables
from pcircuits.memory import naming_the_bound
from pcircuits.program.held import Held
from pcircuits.program.program import Program
from pcircuits.program.reports import Density, Report
from pcircuits.program.steps.step import Maximise, State

__all__ = ["Engine", "Question", "require_possible", "variables_of"]


class Engine:
    """A circuit with its program: what the queries compute with."""

    def __init__(self, circuit: Circuit, program: Program) -> None:
        self.circuit, self.program = circuit, program
        self.dtype, self.device = program.like.dtype, program.like.device
        self.variables = variables_of(circuit)

    @cached_property
    def deterministic_sums(self) -> list[Maximise]:
        """For each step, which of its units (R, O) are sums proved deterministic."""
        flags = self.circuit.check().determinism.regions
        steps = self.program.ordered()
        masks = [torch.ones((s.count, s.width), dtype=torch.bool, device=self.device) for s in steps]
        summed = set()
        for array in self.circuit.sums:
            for region, (step, row, column) in enumerate(self.program.rows_of(array)):
                if step >= 0:
                    summed.add(step)
                    masks[step][row, column : column + array.width] = bool(flags[id(array)][region])
        return [mask if n in summed and bool(mask.any()) else False for n, mask in enumerate(masks)]

    @property
    def current(self) -> bool:
        """Whether the program is still in this dtype and on this device."""
        return (self.dtype, self.device) == (self.program.like.dtype, self.program.like.device)

    def read(self, given: object) -> Evidence:
        """Evidence in any of its forms."""
        return Evidence.read(given, self.variables, self.dtype, self.device)

    def chunks(self, rows: int) -> Iterator[slice]:
        """Rows of data that fit the bound on memory, and the cache, together."""
        size, element = rows, torch.finfo(self.dtype).bits // 8
        for bound in (self._in_memory(element), self.program.rows_in_cache(element)):
            size = size if bound is None else min(size, bound)
        return _slices(rows, size)

    def log_values(self, query: str, report: Report, maximise: Sequence[Maximise] | None = None) -> Tensor:
        """The log values of all roots, (B, C), for a query that is named where memory runs out."""
        if report.rows == 0:  # the shape of no rows is that of one
            return self.log_values(query, report.blank(), maximise)[:0]
        held = self.program.held()
        element, columns = torch.finfo(self.dtype).bits // 8, len(self.variables.labels)
        size = self.program.rows_of_leaves(element, columns) or report.rows
        with naming_the_bound(query, self.program.memory):
            parts = [self.program.log_values(report.take(r), held, maximise) for r in _slices(report.rows, size)]
            return torch.cat(parts)

    def _in_memory(self, element_size: int) -> int | None:
        return self.program.rows_in_memory(element_size, len(self.variables.labels))


def _slices(rows: int, size: int) -> Iterator[slice]:
    return (slice(begin, min(begin + size, rows)) for begin in range(0, rows, max(1, size)))


@dataclass(frozen=True)
class Kept:
    """An upward pass on all rows of evidence, and the parameters that it was made with."""

    held: Held
    values: Tensor
    state: State


@dataclass(frozen=True)
class Question:
    """A query before it is asked: of which engine, from which root, given what.

    `root` is one number () or (B,), or None where the circuit has one; `batched` says whether answers keep their first axis.
    """

    engine: Engine
    root: Tensor | None
    evidence: Evidence | None
    kept: Kept | None = field(default=None, compare=False)

    def evaluated(self) -> Question:
        """The question with its upward pass made, to be used by what is asked next; impossible evidence raises.

        The pass is kept where all rows fit the bound on memory together, and nothing but stored parameters is behind it.
        """
        program = self.engine.program
        known = self.known()
        with torch.no_grad():
            if len(list(self.engine.chunks(known.rows))) == 1 and not len(program.sources):
                held = program.held()
                with naming_the_bound("given", program.memory):
                    values, state = program.up(Density(known.x, known.observed))
                made = replace(self, kept=Kept(held, values, state))
            else:
                made, values = self, self.engine.log_values("given", Density(known.x, known.observed))
        self.require_possible(values)
        return made

    def require_possible(self, values: Tensor) -> None:
        """Raise where the evidence of a row rules out the root that was chosen, or all roots where none was."""
        if self.root is not None:
            values = values.expand(len(self.roots(len(values))), -1)
            values = values.gather(1, self.roots(len(values)).unsqueeze(1))
        require_possible(values.amax(1))

    def known_pass(self, rows: int) -> Kept | None:
        """The pass on all of `rows` rows, if it was kept and no parameter has changed since."""
        kept = self.kept
        if kept is None or len(kept.values) != rows or torch.is_grad_enabled():
            return None
        return kept if kept.held is self.engine.program.held() else None

    @property
    def batched(self) -> bool:
        return self.evidence is not None or (self.root is not None and self.root.ndim == 1)

    def known(self) -> Evidence:
        """What is given: one row of nothing where nothing is."""
        e = self.engine
        known = self.evidence or Evidence.nothing(1, e.variables, e.dtype, e.device)
        if self.root is not None and self.root.ndim == 1 and known.rows == 1:
            return known.expand(len(self.root))
        return known

    def roots(self, rows: int) -> Tensor:
        """The root of each row, (B,)."""
        if self.root is None:
            return torch.zeros(rows, dtype=torch.int64, device=self.engine.device)
        if self.root.ndim == 1 and len(self.root) not in (1, rows):
            raise EvidenceError(f"{len(self.root)} roots were chosen for {rows} rows")
        return self.root.expand(rows)

    def one_root(self, query: str) -> None:
        """Raise `CircuitError` where the circuit has several roots and none was chosen."""
        if self.root is None and self.engine.circuit.num_roots > 1:
            raise CircuitError(
                f"{query} needs one root, and this circuit has {self.engine.circuit.num_roots}: ask model.root(i).{query}(...)"
            )

    def each(self, query: str, answer: Callable[[Evidence, Tensor], Tensor]) -> Tensor:
        """The answers for all rows given, in pieces that fit the bound on memory."""
        self.one_root(query)
        known = self.known()
        roots = self.roots(known.rows)
        with naming_the_bound(query, self.engine.program.memory):
            parts = [answer(Evidence(known.x[r], known.observed[r]), roots[r]) for r in self.engine.chunks(known.rows)]
        if not parts:  # the shape of no rows is that of one row of which nothing is known
            e = self.engine
            nothing = Evidence.nothing(1, e.variables, e.dtype, e.device)
            return answer(nothing, torch.zeros(1, dtype=torch.int64, device=e.device))[:0]
        total = torch.cat(parts) if len(parts) > 1 else parts[0]
        return total if self.batched else total[0]

    def up(self, known: Evidence, roots: Tensor) -> tuple[Tensor, State]:
        """log c(e) of each row's root, (B,), and the pass; rows of probability zero raise."""
        kept = self.known_pass(known.rows)
        values, state = (
            (kept.values, kept.state) if kept is not None else self.engine.program.up(Density(known.x, known.observed))
        )
        chosen = values.gather(1, roots.unsqueeze(1)).squeeze(1)
        require_possible(chosen)
        return chosen, state

    def flow(self, roots: Tensor) -> Tensor:
        """The flow at the roots, (B, C): one at each row's own."""
        flow = torch.zeros(
            (len(roots), self.engine.circuit.num_roots), dtype=self.engine.dtype, device=self.engine.device
        )
        return flow.scatter(1, roots.unsqueeze(1), 1.0)


def require_possible(log_values: Tensor) -> None:
    """Raise `EvidenceError` naming the rows whose evidence has probability zero, `ParameterError` where values are NaN."""
    if bool(log_values.isnan().any()):
        raise ParameterError(
            "the model's values are NaN: a parameter has become NaN, or infinite, in training. Lower the learning rate, and "
            "start again from the last good checkpoint"
        )
    impossible = (log_values == -torch.inf).nonzero().flatten().tolist()
    if impossible:
        shown = ", ".join(map(str, impossible[:10])) + (", ..." if len(impossible) > 10 else "")
        raise EvidenceError(
            f"the evidence in row{'s' if len(impossible) > 1 else ''} {shown} has probability zero: nothing follows from it. "
            "model.log_prob(evidence) says which rows are possible"
        )


def variables_of(circuit: Circuit) -> Variables:
    """The columns of a circuit's data."""
    return Variables(circuit.variables, circuit.states)
