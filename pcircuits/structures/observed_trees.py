"""Trees whose latents are the columns themselves, as Chow and Liu have them, and mixtures of such trees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx
import torch
from torch import Tensor

from pcircuits.circuit.algebra import concat, mixture
from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.leaves import inputs
from pcircuits.circuit.units import Units
from pcircuits.errors import EvidenceError
from pcircuits.families import Indicator
from pcircuits.families.fields import integer
from pcircuits.parameters import Parameter
from pcircuits.scope import Variable, order
from pcircuits.structures.chow_liu import chow_liu_tree
from pcircuits.structures.clusters import cluster_states
from pcircuits.structures.hidden_tree import hidden_tree
from pcircuits.structures.information import Information, StateInformation
from pcircuits.structures.tables import Table, as_row_weights, as_table
from pcircuits.structures.tree_starts import Counts, shares

__all__ = ["indicator_leaves", "mixture_of_trees", "observed_tree"]

_STATES = StateInformation()


def indicator_leaves(variables: Sequence[Variable], width: int, generator: torch.Generator) -> Units:
    """Unit k of a variable is 1 at the state k, and 0 elsewhere; a maker of `Leaves` that draws nothing.

    >>> indicator_leaves(["a", "b"], 3, torch.Generator())
    Input(2, 3)
    """
    return inputs(Indicator(), variables, {"state": torch.arange(width).expand(len(variables), width)})


def observed_tree(
    tree: nx.Graph,
    data: object,
    *,
    states: int | None = None,
    weights: object = None,
    pseudocount: float = 0.1,
) -> Circuit:
    """The distribution p(x) = p(x_r) Π_v p(x_v | x_parent(v)) on a tree over columns, counted in data.

    It is a hidden tree in which the state of a latent is the value of its column. Such a circuit is deterministic, so that
    `map` is exact. With `chow_liu_tree(data)` and no pseudocount no distribution on a tree has a larger likelihood.

    **Arguments**

    - `tree`: a connected networkx graph without cycles over the columns; see `hidden_tree`.
    - `data`: (B, D), integers from 0, the columns in the order of the circuit's variables; NaN is missing.
    - `states`: S, how many states every column has; unless given, a column has those up to its largest value, and what is
      larger is impossible.
    - `weights`: how much each row counts, (B,); 1 unless given.
    - `pseudocount`: added to the count of every pair of states.

    **Raises** `EvidenceError` for other values, and for another number of columns; `ScopeError` for what is no tree.

    Chow and Liu (1968), *Approximating Discrete Probability Distributions with Dependence Trees*.

    >>> data = torch.tensor([[0, 0], [0, 0], [1, 1], [1, 0]])
    >>> circuit = observed_tree(chow_liu_tree(data), data, pseudocount=0.0)
    >>> circuit.compile(torch.float64).log_prob(data).exp().detach(), bool(circuit.check().deterministic)
    (tensor([0.5000, 0.5000, 0.2500, 0.2500], dtype=torch.float64), True)
    """
    table = as_table(data).cpu()
    if len(table.variables) != len(tree):
        raise EvidenceError(f"the data have {len(table.variables)} columns, and the tree has {len(tree)} nodes")
    values = _states(table, states)
    place = {label: number for number, label in enumerate(order(tree, tree.graph.get("variables")))}
    of_nodes = values[:, [place[node] for node in tree]]
    sizes = [int(most) + 1 for most in of_nodes.amax(0).clamp(min=0)] if states is None else [states] * len(tree)
    start = _ObservedStart(Counts(of_nodes, as_row_weights(weights, len(values))), sizes, pseudocount)
    return hidden_tree(tree, indicator_leaves, max(sizes), 1, start, generator=torch.Generator())


def _states(table: Table, states: int | None) -> Tensor:
    """The values as integers, (B, D), -1 where they are missing."""
    values, most = table.values, math.inf if states is None else integer(states, "states", least=1) - 1
    if bool((bad := (values < 0) | (values > most) | (values != values.long())).any()):
        row, column = bad.nonzero()[0].tolist()
        wanted = "an integer from 0" if states is None else f"an integer in 0..{most}"
        raise EvidenceError(f"data[{row}, {column}] is {values[row, column].item()!r}: it must be {wanted}")
    return values.long() if table.known is None else values.long().masked_fill(~table.known, -1)


@dataclass(frozen=True, eq=False)
class _ObservedStart:
    """See `observed_tree`; `sizes` are the numbers of states of the nodes, beyond which nothing has a weight."""

    counts: Counts
    sizes: Sequence[int]
    pseudocount: float

    def prior(self, root: int, roots: int, width: int, generator: torch.Generator, /) -> Parameter:
        return shares((self.counts.of_state(root, width) + self._added(root, width)).expand(1, roots, width))

    def transitions(
        self, parents: Sequence[int], children: Sequence[int], width: int, generator: torch.Generator, /
    ) -> Parameter:
        edges = zip(parents, children, strict=True)
        return shares(torch.stack([self.counts.of_edge(p, c, width) + self._added(c, width) for p, c in edges]))

    def emissions(self, units: Units, nodes: Sequence[int], columns: Sequence[int], /) -> Units:
        return units

    def _added(self, node: int, width: int) -> Tensor:
        return self.pseudocount * (torch.arange(width) < self.sizes[node]).double()


def mixture_of_trees(
    data: object,
    components: int,
    information: Information = _STATES,
    *,
    variables: Sequence[Variable] | None = None,
    states: int | None = None,
    pseudocount: float = 0.1,
    sweeps: int = 50,
    tolerance: float = 1e-4,
    generator: torch.Generator,
) -> Circuit:
    """A mixture of distributions on trees, p(x) = Σ_k λ_k T_k(x), each on a Chow-Liu tree of its own.

    By expectation-maximisation: rows are shared out among the trees in the proportion of λ_k T_k(x), and every tree is
    learnt again from its shares. It begins with the clusters of `cluster_states`, and ends in a local maximum: where it
    matters, take the best of several generators by data of validation.

    **Arguments**

    - `data`: (B, D), integers from 0; NaN is missing, and summed out where rows are shared out.
    - `components`: K, the number of trees.
    - `information`: what trees are learnt by; see `chow_liu_tree`.
    - `variables`: the labels of the columns; by default the names of a frame's columns, else 0..D-1.
    - `states`, `pseudocount`: see `observed_tree`.
    - `sweeps`: how often trees are learnt at most.
    - `tolerance`: learning stops where a sweep raises the mean log-likelihood of a row by less, in nats.
    - `generator`: what the first clusters are drawn from.

    **Raises** `EvidenceError` for other values, `ParameterError` for fewer than one component or sweep.

    Meilă and Jordan (2000), *Learning with Mixtures of Trees*.

    >>> data = torch.tensor([[0, 0, 1], [0, 0, 0], [1, 1, 0], [1, 0, 1]])
    >>> mixture_of_trees(data, 2, generator=torch.Generator().manual_seed(0)).variables
    (0, 1, 2)
    """
    table = as_table(data, variables).cpu()
    components, sweeps = integer(components, "components", least=1), integer(sweeps, "sweeps", least=1)
    rows = table.values.double() if table.known is None else table.values.double().masked_fill(~table.known, torch.nan)
    clusters = cluster_states(data, [range(rows.shape[1])], components, generator=generator)[:, 0].long()
    shared = 0.9 * torch.nn.functional.one_hot(clusters, components).double() + 0.1 / components
    before = -torch.inf
    for _ in range(sweeps):
        trees = []
        for share in shared.T:
            tree = chow_liu_tree(rows, information, variables=table.variables, weights=share)
            trees.append(observed_tree(tree, rows, states=states, weights=share, pseudocount=pseudocount))
        sizes = shared.mean(0)
        together = Circuit(concat([tree.root for tree in trees], axis="width"), table.variables)
        with torch.no_grad():
            log_prob = together.compile(torch.float64).log_prob(rows).view(len(rows), components) + sizes.log()
        mean = float(log_prob.logsumexp(1).mean())
        if mean - before < tolerance:
            break
        before, shared = mean, log_prob.softmax(1).clamp(min=1e-12)  # so that no tree is ever without rows
    return Circuit(mixture(sizes / sizes.sum(), [tree.root for tree in trees]), table.variables)
