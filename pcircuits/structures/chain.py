"""Chains of variables, as hidden Markov models have them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from pcircuits.scope import Variable, as_variables
from pcircuits.structures.region_graph import RegionGraph

__all__ = ["chain"]


def chain(variables: Sequence[Variable]) -> RegionGraph:
    """The region graph that splits off one variable after the other: {x_1} | {x_2, ..., x_D}, and so on.

    With `CP` layers it is a hidden Markov model with its own transitions and emissions at each step. The region of
    x_t, ..., x_D is named ("from", t) and that of x_t alone ("at", t), t counting from 0.

    **Arguments**

    - `variables`: the labels in the order of the chain.

    **Raises** `ScopeError` for labels that come twice.

    >>> chain(["monday", "tuesday", "wednesday"])
    RegionGraph(3 variables, 5 regions, 2 partitions)
    """
    labels = as_variables(variables)
    last = len(labels) - 1
    scopes: dict[Hashable, tuple[Variable, ...]] = {("from", t): labels[t:] for t in range(last)}
    scopes |= {("at", t): (labels[t],) for t in range(last + 1)}
    rest: list[Hashable] = [("from", t) if t < last else ("at", t) for t in range(last + 1)]
    return RegionGraph(scopes, {("from", t): [(("at", t), rest[t + 1])] for t in range(last)}, labels)
