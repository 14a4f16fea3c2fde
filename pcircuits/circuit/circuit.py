"""`Circuit`: a root, the order of its variables, and views of the graph below it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from pcircuits.circuit.algebra import Combination, as_units, concat
from pcircuits.circuit.graph import fold, topological
from pcircuits.circuit.pickling import ChildrenFirst
from pcircuits.circuit.reach import Regions, used_regions
from pcircuits.circuit.scopes import ScopeTable
from pcircuits.circuit.units import AbstractProduct, AbstractSum, Input, Unit, Units
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
        self.scope_table = ScopeTable(found)
        self._scopes = fold(self.arrays, lambda array, children: array.scopes(children, self.scope_table))
        used = set(self.scope_table.labels(self._scopes[id(self.root)][0]))
        if not used:
            raise ScopeError("a circuit needs at least one input unit: the root of this one is made of only constants")
        present = set(found)
        likely = [label for label in wanted or () if label in present]
        idle = [label for label in dict.fromkeys([*likely, *order(found, None)]) if label not in used]
        _refuse_idle_variables(idle, wanted)
        self.variables = order([label for label in found if label in used], wanted)
        self.column_of: Mapping[Variable, int] = {label: i for i, label in enumerate(self.variables)}
        self._labels = [*self.variables, *idle]
        place = {label: i for i, label in enumerate(self._labels)}
        self._place_of = np.array([place[label] for label in found], dtype=np.int64)

    @property
    def num_roots(self) -> int:
        """C, the number of roots."""
        return self.root.width

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        """The arrays of input units."""
        return tuple(a for a in self.arrays if isinstance(a, Input))

    @cached_property
    def sums(self) -> tuple[AbstractSum, ...]:
        """The arrays of sum units."""
        return tuple(a for a in self.arrays if isinstance(a, AbstractSum))

    @cached_property
    def products(self) -> tuple[AbstractProduct, ...]:
        """The arrays of product units."""
        return tuple(a for a in self.arrays if isinstance(a, AbstractProduct))

    def region_scopes(self, array: Units) -> list[int]:
        """For each region of an array, its scope as the bits of an integer: bit i is `variables[i]`.

        Variables that only unused regions are over have the bits after these. The bits of R scopes of D variables are
        R·D / 8 bytes; `numbered_scopes` says in less which scopes are equal.
        """
        numbers = self.numbered_scopes(array)
        bits = {n: sum(1 << i for i in self._columns(n)) for n in dict.fromkeys(numbers)}
        return [bits[number] for number in numbers]

    def numbered_scopes(self, array: Units) -> list[int]:
        """For each region of an array, the number of its scope in `scope_table`: equal scopes have equal numbers."""
        return self._scopes[id(self._own(array))]

    def scope_labels(self, number: int) -> tuple[Variable, ...]:
        """The labels of a numbered scope, in the order of the columns."""
        return tuple(self._labels[i] for i in self._columns(number))

    def _columns(self, number: int) -> list[int]:
        return sorted(self._place_of[self.scope_table.positions(number)].tolist())

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
        own = self._own(as_units(array))
        if not 0 <= region < own.regions:
            raise CircuitError(f"{own!r} has no region {region}: it has {own.regions}, numbered from 0")
        return frozenset(self.scope_labels(self.numbered_scopes(own)[region]))

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
        return Unit(own, int(region), int(column))

    @staticmethod
    def computed(unit: Unit) -> Unit:
        """The unit that computes what this one is, through any wiring."""
        while unit.array.kind == "wiring":
            (unit,) = unit.array.inputs_of(unit.region, unit.column)
        return unit

    def children(self, unit: Unit) -> list[Unit]:
        """The units that a unit is computed from (through any wiring), in the order of its weights."""
        return [self.computed(child) for child in unit.array.inputs_of(unit.region, unit.column)]

    @cached_property
    def _parents(self) -> dict[tuple[int, int, int], list[Unit]]:
        parents: dict[tuple[int, int, int], list[Unit]] = {}
        for parent, child in self.edges():
            parents.setdefault((id(child.array), child.region, child.column), []).append(parent)
        return parents

    def parents(self, unit: Unit) -> list[Unit]:
        """The units that are computed from a unit. The first call walks over all edges."""
        array, region, column = self.computed(unit)
        return list(self._parents.get((id(array), region, column), ()))

    def edges(self) -> Iterator[tuple[Unit, Unit]]:
        """Every edge (parent, child) between units that compute something."""
        for array in self.arrays:
            if array.children and array.kind != "wiring":
                for region in range(array.regions):
                    for column in range(array.width):
                        unit = Unit(array, region, column)
                        for child in self.children(unit):
                            yield unit, child

    def parameters(self) -> Iterator[Parameter]:
        """The distinct parameters, in topological order; those that a source makes are not among them."""
        seen: set[int] = set()
        for array in self.arrays:
            for parameter in array.held_parameters():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield parameter

    def sourced(self) -> Iterator[Sourced]:
        """What sources make for the arrays, in topological order."""
        for array in self.arrays:
            yield from array.held_sourced()

    def check(self) -> Properties:
        """The circuit's properties, each a `Verdict` with a witness where it does not hold; computed when asked for."""
        return self._properties

    @cached_property
    def _properties(self) -> Properties:
        from pcircuits.circuit.properties import Properties

        return Properties(self)

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (ChildrenFirst(self.arrays), self.variables)

    def __copy__(self) -> Circuit:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

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
        - `rewrites`: which rewrites to apply, among "fold", "fuse", "chain", "layout", "chunk"; by default all of them.

        **Raises** `PropertyError` unless the circuit is smooth, decomposable and homogeneous, with the witness;
        `CircuitError` for a device that is not there, and other options that do not exist.
        """
        from pcircuits.queries.compiled import compile_circuit

        place = None if device is None else available_device(device)
        return compile_circuit(self, dtype, place, memory, rewrites)

    def __repr__(self) -> str:
        return f"Circuit({len(self.variables)} variables, {len(self.arrays)} arrays, {self.num_roots} root{'s' if self.num_roots > 1 else ''})"  # fmt: skip  # noqa: E501

    def _own(self, array: Units) -> Units:
        if id(array) not in self._scopes:
            raise CircuitError(f"{array!r} is not part of this circuit")
        return array


def _refuse_idle_variables(idle: list[Variable], wanted: Sequence[Variable] | None) -> None:
    """A root that does not depend on a variable says nothing of it: no query could answer for its column."""
    unused = set(idle)
    if unanswered := [label for label in wanted or () if label in unused]:
        shown = ", ".join(map(repr, unanswered[:8]))
        raise ScopeError(
            f"the root does not depend on {shown}{f', ... {len(unanswered)} in all' if len(unanswered) > 8 else ''}, which "
            "`variables` lists and only unused regions of its input units are over: leave them out"
        )


def _restored(arrays: Sequence[Units], variables: Sequence[Variable]) -> Circuit:
    return Circuit(arrays[-1], variables)
