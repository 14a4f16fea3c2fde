"""probabilities: the distribution of each single discrete variable, given the evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from pcircuits.circuit.circuit import Circuit
from pcircuits.errors import CircuitError, ScopeError
from pcircuits.evidence import Evidence
from pcircuits.families.interface import AbstractFamily, Parameters
from pcircuits.parameters import Sourced
from pcircuits.program.layers.layer import Flows, LeafUnits
from pcircuits.program.state import State
from pcircuits.queries.conditional import Conditional
from pcircuits.scope import OPEN_ENDED, Variable, as_labels

__all__ = ["columns_of", "probabilities"]

BLOCK = 2**20
"""How many probabilities of leaves are looked at at a time."""


class _OfStates(Flows):
    """Σ_u flow_u · p_u(s) for chosen variables and each state, (V, B, S)."""

    def __init__(self, place: Tensor, total: Tensor) -> None:
        self.place, self.total = place, total

    def tables(self, columns: Tensor, table: Callable[[], Tensor], place: Tensor | None, flow: Tensor) -> bool:
        places = self.place[columns]
        chosen = (places >= 0).nonzero().squeeze(1)
        if len(chosen):
            probs = table().to(flow.dtype).exp()
            some = flow if len(chosen) == len(flow) else flow[chosen]
            own = probs if len(probs) == 1 else probs[chosen if place is None else place[chosen]]
            part = torch.matmul(some, own[0] if len(own) == 1 else own)
            self.total[..., : part.shape[-1]].index_add_(0, places[chosen], part)
        return True

    def leaves(
        self, state: State, own: LeafUnits, begin: int, columns: Tensor, parameters: Parameters, flow: Tensor
    ) -> None:
        if own.family.size > 1:
            return
        for factor in range(columns.shape[1]):
            places = self.place[columns[:, factor, 0]]
            chosen = (places >= 0).nonzero().squeeze(1)
            size = max(1, BLOCK // (flow.shape[-1] * self.total.shape[-1]))
            for some in torch.split(chosen, size):
                of_units = {name: _rows(value, some, factor) for name, value in parameters.items()}
                self._add(own.family, places[some], of_units, flow if len(some) == len(flow) else flow[some])

    def _add(self, family: AbstractFamily, places: Tensor, parameters: Parameters, flow: Tensor) -> None:
        """Units of some regions, parameters (r, K, 1, *event) and flow (r, B, K)."""
        states = torch.arange(self.total.shape[-1], dtype=flow.dtype, device=flow.device).unsqueeze(-1)
        logs = family.log_prob(states, torch.ones_like(states, dtype=torch.bool), parameters)
        shares = logs.exp().to(flow.dtype).expand(len(places), flow.shape[-1], len(states))
        self.total.index_add_(0, places, torch.matmul(flow, shares))


def _rows(value: Tensor, rows: Tensor, factor: int) -> Tensor:
    """Of parameters (R or 1, A or 1, K, *event) those of some rows and one factor, (r, K, 1, *event)."""
    of_factor = value[:, factor if value.shape[1] > 1 else 0]
    return (of_factor if len(of_factor) == 1 else of_factor[rows]).unsqueeze(2)


def columns_of(given: Conditional, variables: Variable | Iterable[Variable], query: str) -> list[int]:
    """The columns of labels, in their order."""
    labels = as_labels(variables)
    place = {label: i for i, label in enumerate(given.columns.labels)}
    if unknown := [label for label in labels if label not in place]:
        raise ScopeError(f"{query}: {given.circuit_asked!r} has no variables {unknown[:8]}")
    return [place[label] for label in labels]


def _number_of_states(circuit: Circuit, column: int) -> int:
    """The number of states of a variable, also where it has only indicators; 0 where there is no such number."""
    if circuit.states[column] != OPEN_ENDED:
        return max(0, circuit.states[column])
    label, most = circuit.variables[column], 0
    for array in circuit.inputs:
        if label in circuit.used_variables(array):
            if isinstance(array.parameters, Sourced):
                return 0
            sizes = array.family.support_sizes({name: p.value for name, p in array.parameters.items()})
            if sizes is None:
                return 0
            most = max(most, int(sizes.max()))
    return most


def probabilities(given: Conditional, variables: Variable | Iterable[Variable]) -> Tensor:
    """P(X_v = s | given) for some variables, (B, V, S): Σ_u flow_u · p_u(s) over the leaves of v; observed ones are certain."""
    columns = columns_of(given, variables, "probabilities")
    sizes = [_number_of_states(given.circuit_asked, column) for column in columns]
    if unfit := [given.columns.labels[c] for c, size in zip(columns, sizes, strict=True) if size < 1]:
        raise CircuitError(
            f"probabilities is about variables of known numbers of states, and {unfit[:8]} are real numbers, or counts "
            "without a largest: ask mean(), or probability(lower, upper), of these"
        )
    place = torch.full((len(given.columns.labels),), -1, device=given.device)
    place[columns] = torch.arange(len(columns), device=given.device)

    def answer(state: State, known: Evidence, roots: Tensor) -> Tensor:
        shape = (len(columns), known.rows, max(sizes, default=0))
        by_variable = torch.zeros(shape, dtype=state.dtype, device=known.x.device)
        given.program.down(state, given.flow(roots), _OfStates(place, by_variable))
        total = by_variable.transpose(0, 1)
        observed = known.observed[:, columns]
        if bool(observed.any()):
            seen = torch.where(observed, known.x[:, columns], 0.0).long().unsqueeze(-1)
            certain = torch.zeros_like(total).scatter_(2, seen, 1.0)
            total = torch.where(observed.unsqueeze(-1), certain, total)
        return total

    with torch.no_grad():
        return given.each("probabilities", answer)
