"""Other units in the place of a circuit's input units; everything above them stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pcircuits.circuit.circuit import Circuit, fold
from pcircuits.circuit.units import Input, Units
from pcircuits.errors import CircuitError
from pcircuits.scope import Variable

__all__ = ["substitute"]


def substitute(
    circuit: Circuit, replacement: Callable[[Input], Units], variables: Sequence[Variable] | None = None
) -> Circuit:
    """The circuit with other units in the place of each array of input units: c(…, f(u), …) for c(…, u, …).

    A latent variable becomes what it stands for in this way: the units over its states become distributions of what is
    observed. Weights above the inputs are shared with the circuit that is given, not copied.

    **Arguments**

    - `circuit`: any circuit.
    - `replacement`: for an array of input units (R, K), units of the same shape; region r may have any scope.
    - `variables`: the order of the new circuit's variables; as of `Circuit` where it is None.

    **Raises** `CircuitError` where a replacement has another shape.

    >>> import pcircuits as pc
    >>> hidden = pc.Circuit(pc.Categorical("z", [[0.25, 0.75]]))
    >>> over_x = pc.Normal("x", [[0.0, 4.0]], 1.0).sum([0.25, 0.75])
    >>> substitute(hidden, lambda array: over_x).variables
    ('x',)
    """

    def combine(array: Units, children: list[Units]) -> Units:
        if not isinstance(array, Input):
            return array.rebuilt(children, lambda parameter: parameter, lambda sourced: sourced)
        made = replacement(array)
        if made.shape != array.shape:
            raise CircuitError(f"{made!r} was given in the place of {array!r}: it needs the same regions and width")
        return made

    made = fold(circuit.arrays, combine)
    return Circuit(made[id(circuit.root)], variables)
