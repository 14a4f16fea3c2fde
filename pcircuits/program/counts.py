"""Expected counts: how often the rows of data use each parameter, Σ_b w_b E[uses | x_b], read off one reverse pass.

The count of a sum's weight is the flow through it. The statistics of a leaf unit are Σ_b w_b flow_b T(x_b), over the rows
in which something of it is observed. These are the numbers that expectation-maximisation needs, and they add up: over
slices of rows, over processes, and over the steps of a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from pcircuits.families.finite import AbstractFinite
from pcircuits.families.interface import AbstractExponentialFamily, AbstractFamily, Parameters
from pcircuits.program.layers.inputs import InputLayer
from pcircuits.program.layers.layer import Flows, Gradients, Layer, LeafUnits
from pcircuits.program.layers.leaf_parameters import LeafParameters
from pcircuits.program.layers.mixture import MixtureLayer
from pcircuits.program.layers.sums import Weights
from pcircuits.program.leaf_functions import Density
from pcircuits.program.numbers import LOG2E
from pcircuits.program.passes import passes
from pcircuits.program.program import Program
from pcircuits.program.state import Prepared, State
from pcircuits.program.stores import Derived, Store, View

__all__ = ["Counts", "Tally", "UnitGroups", "expected_counts", "prior_counts"]

AT_ONCE = 2**22
"""Numbers of expected statistics that are made together, where a family has no shorter way."""


@dataclass(frozen=True)
class UnitGroups:
    """Leaf units of one family, those that share all of their parameters together in one of G groups.

    `entries` are the places (G,) of each parameter among the numbers of `stores`, or (G, *event) of vectors; `centre` is
    where statistics are centred, (G,).
    """

    family: AbstractFamily
    stores: Mapping[str, tuple[Store, ...]]
    entries: Mapping[str, Tensor]
    centre: Tensor

    def __len__(self) -> int:
        return len(self.centre)

    @property
    def separate(self) -> bool:
        """Whether no two groups have a parameter in common, of those that can be trained."""
        own = [entries for name, entries in self.entries.items() if self.family.parameters[name].trainable]
        return all(len(torch.unique(entries)) == entries.numel() for entries in own)

    @property
    def trained(self) -> list[bool]:
        """For each parameter that can be trained, whether it is."""
        return [
            all(store.raw.requires_grad for store in stores)
            for name, stores in self.stores.items()
            if self.family.parameters[name].trainable
        ]

    def parameters(self, form: Any = Store.wide_values) -> dict[str, Tensor]:
        """The parameters of the groups now, (G, *event)."""
        return {
            name: torch.cat([form(store) for store in self.stores[name]])[entries]
            for name, entries in self.entries.items()
        }


class Counts:
    """Expected counts: for each store of weights or probabilities an array of its shape; for leaf units of other families,
    how often each group is used, and its statistics. They form a vector space."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = dict(tensors)

    def plus(self, other: Counts, share: float = 1.0) -> Counts:
        """These counts and a multiple of others, in place."""
        for name, tensor in self.tensors.items():
            tensor.add_(other.tensors[name], alpha=share)
        return self

    def times(self, factor: float) -> Counts:
        """A multiple of these counts, in place."""
        for tensor in self.tensors.values():
            tensor.mul_(factor)
        return self

    def copy(self) -> Counts:
        """The same counts, to be changed."""
        return Counts({name: tensor.clone() for name, tensor in self.tensors.items()})


class Tally:
    """Where the counts of a program's parameters are kept: in its stores' own order, and by groups of leaf units.

    `origin` (D,) is near the data of each column, so that variances do not cancel.
    """

    def __init__(self, program: Program, origin: Tensor | None = None) -> None:
        self.program = program
        kept = set(program.stored.kept())
        self.names: dict[Store, str] = {store: name for name, store in program.stored.stores.items() if store in kept}
        self.leaves = {id(own): (layer, own) for layer, own in _leaves(program)}
        self.groups: list[UnitGroups] = []
        self.place: dict[int, tuple[int, Tensor]] = {}
        by_family: dict[AbstractFamily, list[tuple[Layer, LeafParameters]]] = {}
        for layer, own in self.leaves.values():
            if own.trainable and getattr(own.family, "table_of", None) is None:
                by_family.setdefault(own.family, []).append((layer, own))
        for family, members in by_family.items():
            self._group(family, members, origin)

    def _group(
        self, family: AbstractFamily, members: list[tuple[Layer, LeafParameters]], origin: Tensor | None
    ) -> None:
        keys, stores = [], {}
        for name in family.parameters:
            homes = tuple(dict.fromkeys(s for _, own in members for s in own.view_of(name).stores))
            stores[name] = homes
            keys.append(torch.cat([_entries(own, name, homes).flatten(0, 1) for _, own in members]))
        wholes = torch.cat([key.view(len(key), -1) for key in keys], 1)
        distinct, group = torch.unique(wholes, dim=0, return_inverse=True)
        wide = torch.float64
        columns = torch.cat([_columns(layer)[:, 0].repeat_interleave(own.width) for layer, own in members])
        near = torch.zeros(len(columns), dtype=wide, device=columns.device)
        if origin is not None and isinstance(family, AbstractExponentialFamily):
            near = origin.to(near)[columns]
        centre = torch.zeros(len(distinct), dtype=wide, device=near.device).index_copy(0, group, near)
        if not torch.equal(centre[group], near):  # units of several columns share parameters: one centre for all
            centre = torch.full_like(centre, float(near.mean()))
        parts = distinct.split([key[0].numel() for key in keys], 1)
        entries = {
            name: part.view(-1, *key.shape[1:]) for name, part, key in zip(family.parameters, parts, keys, strict=True)
        }
        begin = 0
        for _, own in members:
            size = own.count * own.width
            self.place[id(own)] = len(self.groups), group[begin : begin + size].view(own.count, own.width)
            begin += size
        self.groups.append(UnitGroups(family, stores, entries, centre))

    def zeros(self) -> Counts:
        """No counts."""
        tensors = {}
        for store, name in self.names.items():
            if store.constraint.event_ndim:
                tensors[name] = torch.zeros_like(store.raw)
        for number, groups in enumerate(self.groups):
            tensors[f"{number} count"] = torch.zeros_like(groups.centre)
            for t, shape in enumerate(_statistic_shapes(groups.family)):
                tensors[f"{number} statistic {t}"] = groups.centre.new_zeros((len(groups), *shape))
        return Counts(tensors)

    def of_group(self, counts: Counts, number: int) -> tuple[list[Tensor], Tensor]:
        """The statistics and the count of a family's groups."""
        shapes = _statistic_shapes(self.groups[number].family)
        return [counts.tensors[f"{number} statistic {t}"] for t in range(len(shapes))], counts.tensors[
            f"{number} count"
        ]


def _leaves(program: Program) -> Iterator[tuple[Layer, LeafParameters]]:
    for layer in program.ordered():
        own = getattr(layer, "leaves", None) or getattr(getattr(layer, "product", None), "leaves", None)
        if isinstance(own, LeafParameters):
            yield layer, own


def _columns(layer: Layer) -> Tensor:
    """The columns of a layer's leaf rows, (R, size)."""
    own = layer if isinstance(layer, InputLayer) else getattr(layer, "product")  # noqa: B009
    columns: Tensor = own.columns
    return columns if columns.ndim == 2 else columns.unsqueeze(1)


def _entries(own: LeafParameters, name: str, homes: tuple[Store, ...]) -> Tensor:
    """Where each unit's parameter is among the numbers of stores, (R, K); (R, K, *event) for vectors of free numbers."""
    begin = dict(zip(homes, accumulate((len(store.raw) for store in homes), initial=0), strict=False))

    def numbers(store: Store) -> Tensor:
        own_numbers = torch.arange(len(store.raw), device=store.raw.device) + begin[store]
        return own_numbers.view(-1, *(1,) * (store.raw.ndim - 1)).expand_as(store.raw)

    view = own.view_of(name)
    found = view.of(Derived(), numbers)
    if view.constraint.event_ndim:
        found = found[..., 0]
    found = found if view.place is None else found.index_select(0, view.place)
    return found.expand(own.count, own.width, *found.shape[2:])


def _statistic_shapes(family: AbstractFamily) -> list[tuple[int, ...]]:
    """The shape of each of a family's statistics beyond that of its units."""
    if isinstance(family, AbstractFinite):
        return [(family.states,)]
    return [tuple(shape) for shape in family.statistic_shapes]


class _Reader(Flows):
    """Adds what a reverse pass over some rows of data says to counts."""

    def __init__(self, tally: Tally, prepared: Prepared, counts: Counts, missing: bool) -> None:
        self.tally, self.prepared, self.counts, self.missing = tally, prepared, counts, missing
        wanted = {layer.index: frozenset({"weights"}) for layer in tally.program.ordered()}
        if not missing:
            trained = [layer for layer, own in tally.leaves.values() if own.trainable]
            wanted |= {layer.index: frozenset({"weights", "table"}) for layer in trained}
        self.scaled, self.in_logs = Gradients(wanted, None), Gradients(wanted, None)
        self.of_logs: dict[int, Tensor] = {}

    def read(self, state: State, flow: Tensor) -> None:
        """Go back from the roots with flows (B, C)."""
        self.gradients = self.in_logs if state.logs else self.scaled
        self.tally.program.down(state, flow, self)

    def edges(self, state: State, layer: Layer, begin: int, flows: Any, rows: slice) -> None:
        """In passes over logarithms, where sums give no gradient of weights, the flows of their edges are the counts."""
        if not state.logs or isinstance(layer, MixtureLayer):
            return
        own = self.of_logs.setdefault(layer.index, torch.zeros(0))
        made = torch.stack([flows(row).sum(0) for row in range(layer.count)])
        self.of_logs[layer.index] = made if not own.numel() else own + made

    def leaves(
        self, state: State, own: LeafUnits, begin: int, columns: Tensor, parameters: Parameters, flow: Tensor
    ) -> None:
        assert isinstance(own, LeafParameters)
        if not own.trainable:
            return
        regions, arity, size = columns.shape
        x, observed = (t[:, columns].permute(1, 2, 0, 3) for t in state.leaf.tensors())  # (R, A, B, size)
        group = self.tally.place.get(id(own))
        if isinstance(own.family, AbstractFinite):
            count, statistics = self._states(own.family, x[..., 0], observed[..., 0], parameters, flow)
        else:
            assert group is not None
            centre = self.tally.groups[group[0]].centre
            each = centre[group[1].view(regions, arity, -1)[..., begin : begin + flow.shape[-1]]]
            if size == 1 and isinstance(own.family, AbstractExponentialFamily):
                count, statistics = self._sums(own.family, x[..., 0], observed[..., 0], parameters, flow, each)
            else:
                count, statistics = self._expected(own.family, x, observed, parameters, flow, each)
        rows = slice(begin, begin + flow.shape[-1])
        self._add_units(own, rows, count.flatten(0, 1), [s.flatten(0, 1) for s in statistics])

    def _states(
        self, family: AbstractFinite, x: Tensor, observed: Tensor, parameters: Parameters, flow: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """(R, A, n) and (R, A, n, S), by adding flows up by the state observed."""
        (regions, arity, _), width, states = x.shape, flow.shape[-1], family.states
        row = torch.where(observed & (x >= 0) & (x < states), x, float(states)).long()
        found = flow.new_zeros((arity, regions * (states + 1), width))
        own = torch.arange(regions, device=row.device).view(-1, 1) * (states + 1)
        for a in range(arity):
            found[a].index_add_(0, (row[:, a] + own).flatten(), flow.flatten(0, 1))
        by_state = found.view(arity, regions, states + 1, width)[:, :, :states].permute(1, 0, 3, 2).double()
        if self.missing:
            probs = family.log_table(parameters).double().exp().expand_as(by_state)
            unseen = torch.matmul((~observed).to(flow.dtype).permute(0, 1, 2), flow).double()  # (R, A, n)
            by_state = by_state + probs * unseen.unsqueeze(-1)
        return by_state.sum(-1), [by_state]

    def _sums(
        self,
        family: AbstractExponentialFamily,
        x: Tensor,
        observed: Tensor,
        parameters: Parameters,
        flow: Tensor,
        centre: Tensor,
    ) -> tuple[Tensor, list[Tensor]]:
        """(R, A, n) each, as matrix products of statistics (R, A, B) with flows (R, B, n)."""
        wide, one = flow.double(), centre[..., :1]
        if bool(observed.all()):
            statistics = family.sufficient_statistics(x.double(), one)
            count = wide.sum(1, keepdim=True).expand(-1, x.shape[1], -1)
            return count, [torch.matmul(t, wide) for t in statistics]
        at = torch.where(observed, x, family.inside(x)).double()
        statistics = [torch.where(observed, t, 0.0) for t in family.sufficient_statistics(at, one)]
        count = torch.matmul(observed.double(), wide)
        found = [torch.matmul(t, wide) for t in statistics]
        if self.missing:
            unseen = torch.matmul((~observed).double(), wide)
            values = {name: value.double() for name, value in parameters.items()}
            expected = family.mean_statistics(values, centre)
            found = [f + unseen * e for f, e in zip(found, expected, strict=True)]
            count = count + unseen
        return count, found

    def _expected(
        self,
        family: AbstractFamily,
        x: Tensor,
        observed: Tensor,
        parameters: Parameters,
        flow: Tensor,
        centre: Tensor,
    ) -> tuple[Tensor, list[Tensor]]:
        """For any family, from what each unit expects of each row, a few rows of data at a time."""
        regions, arity, batch, _ = x.shape
        spread = {name: value.double().unsqueeze(2) for name, value in parameters.items()}
        width = flow.shape[-1]
        shapes = _statistic_shapes(family)
        events = max((max(1, int(torch.Size(shape).numel())) for shape in shapes), default=1)
        step = max(1, AT_ONCE // (regions * arity * width * events))
        count = torch.zeros((regions, arity, width), dtype=torch.float64, device=flow.device)
        found = [count.new_zeros((*count.shape, *shape)) for shape in shapes]
        for begin in range(0, batch, step):
            some = slice(begin, begin + step)
            seen = observed[:, :, some]
            used = flow[:, some].double().unsqueeze(1) * (self.missing | seen.any(-1, keepdim=True))  # (R, A, b, n)
            values = family.expected_statistics(
                x[:, :, some].double().unsqueeze(3), seen.unsqueeze(3), spread, centre.unsqueeze(2)
            )
            count += used.sum(2)
            for total, value, shape in zip(found, values, shapes, strict=True):
                share = used.view(*used.shape, *(1,) * len(shape))
                total += torch.where(share > 0, share * value, 0.0).sum(2)
        return count, found

    def _add_units(self, own: LeafParameters, columns: slice, count: Tensor, statistics: list[Tensor]) -> None:
        """Add what leaf units say, each (leaf rows, n, ...), to their groups or their stores."""
        group = self.tally.place.get(id(own))
        if group is None:
            (name,) = own.views
            view = own.view_of(name)
            whole = statistics[0].new_zeros((own.count, own.width, statistics[0].shape[-1]))
            whole[:, columns] = statistics[0]
            self._add_stored(view, _of_stored(view, whole))
            return
        number, place = group
        at = place[:, columns].flatten()
        self.counts.tensors[f"{number} count"].index_add_(0, at, count.reshape(-1))
        for t, statistic in enumerate(statistics):
            total = self.counts.tensors[f"{number} statistic {t}"]
            total.index_add_(0, at, statistic.reshape(len(at), *total.shape[1:]))

    def _add_stored(self, view: View, counts: Tensor) -> None:
        """Add counts of a view's rows, (U, *block), to those of its stores."""
        if counts.shape[1] != view.block[0]:  # units that share one vector
            counts = counts.sum(1, keepdim=True)
        for store, part in view.back(counts):
            if store not in self.tally.names:
                continue  # a source makes these
            total = self.counts.tensors[self.tally.names[store]]
            total += part.to(total.dtype)

    def done(self) -> None:
        """Add what gradients say."""
        scaled, in_logs = self.scaled.all(), self.in_logs.all()
        for layer in self.tally.program.ordered():
            weights = getattr(layer, "weights", None)
            if isinstance(weights, Weights) and weights.simplex:
                self._add_weights(layer, weights, scaled.get((layer.index, "weights")), in_logs)
            for found in (scaled, in_logs):
                table = found.get((layer.index, "table"))
                if table is not None and isinstance(layer, InputLayer):
                    self._add_table(layer.leaves, table)

    def _add_weights(
        self, layer: Layer, weights: Weights, scaled: Tensor | None, in_logs: Mapping[tuple[int, str], Tensor]
    ) -> None:
        separate = isinstance(layer, MixtureLayer) and layer.separate
        if scaled is not None:
            stored = self.prepared.of(layer)["weights"]
            self._add_stored(weights.view, scaled * (LOG2E if separate else stored))
        of_logs = in_logs.get((layer.index, "weights"))
        if of_logs is not None:
            self._add_stored(weights.view, of_logs * LOG2E)
        if layer.index in self.of_logs:
            each, stored = self.of_logs[layer.index], self.prepared.of(layer)["weights"]
            each = each.sum(1, keepdim=True) if stored.shape[1] == 1 and each.shape[1] > 1 else each
            self._add_stored(weights.view, weights.of_stored(each, len(stored)))

    def _add_table(self, own: LeafParameters, table: Tensor) -> None:
        """Counts (U, K, S) of states, of stored rows; or of rows of leaf units, where they have several parameters."""
        if not own.trainable:
            return
        group = self.tally.place.get(id(own))
        if group is None:
            (name,) = own.views
            self._add_stored(own.view_of(name), table)
            return
        number, place = group
        if len(own.views) == 1 and own.place is not None:
            place = place.new_zeros(table.shape[:2]).index_copy(0, own.place, place)
        wide = table.double().reshape(-1, table.shape[-1])
        self.counts.tensors[f"{number} count"].index_add_(0, place.flatten(), wide.sum(-1))
        self.counts.tensors[f"{number} statistic 0"].index_add_(0, place.flatten(), wide)


def _of_stored(view: View, rows: Tensor) -> Tensor:
    """Sums of rows, (R, ...), by what is stored, (U, ...)."""
    if view.place is None:
        return rows
    stored = int(view.place.max()) + 1
    return rows.new_zeros((stored, *rows.shape[1:])).index_add_(0, view.place, rows)


def expected_counts(
    tally: Tally, x: Tensor, observed: Tensor, weights: Tensor | None = None, roots: Tensor | None = None
) -> tuple[Counts, Tensor]:
    """Expected counts over rows of data, and log p of each row in nats and float64.

    Rows that are impossible count nothing.

    **Arguments**

    - `x`, `observed`: (B, D).
    - `weights`: (B,), how much each row counts; 1 each where it is not given.
    - `roots`: (B,), the root that each row is a sample of; 0 where it is not given.
    """
    program = tally.program
    weights = x.new_ones(len(x)) if weights is None else weights.to(x)
    roots = torch.zeros(len(x), dtype=torch.int64, device=x.device) if roots is None else roots
    with torch.no_grad():
        counts = tally.zeros()
        reader = _Reader(tally, program.prepare(), counts, missing=False)
        logs = torch.empty(len(x), dtype=torch.float64, device=x.device)
        for state, found in passes(program, Density(x, observed)):
            chosen = roots[state.rows].unsqueeze(1)
            total = (found.logs + found.exponent).gather(1, chosen).squeeze(1)
            logs[state.rows] = total / LOG2E
            counted = torch.where((total > -torch.inf) & ~found.loose, weights[state.rows], 0.0)
            flow = torch.zeros_like(found.logs, dtype=x.dtype).scatter(1, chosen, counted.unsqueeze(1))
            reader.read(state, flow)
        reader.done()
    return counts, logs


def prior_counts(tally: Tally, roots: Tensor | None = None) -> Counts:
    """The counts that one row of data is expected to have under the model itself: top-down probabilities of units times
    their parameters.

    `roots` (C,) are the shares of the roots; the first has all where they are not given.
    """
    program = tally.program
    with torch.no_grad():
        counts = tally.zeros()
        reader = _Reader(tally, program.prepare(), counts, missing=True)
        x = program.like.new_zeros((1, program.columns))
        for state, found in passes(program, Density(x, x > 0)):
            flow = torch.zeros_like(found.logs, dtype=x.dtype)
            flow[0] = flow.new_tensor([1.0] + [0.0] * (flow.shape[1] - 1)) if roots is None else roots.to(flow)
            reader.read(state, torch.where(found.loose.unsqueeze(1), 0.0, flow))
        reader.done()
    return counts
