"""The symbolic units of a circuit: immutable arrays of regions × width, joined by a small algebra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray

from pcircuits.errors import CircuitError, ParameterError, ScopeError
from pcircuits.families.interface import AbstractFamily
from pcircuits.parameters import Parameter, Sourced, as_parameter, nonnegative, simplex
from pcircuits.scope import Variable, as_label

if TYPE_CHECKING:
    from pcircuits.circuit.algebra import Combination

__all__ = ["Constant", "Input", "Mix", "Outer", "Product", "Sum", "Units", "Wiring", "as_weights"]

Index = NDArray[np.int64]
_NOT_ITERABLE = "{!r} is not iterable: select its regions one by one with u[r], its units with u[r, k]"


class Units:
    """An array of units, `regions × width`, each computing one non-negative function of its scope.

    Units are combined by algebra: `u * v`, `0.3 * u + 0.7 * v`, `u.prod()`, `u.sum(weights)`, `u.outer(v)`, `u[r, k]`.
    Nothing is evaluated until a `Circuit` is made of them and compiled.

    >>> from pcircuits import Normal
    >>> u, v = Normal("x", [0.0, 1.0, 2.0], 1.0), Normal("y", [0.0, 1.0, 2.0], 1.0)
    >>> u * v, (u * v).sum([0.2, 0.3, 0.5]), u.outer(v), u[0, :2]
    (Product(1, 3), Sum(1, 1), Outer(1, 9), Wiring(1, 2))
    """

    __slots__ = ("children", "shape")

    __array_ufunc__ = None  # numpy numbers and arrays on the left leave the product to `__rmul__`
    shape: tuple[int, int]
    children: tuple[Units, ...]

    def __init__(self, shape: tuple[int, int], children: tuple[Units, ...]) -> None:
        if 0 in shape:
            raise CircuitError(f"{type(self).__name__}{shape} holds no units: it needs a region and a column at least")
        self.shape = shape
        self.children = children

    @property
    def regions(self) -> int:
        """R, the number of regions."""
        return self.shape[0]

    @property
    def width(self) -> int:
        """K, the number of units in a region."""
        return self.shape[1]

    def __repr__(self) -> str:
        return f"{type(self).__name__}{self.shape}"

    def __mul__(self, other: object) -> Units | Combination:
        from pcircuits.circuit.algebra import multiply

        return multiply(self, other)

    __rmul__ = __mul__

    def __add__(self, other: object) -> Combination:
        from pcircuits.circuit.algebra import add

        return add(self, other)

    __radd__ = __add__

    def __getitem__(self, index: object) -> Units:
        from pcircuits.circuit.algebra import select

        return select(self, index)

    def __iter__(self) -> NoReturn:
        raise TypeError(_NOT_ITERABLE.format(self))

    def prod(self, groups: Sequence[Sequence[int]] | None = None) -> Product:
        """The product over all regions, (1, K); or over each group of regions, (len(groups), K).

        >>> from pcircuits import Normal
        >>> pixels = Normal(range(4), 0.0, 1.0)
        >>> pixels.prod().shape, pixels.prod([[0, 1], [2, 3]]).shape
        ((1, 1), (2, 1))
        """
        return Product.over_groups(self, [range(self.regions)] if groups is None else groups)

    def outer(self, other: Units | Combination) -> Outer:
        """All products of a unit of this array with one of the other's same region: (R, K) and (R, L) give (R, K·L).

        **Raises** `CircuitError` for another number of regions.
        """
        from pcircuits.circuit.algebra import as_units

        return Outer((self, as_units(other)))

    def sum(self, weights: object) -> Sum:
        """Weighted sums over the width: weights (R, O, K), or shared (O, K), or (K,) for one output; gives (R, O).

        Weights are any numbers >= 0; a `pcircuits.Parameter` under the simplex constraint is renormalised in training.

        **Raises** `ParameterError` for negative weights, and shapes that do not fit.
        """
        return Sum(self, as_weights(weights, "the weights of a sum"))


def as_weights(weights: object, name: str) -> Parameter:
    """Weights as a `Parameter`: non-negative numbers, unless they come as a simplex."""
    if isinstance(weights, Parameter) and weights.constraint is simplex:
        return weights
    return as_parameter(weights, nonnegative, name)


class Input(Units):
    """Input units: region r holds K members of one family over `variables[r]`.

    **Arguments**

    - `family`: a family of distributions over `family.size` variables.
    - `variables`: for each region, a tuple of labels.
    - `parameters`: for each name a `Parameter` that broadcasts to (R, K, *event); or a `Sourced`.

    **Raises** `ScopeError` for variables that do not fit the family, `ParameterError` for parameters that do not.

    >>> from pcircuits import families, unit_interval
    >>> Input(families.Bernoulli(), [("a",), ("b",)], {"probs": Parameter([[0.1], [0.9]], unit_interval)})
    Input(2, 1)
    """

    __slots__ = ("family", "parameters", "variables")

    def __init__(
        self,
        family: AbstractFamily,
        variables: Sequence[tuple[Variable, ...]],
        parameters: Mapping[str, Parameter] | Sourced,
    ) -> None:
        self.family = family
        self.variables = tuple(tuple(as_label(label) for label in labels) for labels in variables)
        for labels in self.variables:
            if len(labels) != family.size or len(set(labels)) != len(labels):
                raise ScopeError(f"{family} needs {family.size} distinct variables for each region, not {labels}")
        if isinstance(parameters, Sourced):
            self.parameters: Mapping[str, Parameter] | Sourced = parameters
            shape = (parameters.regions, parameters.width)
            if shape[0] != len(self.variables):
                raise ParameterError(f"the source makes {shape[0]} regions for {len(self.variables)} variables")
        else:
            self.parameters = dict(parameters)
            shape = self._shape()
        super().__init__(shape, ())

    def _shape(self) -> tuple[int, int]:
        assert not isinstance(self.parameters, Sourced)
        regions, width = len(self.variables), 1
        wanted = self.family.parameters
        if set(wanted) != set(self.parameters):
            raise ParameterError(f"{self.family} has the parameters {list(wanted)}, not {list(self.parameters)}")
        for name, spec in wanted.items():
            lead = self.parameters[name].shape[: len(self.parameters[name].shape) - spec.event_ndim]
            if len(lead) not in (0, 2) or (len(lead) == 2 and lead[0] not in (1, regions)):
                raise ParameterError(
                    f"{name} of {self.family} over {regions} variables has shape {tuple(self.parameters[name].shape)}; "
                    f"it needs ({regions}, K{', ...' if spec.event_ndim else ''}), or a single value"
                )
            if len(lead) == 2 and lead[1] != 1:
                if width not in (1, lead[1]):
                    raise ParameterError(f"{name} of {self.family} has width {lead[1]}, another parameter {width}")
                width = lead[1]
        self.family.validate({name: parameter.value for name, parameter in self.parameters.items()})
        return regions, width


class Constant(Units):
    """Units of empty scope: non-negative numbers, (R, K).

    **Raises** `ParameterError` for negative numbers, and for shapes other than () and (R, K).

    >>> Constant(0.5).shape, Constant([[1.0, 2.0, 3.0]]).shape
    ((1, 1), (1, 3))
    """

    __slots__ = ("value",)

    def __init__(self, value: object = 1.0) -> None:
        self.value = as_parameter(value, nonnegative, "the value of a constant")
        shape = tuple(self.value.shape) or (1, 1)
        if len(shape) != 2:
            raise ParameterError(f"a constant is a number or an (R, K) array, not of shape {shape}")
        super().__init__(shape, ())


class Product(Units):
    """Products: elementwise over children of one shape ((1, 1) broadcasts), or over groups of regions of one child."""

    __slots__ = ("groups",)

    def __init__(self, children: Sequence[Units], groups: tuple[tuple[int, ...], ...] | None = None) -> None:
        self.groups = groups
        shape = _common_shape(children, "a product") if groups is None else (len(groups), children[0].width)
        super().__init__(shape, tuple(children))

    @classmethod
    def over_groups(cls, child: Units, groups: Sequence[Sequence[int]]) -> Product:
        """The product of the regions of each group."""
        kept = tuple(tuple(int(r) for r in group) for group in groups)
        if not kept or not all(kept):
            raise CircuitError("a product over groups needs at least one group, and a region in each")
        for number, group in enumerate(kept):
            if bad := [r for r in group if not 0 <= r < child.regions]:
                raise CircuitError(f"group {number} names regions {bad}; {child!r} has regions 0..{child.regions - 1}")
        return cls((child,), kept)


class Outer(Units):
    """Kronecker products within each region: widths K1, K2, ... give K1·K2·..., the last factor running fastest."""

    __slots__ = ()

    def __init__(self, children: Sequence[Units]) -> None:
        regions = {child.regions for child in children}
        if len(regions) != 1:
            raise CircuitError(f"an outer product needs children with equally many regions, not {sorted(regions)}")
        super().__init__((regions.pop(), int(np.prod([child.width for child in children]))), tuple(children))


class Mix(Units):
    """Elementwise weighted sums of children of one shape: Σ_a w_a · child_a.

    Weights are (A,), one for each child, or (R, K, A).
    """

    __slots__ = ("weights",)

    def __init__(self, children: Sequence[Units], weights: Parameter) -> None:
        shape = _common_shape(children, "a sum")
        arity = len(children)
        if tuple(weights.shape) not in ((arity,), (*shape, arity)):
            raise ParameterError(
                f"the weights of a sum of {arity} arrays of shape {shape} have shape {tuple(weights.shape)}; "
                f"they need ({arity},) or {(*shape, arity)}"
            )
        self.weights = weights
        super().__init__(shape, tuple(children))


class Sum(Units):
    """Dense sums over the width of a child: (R, K) to (R, O) by weights (R, O, K), shared (O, K), or (K,)."""

    __slots__ = ("weights",)

    def __init__(self, child: Units, weights: Parameter) -> None:
        shape = tuple(weights.shape)
        regions, width = child.shape
        if len(shape) not in (1, 2, 3) or shape[-1] != width or (len(shape) == 3 and shape[0] != regions):
            raise ParameterError(
                f"the weights of a sum over {child!r} have shape {shape}; they need ({regions}, O, {width}), "
                f"(O, {width}) shared by the regions, or ({width},) for one output"
            )
        self.weights = weights
        super().__init__((regions, 1 if len(shape) == 1 else shape[-2]), (child,))


class Wiring(Units):
    """Regions and columns of other units in any order, any number of times. It computes nothing.

    `child` and `region` say where each region comes from, (R,); with `column`, all three are (R, K) and say where
    each unit comes from.
    """

    __slots__ = ("child", "column", "region")

    def __init__(self, children: Sequence[Units], child: Index, region: Index, column: Index | None = None) -> None:
        self.child, self.region = (
            np.ascontiguousarray(child),
            np.ascontiguousarray(region),
        )  # torch takes no reversed views
        self.column = None if column is None else np.ascontiguousarray(column)
        shape = (len(child), children[0].width) if column is None else (child.shape[0], child.shape[1])
        super().__init__(shape, tuple(children))


def _common_shape(children: Sequence[Units], what: str) -> tuple[int, int]:
    if not children:
        raise CircuitError(f"{what} needs at least one child")
    shapes = {child.shape for child in children} - {(1, 1)}
    if len(shapes) > 1:
        raise CircuitError(
            f"{what} needs children of one shape ((1, 1) broadcasts), not {sorted(shapes)}: "
            "select regions and columns with u[r, k], or use u.prod(), u.outer(v) or u.sum(weights)"
        )
    return shapes.pop() if shapes else (1, 1)
