"""Expected counts of a circuit's own parameters: how often rows of data use them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pcircuits.evidence import EvidenceLike
from pcircuits.memory import naming_the_bound
from pcircuits.program.counts import Counts, Tally, expected_counts
from pcircuits.program.stores import Store
from pcircuits.queries.conditional import Conditional, require_possible

__all__ = ["ParameterCounts", "counts_of"]


@dataclass(frozen=True)
class ParameterCounts:
    """How often rows of data use the units that a parameter belongs to, and what they showed there.

    `count` is of the parameter's shape, without the axis of a vector. `statistics` are, for weights and vectors of
    probabilities, one array of the parameter's shape, the count of each entry; else Σ flow · T(x) for each statistic T of the
    family.
    """

    count: Tensor
    statistics: tuple[Tensor, ...]


def counts_of(given: Conditional, x: EvidenceLike, weights: Tensor | None) -> dict[str, ParameterCounts]:
    """The counts of all parameters that can be trained, by name."""
    given.one_root("expected_counts")
    program = given.program
    known = given.read(x)
    if given.evidence is not None:
        known = given.evidence.join(known, given.columns)
    tally = Tally(program)
    with naming_the_bound("expected_counts", program.memory):
        counts, logs = expected_counts(tally, known.x, known.observed, weights, given.roots(known.rows))
    require_possible(logs)
    found = {}
    by_store = {store: counts.tensors[name] for store, name in tally.names.items() if name in counts.tensors}
    for name, array in program.stored.arranged(by_store).items():
        found[name] = ParameterCounts(array.sum(-1), (array,))
    for number in range(len(tally.groups)):
        found |= _of_family(tally, counts, number)
    return dict(sorted(found.items()))


def _of_family(tally: Tally, counts: Counts, number: int) -> dict[str, ParameterCounts]:
    """What units of a family showed, added up for each entry of each of their parameters."""
    groups = tally.groups[number]
    statistics, count = tally.of_group(counts, number)
    found: dict[str, ParameterCounts] = {}
    for parameter, entries in groups.entries.items():
        stores = groups.stores[parameter]
        parts = [_by_store(stores, entries, array) for array in (count, *statistics)]
        arranged = [tally.program.stored.arranged(part) for part in parts]
        for name in arranged[0]:
            found[name] = ParameterCounts(arranged[0][name], tuple(a[name] for a in arranged[1:]))
    return found


def _by_store(stores: tuple[Store, ...], entries: Tensor, array: Tensor) -> dict[Store, Tensor]:
    """An array (G, ...) of groups, added up for the numbers (n,) of each store."""
    sizes = [len(store.raw) for store in stores]
    total = array.new_zeros((sum(sizes), *array.shape[1:])).index_add_(0, entries, array)
    return dict(zip(stores, torch.split(total, sizes), strict=True))
