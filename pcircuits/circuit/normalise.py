"""Circuits to normalised circuits: every unit is divided by a number, and the weights of the sums make up for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float64
from torch import Tensor

from pcircuits.circuit.circuit import Circuit, fold
from pcircuits.circuit.division import Division
from pcircuits.circuit.mass import log_masses
from pcircuits.errors import PropertyError
from pcircuits.scope import Variable

__all__ = ["divide", "normalise", "require_mass_by_parts"]


def normalise(circuit: Circuit) -> Circuit:
    """The same distribution with every unit normalised: all weights of a sum add up to 1, and lie on the simplex.

    With m the mass of a unit, a sum's weights become w_i · m_i / m; constants and weights of zero disappear. Several
    roots are normalised each by itself. Weights that were already right stay the same `Parameter`, and what was shared
    or tied stays so where its new value agrees.

    **Raises** `PropertyError` unless the circuit is smooth and decomposable, and where a root integrates to zero.

    Zhao, Poupart and Gordon (2016), *A Unified Approach for Learning the Parameters of Sum-Product Networks*, §2.

    >>> import pcircuits as pc
    >>> circuit = normalise(pc.Circuit(3.0 * pc.Indicator("rain", 0) + 1.0 * pc.Indicator("rain", 1)))
    >>> circuit.root.weights.value.tolist()
    [0.75, 0.25]
    """
    require_mass_by_parts(circuit, "normalise")
    return divide(circuit, log_masses(circuit))


def divide(
    circuit: Circuit, log_values: Mapping[int, Float64[Tensor, "R K"]], removed: Iterable[Variable] = ()
) -> Circuit:
    """Every unit divided by its value, so that each is a normalised function of the variables that remain.

    A unit whose variables are all removed becomes the number 1, and disappears; so do regions that the root makes no use
    of. With masses as the values this
    normalises, or marginalises what is removed; with the values of the units given evidence on what is removed, and all
    else summed out, it conditions on that evidence.

    **Arguments**

    - `log_values`: for each array (by id), log values (R, K) in float64; -inf is zero.
    - `removed`: variables that the result does not have.

    **Raises** `PropertyError` where a root's value is zero, and `ScopeError` where an input unit over several variables
    would lose only some of them. The circuit must be smooth and decomposable.
    """
    for k, value in enumerate(log_values[id(circuit.root)][0].tolist()):
        if not -torch.inf < value < torch.inf:
            size = "zero" if value == -torch.inf else f"exp({value})"
            raise PropertyError(
                f"root {k} of {circuit!r} is {size} when its variables are summed out, and cannot be divided by that: "
                "leave that root out, or give it weights and evidence of positive probability"
            )
    made = _divided(circuit, log_values, frozenset(removed))
    # Inputs of weight zero are gone now, and with them what only they made use of.
    while not all(made.used(array).all() for array in made.arrays):
        made = _divided(made, log_masses(made), frozenset())
    return made


def _divided(circuit: Circuit, log_values: Mapping[int, Tensor], removed: frozenset[Variable]) -> Circuit:
    """One walk, which leaves out the regions that the root makes no use of."""
    kept = fold(circuit.arrays, Division(circuit, log_values, removed).rebuild)[id(circuit.root)]
    return Circuit(kept.regions([0]), [label for label in circuit.variables if label not in removed])


def require_mass_by_parts(circuit: Circuit, query: str) -> None:
    """Raise `PropertyError` unless masses can be computed bottom-up: the circuit is smooth and decomposable."""
    properties = circuit.check()
    properties.smooth.require(query, "Multiply the inputs of that sum by units over the variables they lack.")
    properties.decomposable.require(query, "Build products from factors that share no variable.")
