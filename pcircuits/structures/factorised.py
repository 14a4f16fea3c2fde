"""Independent variables: the region graph of mixtures of products."""

from __future__ import annotations

from collections.abc import Sequence

from pcircuits.scope import Variable, as_variables
from pcircuits.structures.region_graph import RegionGraph

__all__ = ["factorised"]


def factorised(variables: Sequence[Variable]) -> RegionGraph:
    """The region graph of one region that nothing splits: given a unit of it, all variables are independent.

    With `layered` and a width of 1 it is the fully factorised distribution, with K a mixture of K of them. Its region is
    named "all".

    **Arguments**

    - `variables`: the labels, in the order of the data's columns.

    **Raises** `ScopeError` for labels that come twice.

    >>> import torch
    >>> from pcircuits.structures import bernoulli_leaves, layered
    >>> layered(factorised("abc"), bernoulli_leaves(), 5, generator=torch.Generator().manual_seed(0)).summary().parameters
    20
    """
    labels = as_variables(list(variables))
    return RegionGraph({"all": labels}, {}, labels)
