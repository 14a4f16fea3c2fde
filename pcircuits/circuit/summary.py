"""What a circuit costs: units, edges, parameters, depth, and the largest intermediate of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from pcircuits.circuit.circuit import Circuit, fold
from pcircuits.circuit.units import Input
from pcircuits.parameters import Sourced

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
        sourced_parameters=sum(_sourced(a) for a in circuit.inputs),
        depth=depths[id(circuit.root)],
        largest=largest.regions * largest.width,
        largest_array=repr(largest),
    )


def _sourced(array: Input) -> int:
    """How many numbers the source is asked for: it makes (R, K, *event) of each parameter, and says how large events are."""
    if not isinstance(array.parameters, Sourced):
        return 0
    return array.regions * array.width * sum(_event_size(array, spec) for spec in array.family.parameters.values())


def _event_size(array: Input, spec: ParameterSpec) -> int:
    return 1
