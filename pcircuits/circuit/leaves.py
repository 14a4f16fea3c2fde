"""Constructors of input units, one for each family: `pcircuits.Normal(variables, loc, scale)` and so on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pcircuits import families
from pcircuits.circuit.units import Input
from pcircuits.errors import ParameterError
from pcircuits.families.interface import AbstractFamily
from pcircuits.parameters import Parameter, Sourced, as_numbers, as_parameter
from pcircuits.scope import as_variables

__all__ = [
    "Bernoulli",
    "Categorical",
    "DiscretizedLogistic",
    "DiscretizedNormal",
    "Indicator",
    "Normal",
    "inputs",
]


def inputs(family: AbstractFamily, variables: object, parameters: Mapping[str, object] | Sourced) -> Input:
    """Input units of any univariate family, with parameters as numbers, arrays, `Parameter`s, or from a source.

    **Arguments**

    - `variables`: one label, or R of them.
    - `parameters`: for each name a number (with its event), an (R, K, *event) array (sizes 1 broadcast), or, for one
      variable, (K, *event). A 1-D array over several variables could mean two things, and raises.

    **Raises** `ParameterError` for shapes that do not fit and values outside the family's constraints; `ScopeError` for
    labels that are not int or str.

    >>> inputs(families.Normal(), ["a", "b"], {"loc": [[0.0, 1.0, 2.0]], "scale": 1.0})
    Input(2, 3)
    """
    labels = as_variables(variables)
    scopes = tuple((label,) for label in labels)
    if isinstance(parameters, Sourced):
        return Input(family, scopes, parameters)
    values = {name: _shaped(name, value, len(labels), family) for name, value in parameters.items()}
    widths = [v.shape[1] for name, v in values.items() if len(v.shape) == 2 + family.parameters[name].event_ndim]
    width = max(widths, default=1)
    made = {name: _expanded(name, value, (len(labels), width), family) for name, value in values.items()}
    return Input(family, scopes, made)


def _numbers(name: str, value: object) -> Tensor | Parameter:
    return value if isinstance(value, Parameter) else as_numbers(value, name)


def _shaped(name: str, value: object, regions: int, family: AbstractFamily) -> Tensor | Parameter:
    """The value as a single event, or with both leading axes."""
    spec = family.parameters[name]
    tensor: Any = _numbers(f"{name} of {family}", value)
    lead = len(tensor.shape) - spec.event_ndim
    if lead < 0:
        raise ParameterError(f"{name} of {family} is a single number where a vector is needed")
    if isinstance(tensor, Parameter) or lead in (0, 2):
        return tensor  # type: ignore[no-any-return]
    if lead == 1 and regions == 1:
        return tensor.unsqueeze(0)  # type: ignore[no-any-return]
    raise ParameterError(
        f"{name} of {family} over {regions} variables has shape {tuple(tensor.shape)}, which could mean one value for "
        f"each variable or one for each unit: give it as ({regions}, K), with K = 1 or {regions} = 1 where it repeats"
    )


def _expanded(name: str, value: Tensor | Parameter, shape: tuple[int, int], family: AbstractFamily) -> Parameter:
    """Numbers become one parameter for each unit; a `Parameter` stays as it is, shared where it broadcasts."""
    spec = family.parameters[name]
    if isinstance(value, Parameter):
        return as_parameter(value, spec.constraint, name)
    label = f"{name} of {family} over {shape[0]} variable{'s' if shape[0] > 1 else ''}"
    event = value.shape[value.ndim - spec.event_ndim :]
    try:
        full = value.expand(*shape, *event)
    except RuntimeError as error:
        raise ParameterError(f"{label} has shape {tuple(value.shape)}; it needs {(*shape, *event)}") from error
    return Parameter(full, spec.constraint, trainable=spec.trainable, name=label)


def Bernoulli(variables: object, probs: object) -> Input:
    """Units over {0, 1}: P(x = 1) = probs.

    Near 1, P(x = 0) is known only to the rounding of `probs` (`unit_interval`); a `Categorical` keeps both in full.

    >>> Bernoulli("wet", 0.1).shape
    (1, 1)
    """
    return inputs(families.Bernoulli(), variables, {"probs": probs})


def Categorical(variables: object, probs: object) -> Input:
    """Units over 0..S-1: P(x = s) = probs[s]; `probs` is (S,) for one unit, (K, S) for K units, or (R, K, S).

    >>> Categorical("c", [[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]).shape
    (1, 2)
    """
    shape = _numbers("probs of Categorical", probs).shape
    if not shape:
        raise ParameterError("probs of Categorical is a single number where a vector of probabilities is needed")
    return inputs(families.Categorical(shape[-1]), variables, {"probs": probs})


def Indicator(variables: object, state: object) -> Input:
    """Units that are 1 where the variable is in the state, and 0 in every other.

    >>> Indicator("rain", 0).shape
    (1, 1)
    """
    return inputs(families.Indicator(), variables, {"state": state})


def Normal(variables: object, loc: object, scale: object) -> Input:
    """Normal densities with mean `loc` and standard deviation `scale` > 0.

    >>> import torch
    >>> Normal(range(784), torch.zeros(784, 16), torch.ones(784, 16)).shape
    (784, 16)
    """
    return inputs(families.Normal(), variables, {"loc": loc, "scale": scale})


def DiscretizedNormal(variables: object, loc: object, scale: object, levels: int, uniform: float = 0.0) -> Input:
    """Normal densities integrated over the bins [v, v+1)/levels of integers 0..levels-1; edge bins take the tails.

    `loc` and `scale` are in units in which the whole range is [0, 1]; `uniform` is the share of a uniform distribution.

    >>> import torch
    >>> DiscretizedNormal(range(64), torch.full((64, 8), 0.5), 0.1, levels=17).shape
    (64, 8)
    """
    return inputs(families.DiscretizedNormal(levels, uniform), variables, {"loc": loc, "scale": scale})


def DiscretizedLogistic(variables: object, loc: object, scale: object, levels: int, uniform: float = 0.0) -> Input:
    """Logistic densities integrated over the bins [v, v+1)/levels of integers 0..levels-1; edge bins take the tails.

    `loc` and `scale` are in units in which the whole range is [0, 1]; `uniform` is the share of a uniform distribution.

    >>> DiscretizedLogistic(0, 0.5, 0.1, levels=256).shape
    (1, 1)
    """
    return inputs(families.DiscretizedLogistic(levels, uniform), variables, {"loc": loc, "scale": scale})
