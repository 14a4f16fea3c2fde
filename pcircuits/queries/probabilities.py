"""probabilities: the distribution of each single discrete variable, given the evidence."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from pcircuits.errors import CircuitError, ScopeError
from pcircuits.evidence import Evidence
from pcircuits.program.state import State
from pcircuits.queries.conditional import Conditional
from pcircuits.queries.tables import StateFlows, state_counts
from pcircuits.scope import Variable, as_labels

__all__ = ["columns_of", "probabilities"]


def columns_of(given: Conditional, variables: Variable | Iterable[Variable], query: str) -> list[int]:
    """The columns of labels, in their order."""
    labels = as_labels(variables)
    place = {label: i for i, label in enumerate(given.columns.labels)}
    if unknown := [label for label in labels if label not in place]:
        raise ScopeError(f"{query}: {given.circuit_asked!r} has no variables {unknown[:8]}")
    return [place[label] for label in labels]


def probabilities(given: Conditional, variables: Variable | Iterable[Variable]) -> Tensor:
    """P(X_v = s | given) for some variables, (B, V, S): Σ_u flow_u · p_u(s) over the leaves of v; observed ones are certain."""
    columns = columns_of(given, variables, "probabilities")
    found = state_counts(given.circuit_asked)
    labels = given.columns.labels
    if unfit := [labels[column] for column in columns if labels[column] not in found]:
        raise CircuitError(
            f"probabilities is about variables of known numbers of states, and {unfit[:8]} are real numbers, or counts "
            "without a largest: ask mean(), or probability(lower, upper), of these"
        )
    asked = set(columns)
    counts = [found[label] if column in asked else 0 for column, label in enumerate(labels)]

    def answer(state: State, known: Evidence, roots: Tensor) -> Tensor:
        listener = StateFlows(known, counts)
        given.program.down(state, given.flow(roots), listener)
        listener.settled()
        states = torch.arange(max(counts, default=0), device=known.x.device)
        chosen = torch.tensor(columns, dtype=torch.int64, device=known.x.device)
        own = listener.counts[chosen].unsqueeze(1)
        index = torch.where(states < own, listener.offset[chosen].unsqueeze(1) + states, 0)
        return torch.where(states < own, listener.total[:, index], 0.0).to(state.dtype)

    with torch.no_grad():
        return given.each("probabilities", answer)
