"""What a strategy draws: how deep the circuits are, and how many share units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TypeVar

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.units import Units, Wiring

__all__ = ["examples", "histogram", "is_shared"]

T = TypeVar("T")


def is_shared(circuit: Circuit) -> bool:
    """Whether some array of units is used by two others (looking through wiring): no tree, but a graph.

    >>> import pcircuits as pc
    >>> a, b = pc.Bernoulli("a", 0.5), [pc.Bernoulli("b", 0.1), pc.Bernoulli("b", 0.9)]
    >>> is_shared(pc.Circuit(0.5 * (a * b[0]) + 0.5 * (a * b[1])))
    True
    """
    users: dict[int, set[int]] = {}
    for array in circuit.arrays:
        if not isinstance(array, Wiring):
            for used in _used(array):
                users.setdefault(id(used), set()).add(id(array))
    return any(len(found) > 1 for found in users.values())


def _used(array: Units) -> list[Units]:
    """The arrays below, wiring replaced by what it is wired to."""
    found, stack = [], list(array.children)
    while stack:
        child = stack.pop()
        if isinstance(child, Wiring):
            stack.extend(child.children)
        else:
            found.append(child)
    return found


def histogram(circuits: Iterable[Circuit]) -> str:
    """A table of depth against sharing; `print` it.

    >>> import pcircuits as pc
    >>> print(histogram([pc.Circuit(pc.Bernoulli("a", 0.5))]))
    depth  trees  shared
        0      1       0
    depth >= 4 and shared: 0 of 1
    """
    counts = Counter((circuit.summary().depth, is_shared(circuit)) for circuit in circuits)
    depths = sorted({depth for depth, _ in counts})
    lines = ["depth  trees  shared"]
    lines += [f"{depth:5d}  {counts[depth, False]:5d}  {counts[depth, True]:6d}" for depth in depths]
    deep = sum(count for (depth, shared), count in counts.items() if depth >= 4 and shared)
    return "\n".join([*lines, f"depth >= 4 and shared: {deep} of {sum(counts.values())}"])


def examples(strategy: st.SearchStrategy[T], count: int) -> list[T]:
    """Examples of a strategy, as many as hypothesis finds up to `count`, the same in every run.

    >>> examples(st.booleans(), 10)
    [False, True]
    """
    found: list[T] = []

    @seed(7)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def collect(example: T) -> None:
        found.append(example)

    collect()
    return found
