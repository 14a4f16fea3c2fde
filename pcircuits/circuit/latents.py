"""Latent variables as variables: which input a sum uses becomes something that queries can ask about."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from pcircuits.circuit.algebra import concat
from pcircuits.circuit.circuit import Circuit, Unit, fold
from pcircuits.circuit.units import Input, Product, Sum, Units
from pcircuits.errors import CircuitError, ScopeError
from pcircuits.families.categorical import Categorical
from pcircuits.parameters import Parameter, simplex
from pcircuits.scope import Variable, as_label

__all__ = ["latents_of", "with_latents"]


def latents_of(circuit: Circuit, name: str = "z") -> dict[Variable, Unit]:
    """Labels for the latent variables of a circuit: one for each region of dense sums of more than one input.

    They are numbered from the root down, so that those of a hidden Markov model are in the order of its steps.

    **Arguments**

    - `name`: what labels begin with.

    >>> import pcircuits as pc
    >>> latents_of(pc.Circuit(pc.Bernoulli("a", [0.2, 0.8]).sum([0.5, 0.5])))
    {'z0': Unit(array=Sum(1, 1), region=0, column=0)}
    """
    found = [
        Unit(array, region, 0)
        for array in reversed(circuit.sums)
        if isinstance(array, Sum) and array.children[0].width > 1
        for region, used in enumerate(circuit.used(array).tolist())
        if used
    ]
    return {f"{name}{number}": unit for number, unit in enumerate(found)}


def with_latents(circuit: Circuit, latents: Mapping[Variable, Unit | Units] | None = None) -> Circuit:
    """The circuit p(x, z) over its variables and its latents; summed over the latents it is the circuit itself.

    The latent of a region of dense sums says which of its inputs is used: each input is multiplied by a unit that is 1 in
    one state of the latent, and 0 in all others. The latents are variables as any others are, the last columns of the
    data: `probabilities` is their posterior, `marginal_map` their most probable values, where what else is missing is
    summed out. Where all sums have one, the circuit is deterministic.

    **Arguments**

    - `latents`: label to the sums whose choice it names, as an array of one region or as a unit of the region that is
      meant; by default those of `latents_of(circuit)`.

    **Raises** `CircuitError` for what is no region of dense sums of this circuit, `ScopeError` for labels that it has
    already and for sums that are named twice, and `PropertyError` where the result is not smooth and decomposable.

    Peharz, Gens, Pernkopf and Domingos (2017), *On the Latent Variable Interpretation in Sum-Product Networks*, §3.

    Two coins are biased alike. Heads speaks for the bias of 0.8, as 0.8 to 0.2.

    >>> import pcircuits as pc
    >>> coins = pc.Bernoulli("a", [0.2, 0.8]) * pc.Bernoulli("b", [0.2, 0.8])
    >>> model = with_latents(pc.Circuit(coins.sum([0.5, 0.5]))).compile()
    >>> model.variables, model.given({"a": 1}).probabilities("z0")
    (('a', 'b', 'z0'), tensor([[[0.2000, 0.8000]]]))
    """
    named = _named(circuit, latents_of(circuit) if latents is None else latents)
    of_array: dict[int, dict[int, Variable]] = {}
    for label, unit in named.items():
        regions = of_array.setdefault(id(unit.array), {})
        if unit.region in regions:
            raise ScopeError(
                f"with_latents: {regions[unit.region]!r} and {label!r} name the same sums, region {unit.region} of "
                f"{unit.array!r}: leave one of them out"
            )
        regions[unit.region] = label
    states: dict[int, Parameter] = {}

    def rebuilt(array: Units, children: list[Units]) -> Units:
        if id(array) in of_array:
            children = [_attached(children[0], of_array[id(array)], states)]
        return array.rebuilt(children, lambda parameter: parameter, lambda sourced: sourced)

    root = fold(circuit.arrays, rebuilt)[id(circuit.root)]
    made = Circuit(root, [*circuit.variables, *named])
    remedy = "Sums below only some inputs of another sum have latents that the other inputs lack: leave these out."
    made.check().smooth.require("with_latents", remedy)
    made.check().decomposable.require("with_latents", remedy)
    return made


def _named(circuit: Circuit, given: Mapping[Variable, Unit | Units]) -> dict[Variable, Unit]:
    """The sums whose choices are named, each as a unit of its region."""
    own = {id(array) for array in circuit.sums if isinstance(array, Sum)}
    named = {}
    for key, value in given.items():
        label, unit = as_label(key), value if isinstance(value, Unit) else Unit(value, 0, 0)
        one = isinstance(value, Unit) or unit.array.regions == 1
        if id(unit.array) not in own or not one or not circuit.used(unit.array)[unit.region]:
            raise CircuitError(
                f"with_latents: {label!r} stands for {value!r}, which is not a region of dense sums that this circuit uses: "
                "give an array of circuit.sums that has one region, or circuit.unit(array, region)"
            )
        if label in circuit.column_of:
            raise ScopeError(
                f"with_latents: {circuit!r} has a variable {label!r} already: give the latent another label"
            )
        named[label] = unit
    return named


def _attached(child: Units, labels: Mapping[int, Variable], states: dict[int, Parameter]) -> Units:
    """The inputs of sums (R, K), those of some regions times units over the latents of these: column k in state k."""
    width = child.width
    if width not in states:
        eye = torch.eye(width, dtype=torch.float64).unsqueeze(0)
        states[width] = Parameter(eye, simplex, trainable=False, name="the states of latents")
    named = sorted(labels)
    units = Input(Categorical(width), [(labels[region],) for region in named], {"probs": states[width]})
    if len(named) == child.regions:
        return Product((child, units))
    rest = [region for region in range(child.regions) if region not in labels]
    both = concat([Product((child[named], units)), child[rest]], axis="regions")
    return both[np.argsort([*named, *rest])]
