"""What a circuit costs: units, edges, parameters, depth, and the largest intermediate of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from pcircuits.circuit.circuit import Circuit, fold
from pcircuits.circuit.units import Constant, Input, Mix, Outer, Product, Sum, Units, Wiring
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

    def count(*kinds: type[Units]) -> int:
        return sum(a.regions * a.width for a in circuit.arrays if isinstance(a, kinds))

    depths = fold(
        circuit.arrays, lambda a, below: max(below, default=0) + (bool(a.children) and not isinstance(a, Wiring))
    )
    largest = max((a for a in circuit.arrays if not isinstance(a, Wiring)), key=lambda a: a.regions * a.width)
    return Summary(
        variables=len(circuit.variables),
        inputs=count(Input, Constant),
        sums=count(Sum, Mix),
        products=count(Product, Outer),
        edges=sum(_edges(a) for a in circuit.arrays),
        parameters=sum(p.value.numel() for p in circuit.parameters()),
        sourced_parameters=sum(_sourced(a) for a in circuit.inputs),
        depth=depths[id(circuit.root)],
        largest=largest.regions * largest.width,
        largest_array=repr(largest),
    )


def _edges(array: Units) -> int:
    units = array.regions * array.width
    if isinstance(array, Sum):
        return units * array.children[0].width
    if isinstance(array, Product) and array.groups is not None:
        return sum(len(group) for group in array.groups) * array.width
    return 0 if isinstance(array, Wiring) else units * len(array.children)


def _sourced(array: Input) -> int:
    if not isinstance(array.parameters, Sourced):
        return 0
    return array.regions * array.width * len(array.family.parameters)
