"""What a kind of units must know for circuits of it to be checked, summed out, trained, saved and pickled."""

from __future__ import annotations

import copyreg
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, NoReturn, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from pcircuits.circuit.graph import topological
from pcircuits.circuit.pickling import ChildrenFirst
from pcircuits.circuit.support import Support
from pcircuits.circuit.weights import as_weights
from pcircuits.computed import SourcedWeights
from pcircuits.errors import CircuitError, FileFormatError
from pcircuits.families.interface import AbstractFamily
from pcircuits.parameters import Parameter, Sourced
from pcircuits.scope import Variable

if TYPE_CHECKING:
    from pcircuits.circuit.algebra import Combination
    from pcircuits.circuit.kinds.input import Input
    from pcircuits.circuit.kinds.outer import Outer
    from pcircuits.circuit.kinds.product import Product
    from pcircuits.circuit.kinds.sum import Sum

__all__ = [
    "AbstractProduct",
    "AbstractSum",
    "Contents",
    "Index",
    "Ints",
    "Numbering",
    "Regions",
    "Scopes",
    "Supports",
    "Unit",
    "Units",
    "common_shape",
    "only_child",
    "only_parameter",
    "only_sourced",
    "sourced_integers",
]

Index = NDArray[np.int64]
Ints = Sequence[int] | Index
Regions = NDArray[np.bool_]
"""For each region of an array, (R,), whether it is meant."""
WIDEST = 2**40
"""More units than a source makes for a region."""
_NOT_ITERABLE = "{!r} is not iterable: select its regions one by one with u[r], its units with u[r, k]"


class Unit(NamedTuple):
    """One unit of an array."""

    array: Units
    region: int
    column: int


class Scopes(Protocol):
    """Numbers for scopes; see `pcircuits.circuit.scopes.ScopeTable`."""

    def of(self, labels: Sequence[Variable]) -> int:
        """The scope of some variables."""
        ...

    def union(self, scopes: Iterable[int]) -> int:
        """The union of scopes."""
        ...


class Supports(Protocol):
    """What finds the supports that depend on more than an array and its children; see `Determinism`."""

    def of_input(self, array: Input) -> list[Support]:
        """For each region of input units, what they are positive on."""
        ...

    def of_sums(self, array: AbstractSum, children: list[list[Support]]) -> list[Support]:
        """For each region of sums, the box around their inputs."""
        ...


class Numbering(Protocol):
    """Numbers, in a file that is written, of what the arrays hold."""

    def parameter(self, parameter: Parameter) -> int:
        """The number of a parameter; tied ones have one."""
        ...

    def family(self, family: AbstractFamily) -> int:
        """The number of a family."""
        ...

    def source(self, source: nn.Module) -> int:
        """The number of a source."""
        ...

    def columns(self, variables: Iterable[tuple[Variable, ...]]) -> list[int]:
        """The numbers of variables, one after another."""
        ...


class Contents(Protocol):
    """What the numbers stand for in a file that is read; each raises `FileFormatError` for numbers out of range."""

    def parameter(self, number: int) -> Parameter:
        """A parameter by its number."""
        ...

    def family(self, number: int) -> tuple[AbstractFamily, list[str]]:
        """A family by its number, with the names of its parameters in the order of the file."""
        ...

    def source(self, number: int) -> nn.Module:
        """A source by its number."""
        ...

    def variables(self, columns: Index, size: int) -> list[tuple[Variable, ...]]:
        """Variables by their numbers, `size` for each region."""
        ...


class Units(ABC):
    """An array of units, `regions × width`, each computing one non-negative function of its scope.

    Units are combined by algebra: `u * v`, `0.3 * u + 0.7 * v`, `u.prod()`, `u.sum(weights)`, `u.outer(v)`, `u[r, k]`.
    Nothing is evaluated until a `Circuit` is made of them and compiled.

    A kind of units is a subclass. The methods from `scopes` on are what the library asks of it; their defaults are those
    of elementwise units, whose children have the shape of the array, or one region or one unit that serves all.

    >>> from pcircuits import Normal
    >>> u, v = Normal("x", [0.0, 1.0, 2.0], 1.0), Normal("y", [0.0, 1.0, 2.0], 1.0)
    >>> u * v, (u * v).sum([0.2, 0.3, 0.5]), u.outer(v), u[0, :2]
    (Product(1, 3), Sum(1, 1), Outer(1, 9), Wiring(1, 2))
    """

    __slots__ = ("children", "shape")

    __array_ufunc__ = None  # numpy numbers and arrays on the left leave the product to `__rmul__`
    kind: ClassVar[Literal["input", "constant", "sum", "product", "wiring"]]
    """What the units compute; wiring computes nothing, and is looked through."""
    codes: ClassVar[tuple[int, ...]]
    """What stands for this kind in files: one integer for each form that its units have there."""
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
        from pcircuits.circuit.kinds.product import Product

        return Product.over_groups(self, [range(self.regions)] if groups is None else groups)

    def outer(self, other: Units | Combination) -> Outer:
        """All products of a unit of this array with one of the other's same region: (R, K) and (R, L) give (R, K·L).

        **Raises** `CircuitError` for another number of regions.
        """
        from pcircuits.circuit.algebra import as_units
        from pcircuits.circuit.kinds.outer import Outer

        return Outer((self, as_units(other)))

    def sum(self, weights: object) -> Sum:
        """Weighted sums over the width: weights (R, O, K), or shared (O, K), or (K,) for one output; gives (R, O).

        Weights are any numbers >= 0; a `pcircuits.Parameter` under the simplex constraint is renormalised in training. A
        `pcircuits.Sourced` lets a module make them.

        **Raises** `ParameterError` for negative weights, and shapes that do not fit.
        """
        from pcircuits.circuit.kinds.sum import Sum

        return Sum(self, as_weights(weights, "the weights of a sum"))

    def scopes(self, children: list[list[int]], scopes: Scopes) -> list[int]:
        """For each region its scope, from those of the children's regions."""
        spread = [c if len(c) == self.regions else c * self.regions for c in children]
        return [scopes.union(parts) for parts in zip(*spread, strict=True)]

    def unalike(self, regions: Iterable[int], children: list[list[int]]) -> tuple[int, list[int], str] | None:
        """The first of some regions below which scopes differ where smoothness wants them equal, the scopes, and why."""
        return None

    def mark_used(self, wanted: Regions, children: list[Regions]) -> None:
        """Mark the regions of the children that the wanted regions of this array are computed from."""
        for used in children:
            used |= wanted if len(used) == len(wanted) else True

    def inputs_of(self, region: int, column: int) -> list[Unit]:
        """The units that one unit is computed from, in the order of its weights."""
        return [
            Unit(child, 0, 0) if child.shape == (1, 1) else Unit(child, region if child.regions > 1 else 0, column)
            for child in self.children
        ]

    def num_edges(self) -> int:
        """The number of pairs of a unit and an input of it."""
        return self.regions * self.width * len(self.children)

    @abstractmethod
    def log_values(self, children: list[Tensor], leaves: Callable[[Input], Tensor]) -> Tensor:
        """The logarithms of the units' values, (R, K) in float64, from those of the children."""

    @abstractmethod
    def supports(self, children: list[list[Support]], supports: Supports) -> list[Support]:
        """For each region a box that its units are zero outside of, from those of the children's regions."""

    def held_parameters(self) -> list[Parameter]:
        """The parameters that the array holds itself; those that a source makes are not among them."""
        return []

    def held_sourced(self) -> list[Sourced]:
        """What sources make for the array."""
        return []

    @abstractmethod
    def rebuilt(
        self,
        children: Sequence[Units],
        parameter: Callable[[Parameter], Parameter],
        sourced: Callable[[Sourced], Sourced],
    ) -> Units:
        """The same array over other children, with its parameters and sources replaced."""

    @abstractmethod
    def to_integers(self, numbering: Numbering) -> tuple[int, Ints]:
        """The form of the array in a file: one of `codes`, and the integers that say the rest."""

    @classmethod
    @abstractmethod
    def from_integers(cls, code: int, children: list[Units], ints: Index, contents: Contents) -> Self:
        """The array of a form in a file; raises `FileFormatError`, or another `CircuitError`, for one that cannot be."""

    def __copy__(self) -> Self:
        twin = object.__new__(type(self))
        twin.__setstate__((None, self._fields()))
        return twin

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Units never change, and a copy of them is the units themselves."""
        return self

    def __reduce__(self) -> tuple[object, ...]:
        """Without recursion: what is below is written first, children before parents."""
        below = None
        if self.children and not ChildrenFirst.in_progress():
            below = ChildrenFirst(topological(self)[:-1])
        return copyreg.__newobj__, (type(self),), (below, self._fields())  # type: ignore[attr-defined]

    def __setstate__(self, state: tuple[object, Mapping[str, Any]]) -> None:
        for name, value in state[1].items():
            setattr(self, name, value)

    def _fields(self) -> dict[str, Any]:
        slots = (name for cls in type(self).__mro__ for name in getattr(cls, "__slots__", ()))
        return {name: getattr(self, name) for name in slots if hasattr(self, name)} | getattr(self, "__dict__", {})


class AbstractSum(Units):
    """Units that add their inputs, each times a weight."""

    __slots__ = ("weights",)

    kind = "sum"
    dense: ClassVar[bool] = False
    """Whether all units of a region have the same inputs."""
    weights: Parameter

    @abstractmethod
    def weights_of(self, weights: Any, region: int, column: int) -> Any:
        """The weights (A,) of one unit's inputs: a view into `weights`, which has the shape of the array's weights."""

    @abstractmethod
    def input_supports(self, children: list[list[Support]], region: int, column: int, inputs: Index) -> Support:
        """What some inputs of one unit are positive on, as a region of their own."""

    def supports(self, children: list[list[Support]], supports: Supports) -> list[Support]:
        return supports.of_sums(self, children)

    def held_parameters(self) -> list[Parameter]:
        return [] if isinstance(self.weights, SourcedWeights) else [self.weights]

    def held_sourced(self) -> list[Sourced]:
        return [self.weights.sourced] if isinstance(self.weights, SourcedWeights) else []


class AbstractProduct(Units):
    """Units that multiply their inputs."""

    __slots__ = ()

    kind = "product"

    def factors(self, region: int, children: list[list[int]]) -> list[int]:
        """The scopes of the factors of a region, from those of the children's regions."""
        return [c[region] if len(c) > 1 else c[0] for c in children]


def common_shape(children: Sequence[Units], what: str) -> tuple[int, int]:
    """The shape of elementwise units over some children."""
    if not children:
        raise CircuitError(f"{what} needs at least one child")
    shapes = {child.shape for child in children} - {(1, 1)}
    if len(shapes) > 1:
        raise CircuitError(
            f"{what} needs children of one shape ((1, 1) broadcasts), not {sorted(shapes)}: "
            "select regions and columns with u[r, k], or use u.prod(), u.outer(v) or u.sum(weights)"
        )
    return shapes.pop() if shapes else (1, 1)


def only_child(children: list[Units]) -> Units:
    """The one child of an array in a file."""
    if len(children) != 1:
        raise FileFormatError(f"it needs one child, and has {len(children)}")
    return children[0]


def only_parameter(ints: Index, contents: Contents) -> Parameter:
    """The one parameter of an array in a file."""
    if len(ints) != 1:
        raise FileFormatError(f"it needs one parameter, and has {len(ints)}")
    return contents.parameter(int(ints[0]))


def sourced_integers(weights: SourcedWeights, numbering: Numbering) -> Ints:
    """Weights from a source in a file: the source, and for how many regions and units it makes them."""
    made = weights.sourced
    return [numbering.source(made.source), made.regions, made.width]


def only_sourced(ints: Index, contents: Contents) -> Sourced:
    """The source of weights of an array in a file."""
    if len(ints) != 3 or not (1 <= ints[1:].min() <= ints[1:].max() <= WIDEST):
        raise FileFormatError("the source of its weights is not in the file, or makes impossible shapes")
    return Sourced(contents.source(int(ints[0])), int(ints[1]), int(ints[2]))
