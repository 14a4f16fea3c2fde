"""Chow-Liu trees: which pairs of columns a tree-shaped distribution should join."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import minimum_spanning_tree
from torch import Tensor

from pcircuits.scope import Variable
from pcircuits.structures.information import Information, StateInformation
from pcircuits.structures.tables import as_row_weights, as_table

__all__ = ["chow_liu_tree"]

_STATES = StateInformation()


def chow_liu_tree(
    data: object,
    information: Information = _STATES,
    *,
    variables: Sequence[Variable] | None = None,
    weights: object = None,
) -> nx.Graph:
    """The spanning tree over columns whose edges have the largest total mutual information.

    Of all distributions p(x) = p(x_r) Π_v p(x_v | x_parent(v)) on trees, one on this tree has the largest likelihood. The
    tree's nodes are the labels in the order of the columns, which it also keeps as `tree.graph["variables"]`; its edges
    have the attribute `information`. It is connected, where columns are independent too.

    **Arguments**

    - `data`: (B, D); NaN is missing, and a pair of columns is judged by the rows that know both.
    - `information`: what is measured: `StateInformation()` for integers (coarse ones: x // 32 makes 8 levels of a pixel),
      `QuantileInformation(bins)` or `GaussianInformation()` for real numbers, or any `Information`.
    - `variables`: the labels of the columns; by default the names of a frame's columns, else 0..D-1.
    - `weights`: how much each row counts, (B,), such as its share in a component of a mixture.

    **Raises** `EvidenceError` for data that are no table, or do not suit `information`; `ScopeError` for labels that do
    not fit.

    Chow and Liu (1968), *Approximating Discrete Probability Distributions with Dependence Trees*.

    >>> tree = chow_liu_tree([[0, 0, 1], [0, 0, 0], [1, 1, 1], [1, 1, 1]], variables=["a", "b", "c"])
    >>> list(tree.edges), round(tree.edges["a", "b"]["information"], 4)
    ([('a', 'b'), ('a', 'c')], 0.6931)
    """
    table = as_table(data, variables)
    pairs = information(table, as_row_weights(weights, len(table.values)))
    tree = nx.Graph(variables=table.variables)
    tree.add_nodes_from(table.variables)
    for first, second in _spanning(pairs):
        tree.add_edge(table.variables[first], table.variables[second], information=float(pairs[first, second]))
    return tree


def _spanning(pairs: Tensor) -> list[tuple[int, int]]:
    """The edges of the spanning tree of largest total."""
    gain = pairs.cpu().double().numpy()
    costs = np.triu(1.0 + gain.max() - gain, 1)  # positive: a cost of zero is no edge to scipy
    found = minimum_spanning_tree(csr_array(costs)).tocoo()
    return sorted(zip(found.row.tolist(), found.col.tolist(), strict=True))
