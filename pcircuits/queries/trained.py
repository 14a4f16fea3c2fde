"""Back from a program to a circuit: the same graph with the values that its parameters have now."""

from __future__ import annotations

import copy

from torch import nn

from pcircuits.circuit.circuit import Circuit, fold
from pcircuits.circuit.units import Constant, Input, Mix, Outer, Product, Sum, Units, Wiring
from pcircuits.parameters import Parameter, Sourced
from pcircuits.program.program import Program

__all__ = ["trained_circuit"]


def trained_circuit(circuit: Circuit, program: Program) -> Circuit:
    """The circuit with trained parameters; ties stay ties, and parameters that did not change stay the same objects."""
    now = program.stored.trained()
    sources: dict[int, nn.Module] = {}

    def parameter(original: Parameter) -> Parameter:
        return now.get(id(original), original)

    def rebuilt(array: Units, children: list[Units]) -> Units:
        if isinstance(array, Input):
            if isinstance(array.parameters, Sourced):
                held = array.parameters
                if id(held.source) not in sources:
                    sources[id(held.source)] = copy.deepcopy(program.source_of(held.source))
                return Input(array.family, array.variables, Sourced(sources[id(held.source)], held.regions, held.width))
            return Input(array.family, array.variables, {n: parameter(p) for n, p in array.parameters.items()})
        if isinstance(array, Constant):
            return Constant(parameter(array.value))
        if isinstance(array, Sum):
            return Sum(children[0], parameter(array.weights))
        if isinstance(array, Mix):
            return Mix(children, parameter(array.weights))
        if isinstance(array, Wiring):
            return Wiring(children, array.child, array.region, array.column)
        if isinstance(array, Outer):
            return Outer(children)
        assert isinstance(array, Product)
        return Product(children, array.groups)

    made = fold(circuit.arrays, rebuilt)
    return Circuit(made[id(circuit.root)], circuit.variables)
