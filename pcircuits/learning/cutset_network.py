"""Cutset networks: deterministic circuits that branch on variables, with Chow-Liu trees below."""

from __future__ import annotations

import math
from dataclasses import dataclass

import networkx as nx
import torch
from torch import Tensor

from pcircuits.circuit.algebra import mixture
from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.leaves import Categorical, Indicator
from pcircuits.circuit.units import Product, Units
from pcircuits.errors import EvidenceError
from pcircuits.families.fields import integer
from pcircuits.parameters import Parameter, simplex
from pcircuits.scope import Variable
from pcircuits.structures.chow_liu import chow_liu_tree
from pcircuits.structures.information import StateInformation
from pcircuits.structures.observed_trees import observed_tree
from pcircuits.structures.tables import Table, as_table

__all__ = ["CutsetReport", "Split", "cutset_network"]


@dataclass(frozen=True)
class Split:
    """A branching: where it is, as the states of the variables branched on before, on what, and the nats it gains."""

    path: tuple[tuple[Variable, int], ...]
    variable: Variable
    gain: float


@dataclass(frozen=True)
class CutsetReport:
    """The branchings in the order in which they were made, the number of Chow-Liu trees, and the log-likelihood of the data."""

    splits: tuple[Split, ...]
    trees: int
    log_likelihood: float


@dataclass
class _Node:
    """Rows that agree on the variables branched on; what their distribution is, once it is known."""

    rows: Tensor
    columns: list[int]
    path: tuple[tuple[Variable, int], ...]
    circuit: Circuit
    value: float
    parameters: int
    split: int | None = None
    children: tuple[_Node, ...] = ()
    shares: Tensor | None = None


def cutset_network(
    data: object, *, most_splits: int = 10, least_rows: int = 50, pseudocount: float = 0.1
) -> tuple[Circuit, CutsetReport]:
    """A deterministic circuit: branchings Σ_s w_s [x_v = s] p(rest | s), with Chow-Liu trees where no branching pays.

    A part of the data is branched on the variable that has most mutual information with all others in it, if the
    log-likelihood gains more than ½ log n for each parameter more (BIC). The part that gains most is branched first.
    `map` of such a circuit is exact.

    **Arguments**

    - `data`: (B, D), integers from 0, without missing values, of at least two columns.
    - `most_splits`: how many branchings there are at most.
    - `least_rows`: parts with fewer rows are not branched.
    - `pseudocount`: added to every count of a state, and of a pair of states.

    **Raises** `EvidenceError` for missing values, numbers that are no integers from 0, and for fewer than two columns.

    **Source**: Rahman, Kothalkar and Gogate 2014, *Cutset networks*; Di Mauro, Vergari and Esposito 2015, *Learning
    accurate cutset networks by exploiting decomposability*, for the choice by BIC.

    >>> data = torch.tensor([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]] * 50)  # the third is whether the others differ
    >>> circuit, report = cutset_network(data)
    >>> report.splits[0].gain > 100, bool(circuit.check().deterministic)  # 200 log 2 = 139 nats, less the parameters' cost
    (True, True)
    """
    most_splits, least_rows = integer(most_splits, "most_splits", least=0), integer(least_rows, "least_rows", least=2)
    table = as_table(data)
    if table.known is not None:
        raise EvidenceError("cutset_network needs data without missing values: hidden_tree and em take them")
    if table.values.shape[1] < 2:
        raise EvidenceError("cutset_network needs at least two columns")
    learner = _Learner(table, pseudocount, least_rows)
    root = learner.leaf(torch.arange(len(table.values)), list(range(table.values.shape[1])), ())
    open_nodes, splits = [(learner.branched(root), root)], []
    while len(splits) < most_splits:
        found = max(open_nodes, key=lambda pair: pair[0].value if pair[0] is not None else -math.inf, default=None)
        if found is None or found[0] is None:
            break
        open_nodes.remove(found)
        branching, node = found
        node.split, node.children, node.shares = branching.split, branching.children, branching.shares
        splits.append(Split(node.path, table.variables[branching.columns[0]], branching.value))
        open_nodes += [(learner.branched(child), child) for child in node.children]
    circuit = Circuit(_assembled(root, table), table.variables)
    value = circuit.compile(dtype=torch.float64).log_prob(table.values.double()).sum().item()
    return circuit, CutsetReport(tuple(splits), len(open_nodes), value)


class _Learner:
    """Fits the parts of a table."""

    def __init__(self, table: Table, pseudocount: float, least_rows: int) -> None:
        self.table, self.pseudocount, self.least_rows = table, pseudocount, least_rows
        self.sizes = [int(most) + 1 for most in table.values.amax(0)]

    def leaf(self, rows: Tensor, columns: list[int], path: tuple[tuple[Variable, int], ...]) -> _Node:
        """A Chow-Liu tree over some columns of some rows, all states of which are possible."""
        values = self.table.values[rows][:, columns].double()
        labels = [self.table.variables[column] for column in columns]
        if len(columns) == 1:
            counts = torch.bincount(values[:, 0].long(), minlength=self.sizes[columns[0]]).double() + self.pseudocount
            circuit = Circuit(Categorical(labels[0], counts / counts.sum()))
        else:
            tree = chow_liu_tree(values, variables=labels)
            largest = torch.full((len(columns), len(columns)), torch.nan, dtype=torch.float64)
            largest.fill_diagonal_(0.0)
            largest += torch.tensor([self.sizes[column] - 1.0 for column in columns]).double()
            weights = torch.cat([torch.ones(len(rows)), torch.zeros(len(columns))])
            circuit = observed_tree(tree, torch.cat([values, largest]), weights=weights, pseudocount=self.pseudocount)
        value = circuit.compile(dtype=torch.float64).log_prob(values).sum().item()
        return _Node(
            rows, columns, path, circuit, value, self._cost(columns, tree if len(columns) > 1 else None, labels)
        )

    def _cost(self, columns: list[int], tree: nx.Graph | None, labels: list[Variable]) -> int:
        """The number of free parameters of a tree."""
        size = {label: self.sizes[column] for label, column in zip(labels, columns, strict=True)}
        free = sum(count - 1 for count in size.values())
        return free + (sum((size[a] - 1) * (size[b] - 1) for a, b in tree.edges) if tree is not None else 0)

    def branched(self, node: _Node) -> _Node | None:
        """The same part branched on a variable, with the gain as its value; None where that does not pay."""
        if len(node.rows) < self.least_rows or len(node.columns) < 2:
            return None
        values = self.table.values[node.rows][:, node.columns]
        pairs = StateInformation()(as_table(values), None)
        best = int((pairs.sum(1) - pairs.diagonal()).argmax())
        column, states = node.columns[best], values[:, best].long()
        rest = [other for other in node.columns if other != column]
        counts = torch.bincount(states, minlength=self.sizes[column]).double() + self.pseudocount
        shares = counts / counts.sum()
        label = self.table.variables[column]
        children = []
        for state in range(self.sizes[column]):
            own = node.rows[states == state]
            if not len(own):
                return None  # a state that this part does not have: its tree would be made of pseudocounts alone
            children.append(self.leaf(own, rest, (*node.path, (label, state))))
        value = sum(child.value for child in children) + float((torch.bincount(states) * shares.log()).sum())
        more = sum(child.parameters for child in children) + self.sizes[column] - 1 - node.parameters
        gain = value - node.value - 0.5 * math.log(len(self.table.values)) * more
        if gain <= 0:
            return None
        return _Node(node.rows, [column, *rest], node.path, node.circuit, gain, 0, column, tuple(children), shares)


def _assembled(root: _Node, table: Table) -> Units:
    """The units of a network, from the leaves up."""
    order, waiting = [], [root]
    while waiting:
        node = waiting.pop()
        order.append(node)
        waiting += node.children
    made: dict[int, Units] = {}
    for node in reversed(order):
        if node.split is None or node.shares is None:
            made[id(node)] = node.circuit.root
            continue
        label = table.variables[node.split]
        terms: list[Units] = [
            Product([Indicator(label, state), made[id(child)]]) for state, child in enumerate(node.children)
        ]
        made[id(node)] = mixture(Parameter(node.shares, simplex), terms)
    return made[id(root)]
