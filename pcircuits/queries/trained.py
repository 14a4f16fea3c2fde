"""Back from a program to a circuit: the same graph with the values that its parameters have now."""

from __future__ import annotations

import copy

from torch import nn

from pcircuits.circuit.circuit import Circuit, fold
from pcircuits.circuit.units import Units
from pcircuits.parameters import Parameter, Sourced
from pcircuits.program.program import Program

__all__ = ["trained_circuit"]


def trained_circuit(circuit: Circuit, program: Program) -> Circuit:
    """The circuit with trained parameters; ties stay ties, and parameters that did not change stay the same objects."""
    now = program.stored.trained()
    sources: dict[int, nn.Module] = {}
    memo: dict[int, object] = {}  # what sources share stays shared

    def parameter(original: Parameter) -> Parameter:
        return now.get(id(original), original)

    def sourced(original: Sourced) -> Sourced:
        key = id(original.source)
        if key not in sources:
            sources[key] = copy.deepcopy(program.source_of(original.source), memo)
        return Sourced(sources[key], original.regions, original.width)

    def rebuilt(array: Units, children: list[Units]) -> Units:
        return array.rebuilt(children, parameter, sourced)

    made = fold(circuit.arrays, rebuilt)
    return Circuit(made[id(circuit.root)], circuit.variables)
