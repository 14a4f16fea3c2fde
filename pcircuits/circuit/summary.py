"""What a circuit costs: units, edges, parameters, depth, and the largest intermediate of an evaluation."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from pcircuits.circuit.circuit import Circuit, fold
from pcircuits.circuit.units import AbstractSum, Input, Units
from pcircuits.parameters import Source, Sourced

__all__ = ["Summary", "summarise"]


@dataclass(frozen=True)
class Summary:
    """Counts of a circuit; `largest` is numbers for each row of data, in an evaluation that fuses nothing."""

    variables: int
    inputs: int
    sums: int
    products: int
    edges: int
    parameters: int
    sourced_parameters: int
    depth: int
    largest: int
    largest_array: str

    @property
    def units(self) -> int:
        """All units that compute something."""
        return self.inputs + self.sums + self.products

    def __str__(self) -> str:
        made = f" + {self.sourced_parameters:,} made by a source" if self.sourced_parameters else ""
        return (
            f"{self.variables:,} variables, {self.units:,} units ({self.inputs:,} inputs, {self.sums:,} sums, "
            f"{self.products:,} products), {self.edges:,} edges, {self.parameters:,} parameters{made}, depth {self.depth}; "
            f"largest intermediate {self.largest:,} numbers a row ({self.largest_array})"
        )


def summarise(circuit: Circuit) -> Summary:
    """The summary of a circuit, from its arrays alone."""

    def count(*kinds: str) -> int:
        return sum(a.regions * a.width for a in circuit.arrays if a.kind in kinds)

    depths = fold(circuit.arrays, lambda a, below: max(below, default=0) + (bool(a.children) and a.kind != "wiring"))
    largest = max((a for a in circuit.arrays if a.kind != "wiring"), key=lambda a: a.regions * a.width)
    return Summary(
        variables=len(circuit.variables),
        inputs=count("input", "constant"),
        sums=count("sum"),
        products=count("product"),
        edges=sum(a.num_edges() for a in circuit.arrays),
        parameters=sum(p.value.numel() for p in circuit.parameters()),
        sourced_parameters=sum(_sourced(a) for a in circuit.arrays if a.held_sourced()),
        depth=depths[id(circuit.root)],
        largest=largest.regions * largest.width,
        largest_array=repr(largest),
    )


def _sourced(array: Units) -> int:
    """How many numbers a source makes for an array: for each unit its parameters, with all numbers of their events."""
    if isinstance(array, AbstractSum):
        return array.weights.shape.numel()
    assert isinstance(array, Input)
    assert isinstance(array.parameters, Sourced)
    specs = array.family.parameters
    if all(spec.event_ndim == 0 for spec in specs.values()):
        return array.regions * array.width * len(specs)
    return array.width * sum(made.numel() for made in _of_one_column(array.parameters.source).values())


def _of_one_column(source: nn.Module) -> dict[str, Tensor]:
    """The parameters of the first column, which say how large events are."""
    like = next(itertools.chain(source.parameters(), source.buffers()), torch.empty(0))
    with torch.no_grad():
        return cast(Source, source).parameters_for(torch.zeros(1, dtype=torch.int64, device=like.device))
