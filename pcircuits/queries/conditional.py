"""A model given evidence: what every query starts from. It holds the program, which root is meant, and what is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

import torch
from torch import Tensor

from pcircuits.circuit.circuit import Circuit
from pcircuits.errors import CircuitError, EvidenceError, ParameterError
from pcircuits.evidence import Evidence, Variables
from pcircuits.memory import naming_the_bound
from pcircuits.program.leaf_functions import Density, LeafFunction
from pcircuits.program.numbers import LOG2E
from pcircuits.program.passes import evaluate, passes
from pcircuits.program.program import Program, Roots
from pcircuits.program.state import Maximise, Prepared, State

__all__ = ["Conditional", "require_possible", "variables_of"]

Pass = tuple[State, Roots]


class Conditional:
    """A program from one of its roots, given evidence.

    `root_index` is one number () or (B,), or None where the circuit has one root, or all are asked; `evidence` is None
    where nothing is given. The upward pass on the evidence is kept for later queries where it is one piece.
    """

    def __init__(
        self,
        circuit: Circuit,
        program: Program,
        variables: Variables,
        root_index: Tensor | None = None,
        evidence: Evidence | None = None,
        kept: tuple[Prepared, list[Pass]] | None = None,
    ) -> None:
        self.circuit_asked, self.program, self.columns = circuit, program, variables
        self.root_index, self.evidence, self._kept = root_index, evidence, kept
        self.dtype, self.device = program.like.dtype, program.like.device

    def with_root(self, root_index: Tensor) -> tuple[object, ...]:
        """The arguments of the same conditional from another root."""
        return self.circuit_asked, self.program, self.columns, root_index, self.evidence, self._kept

    def with_evidence(self, given: object) -> tuple[object, ...]:
        """The arguments of the conditional given more; rows that are impossible raise."""
        known = self.read(given)
        if self.evidence is not None:
            known = self.evidence.join(known, self.columns)
        twin = Conditional(self.circuit_asked, self.program, self.columns, self.root_index, known)
        twin._evaluate()
        return twin.circuit_asked, twin.program, twin.columns, twin.root_index, known, twin._kept

    def read(self, given: object, copy: bool = True) -> Evidence:
        """Evidence in any of its forms."""
        found = Evidence.read(given, self.columns, self.dtype, self.device, copy)
        if found.x.requires_grad and all(states >= 0 for states in self.columns.states):
            raise EvidenceError(
                "the data require a gradient, and all variables are discrete: a probability has no gradient with respect to "
                "a state. Give x.detach()"
            )
        return found

    @property
    def batched(self) -> bool:
        """Whether answers keep their first axis."""
        return self.evidence is not None or (self.root_index is not None and self.root_index.ndim == 1)

    def known(self) -> Evidence:
        """What is given: one row of nothing where nothing is."""
        known = self.evidence or Evidence.nothing(1, self.columns, self.dtype, self.device)
        if self.root_index is not None and self.root_index.ndim == 1 and known.rows == 1:
            return known.expand(len(self.root_index))
        return known

    def roots(self, rows: int) -> Tensor:
        """The root of each row, (B,)."""
        if self.root_index is None:
            return torch.zeros(rows, dtype=torch.int64, device=self.device)
        if self.root_index.ndim == 1 and len(self.root_index) not in (1, rows):
            raise EvidenceError(f"{len(self.root_index)} roots were chosen for {rows} rows")
        return self.root_index.expand(rows)

    def one_root(self, query: str) -> None:
        """Raise `CircuitError` where the circuit has several roots and none was chosen."""
        if self.root_index is None and self.circuit_asked.num_roots > 1:
            raise CircuitError(
                f"{query} needs one root, and this circuit has {self.circuit_asked.num_roots}: ask model.root(i).{query}(...)"
            )

    def of_root(self, values: Tensor) -> Tensor:
        """Of values (B, C), those of the root that was chosen; all where there are several and none was."""
        if self.root_index is None:
            return values[:, 0] if self.circuit_asked.num_roots == 1 else values
        rows = len(self.root_index) if self.root_index.ndim == 1 and len(values) == 1 else len(values)
        return values.expand(rows, -1).gather(1, self.roots(rows).unsqueeze(1)).squeeze(1)

    def log_values(self, query: str, leaf: LeafFunction) -> tuple[Tensor, Tensor]:
        """Base-2 logs of the roots as number + exponent; memory that runs out is said under the name of the query."""
        if leaf.rows == 0:  # the shape of no rows is that of one
            numbers, exponent = evaluate(self.program, leaf.blank())
            return numbers[:0], exponent[:0]
        with naming_the_bound(query, self.program.memory):
            return evaluate(self.program, leaf)

    def log_known(self) -> tuple[Tensor, Tensor]:
        """log2 c(given) as number + exponent, (B,) or (B, C); rows of probability zero raise."""
        found = self._found()
        if found is not None and not torch.is_grad_enabled():
            numbers, exponent = self._joined(found)
        else:
            known = self.known()
            numbers, exponent = self.log_values("log_prob", Density(known.x, known.observed))
        numbers, exponent = self.of_root(numbers), self.of_root(exponent)
        total = numbers + exponent
        require_possible(total if total.ndim == 1 else total.amax(1))
        return numbers, exponent

    def to_natural(self, numbers: Tensor) -> Tensor:
        """Base-2 logarithms in float64 as natural ones in the model's dtype."""
        return (numbers / LOG2E).to(self.dtype)

    def passes(self) -> Iterator[tuple[State, Evidence, Tensor, Tensor]]:
        """Upward passes on what is given: the pass, its rows of evidence, their roots, and which rows (b,) are answered.

        Rows of probability zero raise. A row that is not answered comes again in a later pass.
        """
        known = self.known()
        roots = self.roots(known.rows)
        found = self._found()
        made = found if found is not None else passes(self.program, Density(known.x, known.observed))
        for state, values in made:
            rows = state.rows
            chosen = roots[rows]
            total = (values.logs + values.exponent).gather(1, chosen.unsqueeze(1)).squeeze(1)
            first = torch.arange(known.rows, device=self.device)[rows]
            require_possible(total, ~values.loose, first)
            _require_digits(state, first)
            yield state, Evidence(known.x[rows], known.observed[rows]), chosen, ~values.loose

    def each(self, query: str, answer: Callable[[State, Evidence, Tensor], Tensor]) -> Tensor:
        """The answers for all rows given, put together from passes."""
        self.one_root(query)
        known = self.known()
        if known.rows == 0:  # the shape of no rows is that of one row of which nothing is known
            root = torch.zeros((), dtype=torch.int64, device=self.device)
            bare = type(self)(self.circuit_asked, self.program, self.columns, root)
            return bare.each(query, answer).unsqueeze(0)[:0]
        total: Tensor | None = None
        with torch.no_grad(), naming_the_bound(query, self.program.memory):
            for state, some, roots, _ in self.passes():
                part = answer(state, some, roots)
                if total is None and len(part) == known.rows:
                    total = part.to(self.dtype)
                    continue
                if total is None:
                    total = part.new_empty((known.rows, *part.shape[1:]), dtype=self.dtype)
                total[state.rows] = part.to(self.dtype)
        assert total is not None
        return total if self.batched else total[0]

    def flow(self, roots: Tensor) -> Tensor:
        """The flow at the roots, (B, C): one at each row's own."""
        flow = torch.zeros((len(roots), self.circuit_asked.num_roots), dtype=self.dtype, device=self.device)
        return flow.scatter(1, roots.unsqueeze(1), 1.0)

    def _found(self) -> list[Pass] | None:
        """The pass on the evidence, if it was kept and no parameter has changed since."""
        if self._kept is None:
            return None
        with torch.no_grad():
            return self._kept[1] if self.program.prepare() is self._kept[0] else None

    def _evaluate(self) -> None:
        """Make the upward pass on the evidence; impossible evidence raises.

        It is kept where all rows are one piece, and no source is asked for parameters in ranges.
        """
        known = self.known()
        together = self.program.rows_together(keep=True)
        with torch.no_grad(), naming_the_bound("given", self.program.memory):
            leaf = Density(known.x, known.observed)
            if known.rows and (together is None or known.rows <= together) and not self.program.streams:
                prepared = self.program.prepare()
                made = list(passes(self.program, leaf))
                if prepared.kept:
                    self._kept = prepared, made
                numbers, exponent = self._joined(made)
            else:
                numbers, exponent = self.log_values("given", leaf)
        total = numbers + exponent
        if self.root_index is not None:
            total = total.expand(len(self.roots(len(total))), -1).gather(1, self.roots(len(total)).unsqueeze(1))
        require_possible(total.amax(1))

    @staticmethod
    def _joined(made: list[Pass]) -> tuple[Tensor, Tensor]:
        """The roots of passes of which the first is about all rows."""
        numbers, exponent = made[0][1].logs, made[0][1].exponent
        for state, again in made[1:]:
            numbers = numbers.index_copy(0, state.rows, again.logs)
            exponent = exponent.index_copy(0, state.rows, again.exponent)
        return numbers, exponent

    @cached_property
    def deterministic_sums(self) -> list[Maximise]:
        """For each layer, which of its units (R, O) are sums proved deterministic; True everywhere where all sums are."""
        flags = self.circuit_asked.check().determinism.regions
        layers = self.program.ordered()
        masks = [torch.ones((s.count, s.width), dtype=torch.bool, device=self.device) for s in layers]
        summed = set()
        for array in self.circuit_asked.sums:
            for region, (layer, row, column) in enumerate(self.program.rows_of(array)):
                if layer >= 0:
                    summed.add(layer)
                    masks[layer][row, column : column + array.width] = bool(flags[id(array)][region])
        if all(bool(masks[n].all()) for n in summed):
            return [True] * len(layers)
        return [mask if n in summed and bool(mask.any()) else False for n, mask in enumerate(masks)]


def require_possible(log_values: Tensor, good: Tensor | None = None, rows: Tensor | None = None) -> None:
    """Raise `EvidenceError` naming the rows whose evidence has probability zero, `ParameterError` where values are NaN.

    `good` says which values count, and `rows` what the rows are called.
    """
    dead = ~(log_values > -torch.inf)
    if good is not None:
        dead = dead & good
    if not bool(dead.any()):
        return
    if bool(log_values[dead].isnan().any()):
        raise ParameterError(
            "the model's values are NaN: a parameter has become NaN, or infinite, in training. Lower the learning rate, and "
            "start again from the last good checkpoint"
        )
    raise EvidenceError(
        f"the evidence in {_shown(dead, rows)} has probability zero: nothing follows from it. "
        "model.log_prob(evidence) says which rows are possible"
    )


def _require_digits(state: State, rows: Tensor) -> None:
    """Raise `EvidenceError` where a value lies so far out that no digits are left of what sets the model's units apart."""
    masks = state.saved.get("lost", [])
    if not masks:
        return
    gone = torch.stack([mask.any(0) for mask in masks]).any(0)
    if bool(gone.any()):
        raise EvidenceError(
            f"the evidence in {_shown(gone, rows)} lies so far out that even float64 keeps no digits of how the model's units "
            "differ there: mark such a value as missing (NaN) if it is a fill value, or scale the data"
        )


def _shown(mask: Tensor, rows: Tensor | None) -> str:
    found = (mask.nonzero().flatten() if rows is None else rows[mask]).tolist()
    shown = ", ".join(map(str, found[:10])) + (", ..." if len(found) > 10 else "")
    return f"row{'s' if len(found) > 1 else ''} {shown}"


def variables_of(circuit: Circuit) -> Variables:
    """The columns of a circuit's data."""
    return Variables(circuit.variables, circuit.states)
