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
from pcircuits.program.layers.layer import Flows, Layer
from pcircuits.program.state import State
from pcircuits.queries.conditional import Conditional

__all__ = ["posterior"]


class _Edges(Flows):
    """Flows into the inputs of an array's sum units, (B, R, O, A); or of one region of it, and one output."""

    def __init__(self, rows: list[tuple[int, int, int]], outputs: slice, total: Tensor) -> None:
        self.rows, self.outputs, self.total = rows, outputs, total

    def edges(self, state: State, layer: Layer, begin: int, flows: Callable[[int], Tensor], rows: slice) -> None:
        for region, (own, row, column) in enumerate(self.rows):
            if own == layer.index:
                made = flows(row)[:, column + self.outputs.start : column + self.outputs.stop]
                self.total[rows, region, :, begin : begin + made.shape[-1]] = made


def posterior(given: Conditional, units: object) -> Tensor:
    """P(unit is used, and takes input a | given) for the sums of an array: (B, R, O, A), or (B, A) for one unit."""
    array = (
        units.array if isinstance(units, Unit) else as_units(units) if isinstance(units, Units | Combination) else None
    )
    if not isinstance(array, Sum | Mix) or not any(array is own for own in given.circuit_asked.sums):
        raise CircuitError(
            f"posterior is about the sum units of this circuit, such as those in circuit.sums, not {units!r}: "
            "it says which of a sum's inputs the evidence speaks for"
        )
    arity = array.children[0].width if isinstance(array, Sum) else len(array.children)
    rows, outputs = given.program.rows_of(array), slice(0, array.width)
    if isinstance(units, Unit):
        rows, outputs = [rows[units.region]], slice(units.column, units.column + 1)

    def answer(state: State, known: Evidence, roots: Tensor) -> Tensor:
        shape = (known.rows, len(rows), outputs.stop - outputs.start, arity)
        total = torch.zeros(shape, dtype=state.dtype, device=known.x.device)
        given.program.down(state, given.flow(roots), _Edges(rows, outputs, total))
        return total[:, 0, 0] if isinstance(units, Unit) or array.shape == (1, 1) else total

    with torch.no_grad():
        return given.each("posterior", answer)
