"""Constructors of input units, one for each family: `pcircuits.Normal(variables, loc, scale)` and so on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from inspect import Parameter as Argument
from inspect import Signature
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from pcircuits import families
from pcircuits.circuit.units import Input
from pcircuits.errors import ParameterError
from pcircuits.families.interface import AbstractFamily
from pcircuits.parameters import Parameter, Sourced, as_numbers, as_parameter
from pcircuits.scope import Variable, as_variables

__all__ = ["Constructor", "constructor", "inputs", *families.FAMILIES]

KIND = Argument.POSITIONAL_OR_KEYWORD


def inputs(family: AbstractFamily, variables: object, parameters: Mapping[str, object] | Sourced) -> Input:
    """Input units of any family, with parameters as numbers, arrays, `Parameter`s, or from a source.

    **Arguments**

    - `variables`: one label, or R of them; for a family over several variables a tuple of labels, or R such tuples.
    - `parameters`: for each name a number (with its event), an (R, K, *event) array (sizes 1 broadcast), or, for one
      variable, (K, *event). A 1-D array over several variables could mean two things, and raises.

    **Raises** `ParameterError` for shapes that do not fit and values outside the family's constraints; `ScopeError` for
    labels that are not int or str.

    >>> inputs(families.Normal(), ["a", "b"], {"loc": [[0.0, 1.0, 2.0]], "scale": 1.0})
    Input(2, 3)
    """
    scopes = _groups(variables) if family.size > 1 else tuple((label,) for label in as_variables(variables))
    if isinstance(parameters, Sourced):
        return Input(family, scopes, parameters)
    values = {name: _shaped(name, value, len(scopes), family) for name, value in parameters.items()}
    widths = [v.shape[1] for name, v in values.items() if len(v.shape) == 2 + family.parameters[name].event_ndim]
    width = max(widths, default=1)
    made = {name: _expanded(name, value, (len(scopes), width), family) for name, value in values.items()}
    return Input(family, scopes, made)


def _groups(variables: object) -> tuple[tuple[Variable, ...], ...]:
    """The labels of each region: one group of labels, or several."""
    if isinstance(variables, Sequence) and variables and all(isinstance(v, tuple | list) for v in variables):
        return tuple(as_variables(group) for group in variables)
    return (as_variables(variables),)


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


class Constructor(Protocol):
    """Makes input units of one family: `Normal(variables, loc, scale)`."""

    def __call__(self, variables: object, *parameters: object, **fields: Any) -> Input:
        """Units over the variables, of parameters in the family's order, and of its fields: see its docstring."""


def constructor(family: type[AbstractFamily]) -> Constructor:
    """The constructor of input units of a family: its arguments are variables, parameters, and the fields of the family.

    Fields that follow from the parameters (`AbstractFamily.inferred`) are left out. The parameters that a family declares
    must be the same for all of its members.

    >>> from inspect import signature
    >>> list(signature(constructor(families.DiscretizedNormal)).parameters)
    ['variables', 'loc', 'scale', 'levels', 'uniform']
    """
    names = tuple(family.__new__(family).parameters)
    fields = [f for f in dataclasses.fields(cast(Any, family)) if f.init and f.name not in family.inferred]
    asked = [Argument("variables", KIND, annotation="object"), *(Argument(n, KIND, annotation="object") for n in names)]
    asked += [Argument(f.name, KIND, default=_default(f), annotation=f.type) for f in fields]
    signature = Signature(asked, return_annotation="Input")

    def construct(*args: object, **options: object) -> Input:
        try:
            bound = signature.bind(*args, **options)
        except TypeError as error:
            wanted = ", ".join(signature.parameters)
            raise TypeError(f"{family.name}({wanted}): {error}") from None
        given = bound.arguments
        parameters = {name: given[name] for name in names}
        values = {f.name: given[f.name] for f in fields if f.name in given}
        if family.inferred:
            parameters = {name: _numbers(f"{name} of {family.name}", value) for name, value in parameters.items()}
            values |= family.fields_from({name: torch.Size(p.shape) for name, p in parameters.items()})
        return inputs(family(**values), given["variables"], parameters)

    construct.__name__ = construct.__qualname__ = family.name
    construct.__doc__ = family.description or family.__doc__
    construct.__signature__ = signature  # type: ignore[attr-defined]
    return construct


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return Argument.empty if field.default is dataclasses.MISSING else field.default


globals().update({name: constructor(family) for name, family in families.FAMILIES.items()})

# Every family of the library has its constructor here, by its name. These lines tell type checkers of them.
Bernoulli: Constructor
Beta: Constructor
Binomial: Constructor
Categorical: Constructor
DiscretizedLogistic: Constructor
DiscretizedNormal: Constructor
Exponential: Constructor
Gamma: Constructor
Geometric: Constructor
Histogram: Constructor
Indicator: Constructor
Laplace: Constructor
LogNormal: Constructor
MultivariateNormal: Constructor
NegativeBinomial: Constructor
Normal: Constructor
PiecewiseLinear: Constructor
Poisson: Constructor
StudentT: Constructor
Uniform: Constructor
VonMises: Constructor
