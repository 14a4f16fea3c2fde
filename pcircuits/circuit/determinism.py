"""Determinism from disjoint supports: a box of possible states for every unit, compared pairwise below each sum."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.support import Mask, Support, everywhere, side_by_side, tidy, union
from pcircuits.circuit.units import AbstractSum, Index, Input, Units
from pcircuits.circuit.verdict import Verdict, Witness
from pcircuits.circuit.weights import log_weights
from pcircuits.memory import collector_paused
from pcircuits.parameters import Sourced
from pcircuits.scope import Variable

__all__ = ["Determinism"]

BLOCK = 512
"""How many inputs of a sum are compared with all others at a time."""
TABLE = 2**22
"""How many states of input units are looked at at a time."""


class Determinism:
    """Which sums have inputs of pairwise disjoint support.

    Sound, and not complete: a sum can be deterministic without disjoint boxes, and then the verdict is unknown.
    """

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit
        self._found: dict[int, list[Support]] = {}
        self._waiting = iter(circuit.arrays)
        self._doubt: Witness | None = None
        self._counterexample: Witness | None = None
        self._regions: dict[int, Mask] = {}
        self._deciding: dict[int, list[frozenset[int] | None]] = {}

    @cached_property
    def verdict(self) -> Verdict:
        """Whether all sums are deterministic; one that is not decides, and what is above it is not looked at."""
        self._look(lambda: self._counterexample is not None)
        if self._counterexample is not None:
            return Verdict("deterministic", False, self._counterexample)
        return Verdict("deterministic", None if self._doubt else True, self._doubt)

    @property
    def regions(self) -> dict[int, Mask]:
        """For each array of sums (by id) its regions all of whose units are deterministic."""
        self._look(lambda: False)
        return self._regions

    @property
    def deciding(self) -> dict[int, list[frozenset[int] | None]]:
        """For each array of sums (by id) and region, the columns each of which tells the inputs of its units apart.

        The value of such a column leaves one input positive at most. None stands for all columns, where units have a
        single input.
        """
        self._look(lambda: False)
        return self._deciding

    @collector_paused()
    def _look(self, enough: Callable[[], bool]) -> None:
        """Find the supports of the arrays that wait, children first, until it is enough."""
        while not enough() and (array := next(self._waiting, None)) is not None:
            self._found[id(array)] = array.supports([self._found[id(child)] for child in array.children], self)

    @cached_property
    def _tables(self) -> dict[tuple[int, int], Mask]:
        return _tables(self._circuit)

    def of_input(self, array: Input) -> list[Support]:
        """For each region of input units, what they are positive on."""
        if array.family.positive:
            return [everywhere(array.width)] * array.regions
        out = []
        for region, (label, *_) in enumerate(array.variables):
            mask = self._tables.get((id(array), region))
            if mask is None:
                out.append(Support({}, np.zeros(array.width, bool)))
            else:
                out.append(tidy({self._circuit.column_of[label]: mask}, np.ones(array.width, bool)))
        return out

    def of_sums(self, array: AbstractSum, children: list[list[Support]]) -> list[Support]:
        """For each region of sums, the box around their inputs; notes which regions are deterministic."""
        positive = (log_weights(array.weights) > -torch.inf).numpy()
        used = self._circuit.used(array).tolist()
        flags = [True] * array.regions
        deciding: list[frozenset[int] | None] = [None] * array.regions
        out = []
        for region in range(array.regions):
            if not used[region]:
                out.append(Support({}, np.zeros(array.width, bool)))
                continue
            units: list[Support] = []
            known: dict[bytes | int, Support] = {}
            for k in range(array.width):
                mask = array.weights_of(positive, region, k)
                # Outputs of one dense sum have the same inputs where the same weights are positive.
                key = mask.tobytes() if array.dense else k
                if key not in known:
                    alive = mask.nonzero()[0]
                    inputs = array.input_supports(children, region, k, alive)
                    flags[region] &= self._disjoint(array, region, k, alive, inputs)
                    deciding[region] = _common(deciding[region], inputs)
                    known[key] = union(inputs)
                units.append(known[key])
            out.append(side_by_side(units))
        self._regions[id(array)] = np.array(flags)
        self._deciding[id(array)] = deciding
        return out

    def _disjoint(self, array: Units, region: int, k: int, alive: Index, inputs: Support) -> bool:
        if inputs.width < 2:
            return True
        certain, doubtful = ((0, 1), None) if inputs.unbounded else _overlapping(inputs)
        if certain and self._counterexample is None:
            reason = "its inputs {} and {} are positive together".format(*alive[list(certain)])
            self._counterexample = Witness(f"{array!r}, region {region}, unit {k}", reason)
        elif doubtful and self._doubt is None:
            reason = "the supports of its inputs {} and {} may overlap".format(*alive[list(doubtful)])
            self._doubt = Witness(f"{array!r}, region {region}, unit {k}", reason)
        return not (certain or doubtful)


def _common(before: frozenset[int] | None, inputs: Support) -> frozenset[int] | None:
    """Of columns, those in which these inputs, too, have no state in common; None stands for all columns."""
    if inputs.width < 2:
        return before
    apart = frozenset(column for column, mask in inputs.masks.items() if mask.sum(0).max() <= 1)
    return apart if before is None else before & apart


def _overlapping(inputs: Support) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """A pair of units that are positive together; else a pair whose boxes overlap. Pairs are compared in blocks."""
    doubtful, size, exact = None, inputs.width, inputs.exact
    masks = [mask.astype(np.float32) for mask in inputs.masks.values()]
    for start in range(0, size, BLOCK):
        rows = slice(start, start + BLOCK)
        overlap = np.arange(size)[rows, None] < np.arange(size)[None]
        for mask in masks:
            if not overlap.any():
                break
            overlap &= (mask[rows] @ mask.T) > 0
        both = overlap & exact[rows, None] & exact[None]
        if both.any():
            i, j = divmod(int(both.argmax()), size)
            return (start + i, j), doubtful
        if doubtful is None and overlap.any():
            i, j = divmod(int(overlap.argmax()), size)
            doubtful = (start + i, j)
    return None, doubtful


def _tables(circuit: Circuit) -> dict[tuple[int, int], Mask]:
    """The states that input units are positive on, (K, S), by `id(array)` and region; where they can be looked at.

    Circuits built unit by unit have one array for each input: the regions of one family are looked at together.
    """
    states: dict[Variable, int] = {}
    places: list[tuple[Input, int]] = []
    for array in circuit.inputs:
        if (largest := _num_states(array)) is None:
            continue
        for region, used in enumerate(circuit.used(array).tolist()):
            if used:
                (label,) = array.variables[region]
                states[label] = max(states.get(label, 0), largest)  # states that no leaf is positive on need no place
                if not array.family.positive:
                    places.append((array, region))
    alike: dict[tuple[Hashable, int], list[tuple[Input, int]]] = {}
    for array, region in places:
        family = array.family if type(array.family).__hash__ is not None else id(array.family)
        alike.setdefault((family, states[array.variables[region][0]]), []).append((array, region))
    return {
        (id(array), region): mask
        for (_, size), group in alike.items()
        for (array, region), mask in zip(group, _positive(group, size), strict=True)
    }


def _num_states(array: Input) -> int | None:
    """How many states there are to look at; None where there is no such number, or no need."""
    if array.family.base != "counting" or array.family.size != 1 or isinstance(array.parameters, Sourced):
        return None
    if array.family.states is not None:
        return array.family.states
    sizes = array.family.support_sizes({name: p.value for name, p in array.parameters.items()})
    return None if sizes is None else int(sizes.max())


def _positive(places: Sequence[tuple[Input, int]], size: int) -> Iterator[Mask]:
    """For each region of inputs of one family, which of so many states its units are positive on, (K, S)."""
    family, widths = places[0][0].family, [array.width for array, _ in places]
    states = torch.arange(size, dtype=torch.float64).unsqueeze(-1)
    observed = torch.ones_like(states, dtype=torch.bool)
    columns = {
        name: torch.cat([_rows(array, name, region) for array, region in places]).to("cpu", torch.float64).unsqueeze(1)
        for name in family.parameters
    }
    masks = [
        family.log_prob(states, observed, {name: column[rows] for name, column in columns.items()}) > -torch.inf
        for rows in itertools.starmap(slice, _blocks(sum(widths), max(1, TABLE // size)))
    ]
    return iter(np.split(torch.cat(masks).numpy(), np.cumsum(widths)[:-1]))


def _rows(array: Input, name: str, region: int) -> Tensor:
    """A parameter of the units of one region, (K, *event)."""
    assert not isinstance(array.parameters, Sourced)
    value = array.parameters[name].value
    lead = value.ndim - array.family.parameters[name].event_ndim
    row = value[min(region, value.shape[0] - 1)] if lead else value.unsqueeze(0)
    return row if len(row) == array.width else row.expand(array.width, *row.shape[1:])


def _blocks(count: int, size: int) -> list[tuple[int, int]]:
    return [(begin, begin + size) for begin in range(0, count, size)]
