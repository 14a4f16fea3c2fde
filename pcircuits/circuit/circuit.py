"""`Circuit`: a root, the order of its variables, and views of the graph below it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch

from pcircuits.circuit.algebra import Combination, as_units, concat
from pcircuits.circuit.reach import Regions, used_regions
from pcircuits.circuit.units import Constant, Input, Mix, Outer, Product, Sum, Units, Wiring
from pcircuits.devices import available_device
from pcircuits.errors import CircuitError, ScopeError
from pcircuits.memory import collector_paused
from pcircuits.parameters import Parameter, Sourced
from pcircuits.scope import OPEN_ENDED, REAL, Variable, as_variables, columns, order

if TYPE_CHECKING:
    from pcircuits.circuit.properties import Properties
    from pcircuits.circuit.summary import Summary
    from pcircuits.queries.compiled import CompiledCircuit

__all__ = ["Circuit", "Unit", "fold", "topological"]

T = TypeVar("T")


class Unit(NamedTuple):
    """One unit of an array."""

    array: Units
    region: int
    column: int


def topological(root: Units) -> tuple[Units, ...]:
    """Every array below the root once, children before parents, without recursion."""
    seen: set[int] = set()
    ordered: list[Units] = []
    stack: list[tuple[Units, Iterator[Units]]] = [(root, iter(root.children))]
    seen.add(id(root))
    while stack:
        node, children = stack[-1]
        for child in children:
            if id(child) not in seen:
                seen.add(id(child))
                stack.append((child, iter(child.children)))
                break
        else:
            ordered.append(node)
            stack.pop()
    return tuple(ordered)


def fold(arrays: Sequence[Units], combine: Callable[[Units, list[T]], T]) -> dict[int, T]:
    """The one primitive of every property: combine(array, results of its children), bottom-up; keyed by `id(array)`."""
    results: dict[int, T] = {}
    for array in arrays:
        results[id(array)] = combine(array, [results[id(child)] for child in array.children])
    return results


class Circuit:
    """A probabilistic circuit: the function that a root unit computes of its variables.

    Its variables are those that the root depends on: regions of arrays that the root makes no use of (see `used`) have
    no say in any property or query.

    **Arguments**

    - `root`: (1, 1) units; or several roots of one scope, such as one for each class: (1, C) units or a list of units.
    - `variables`: the order of the data's columns; by default ints in order, anything else by first appearance.

    **Raises** `ScopeError` where `variables` does not fit, and for variables that the root does not depend on;
    `CircuitError` where the root has several regions.

    Choi, Vergari and Van den Broeck (2020), *Probabilistic Circuits*, definition 2.

    >>> import pcircuits as pc
    >>> rain = [pc.Indicator("rain", 0), pc.Indicator("rain", 1)]
    >>> circuit = pc.Circuit(0.8 * rain[0] + 0.2 * rain[1])
    >>> circuit.variables, len(circuit.sums)
    (('rain',), 1)
    """

    def __init__(
        self,
        root: Units | Combination | Sequence[Units | Combination],
        variables: Sequence[Variable] | None = None,
    ) -> None:
        if isinstance(root, Sequence):
            if not root:
                raise CircuitError("a circuit needs a root, and the list of roots is empty: give one or more units")
            root = concat(root, axis="width") if len(root) != 1 else root[0]
        self.root = as_units(root)
        if self.root.regions != 1:
            raise CircuitError(
                f"the root {self.root!r} has {self.root.regions} regions; a circuit has one, with a unit for each root: "
                "join regions with u.prod(), or make one circuit of each"
            )
        with collector_paused():
            self.arrays = topological(self.root)
            self._order_variables(None if variables is None else as_variables(variables))

    def _order_variables(self, wanted: Sequence[Variable] | None) -> None:
        """The columns of the data; in scopes, the variables of unused regions come after them."""
        found = list(dict.fromkeys(label for array in self.inputs for scope in array.variables for label in scope))
        present = set(found)
        likely = [label for label in wanted or () if label in present]
        scope = self._set_bits(list(dict.fromkeys([*likely, *order(found, None)])))
        used = self.labels(scope)
        if not used:
            raise ScopeError("a circuit needs at least one input unit: the root of this one is made of only constants")
        idle = [label for label in self._labels if label not in used]
        _refuse_idle_variables(idle, wanted)
        self.variables = order([label for label in found if label in used], wanted)
        self.column_of: Mapping[Variable, int] = {label: i for i, label in enumerate(self.variables)}
        if self._labels != [*self.variables, *idle]:
            self._set_bits([*self.variables, *idle])

    def _set_bits(self, labels: list[Variable]) -> int:
        """Let bit i of a scope be `labels[i]`; returns the root's scope."""
        self._labels = labels
        self._bit_of = {label: 1 << i for i, label in enumerate(labels)}
        self._scopes = fold(self.arrays, self._combine_scopes)
        return self._scopes[id(self.root)][0]

    @property
    def num_roots(self) -> int:
        """C, the number of roots."""
        return self.root.width

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        """The arrays of input units."""
        return tuple(a for a in self.arrays if isinstance(a, Input))

    @cached_property
    def sums(self) -> tuple[Sum | Mix, ...]:
        """The arrays of sum units."""
        return tuple(a for a in self.arrays if isinstance(a, Sum | Mix))

    @cached_property
    def products(self) -> tuple[Product | Outer, ...]:
        """The arrays of product units."""
        return tuple(a for a in self.arrays if isinstance(a, Product | Outer))

    def _combine_scopes(self, array: Units, children: list[list[int]]) -> list[int]:
        if isinstance(array, Input):
            return [sum(self._bit_of[label] for label in labels) for labels in array.variables]
        if isinstance(array, Constant):
            return [0] * array.regions
        if isinstance(array, Product) and array.groups is not None:
            return [_union(children[0][r] for r in group) for group in array.groups]
        if isinstance(array, Wiring):
            return _wired(array, children)
        spread = [c if len(c) == array.regions else c * array.regions for c in children]
        return [_union(parts) for parts in zip(*spread, strict=True)]

    def region_scopes(self, array: Units) -> list[int]:
        """For each region of an array, its scope as the bits of an integer: bit i is `variables[i]`.

        Variables that only unused regions are over have the bits after these.
        """
        return self._scopes[id(self._own(array))]

    def used(self, array: Units | Combination) -> Regions:
        """For each region of an array, (R,), whether the root depends on it.

        >>> import pcircuits as pc
        >>> pixels = pc.Normal(range(4), 0.0, 1.0)
        >>> circuit = pc.Circuit(pixels[:2].prod())
        >>> circuit.variables, circuit.used(pixels).tolist()
        ((0, 1), [True, True, False, False])
        """
        return self._used[id(self._own(as_units(array)))]

    def used_variables(self, array: Input) -> tuple[Variable, ...]:
        """The distinct variables of the regions of input units that the root depends on."""
        pairs = zip(array.variables, self.used(array).tolist(), strict=True)
        return tuple(dict.fromkeys(label for labels, used in pairs if used for label in labels))

    @cached_property
    def states(self) -> tuple[int, ...]:
        """For each variable its number of states: those of its leaves, or `OPEN_ENDED` counts, or `REAL` numbers.

        >>> import pcircuits as pc
        >>> pc.Circuit(pc.Bernoulli("a", 0.5) * pc.Normal("b", 0.0, 1.0) * pc.Indicator("c", 1)).states
        (2, -1, 0)
        """
        states = dict.fromkeys(self.variables, REAL)
        for array in self.inputs:
            if array.family.base == "counting":
                for label in self.used_variables(array):
                    states[label] = max(states[label], array.family.states or OPEN_ENDED)
        return tuple(states.values())

    @cached_property
    def _used(self) -> dict[int, Regions]:
        return used_regions(self.arrays)

    def scope(self, array: Units | Combination, region: int = 0) -> frozenset[Variable]:
        """The variables that a region's units depend on."""
        return self.labels(self.region_scopes(as_units(array))[region])

    def labels(self, scope: int) -> frozenset[Variable]:
        """The labels of a scope given as bits."""
        return frozenset(self.ordered_labels(scope))

    def ordered_labels(self, scope: int) -> tuple[Variable, ...]:
        """The labels of a scope given as bits, in the order of the columns."""
        return tuple(self._labels[i] for i in columns(scope))

    def unit(self, array: Units | Combination, region: int = 0, column: int = 0) -> Unit:
        """One unit, for `children`, `parents` and queries."""
        own = self._own(as_units(array))
        if not (0 <= region < own.regions and 0 <= column < own.width):
            raise CircuitError(f"{own!r} has no unit at region {region}, column {column}")
        return Unit(own, region, column)

    def children(self, unit: Unit) -> list[Unit]:
        """The units that a unit is computed from (through any wiring), in the order of its weights."""
        return [_through(child) for child in _children(unit)]

    @cached_property
    def _parents(self) -> dict[tuple[int, int, int], list[Unit]]:
        parents: dict[tuple[int, int, int], list[Unit]] = {}
        for parent, child in self.edges():
            parents.setdefault((id(child.array), child.region, child.column), []).append(parent)
        return parents

    def parents(self, unit: Unit) -> list[Unit]:
        """The units that are computed from a unit. The first call walks over all edges."""
        array, region, column = _through(unit)
        return list(self._parents.get((id(array), region, column), ()))

    def edges(self) -> Iterator[tuple[Unit, Unit]]:
        """Every edge (parent, child) between units that compute something."""
        for array in self.arrays:
            if array.children and not isinstance(array, Wiring):
                for region in range(array.regions):
                    for column in range(array.width):
                        unit = Unit(array, region, column)
                        for child in self.children(unit):
                            yield unit, child

    def parameters(self) -> Iterator[Parameter]:
        """The distinct parameters, in topological order; those that a source makes are not among them."""
        seen: set[int] = set()
        for array in self.arrays:
            for parameter in array_parameters(array):
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield parameter

    def check(self) -> Properties:
        """The circuit's properties, each a `Verdict` with a witness where it does not hold; computed when asked for."""
        return self._properties

    @cached_property
    def _properties(self) -> Properties:
        from pcircuits.circuit.properties import Properties

        return Properties(self)

    def __deepcopy__(self, memo: dict[int, object]) -> Circuit:
        """A circuit never changes, and a copy of it is the circuit itself."""
        return self

    def summary(self) -> Summary:
        """Counts of units, edges and parameters, depth, and the largest intermediate of an evaluation."""
        from pcircuits.circuit.summary import summarise

        return summarise(self)

    def compile(
        self,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        memory: int | None = None,
        rewrites: Collection[str] | None = None,
    ) -> CompiledCircuit:
        """The circuit as an `nn.Module` that answers queries.

        **Arguments**

        - `dtype`: of parameters, inputs and results; by default torch's default dtype.
        - `device`: where parameters live; by default torch's default device.
        - `memory`: a bound in bytes on what is live in a pass beside parameters and results; by default 512 MiB.
        - `rewrites`: which rewrites to apply, among "fold", "fuse", "layout", "chunk"; by default all of them.

        **Raises** `PropertyError` unless the circuit is smooth, decomposable and homogeneous, with the witness;
        `CircuitError` for a device that is not there, and other options that do not exist.
        """
        from pcircuits.queries.compiled import compile_circuit

        place = None if device is None else available_device(device)
        return compile_circuit(self, dtype, place, memory, rewrites)

    def __repr__(self) -> str:
        return f"Circuit({len(self.variables)} variables, {len(self.arrays)} arrays, {self.num_roots} root{'s' if self.num_roots > 1 else ''})"  # fmt: skip  # noqa: E501

    def _own(self, array: Units) -> Units:
        if id(array) not in self._scopes_keys:
            raise CircuitError(f"{array!r} is not part of this circuit")
        return array

    @cached_property
    def _scopes_keys(self) -> frozenset[int]:
        return frozenset(id(a) for a in self.arrays)


def array_parameters(array: Units) -> list[Parameter]:
    """The parameters that an array holds itself."""
    if isinstance(array, Input):
        return [] if isinstance(array.parameters, Sourced) else list(array.parameters.values())
    if isinstance(array, Sum | Mix):
        return [array.weights]
    return [array.value] if isinstance(array, Constant) else []


def _refuse_idle_variables(idle: list[Variable], wanted: Sequence[Variable] | None) -> None:
    """A root that does not depend on a variable says nothing of it: no query could answer for its column."""
    unused = set(idle)
    if unanswered := [label for label in wanted or () if label in unused]:
        shown = ", ".join(map(repr, unanswered[:8]))
        raise ScopeError(
            f"the root does not depend on {shown}{f', ... {len(unanswered)} in all' if len(unanswered) > 8 else ''}, which "
            "`variables` lists and only unused regions of its input units are over: leave them out"
        )


def _union(scopes: object) -> int:
    total = 0
    for scope in scopes:  # type: ignore[attr-defined]
        total |= scope
    return total


def _wired(array: Wiring, children: list[list[int]]) -> list[int]:
    if array.column is None:
        return [children[c][r] for c, r in zip(array.child.tolist(), array.region.tolist(), strict=True)]
    return [
        _union(children[c][r] for c, r in set(zip(cs.tolist(), rs.tolist(), strict=True)))
        for cs, rs in zip(array.child, array.region, strict=True)
    ]


def _broadcast(array: Units, region: int, column: int) -> Unit:
    return Unit(array, 0, 0) if array.shape == (1, 1) else Unit(array, region, column)


def _children(unit: Unit) -> list[Unit]:
    array, region, column = unit
    if isinstance(array, Sum):
        return [Unit(array.children[0], region, k) for k in range(array.children[0].width)]
    if isinstance(array, Product) and array.groups is not None:
        return [Unit(array.children[0], r, column) for r in array.groups[region]]
    if isinstance(array, Outer):
        found = []
        for child in reversed(array.children):
            column, k = divmod(column, child.width)
            found.append(Unit(child, region, k))
        return found[::-1]
    if isinstance(array, Wiring):
        return [wired_from(unit)]
    return [_broadcast(child, region, column) for child in array.children]


def wired_from(unit: Unit) -> Unit:
    """The unit that a wiring's unit stands for, one step down."""
    array, region, column = unit
    assert isinstance(array, Wiring)
    if array.column is None:
        return Unit(array.children[array.child[region]], int(array.region[region]), column)
    place = (region, column)
    return Unit(array.children[array.child[place]], int(array.region[place]), int(array.column[place]))


def _through(unit: Unit) -> Unit:
    while isinstance(unit.array, Wiring):
        unit = wired_from(unit)
    return unit
