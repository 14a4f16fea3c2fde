"""The properties of a circuit, computed by folds: smooth, decomposable, homogeneous, normalised, deterministic."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.determinism import Determinism
from pcircuits.circuit.mass import log_masses
from pcircuits.circuit.units import Input, Mix, Outer, Product, Units, Wiring
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
        for array in self._circuit.products:
            for region, factors in self._factors(array):
                union = 0
                for scope in factors:
                    if union & scope:
                        return Verdict("decomposable", False, self._overlap(array, region, factors))
                    union |= scope
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
        scopes = self._circuit.region_scopes
        if isinstance(array, Mix):
            children = [scopes(c) for c in array.children]
            for region in self._used(array):
                parts = [c[region] if len(c) > 1 else c[0] for c in children]
                if len(set(parts)) > 1:
                    return self._differ(array, region, parts, "its inputs have different scopes")
        if isinstance(array, Wiring) and array.column is not None:
            children = [scopes(c) for c in array.children]
            for region in self._used(array):
                pairs = dict.fromkeys(zip(array.child[region].tolist(), array.region[region].tolist(), strict=True))
                parts = [children[c][r] for c, r in pairs]
                if len(set(parts)) > 1:
                    return self._differ(
                        array, region, parts, "a region is wired together from units of different scopes"
                    )
        return None

    def _used(self, array: Units) -> list[int]:
        """The regions of an array that the root depends on: the others break no property."""
        return self._circuit.used(array).nonzero()[0].tolist()

    def _factors(self, array: Product | Outer) -> Iterable[tuple[int, list[int]]]:
        """For each used region, the scopes of its factors."""
        children = [self._circuit.region_scopes(c) for c in array.children]
        if isinstance(array, Product) and array.groups is not None:
            groups = array.groups
            return ((region, [children[0][r] for r in groups[region]]) for region in self._used(array))
        return ((region, [c[region] if len(c) > 1 else c[0] for c in children]) for region in self._used(array))

    def _differ(self, array: Units, region: int, parts: list[int], what: str) -> Witness:
        distinct = list(dict.fromkeys(parts))[:2]
        labels = tuple(self._circuit.labels(s) for s in distinct)
        shown = " and ".join(_set(self._circuit, s) for s in distinct)
        return Witness(f"{array!r}, region {region}", f"{what}: {shown}", labels, labels[0] ^ labels[1])

    def _overlap(self, array: Units, region: int, factors: list[int]) -> Witness:
        for i, one in enumerate(factors):
            for other in factors[:i]:
                if one & other:
                    shown = f"two of its factors share {_set(self._circuit, one & other)}"
                    scopes = (self._circuit.labels(other), self._circuit.labels(one))
                    return Witness(f"{array!r}, region {region}", shown, scopes, self._circuit.labels(one & other))
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


def _set(circuit: Circuit, scope: int) -> str:
    labels = [repr(label) for label in circuit.ordered_labels(scope)]
    return "{" + ", ".join(labels[:6]) + (f", ... {len(labels)} in all" if len(labels) > 6 else "") + "}"
