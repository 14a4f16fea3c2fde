"""The properties of a circuit, computed by folds: smooth, decomposable, homogeneous, normalised, deterministic."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.determinism import Determinism
from pcircuits.circuit.mass import log_masses
from pcircuits.circuit.units import AbstractProduct, Input, Units
from pcircuits.circuit.verdict import Verdict, Witness
from pcircuits.parameters import Sourced
from pcircuits.scope import Variable

__all__ = ["Properties"]


class Properties:
    """The verdicts on one circuit, each computed when it is first asked for."""

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit

    @cached_property
    def smooth(self) -> Verdict:
        """The inputs of every sum have the same scope (Choi et al. 2020, definition 13); never unknown."""
        for array in self._circuit.arrays:
            if witness := self._unsmooth(array):
                return Verdict("smooth", False, witness)
        return Verdict("smooth", True)

    @cached_property
    def decomposable(self) -> Verdict:
        """The factors of every product have disjoint scopes (Choi et al. 2020, definition 12); never unknown."""
        sizes = self._circuit.scope_table.sizes
        for array in self._circuit.products:
            children = [self._circuit.numbered_scopes(c) for c in array.children]
            whole = self._circuit.numbered_scopes(array)
            for region in self._used(array):
                factors = array.factors(region, children)
                if sum(map(sizes.__getitem__, factors)) != sizes[whole[region]]:  # else no variable was counted twice
                    return Verdict("decomposable", False, self._overlap(array, region, factors))
        return Verdict("decomposable", True)

    @cached_property
    def homogeneous(self) -> Verdict:
        """The leaves of each variable share a base measure and, where they declare them, their states.

        An indicator declares no number of states; its own state must be among those that the other leaves declare.
        """
        first: dict[Variable, Input] = {}
        for array in self._circuit.inputs:
            for label in self._circuit.used_variables(array):
                other = first.get(label)
                if other is not None and (clash := _clash(other, array)):
                    return _inhomogeneous(array, label, clash)
                if other is None or other.family.states is None:
                    first[label] = array
        for array in self._circuit.inputs:
            if array.family.states is None and (outside := self._outside(array, first)) is not None:
                return outside
        return Verdict("homogeneous", True)

    @cached_property
    def normalised(self) -> Verdict:
        """Every root integrates to 1. Unknown where the circuit is not smooth and decomposable."""
        if not (self.smooth and self.decomposable):
            return Verdict("normalised", None, (self.smooth if not self.smooth else self.decomposable).witness)
        masses = log_masses(self._circuit)[id(self._circuit.root)][0]
        for k, log_mass in enumerate(masses.tolist()):
            if not abs(log_mass) <= 1e-6:
                return Verdict("normalised", False, Witness(f"root {k}", f"it integrates to exp({log_mass:.6g})"))
        return Verdict("normalised", True)

    @cached_property
    def deterministic(self) -> Verdict:
        """At most one input of every sum is positive for any assignment, shown by disjoint supports.

        Choi et al. (2020), definition 15. Unknown where supports overlap only in the bounds that were computed.
        """
        return self.determinism.verdict

    @cached_property
    def determinism(self) -> Determinism:
        """Determinism of every region's sums, for bounds that use it where it holds."""
        return Determinism(self._circuit)

    def __str__(self) -> str:
        verdicts = (self.smooth, self.decomposable, self.deterministic, self.normalised, self.homogeneous)
        return "\n".join(str(verdict) for verdict in verdicts)

    def _outside(self, array: Input, first: dict[Variable, Input]) -> Verdict | None:
        """Units that are positive outside of the states that another leaf of their variable declares."""
        declared = {label: first[label].family.states for label in self._circuit.used_variables(array)}
        if isinstance(array.parameters, Sourced) or not any(declared.values()):
            return None
        sizes = array.family.support_sizes({name: p.value for name, p in array.parameters.items()})
        if sizes is None:
            return None
        for region in self._used(array):
            for label in array.variables[region]:
                states, size = declared[label], int(sizes.expand(array.shape)[region].max())
                if states is not None and size > states:
                    clash = f"in state {size - 1} in {array.family} and of {states} states in {first[label].family}"
                    return _inhomogeneous(array, label, clash)
        return None

    def _unsmooth(self, array: Units) -> Witness | None:
        children = [self._circuit.numbered_scopes(c) for c in array.children]
        found = array.unalike(self._used(array), children)
        return None if found is None else self._differ(array, *found)

    def _used(self, array: Units) -> list[int]:
        """The regions of an array that the root depends on: the others break no property."""
        return self._circuit.used(array).nonzero()[0].tolist()

    def _differ(self, array: Units, region: int, parts: list[int], what: str) -> Witness:
        scopes = [self._circuit.scope_labels(number) for number in list(dict.fromkeys(parts))[:2]]
        one, other = map(frozenset, scopes)
        shown = " and ".join(map(_set, scopes))
        return Witness(f"{array!r}, region {region}", f"{what}: {shown}", (one, other), one ^ other)

    def _overlap(self, array: AbstractProduct, region: int, factors: list[int]) -> Witness:
        """The first factor, in their order, that shares a variable with one before it, and that one."""
        first: dict[Variable, int] = {}
        for position, number in enumerate(factors):
            labels = self._circuit.scope_labels(number)
            if shared := {first[label] for label in labels if label in first}:
                one = frozenset(labels)
                earlier = self._circuit.scope_labels(factors[min(shared)])
                both = [label for label in earlier if label in one]
                shown = f"two of its factors share {_set(both)}"
                return Witness(f"{array!r}, region {region}", shown, (frozenset(earlier), one), frozenset(both))
            first |= dict.fromkeys(labels, position)
        raise AssertionError("no overlap")


def _inhomogeneous(array: Input, label: Variable, clash: str) -> Verdict:
    witness = Witness(f"{array!r} of {array.family}", f"variable {label!r} is {clash}", variables=frozenset([label]))
    return Verdict("homogeneous", False, witness)


def _clash(one: Input, other: Input) -> str | None:
    a, b = one.family, other.family
    if a.base != b.base:
        return f"a {_measure(a.base)} in {a} and a {_measure(b.base)} in {b}, which do not add"
    if a.states is not None and b.states is not None and a.states != b.states:
        return f"of {a.states} states in {a} and of {b.states} in {b}"
    return None


def _measure(base: str) -> str:
    return "density" if base == "lebesgue" else "probability mass"


def _set(labels: Sequence[Variable]) -> str:
    shown = ", ".join(repr(label) for label in labels[:6])
    return "{" + shown + (f", ... {len(labels)} in all" if len(labels) > 6 else "") + "}"
