"""Hidden Markov models, as ordinary circuits."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pcircuits.circuit.circuit import Circuit, fold, topological
from pcircuits.circuit.units import Input, Product, Units
from pcircuits.errors import ParameterError
from pcircuits.families.fields import integer
from pcircuits.parameters import Parameter, Sourced, as_parameter, simplex
from pcircuits.scope import Variable
from pcircuits.structures.leaves import Leaves, check_leaves
from pcircuits.structures.weights import RandomSimplices

__all__ = ["hidden_markov"]


def hidden_markov(
    length: int,
    states: int,
    leaves: Leaves,
    homogeneous: bool = True,
    roots: int = 1,
    *,
    features: int = 1,
    initial: object = None,
    transitions: object = None,
    generator: torch.Generator,
) -> Circuit:
    """The hidden Markov model of T steps: p(x) = Σ_z p(z_1) Π_t p(z_t | z_t−1) p(x_t | z_t).

    From the last step to the first, the units of a step are those of its leaves times dense sums over the units of the
    next step; a root is a sum over the units of the first. The variable of step t is t, counted from 0; with F features
    those of step t are t · F, ..., t · F + F − 1, independent given the state, as `x.flatten(1)` has them for sequences
    x (B, T, F). Shorter sequences are rows whose last values are missing: what is missing at the end adds a factor of 1.

    A homogeneous model has one transition matrix and one set of leaves, which are the same `Parameter` at all steps:
    ties that training, files and EM keep. One that is not has its own at each step.

    **Arguments**

    - `length`: T.
    - `states`: S, the states of a latent.
    - `leaves`: makes the input units (F, S) of one step, or (T · F, S) of all, such as `categorical_leaves(256)`.
    - `homogeneous`: whether steps share their parameters.
    - `roots`: C, each with initial probabilities of its own.
    - `features`: F, the variables of a step.
    - `initial`: p(z_1), numbers (C, S) or a `Parameter`; drawn where it is not given.
    - `transitions`: p(z_t = j | z_t−1 = i) in row i and column j, numbers (S, S) or a `Parameter`; likewise, or
      (T − 1, S, S), where the model is not homogeneous. Zeros stay zeros in training.
    - `generator`: what leaves and weights are drawn from.

    **Raises** `ParameterError` for sizes below 1, and for `initial` and `transitions` of other shapes; `CircuitError` and
    `ScopeError` where `leaves` makes other units than those it is asked for.

    Rabiner (1989), *A Tutorial on Hidden Markov Models and Selected Applications in Speech Recognition*, equation 17.

    Two steps, two states that stay with probability 0.9, and letters that tell the state: p(0, 0) = 0.5 · 0.9.

    >>> import pcircuits as pc
    >>> def letters(variables, width, generator):
    ...     return pc.Categorical(variables, [[[1.0, 0.0], [0.0, 1.0]]])
    >>> stays = [[0.9, 0.1], [0.1, 0.9]]
    >>> start = torch.Generator().manual_seed(0)
    >>> circuit = hidden_markov(2, 2, letters, initial=[[0.5, 0.5]], transitions=stays, generator=start)
    >>> circuit.compile().log_prob(torch.tensor([[0.0, 0.0], [0.0, torch.nan]])).exp().detach()
    tensor([0.4500, 0.5000])
    """
    length, states = integer(length, "length", least=1), integer(states, "states", least=1)
    roots, features = integer(roots, "roots", least=1), integer(features, "features", least=1)
    weights = RandomSimplices(generator)
    first = _weights(initial, (roots, states), "initial", weights)
    if homogeneous:
        emissions = _shared_emissions(length, states, leaves, features, generator)
    else:
        emissions = _own_emissions(length, states, leaves, features, generator)
    between = _transitions(transitions, length, states, homogeneous, weights)
    units = emissions[length - 1]
    for t in range(length - 2, -1, -1):
        units = Product((emissions[t], units.sum(between[t])))
    return Circuit(units.sum(first), range(length * features))


def _weights(given: object, shape: tuple[int, ...], name: str, drawn: RandomSimplices) -> Parameter:
    """Weights on the simplex as they were given, or drawn."""
    if given is None:
        return drawn(*shape)
    made = as_parameter(given, simplex, name)
    if tuple(made.shape) != shape:
        raise ParameterError(f"{name} of a hidden Markov model has shape {tuple(made.shape)}; it needs {shape}")
    return made


def _transitions(
    given: object, length: int, states: int, homogeneous: bool, drawn: RandomSimplices
) -> Sequence[Parameter]:
    """For each step but the last, the weights (S, S) between it and the next."""
    shape = (states, states)
    if homogeneous:
        return [_weights(given, shape, "transitions", drawn)] * (length - 1)
    if given is None:
        return [_weights(None, shape, "transitions", drawn) for _ in range(length - 1)]
    made = as_parameter(given, simplex, "transitions")
    if tuple(made.shape) not in (shape, (length - 1, *shape)):
        raise ParameterError(
            f"transitions of a hidden Markov model have shape {tuple(made.shape)}; {length} steps need {shape} or "
            f"{(length - 1, *shape)}"
        )

    def of_step(t: int) -> Parameter:
        return made.selected(lambda value: value if value.ndim == 2 else value[t])

    return [of_step(t) for t in range(length - 1)]


def _own_emissions(
    length: int, states: int, leaves: Leaves, features: int, generator: torch.Generator
) -> Sequence[Units]:
    """For each step, units (1, S) with parameters of their own."""
    labels = list(range(length * features))
    units = leaves(labels, states, generator)
    check_leaves(units, labels, states)
    if features > 1:
        units = units.prod([range(t * features, (t + 1) * features) for t in range(length)])
    return [units[t] for t in range(length)]


def _shared_emissions(
    length: int, states: int, leaves: Leaves, features: int, generator: torch.Generator
) -> Sequence[Units]:
    """For each step, units (1, S) that hold the same parameters as those of any other."""
    labels = list(range(features))
    units = leaves(labels, states, generator)
    check_leaves(units, labels, states)
    if isinstance(units, Input) and features == 1 and not isinstance(units.parameters, Sourced):
        whole = Input(units.family, [(t,) for t in range(length)], units.parameters)  # (1, S, ...) serve all regions
        return [whole[t] for t in range(length)]
    return [_moved(units, t * features) for t in range(length)]


def _moved(units: Units, by: int) -> Units:
    """The product over the regions of the same units over variables with other numbers."""

    def rebuilt(array: Units, children: list[Units]) -> Units:
        if isinstance(array, Input):
            scopes: list[tuple[Variable, ...]] = [
                tuple(label + by for label in scope if isinstance(label, int)) for scope in array.variables
            ]
            return Input(array.family, scopes, array.parameters)
        return array.rebuilt(children, lambda parameter: parameter, lambda sourced: sourced)

    made = fold(topological(units), rebuilt)[id(units)]
    return made.prod() if made.regions > 1 else made
