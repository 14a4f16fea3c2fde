"""pairwise_probabilities: the joint table of two discrete variables."""

from __future__ import annotations

import torch
from torch import Tensor

from pcircuits.errors import CircuitError
from pcircuits.evidence import Evidence
from pcircuits.program.leaf_functions import Density
from pcircuits.program.passes import passes
from pcircuits.program.state import State
from pcircuits.queries.conditional import Conditional
from pcircuits.queries.tables import StateFlows, one_hot, state_counts

__all__ = ["pairwise_probabilities"]


def pairwise_probabilities(given: Conditional, first: object, second: object) -> Tensor:
    """P(X = s, Y = t | given), (S, T) or (B, S, T): for each s, an upward pass with X = s and a reverse pass to Y."""
    counts = state_counts(given.circuit_asked)
    columns = [given.columns.column(label) for label in (first, second)]
    if columns[0] == columns[1]:
        raise CircuitError(
            f"pairwise_probabilities is about two variables, and {first!r} was given twice: state_probabilities() has its table"
        )
    for column in columns:
        if given.columns.labels[column] not in counts:
            raise CircuitError(
                f"pairwise_probabilities needs variables with finitely many states, and {given.columns.labels[column]!r} has "
                "none: covariance() is about numbers, and probability(lower, upper) about any box"
            )
    size = [counts[given.columns.labels[column]] for column in columns]
    asked = [size[1] if column == columns[1] else 0 for column in range(len(given.columns.labels))]

    def answer(state: State, known: Evidence, roots: Tensor) -> Tensor:
        rows = torch.arange(known.rows, device=known.x.device).repeat_interleave(size[0])
        x, observed = known.x[rows], known.observed[rows].clone()
        states = torch.arange(size[0], dtype=x.dtype, device=x.device).repeat(known.rows)
        same = ~observed[:, columns[0]] | (x[:, columns[0]] == states)
        x[:, columns[0]], observed[:, columns[0]] = states, True
        joint = x.new_zeros((len(rows), size[1]), dtype=torch.float64)
        logs = x.new_zeros(len(rows), dtype=torch.float64)
        for part, values in passes(given.program, Density(x, observed)):
            chosen = roots[rows][part.rows].unsqueeze(1)
            logs[part.rows] = (values.logs + values.exponent).gather(1, chosen).squeeze(1)
            some = Evidence(x[part.rows], observed[part.rows])
            listener = StateFlows(some, asked)
            given.program.down(part, given.flow(chosen.squeeze(1)), listener)
            seen = one_hot(some.x[:, columns[1]], size[1])
            joint[part.rows] = torch.where(some.observed[:, columns[1] : columns[1] + 1], seen, listener.total)
        logs = torch.where(same, logs, -torch.inf).view(known.rows, size[0])
        share = _shares(logs)
        table = joint.view(known.rows, *size)
        return torch.where(share.unsqueeze(-1) > 0, share.unsqueeze(-1) * table, 0.0)

    return given.each("pairwise_probabilities", answer)


def _shares(logs: Tensor) -> Tensor:
    """Base-2 logs (B, S) as shares that add up to 1."""
    numbers = torch.exp2(logs - logs.amax(-1, keepdim=True))
    return numbers / numbers.sum(-1, keepdim=True)
