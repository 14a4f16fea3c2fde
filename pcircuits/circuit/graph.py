"""Walks over arrays of units: children before parents, whatever the depth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pcircuits.circuit.kinds.interface import Units

__all__ = ["fold", "topological"]

T = TypeVar("T")


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
