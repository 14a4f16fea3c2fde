"""state_probabilities and marginal_modes: a table for each discrete variable, from one reverse pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from pcircuits.circuit.circuit import Circuit
from pcircuits.evidence import Evidence
from pcircuits.families.finite import AbstractFinite
from pcircuits.families.interface import AbstractFamily, Parameters
from pcircuits.parameters import Sourced
from pcircuits.program.layers.layer import Flows, LeafUnits
from pcircuits.program.state import State
from pcircuits.queries.conditional import Conditional
from pcircuits.scope import OPEN_ENDED, Variable

__all__ = ["StateFlows", "marginal_modes", "one_hot", "state_counts", "state_probabilities"]

BLOCK = 2**22
"""How many probabilities of units' states are made at a time."""


def state_counts(circuit: Circuit) -> dict[Variable, int]:
    """The number of states of each variable that has finitely many, in the order of the circuit's variables.

    A variable that has only indicators has the states up to the largest of theirs.

    >>> import pcircuits as pc
    >>> state_counts(pc.Circuit(pc.Indicator("a", 2) * pc.Categorical("b", [0.5, 0.5]) * pc.Normal("c", 0.0, 1.0)))
    {'a': 3, 'b': 2}
    """
    counts = dict(zip(circuit.variables, circuit.states, strict=True))
    opened = {label for label, count in counts.items() if count == OPEN_ENDED}
    endless: set[Variable] = set()
    for array in circuit.inputs if opened else ():
        if opened.isdisjoint(label for labels in array.variables for label in labels):
            continue
        sizes = None
        if not isinstance(array.parameters, Sourced):
            sizes = array.family.support_sizes({name: p.value for name, p in array.parameters.items()})
        for region, labels in enumerate(array.variables):
            for label in opened.intersection(labels):
                if sizes is None:
                    endless.add(label)
                else:
                    own = int(sizes.expand(array.shape)[region].max().item())
                    counts[label] = max(counts[label], own)
    return {label: count for label, count in counts.items() if count > 0 and label not in endless}


class StateFlows(Flows):
    """Σ_u flow_u · p_u(s) over the leaf units u of chosen variables, (B, all their states).

    The states of a column c begin at `offset[c]`; a column that is not asked for has no states.
    """

    def __init__(self, known: Evidence, counts: Sequence[int]) -> None:
        self.known = known
        self.counts = torch.tensor(counts, dtype=torch.int64, device=known.x.device)
        self.offset = self.counts.cumsum(0) - self.counts
        self.total = known.x.new_zeros((known.rows, sum(counts)), dtype=torch.float64)

    def settled(self) -> Tensor:
        """The total, with 1 at the states that were observed of the columns asked for and 0 at their others."""
        for column in (self.known.observed.any(0) & (self.counts > 0)).nonzero().flatten().tolist():
            start, count = int(self.offset[column]), int(self.counts[column])
            own = self.total[:, start : start + count]
            seen = one_hot(self.known.x[:, column], count)
            own.copy_(torch.where(self.known.observed[:, column : column + 1], seen, own))
        return self.total

    def tables(self, columns: Tensor, table: Callable[[], Tensor], place: Tensor | None, flow: Tensor) -> bool:
        """Units that look their states up in a table: a product of flows with it, for all units of a number of states."""
        counts = self.counts[columns]
        for count in torch.unique(counts).tolist():
            chosen = (counts == count).nonzero().squeeze(1)
            if not count:
                continue
            probs = table().double().exp()
            own = probs if len(probs) == 1 else probs[chosen if place is None else place[chosen]]
            found = torch.matmul(flow[chosen].double(), own)[..., :count]  # (n, B, S)
            self._add(columns[chosen], found)
        return True

    def _add(self, columns: Tensor, found: Tensor) -> None:
        """Add the probabilities (n, B, S) of states of columns (n,)."""
        index = self.offset[columns].unsqueeze(1) + torch.arange(found.shape[-1], device=found.device)
        self.total.index_add_(1, index.flatten(), found.transpose(0, 1).flatten(1))

    def leaves(
        self, state: State, own: LeafUnits, begin: int, columns: Tensor, parameters: Parameters, flow: Tensor
    ) -> None:
        for member in range(columns.shape[2]):
            counts = self.counts[columns[..., member]]
            for count in torch.unique(counts).tolist():  # regions with one number of states are weighed together
                if count:
                    region, factor = (counts == count).nonzero(as_tuple=True)
                    self._weigh(own.family, columns, parameters, flow, region, factor, member, count)

    def _weigh(
        self,
        family: AbstractFamily,
        columns: Tensor,
        parameters: Parameters,
        flow: Tensor,
        region: Tensor,
        factor: Tensor,
        member: int,
        count: int,
    ) -> None:
        width = flow.shape[-1]
        rows = 1 if columns.shape[2] == 1 else self.known.rows
        size = max(1, BLOCK // (count * width * rows))
        for begin in range(0, len(region), size):
            r, a = region[begin : begin + size], factor[begin : begin + size]
            chosen = {name: _rows(value, r, a) for name, value in parameters.items()}
            table = self._table(family, columns[r, a], chosen, member, count)  # (n, K, S), or (n, B, K, S)
            weights = flow[r].double()  # (n, B, K)
            table = table.expand(*table.shape[:-2], width, count)
            by_row = table.ndim == 4
            found = torch.matmul(weights.unsqueeze(-2), table).squeeze(-2) if by_row else torch.matmul(weights, table)
            self._add(columns[r, a, member], found)

    def _table(
        self, family: AbstractFamily, columns: Tensor, parameters: Parameters, member: int, count: int
    ) -> Tensor:
        """P(X_member = s | what is observed of the unit's variables), (n, K, S), or (n, B, K, S)."""
        if isinstance(family, AbstractFinite):
            return family.log_table(parameters).double().exp()
        x = torch.zeros((1, 1, 1, 1), dtype=torch.float64, device=columns.device)
        observed = x > 0
        if columns.shape[1] > 1:  # (1, n, B, 1, size): the rows of data are an axis of their own
            x, observed = (
                t[:, columns].transpose(0, 1).unsqueeze(2).unsqueeze(0)
                for t in (self.known.x.double(), self.known.observed)
            )
            parameters = {name: value.unsqueeze(1) for name, value in parameters.items()}
        x = torch.where(observed, x, 0.0)
        own = torch.arange(columns.shape[1], device=columns.device) == member
        states = torch.arange(count, dtype=torch.float64, device=columns.device)
        asked = torch.where(own, states.view(-1, *[1] * (x.ndim - 1)), x)
        wide = {name: value.double() for name, value in parameters.items()}
        both = family.log_prob(asked, observed | own, wide)
        if columns.shape[1] > 1:
            both = both - family.log_prob(x, observed & ~own, wide)
        return both.exp().movedim(0, -1)


def _rows(value: Tensor, region: Tensor, factor: Tensor) -> Tensor:
    """Parameters (R, A, K, *event) of which leading sizes of 1 repeat, at pairs (n,): (n, K, *event)."""
    return value[region if value.shape[0] > 1 else 0 * region, factor if value.shape[1] > 1 else 0 * factor]


def one_hot(x: Tensor, count: int) -> Tensor:
    """1 at the state of x (...) and 0 at the others, (..., S), in float64.

    >>> one_hot(torch.tensor([1.0]), 3).tolist()
    [[0.0, 1.0, 0.0]]
    """
    return (x.unsqueeze(-1) == torch.arange(count, dtype=x.dtype, device=x.device)).double()


def state_probabilities(given: Conditional) -> dict[Variable, Tensor]:
    """P(X_v = s | given) for every discrete variable v with finitely many states: by label, (S,) or (B, S)."""
    counts = state_counts(given.circuit_asked)
    by_column = [counts.get(label, 0) for label in given.columns.labels]

    def answer(state: State, known: Evidence, roots: Tensor) -> Tensor:
        listener = StateFlows(known, by_column)
        given.program.down(state, given.flow(roots), listener)
        return listener.settled()

    found = given.each("state_probabilities", answer)
    ends = np.cumsum([0, *counts.values()]).tolist()
    return {label: found[..., a:b] for label, (a, b) in zip(counts, pairwise(ends), strict=True)}


def marginal_modes(given: Conditional) -> dict[Variable, Tensor]:
    """The most probable state of every discrete variable by itself: by label, () or (B,)."""
    return {label: table.argmax(-1).to(given.dtype) for label, table in state_probabilities(given).items()}
