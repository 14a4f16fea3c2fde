"""What makes regions and partitions a region graph; every error names the region and the variables."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from pcircuits.errors import CircuitError, ScopeError
from pcircuits.scope import Variable, as_variables

__all__ = ["check_partitions", "checked_scopes", "only_root", "shown"]

Scopes = Mapping[Hashable, frozenset[Variable]]
Partitions = Mapping[Hashable, tuple[tuple[Hashable, ...], ...]]


def shown(labels: Collection[Variable]) -> str:
    """A set of variables, the first few of many.

    >>> shown({3, 1})
    '{1, 3}'
    """
    ordered = sorted(labels, key=lambda label: (isinstance(label, str), label))
    more = f", ... {len(ordered)} in all" if len(ordered) > 6 else ""
    return "{" + ", ".join(map(repr, ordered[:6])) + more + "}"


def checked_scopes(scopes: Mapping[Hashable, Iterable[Variable] | Variable]) -> dict[Hashable, frozenset[Variable]]:
    """The scopes as sets; raises for none, for empty ones, and for labels that are no variables or come twice."""
    if not scopes:
        raise CircuitError("a region graph needs at least one region, and there is none")
    kept = {}
    for region, scope in scopes.items():
        try:
            labels = as_variables(scope)
        except ScopeError as error:
            raise ScopeError(f"the scope of region {region!r}: {error}") from error
        kept[region] = frozenset(labels)
        if len(kept[region]) != len(labels):
            twice = {label for label in labels if labels.count(label) > 1}
            raise ScopeError(f"the scope of region {region!r} names {shown(twice)} more than once")
    return kept


def check_partitions(
    scopes: Scopes, partitions: Mapping[Hashable, Sequence[Sequence[Hashable]]]
) -> dict[Hashable, tuple[tuple[Hashable, ...], ...]]:
    """For every region its partitions, each of which splits it; raises where one does not."""
    for region in partitions:
        if region not in scopes:
            raise ScopeError(f"there are partitions of {region!r}, which is no region: give it a scope")
    kept = {region: tuple(tuple(parts) for parts in partitions.get(region, ())) for region in scopes}
    for region, split in kept.items():
        for number, parts in enumerate(split):
            where = f"partition {number} of region {region!r}"
            if unknown := [part for part in parts if part not in scopes]:
                raise ScopeError(f"{where} names {unknown[0]!r}, which is no region: give it a scope")
            if len(parts) < 2:
                raise ScopeError(f"{where} has {len(parts)} parts: it needs two or more")
    _refuse_cycles(kept)
    for region, split in kept.items():
        for number, parts in enumerate(split):
            _check_split(f"partition {number} of region {region!r}", scopes[region], parts, scopes)
    return kept


def _refuse_cycles(partitions: Partitions) -> None:
    below = {region: [part for parts in split for part in parts] for region, split in partitions.items()}
    try:
        TopologicalSorter(below).prepare()
    except CycleError as error:
        path = " -> ".join(map(repr, reversed(error.args[1])))
        raise ScopeError(
            f"regions are parts of themselves: {path}; a part is smaller than what it is part of"
        ) from None


def _check_split(where: str, scope: frozenset[Variable], parts: Sequence[Hashable], scopes: Scopes) -> None:
    """The parts are disjoint and cover the scope."""
    first: dict[Variable, Hashable] = {}
    for part in parts:
        if both := {label for label in scopes[part] if label in first}:
            other = first[next(iter(both))]
            raise ScopeError(f"the parts {other!r} and {part!r} of {where} overlap: both hold {shown(both)}")
        first.update(dict.fromkeys(scopes[part], part))
    if missing := scope - first.keys():
        raise ScopeError(f"{where} does not cover it: no part holds {shown(missing)} of its scope {shown(scope)}")
    if excess := first.keys() - scope:
        raise ScopeError(f"{where} reaches out of it: its parts hold {shown(excess)}, its scope is {shown(scope)}")


def only_root(scopes: Scopes, partitions: Partitions) -> Hashable:
    """The region that is part of no other; raises where there are several."""
    parts = {part for split in partitions.values() for parts in split for part in parts}
    roots = [region for region in scopes if region not in parts]
    if len(roots) > 1:
        named = ", ".join(f"{region!r} over {shown(scopes[region])}" for region in roots[:4])
        raise ScopeError(
            f"a region graph has one root, and {len(roots)} regions are part of no other: {named}"
            f"{', ...' if len(roots) > 4 else ''}; leave out what the root does not need"
        )
    return roots[0]
