"""Determinism from disjoint supports: a box of possible states for every unit, compared pairwise below each sum."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcircuits.circuit.circuit import Circuit, fold
from pcircuits.circuit.units import Constant, Input, Mix, Outer, Product, Sum, Units, Wiring
from pcircuits.circuit.verdict import Verdict, Witness
from pcircuits.parameters import Sourced

__all__ = ["Determinism"]

Mask = NDArray[np.bool_]
BLOCK = 512
"""How many inputs of a sum are compared with all others at a time."""


@dataclass(frozen=True)
class Support:
    """What the K units of a region can be positive on: for each constrained column, a mask (K, S) of its states.

    A column that is not listed is unconstrained. `exact` (K,) says that the unit is positive on the whole box, so that
    boxes that overlap show two units positive together; else the box only contains the support.
    """

    masks: dict[int, Mask]
    exact: Mask

    @property
    def width(self) -> int:
        return len(self.exact)

    def take(self, units: NDArray[np.int64]) -> Support:
        """The support of some of the units."""
        return _tidy({column: mask[units] for column, mask in self.masks.items()}, self.exact[units])


class Determinism:
    """Which sums have inputs of pairwise disjoint support.

    `regions[id(array)]` is (R,): whether every sum unit of the region is deterministic. Sound, and not complete: a
    sum can be deterministic without disjoint boxes, and then the verdict is unknown.
    """

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit
        self._states = _states(circuit)
        self._doubt: Witness | None = None
        self._counterexample: Witness | None = None
        self.regions: dict[int, Mask] = {}
        self.verdict: Verdict
        fold(circuit.arrays, self._combine)
        if self._counterexample is not None:
            self.verdict = Verdict("deterministic", False, self._counterexample)
        elif self._doubt is not None:
            self.verdict = Verdict("deterministic", None, self._doubt)
        else:
            self.verdict = Verdict("deterministic", True)

    def _combine(self, array: Units, children: list[list[Support]]) -> list[Support]:
        if isinstance(array, Input):
            return self._input(array)
        if isinstance(array, Constant):
            positive = (array.value.log() > -torch.inf).cpu().expand(array.shape).numpy()
            return [Support({}, row) for row in positive]
        if isinstance(array, Wiring):
            return _wire(array, children)
        if isinstance(array, Product) and array.groups is not None:
            return [_product([children[0][r] for r in group]) for group in array.groups]
        if isinstance(array, Product):
            return [_product([_spread(_at(c, r), array.width) for c in children]) for r in range(array.regions)]
        if isinstance(array, Outer):
            return [_outer([c[r] for c in children]) for r in range(array.regions)]
        assert isinstance(array, Sum | Mix)
        return self._sums(array, children)

    def _input(self, array: Input) -> list[Support]:
        everywhere = Support({}, np.full(array.width, array.family.positive))
        if array.family.positive or _table_sizes(array) is None:
            return [everywhere] * array.regions
        assert not isinstance(array.parameters, Sourced)
        out, used = [], self._circuit.used(array)
        for region, (label,) in enumerate(array.variables):
            if not used[region]:
                out.append(everywhere)
                continue
            column = self._circuit.column_of[label]
            parameters = {
                name: p.value.to("cpu", torch.float64)[min(region, p.shape[0] - 1)].unsqueeze(1)
                if p.value.ndim > array.family.parameters[name].event_ndim
                else p.value.to("cpu", torch.float64)
                for name, p in array.parameters.items()
            }
            states = torch.arange(self._states[column], dtype=torch.float64).unsqueeze(-1)
            log = array.family.log_prob(states, torch.ones_like(states, dtype=torch.bool), parameters)
            mask = (log > -torch.inf).expand(array.width, -1).numpy()
            out.append(_tidy({column: mask}, np.ones(array.width, bool)))
        return out

    def _sums(self, array: Sum | Mix, children: list[list[Support]]) -> list[Support]:
        weights = (array.weights.log() > -torch.inf).cpu().numpy()
        flags, out = np.ones(array.regions, bool), []
        used = self._circuit.used(array)
        for region in range(array.regions):
            if not used[region]:
                out.append(Support({}, np.zeros(array.width, bool)))
                continue
            units = []
            for k in range(array.width):
                alive = np.flatnonzero(_row(weights, region, k))
                inputs = _inputs(array, children, region, k, alive)
                flags[region] &= self._disjoint(array, region, k, alive, inputs)
                units.append(_union(inputs))
            out.append(_side_by_side(units))
        self.regions[id(array)] = flags
        return out

    def _disjoint(self, array: Units, region: int, k: int, alive: NDArray[np.int64], inputs: Support) -> bool:
        certain, doubtful = _overlapping(inputs)
        where = f"{array!r}, region {region}, unit {k}"
        if certain:
            reason = "its inputs {} and {} are positive together".format(*alive[list(certain)])
            self._counterexample = self._counterexample or Witness(where, reason)
        elif doubtful:
            reason = "the supports of its inputs {} and {} may overlap".format(*alive[list(doubtful)])
            self._doubt = self._doubt or Witness(where, reason)
        return not (certain or doubtful)


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


def _table_sizes(array: Input) -> Tensor | None:
    """For each unit, broadcasting to (R, K), how many states there are to look at; None where there is no such number."""
    if array.family.base != "counting" or array.family.size != 1 or isinstance(array.parameters, Sourced):
        return None
    return array.family.support_sizes({name: p.value for name, p in array.parameters.items()})


def _states(circuit: Circuit) -> dict[int, int]:
    """For each column with a table, how many states; those that no leaf is positive on need no place."""
    states: dict[int, int] = {}
    for array in circuit.inputs:
        if (sizes := _table_sizes(array)) is None:
            continue
        largest = int(sizes.max())
        for label in circuit.used_variables(array):
            column = circuit.column_of[label]
            states[column] = max(states.get(column, 0), largest)
    return states


def _tidy(masks: dict[int, Mask], exact: Mask) -> Support:
    return Support({column: mask for column, mask in masks.items() if not mask.all()}, exact)


def _at(regions: list[Support], region: int) -> Support:
    return regions[region if len(regions) > 1 else 0]


def _spread(support: Support, width: int) -> Support:
    return support if support.width == width else support.take(np.zeros(width, np.int64))


def _row(weights: Mask, region: int, k: int) -> Mask:
    """The mask of positive weights of one sum unit: weights (K,), (O, K) or (R, O, K)."""
    while weights.ndim > 1:
        weights = weights[region if weights.ndim == 3 else k]
    return weights


def _inputs(array: Units, children: list[list[Support]], region: int, k: int, alive: NDArray[np.int64]) -> Support:
    """The inputs of one sum unit that have weight, as a region of their own."""
    if isinstance(array, Sum):
        return children[0][region].take(alive)
    chosen = [_at(children[a], region) for a in alive]
    return _side_by_side([s.take(np.array([k if s.width > 1 else 0])) for s in chosen])


def _side_by_side(supports: list[Support]) -> Support:
    """Regions joined along their width."""
    if not supports:
        return Support({}, np.ones(0, bool))
    exact = np.concatenate([s.exact for s in supports])
    masks: dict[int, Mask] = {}
    for column in {c for s in supports for c in s.masks}:
        size = next(s.masks[column].shape[1] for s in supports if column in s.masks)
        masks[column] = np.concatenate(
            [s.masks[column] if column in s.masks else np.ones((s.width, size), bool) for s in supports]
        )
    return Support(masks, exact)


def _union(inputs: Support) -> Support:
    """The box around the inputs of a sum; exact where they are, and differ in one column at most."""
    masks = {column: np.asarray(mask.any(0, keepdims=True)) for column, mask in inputs.masks.items()}
    differing = sum(bool((mask != mask[:1]).any()) for mask in inputs.masks.values())
    exact = bool(inputs.exact.all()) and differing <= 1 and inputs.width > 0
    return _tidy(masks, np.array([exact]))


def _product(factors: list[Support]) -> Support:
    masks: dict[int, Mask] = {}
    exact = np.ones(factors[0].width, bool)
    for factor in factors:
        exact = exact & factor.exact
        for column, mask in factor.masks.items():
            masks[column] = masks[column] & mask if column in masks else mask
    return _tidy(masks, exact)


def _outer(factors: list[Support]) -> Support:
    total = factors[0]
    for factor in factors[1:]:
        i, j = np.divmod(np.arange(total.width * factor.width), factor.width)
        total = _product([total.take(i), factor.take(j)])
    return total


def _wire(array: Wiring, children: list[list[Support]]) -> list[Support]:
    if array.column is None:
        return [children[c][r] for c, r in zip(array.child.tolist(), array.region.tolist(), strict=True)]
    rows = zip(array.child.tolist(), array.region.tolist(), array.column.tolist(), strict=True)
    return [_gather(children, c, r, k) for c, r, k in rows]


def _gather(children: list[list[Support]], child: list[int], region: list[int], column: list[int]) -> Support:
    """One region from the units it is wired to: runs from the same region are taken together."""
    places = list(zip(child, region, strict=True))
    starts = [i for i, place in enumerate(places) if i == 0 or place != places[i - 1]] + [len(places)]
    parts = []
    for begin, end in pairwise(starts):
        c, r = places[begin]
        parts.append(children[c][r].take(np.array(column[begin:end])))
    return _side_by_side(parts)
