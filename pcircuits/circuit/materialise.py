"""`materialise`: the same circuit with the numbers that sources make in place of the sources."""

from __future__ import annotations

from typing import cast

import torch

from pcircuits.circuit.circuit import Circuit, fold
from pcircuits.circuit.units import Input, Units
from pcircuits.computed import SourcedWeights, columns_of
from pcircuits.parameters import Parameter, Source, Sourced

__all__ = ["materialise"]


def materialise(circuit: Circuit) -> Circuit:
    """The same distribution by a circuit that needs no source: the numbers that sources make now are its parameters.

    Networks that made the parameters of a circuit in training are needed no more. The new parameters are trained each by
    itself. Other parameters, ties and sharing stay.

    **Raises** `ParameterError` where a source makes numbers outside of their constraints.

    >>> import pcircuits as pc
    >>> class Coins(torch.nn.Module):
    ...     def parameters_for(self, columns):
    ...         return {"probs": (columns[None] + 1.0) / 4}
    >>> coins = pc.Circuit(pc.inputs(pc.families.Bernoulli(), "a", pc.Sourced(Coins(), 1, 2)).sum([0.5, 0.5]))
    >>> materialise(coins).inputs[0].parameters["probs"].value
    tensor([[0.2500, 0.5000]])
    """

    def parameter(held: Parameter) -> Parameter:
        return held.materialised() if isinstance(held, SourcedWeights) else held

    def rebuilt(array: Units, children: list[Units]) -> Units:
        if isinstance(array, Input) and isinstance(array.parameters, Sourced):
            return Input(array.family, array.variables, _numbers(array, array.parameters))
        return array.rebuilt(children, parameter, lambda sourced: sourced)

    made = fold(circuit.arrays, rebuilt)
    return Circuit(made[id(circuit.root)], circuit.variables)


def _numbers(array: Input, sourced: Sourced) -> dict[str, Parameter]:
    with torch.no_grad():
        made = cast(Source, sourced.source).parameters_for(columns_of(sourced.source, sourced.width))
    specs = array.family.parameters
    return {name: Parameter(made[name], spec.constraint, spec.trainable, name) for name, spec in specs.items()}
