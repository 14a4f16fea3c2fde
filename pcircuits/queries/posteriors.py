"""posterior: which inputs of a sum are used, given the evidence."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pcircuits.circuit.algebra import Combination, as_units
from pcircuits.circuit.circuit import Unit
from pcircuits.circuit.units import Mix, Sum, Units
from pcircuits.errors import CircuitError
from pcircuits.evidence import Evidence
from pcircuits.program.steps.step import Reader
from pcircuits.queries.question import Question

__all__ = ["posterior"]


class _Edges(Reader):
    """Flows into the inputs of an array's sum units, (B, R, O, A)."""

    def __init__(self, rows: list[tuple[int, int, int]], total: Tensor) -> None:
        self.rows, self.total = rows, total

    def edges(self, step: int, rows: slice, begin: int, flows: Callable[[], Tensor]) -> None:
        if all(step != own for own, _, _ in self.rows):
            return
        made = flows()
        end = begin + made.shape[-1]
        outputs = self.total.shape[2]
        for region, (own, row, column) in enumerate(self.rows):
            if own == step:
                self.total[rows, region, :, begin:end] = made[row][:, column : column + outputs]


def posterior(question: Question, units: object) -> Tensor:
    """P(unit is used, and takes input a | given) for the sums of an array: (B, R, O, A), or (B, A) for one unit."""
    array = (
        units.array if isinstance(units, Unit) else as_units(units) if isinstance(units, Units | Combination) else None
    )
    if not isinstance(array, Sum | Mix) or not any(array is own for own in question.engine.circuit.sums):
        raise CircuitError(
            f"posterior is about the sum units of this circuit, such as those in circuit.sums, not {units!r}: "
            "it says which of a sum's inputs the evidence speaks for"
        )
    arity = array.children[0].width if isinstance(array, Sum) else len(array.children)
    rows = question.engine.program.rows_of(array)

    def answer(known: Evidence, roots: Tensor) -> Tensor:
        _, state = question.up(known, roots)
        total = torch.zeros((known.rows, array.regions, array.width, arity), dtype=known.x.dtype, device=known.x.device)
        question.engine.program.down(state, question.flow(roots), _Edges(rows, total))
        if isinstance(units, Unit):
            return total[:, units.region, units.column]
        return total[:, 0, 0] if array.shape == (1, 1) else total

    with torch.no_grad():
        return question.each("posterior", answer)
