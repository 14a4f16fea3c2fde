"""From a table of numbers to a trained circuit in the user's units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from pcircuits.circuit.algebra import concat
from pcircuits.circuit.circuit import Circuit, fold
from pcircuits.circuit.leaves import inputs
from pcircuits.circuit.units import Units
from pcircuits.families import Categorical, NegativeBinomial, Normal
from pcircuits.learning.em import em
from pcircuits.learning.history import History
from pcircuits.learning.settings import EMSettings
from pcircuits.parameters import Parameter
from pcircuits.scope import Variable
from pcircuits.sklearn.columns import Column, Numbers
from pcircuits.structures.chow_liu import chow_liu_tree
from pcircuits.structures.clusters import cluster_states, neighbourhoods
from pcircuits.structures.hidden_tree import hidden_tree
from pcircuits.structures.leaves import Leaves
from pcircuits.structures.tree_starts import counted_start

__all__ = ["STRUCTURES", "Learning", "labels_of", "learned_circuit"]

BINS = 5
"""Bins of equally many rows, in which continuous columns and counts are compared with others."""
WIDEST = 16
ROWS_A_STATE = 10
"""A latent has a state for each ten rows, up to `WIDEST` of them."""
WHOLE, BATCH = 10_000, 2_000
"""Up to so many rows are taken together in every step of training; of more, so many."""
LEAST_VALIDATED = 50
"""Tables with fewer rows are not split: all their rows train."""


@dataclass(frozen=True)
class Learning:
    """How circuits are learnt; see `CircuitDensity`."""

    structure: str
    width: int | None
    epochs: int
    batch_size: int | None
    pseudocount: float
    minimum_scale: float
    validation_fraction: float
    patience: int


def labels_of(columns: Sequence[Column]) -> list[Variable]:
    """The variables of the circuit: the names of the columns."""
    return [column.name for column in columns]


def learned_circuit(
    columns: Sequence[Column], table: Numbers, learning: Learning, generator: torch.Generator
) -> tuple[Circuit, History]:
    """A circuit over the columns, in the user's units, trained by expectation-maximisation on a table (B, D)."""
    data = torch.as_tensor(np.stack([(table[:, i] - c.shift) / c.scale for i, c in enumerate(columns)], 1))
    width = learning.width or max(1, min(WIDEST, len(data) // ROWS_A_STATE))
    circuit = STRUCTURES[learning.structure](columns, data, width, learning.pseudocount, generator)
    model = circuit.compile(dtype=torch.float64)
    train, validation = _split(data, learning.validation_fraction, generator)
    settings = EMSettings(
        epochs=learning.epochs,
        batch_size=learning.batch_size or (None if len(train) <= WHOLE else BATCH),
        pseudocount=learning.pseudocount,
        minimum_scale=learning.minimum_scale,
        patience=None if validation is None else learning.patience,
    )
    history = em(model, train, validation, settings=settings)
    places = {column.name: (column.shift, column.scale) for column in columns}
    return _in_users_units(model.to_circuit(), places), history


def _split(data: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
    count = int(len(data) * share)
    if len(data) < LEAST_VALIDATED or not count:
        return data, None
    order = torch.randperm(len(data), generator=generator)
    return data[order[count:]], data[order[:count]]


def _tree(
    columns: Sequence[Column], data: Tensor, width: int, pseudocount: float, generator: torch.Generator
) -> Circuit:
    """A hidden tree over the Chow-Liu tree of the columns, started from clusters of the columns near each node."""
    labels = labels_of(columns)
    tree = chow_liu_tree(_coarse(columns, data), variables=labels)
    latents = cluster_states(_comparable(columns, data), neighbourhoods(tree), width, generator=generator)
    start = counted_start(data, latents, pseudocount=max(pseudocount, 0.01), rows=1.0)
    return hidden_tree(tree, _leaves(columns), width, start=start, generator=generator)


def _mixture(
    columns: Sequence[Column], data: Tensor, width: int, pseudocount: float, generator: torch.Generator
) -> Circuit:
    """A mixture of products, started from clusters of rows: a hidden tree whose one node holds all columns."""
    labels = labels_of(columns)
    tree = nx.Graph(variables=tuple(labels))
    tree.add_node("row", scope=labels)
    everything = [dict.fromkeys(range(len(labels)), 1.0)]
    latents = cluster_states(_comparable(columns, data), everything, width, generator=generator)
    start = counted_start(data, latents, pseudocount=max(pseudocount, 0.01), rows=1.0)
    return hidden_tree(tree, _leaves(columns), width, start=start, generator=generator)


STRUCTURES: Mapping[str, Callable[[Sequence[Column], Tensor, int, float, torch.Generator], Circuit]] = {
    "hidden_tree": _tree,
    "mixture": _mixture,
}


def _leaves(columns: Sequence[Column]) -> Leaves:
    """Input units of the family of each column."""
    family = {
        column.name: Normal()
        if column.kind == "continuous"
        else NegativeBinomial()
        if column.kind == "counts"
        else Categorical(column.count)
        for column in columns
    }

    def make(variables: Sequence[Variable], width: int, generator: torch.Generator) -> Units:
        arrays, order = [], []
        for member in dict.fromkeys(family[label] for label in variables):
            places = [place for place, label in enumerate(variables) if family[label] == member]
            parameters = member.initial((len(places), width), generator)
            arrays.append(inputs(member, [variables[place] for place in places], parameters))
            order += places
        if len(arrays) == 1:
            return arrays[0]
        return concat(arrays, axis="regions")[[order.index(place) for place in range(len(order))]]

    return make


def _coarse(columns: Sequence[Column], data: Tensor) -> Tensor:
    """Columns as few states, between which mutual information is counted."""
    made = data.clone()
    for number, column in enumerate(columns):
        if column.kind in ("continuous", "counts"):
            known = ~data[:, number].isnan()
            values = data[known, number].contiguous()
            levels = torch.linspace(0, 1, BINS + 1, dtype=data.dtype)[1:-1]
            made[known, number] = torch.bucketize(
                values, torch.unique(torch.quantile(values[:100_000], levels))
            ).double()
    return made


def _comparable(columns: Sequence[Column], data: Tensor) -> Tensor:
    """Columns of one spread, in which no value is so far out that it is a cluster of its own."""
    made = data.clone()
    for number, column in enumerate(columns):
        known = ~data[:, number].isnan()
        values = data[known, number]
        spread = values.std(correction=0) if column.kind != "continuous" else torch.ones(())
        made[:, number] = ((made[:, number] - values.mean()) / spread) if spread > 0 else 0 * made[:, number]
        if column.kind == "continuous":
            made[:, number] = data[:, number].clamp(-5.0, 5.0)
    return made


def _in_users_units(circuit: Circuit, places: Mapping[Variable, tuple[float, float]]) -> Circuit:
    """The same circuit over x = shift + scale z: locations and scales of Normal units move."""
    moved: dict[int, Parameter] = {}
    for array in circuit.inputs:
        if not isinstance(array.family, Normal) or not isinstance(array.parameters, dict):
            continue
        shift, scale = (
            torch.tensor([[places[labels[0]][i]] for labels in array.variables], dtype=torch.float64) for i in (0, 1)
        )
        loc, spread = array.parameters["loc"], array.parameters["scale"]
        moved[id(loc)] = Parameter(loc.value.double() * scale + shift, loc.constraint, name=loc.name)
        moved[id(spread)] = Parameter(spread.value.double() * scale, spread.constraint, name=spread.name)
    made = fold(
        circuit.arrays,
        lambda array, children: array.rebuilt(children, lambda p: moved.get(id(p), p), lambda source: source),
    )
    return Circuit(made[id(circuit.root)], circuit.variables)
