"""What the weights and input units of a hidden tree are before training: random, or counted in data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pcircuits.circuit.units import Units
from pcircuits.errors import EvidenceError
from pcircuits.parameters import Parameter, simplex
from pcircuits.structures.estimates import Smoothing, estimated
from pcircuits.structures.tables import Table, as_row_weights, as_table
from pcircuits.structures.weights import RandomSimplices

__all__ = ["Counts", "RandomStart", "TreeStart", "counted_start", "shares"]


class TreeStart(Protocol):
    """Where a hidden tree starts. Nodes are given by their numbers in `tree.nodes`, columns by those of the variables."""

    def prior(self, root: int, roots: int, width: int, generator: torch.Generator, /) -> Parameter:
        """p(z_r) of the root node for every root of the circuit, (1, C, K)."""

    def transitions(
        self, parents: Sequence[int], children: Sequence[int], width: int, generator: torch.Generator, /
    ) -> Parameter:
        """p(z_child | z_parent) of n edges, (n, K, K): a row for each state of the parent."""

    def emissions(self, units: Units, nodes: Sequence[int], columns: Sequence[int], /) -> Units:
        """The input units (R, K) to take for those that `leaves` made: region r is over a column of a node."""


@dataclass(frozen=True)
class RandomStart:
    """Weights are the softmax of standard normal numbers, and input units are as `leaves` made them.

    >>> RandomStart().transitions([0, 0], [1, 2], 4, torch.Generator().manual_seed(0)).shape
    torch.Size([2, 4, 4])
    """

    def prior(self, root: int, roots: int, width: int, generator: torch.Generator, /) -> Parameter:
        return RandomSimplices(generator)(1, roots, width)

    def transitions(
        self, parents: Sequence[int], children: Sequence[int], width: int, generator: torch.Generator, /
    ) -> Parameter:
        return RandomSimplices(generator)(len(children), width, width)

    def emissions(self, units: Units, nodes: Sequence[int], columns: Sequence[int], /) -> Units:
        return units


def counted_start(
    data: object,
    latents: Tensor,
    *,
    classes: Tensor | None = None,
    weights: object = None,
    pseudocount: float = 0.01,
    rows: float = 1.0,
) -> TreeStart:
    """The start of a hidden tree whose latents are known in some data: latent-variable distillation by counting.

    p(z_child = t | z_parent = s) is (n_st + a) / (n_s + K a), from the numbers n_st of rows that have both states. The input
    units of a state are those of largest likelihood on the rows that have it, by the M-step of their family, with `rows`
    more rows spread as the whole column is. So a state that no row has emits what its column does.

    **Arguments**

    - `data`: (B, D), the columns in the order of the circuit's variables; NaN is missing, and not counted.
    - `latents`: (B, N), integers 0..K-1: the state of each node, in the order of the tree's nodes; -1 where it is not known.
      `cluster_states` makes them; so does any encoder.
    - `classes`: (B,), integers 0..C-1: which root of the circuit each row belongs to. Without them all roots start alike.
    - `weights`: how much each row counts, (B,); 1 unless given.
    - `pseudocount`: a, added to every count of a pair of states, and of a state of a discrete variable.
    - `rows`: how many rows are added to those of a state.

    **Raises** `EvidenceError` for latents and classes of another shape, or out of range; where the circuit is built,
    `ParameterError` for a family without an M-step.

    Liu, Zhang and Van den Broeck (2023), *Scaling Up Probabilistic Circuits by Latent Variable Distillation*.

    >>> import networkx as nx
    >>> from pcircuits.structures import categorical_leaves, hidden_tree
    >>> data = torch.tensor([[0, 1], [0, 1], [2, 0], [2, 1]])
    >>> start = counted_start(data, torch.tensor([[0, 0], [0, 1], [1, 1], [1, 1]]), pseudocount=0.0, rows=0.0)
    >>> circuit = hidden_tree(nx.path_graph(2), categorical_leaves(3), 2, start=start, generator=torch.Generator())
    >>> circuit.compile(torch.float64).log_prob(data).exp().detach()  # 1/2 (1/2 1 + 1/2 2/3), the same, 1/2 1/3, 1/2 2/3
    tensor([0.4167, 0.4167, 0.1667, 0.3333], dtype=torch.float64)
    """
    table, latents = as_table(data).cpu(), latents.cpu()
    count = len(table.values)
    if latents.ndim != 2 or len(latents) != count or latents.is_floating_point():
        raise EvidenceError(
            f"latents have shape {tuple(latents.shape)} and dtype {latents.dtype}: {count} rows need integers ({count}, N)"
        )
    if classes is not None and (tuple(classes.shape) != (count,) or classes.is_floating_point()):
        raise EvidenceError(
            f"classes have shape {tuple(classes.shape)} and dtype {classes.dtype}: {count} rows need integers ({count},)"
        )
    counts = Counts(latents, as_row_weights(weights, count))
    return _CountedStart(
        table, counts, None if classes is None else classes.cpu(), pseudocount, Smoothing(rows, pseudocount)
    )


@dataclass(frozen=True, eq=False)
class Counts:
    """How often states of latents come, and come together.

    - `latents`: (B, N) integers, negative where a state is not known.
    - `weights`: how much each row counts, (B,); None for 1.
    """

    latents: Tensor
    weights: Tensor | None

    def states(self, node: int, width: int) -> Tensor:
        """The states of a node in all rows, (B,)."""
        states = self.latents[:, node].long()
        _check_range(f"latents of node {node}", states, width)
        return states

    def of_state(self, node: int, width: int) -> Tensor:
        """For each state the rows that have it, (K,)."""
        return self.of_pairs(torch.zeros_like(states := self.states(node, width)), states, 1, width)[0]

    def of_pairs(self, first: Tensor, second: Tensor, rows: int, columns: int) -> Tensor:
        """For each pair of integers the rows that have it, (rows, columns)."""
        known = (first >= 0) & (second >= 0)
        weights = None if self.weights is None else self.weights[known]
        pairs = first[known] * columns + second[known]
        return torch.bincount(pairs, weights, rows * columns).view(rows, columns).double()

    def of_edge(self, parent: int, child: int, width: int) -> Tensor:
        """For each state of two nodes the rows that have both, (K, K)."""
        return self.of_pairs(self.states(parent, width), self.states(child, width), width, width)


@dataclass(frozen=True, eq=False)
class _CountedStart:
    """See `counted_start`."""

    table: Table
    counts: Counts
    classes: Tensor | None
    pseudocount: float
    smoothing: Smoothing

    def prior(self, root: int, roots: int, width: int, generator: torch.Generator, /) -> Parameter:
        if self.classes is None:
            return shares(self.counts.of_state(root, width).expand(1, roots, width) + self.pseudocount)
        classes = self.classes.long()
        _check_range("classes", classes, roots)
        counts = self.counts.of_pairs(classes, self.counts.states(root, width), roots, width)
        return shares(counts.unsqueeze(0) + self.pseudocount)

    def transitions(
        self, parents: Sequence[int], children: Sequence[int], width: int, generator: torch.Generator, /
    ) -> Parameter:
        edges = zip(parents, children, strict=True)
        return shares(torch.stack([self.counts.of_edge(p, c, width) for p, c in edges]) + self.pseudocount)

    def emissions(self, units: Units, nodes: Sequence[int], columns: Sequence[int], /) -> Units:
        if (count := max(columns) + 1) != len(self.table.variables):
            raise EvidenceError(f"the data have {len(self.table.variables)} columns, and the tree has {count}")
        if (count := max(nodes) + 1) != self.counts.latents.shape[1]:
            raise EvidenceError(f"latents are given for {self.counts.latents.shape[1]} nodes, and the tree has {count}")

        def states(region: int) -> Tensor:
            return self.counts.states(nodes[region], units.width)

        return estimated(units, self.table, columns, states, self.smoothing, self.counts.weights)


def shares(counts: Tensor) -> Parameter:
    """Weights of sums in proportion to counts along the last axis; even where nothing was counted.

    >>> shares(torch.tensor([[1.0, 3.0], [0.0, 0.0]])).value.tolist()
    [[0.25, 0.75], [0.5, 0.5]]
    """
    total = counts.sum(-1, keepdim=True)
    value = torch.where(total > 0, counts / total, 1 / counts.shape[-1])
    return Parameter(value, simplex, name="the weights of a sum")


def _check_range(what: str, values: Tensor, end: int) -> None:
    least, most = int(values.min()), int(values.max())
    if least < -1 or most >= end:
        raise EvidenceError(f"{what} are {least} to {most}: they are integers 0..{end - 1} here, or -1 where not known")
