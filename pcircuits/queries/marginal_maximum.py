"""marginal_map: the most probable values of some variables, where all others that are missing are summed out."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from pcircuits.circuit.circuit import Circuit
from pcircuits.errors import EvidenceError, PropertyError
from pcircuits.memory import naming_the_bound
from pcircuits.program.leaf_functions import Density, PartialMode
from pcircuits.program.passes import evaluate
from pcircuits.program.state import Maximise
from pcircuits.queries.conditional import Conditional
from pcircuits.queries.maximum import Completion, Largest, rounding_of
from pcircuits.queries.probabilities import columns_of
from pcircuits.scope import Variable

__all__ = ["marginal_maximum"]

Asked = Variable | Iterable[Variable] | Tensor


def marginal_maximum(given: Conditional, variables: Asked, exact: bool) -> Completion:
    """arg max_q p(q | given) for the wanted variables q, by a pass of maxima and sums.

    A sum whose scope has no wanted variable is summed. One that a wanted or an observed variable decides has a single
    positive input for each of its values, so that the maximum over q of the sum is the largest of the maxima. Any other
    sum adds the maxima of its inputs, which is an upper bound; then the completion found is one candidate. Both its
    value and the bound come from passes in float64.

    **Raises** `PropertyError` with `exact` where a row of data has sums of the last kind; `EvidenceError` for masks.
    """
    given.one_root("marginal_map")
    known = given.known()
    wanted = _wanted(given, variables, known.rows) & ~known.observed
    if not known.rows:
        empty = known.x.new_zeros(0)
        return Completion(known.x, empty, empty, empty > 0)
    _whole_units(given, wanted, known.observed)
    with torch.no_grad(), naming_the_bound("marginal_map", given.program.memory):
        sums = _Sums.of(given)
        largest, loose = sums.maximised(wanted, known.observed)
        if exact and bool(loose.any()):
            raise PropertyError(sums.complaint(given, loose))
        total = torch.stack(given.log_known())
        flags = sums.flags(given, largest)
        best, bound = _candidates(given, PartialMode(known.x, known.observed, wanted), flags)
        proved = ~loose.any(0)
        met, value = proved, bound
        if not bool(proved.all()):
            at = given.roots(known.rows).unsqueeze(1)
            found = evaluate(given.program, Density(best, known.observed | wanted))
            value = torch.stack([part.gather(1, at).squeeze(1) for part in found])
            gap = (bound[0] - value[0]) + (bound[1] - value[1])
            met = proved | (gap <= rounding_of(given, value.sum(0)))
            value = torch.where(proved, bound, value)
        value = given.to_natural((value - total).sum(0))
        bound = torch.maximum(given.to_natural((bound - total).sum(0)), value)  # rounding may put it just below
    best = torch.where(known.observed | wanted, best, torch.nan)
    if given.batched:
        return Completion(best, value, bound, met)
    return Completion(best[0], value[0], bound[0], met[0])


def _wanted(given: Conditional, variables: Asked, rows: int) -> Tensor:
    """The mask (B, D) of the variables asked about."""
    columns = len(given.columns.labels)
    if isinstance(variables, Tensor) and variables.dtype == torch.bool:
        if variables.shape not in ((columns,), (1, columns), (rows, columns)):
            raise EvidenceError(
                f"marginal_map: the mask of what is wanted has shape {tuple(variables.shape)}; it needs ({columns},) or "
                f"({rows}, {columns})"
            )
        return variables.to(given.device).expand(rows, columns)
    mask = torch.zeros(columns, dtype=torch.bool, device=given.device)
    mask[columns_of(given, variables, "marginal_map")] = True
    return mask.expand(rows, columns)


def _whole_units(given: Conditional, wanted: Tensor, observed: Tensor) -> None:
    """Raise where input units over several variables would maximise over some that are missing, and sum out others."""
    circuit = given.circuit_asked
    for array in circuit.inputs:
        if array.family.size > 1:
            for labels, used in zip(array.variables, circuit.used(array).tolist(), strict=True):
                columns = [circuit.column_of[label] for label in labels if used]
                left = ~observed[:, columns]
                some = (wanted[:, columns] & left).any(1) & (left & ~wanted[:, columns]).any(1)
                if bool(some.any()):
                    raise EvidenceError(
                        f"marginal_map: row {int(some.nonzero()[0])} asks for some of the variables {labels}, which units of "
                        f"{array.family} hold together, and would sum out the others: ask for all of them, or give the others"
                    )


class _Sums:
    """The N regions of sums of a circuit, and which columns decide them: entry e says that `column[e]` decides `sum[e]`."""

    def __init__(self, circuit: Circuit) -> None:
        deciding = circuit.check().determinism.deciding
        self.circuit = circuit
        self.arrays = [(array, region) for array in circuit.sums for region in range(array.regions)]
        columns = [deciding[id(array)][region] for array, region in self.arrays]
        idle = np.concatenate([~circuit.used(array) for array in circuit.sums] or [np.empty(0, bool)])
        self.always = torch.as_tensor(idle) | torch.tensor([found is None for found in columns], dtype=torch.bool)
        pairs = [(n, column) for n, found in enumerate(columns) for column in found or ()]
        self.sum, self.column = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).unbind(1)
        self._inside: dict[int, Tensor] = {}

    @staticmethod
    def of(given: Conditional) -> _Sums:
        """Those of the circuit that is asked; the program keeps them."""
        return given.program.once("sums", lambda: _Sums(given.circuit_asked))

    def maximised(self, wanted: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Of each sum and row of data, (N, B), whether it takes a maximum, and whether it is a bound only."""
        fixed = (wanted | observed).t()
        rows, device = fixed.shape[1], fixed.device
        if bool((fixed == fixed[:, :1]).all()) and bool((wanted == wanted[:1]).all()):
            fixed, wanted = fixed[:, :1], wanted[:1]
        hits = torch.zeros((len(self.arrays), fixed.shape[1]), dtype=torch.int32, device=device)
        hits.index_add_(0, self.sum.to(device), fixed[self.column.to(device)].int())
        decided = (hits > 0) | self.always.to(device).unsqueeze(1)
        loose = torch.zeros_like(decided)
        for n in (~decided).any(1).nonzero().flatten().tolist():
            loose[n] = ~decided[n] & wanted[:, self._columns(n).to(device)].any(1)
        return decided.expand(-1, rows), loose.expand(-1, rows)

    def _columns(self, n: int) -> Tensor:
        """The columns of the scope of a sum."""
        if n not in self._inside:
            array, region = self.arrays[n]
            labels = self.circuit.scope_labels(self.circuit.numbered_scopes(array)[region])
            self._inside[n] = torch.tensor([self.circuit.column_of[label] for label in labels])
        return self._inside[n]

    def flags(self, given: Conditional, largest: Tensor) -> list[Maximise]:
        """For each layer, which of its units take maxima."""
        places = given.program.sum_places
        if largest.shape[1] > 1 and bool((largest == largest[:, :1]).all()):
            largest = largest[:, :1]
        flags: list[Maximise] = []
        for layer in given.program.ordered():
            here = np.flatnonzero(places[:, 0] == layer.index)
            own = largest[torch.as_tensor(here, device=largest.device)]
            if not len(here) or bool(own.all()) or not bool(own.any()):
                flags.append(len(here) > 0 and bool(own.all()))
                continue
            mask = torch.ones((layer.count, own.shape[1], layer.width), dtype=torch.bool, device=largest.device)
            if all(self.arrays[n][0].width == layer.width for n in here.tolist()):
                mask[torch.as_tensor(places[here, 1], device=mask.device)] = own.unsqueeze(-1)
                flags.append(mask[:, 0] if own.shape[1] == 1 else mask)
                continue
            for (_, row, column), n, flag in zip(places[here].tolist(), here.tolist(), own, strict=True):
                mask[row, :, column : column + self.arrays[n][0].width] = flag.unsqueeze(1)
            flags.append(mask[:, 0] if own.shape[1] == 1 else mask)
        return flags

    def complaint(self, given: Conditional, loose: Tensor) -> str:
        """Why the answer is not known to be exact, for the first row of data for which it is not."""
        row = int(loose.any(0).nonzero()[0])
        array, region = self.arrays[int(loose[:, row].nonzero()[0])]
        return (
            f"marginal_map needs sums that wanted or given variables decide, and in row {row} none decides {array!r}, region "
            f"{region}: its inputs can be positive together. Ask for the variable that tells them apart, too "
            "(pcircuits.with_latents adds one for each choice), or ask marginal_map(..., exact=False) for a candidate with an "
            "upper bound"
        )


def _candidates(given: Conditional, leaf: PartialMode, flags: list[Maximise]) -> tuple[Tensor, Tensor]:
    """The completions (B, D) that the maxima choose, and base-2 logs of the maxima, number and exponent, (2, B)."""
    program, roots = given.program, given.roots(leaf.rows)
    prepared = program.prepare(logs=True)
    size = max(
        1, (program.rows_together(keep=True) or 2 * leaf.rows) // (1 if program.like.dtype == torch.float64 else 2)
    )
    parts, values = [], []
    for begin in range(0, leaf.rows, size):
        rows = slice(begin, min(begin + size, leaf.rows))
        part = leaf if size >= leaf.rows else leaf.take(rows)
        own = [m[:, rows] if isinstance(m, Tensor) and m.ndim == 3 else m for m in flags]
        state = program.up(part, prepared, own, keep=True, rows=rows)
        found = program.roots(state)
        at = roots[rows].unsqueeze(1)
        values.append(torch.stack([found.logs.gather(1, at).squeeze(1), found.exponent.gather(1, at).squeeze(1)]))
        row_of = torch.arange(part.rows, device=part.x.device)
        settled = part.observed | ~part.wanted
        parts.append(program.choose(state, roots[rows], row_of, part.x, settled, Largest()))
    return torch.cat(parts), torch.cat(values, 1)
