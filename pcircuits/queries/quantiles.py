"""quantile: of each variable by itself, by bisection of its distribution function over the floats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pcircuits.errors import CircuitError
from pcircuits.evidence import Evidence
from pcircuits.families.interface import AbstractFamily, Parameters
from pcircuits.program.layers.layer import Flows, LeafUnits
from pcircuits.program.program import Program
from pcircuits.program.state import State
from pcircuits.queries.conditional import Conditional

__all__ = ["quantile"]

STEPS = 64
"""Halvings of the range of all floats in float64: as many as they have bits."""

BLOCK = 2**22
"""How many masses of units are made at a time."""


def quantile(given: Conditional, level: object) -> Tensor:
    """The least x with P(X_v <= x | given) >= level, for each variable: (B, D), or (Q, B, D) for levels (Q,).

    P(X_v <= x) = Σ_u flow_u · P_u(X_v <= x) is compared at points that halve the range of all floats 64 times, so that no
    bracket is needed, and counts end at an integer. Levels above a half look at the tail from the other side.
    """
    if isinstance(level, Sequence | np.ndarray | Tensor) and not isinstance(level, str) and np.ndim(level) == 1:
        return torch.stack([quantile(given, one) for one in level])
    share = _level(level)

    def answer(state: State, known: Evidence, roots: Tensor) -> Tensor:
        flow = given.flow(roots)
        replay = _Replay(given.program, state, flow)
        low = torch.full(known.x.shape, _ordered(-torch.inf), dtype=torch.int64, device=known.x.device)
        high = torch.full_like(low, _ordered(torch.inf))
        slack = 8 * torch.finfo(state.dtype).eps * min(share, 1 - share)
        for _ in range(STEPS):
            middle = (low >> 1) + (high >> 1) + (low & high & 1)  # their mean, without overflow
            listener = _Tail(known, _float(middle), upper=share > 0.5)
            replay.tell(listener)
            enough = listener.total >= share - slack if share <= 0.5 else listener.total <= 1 - share + slack
            low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
        return torch.where(known.observed, known.x.double(), _float(high) + 0.0)  # no negative zeros

    return given.each("quantile", answer)


def _level(level: object) -> float:
    try:
        share = float(level)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        share = -1.0
    if not 0 < share < 1:
        raise CircuitError(
            f"the level of a quantile is {level!r}: it must be a number in (0, 1), such as 0.5 for medians"
        )
    return share


def _ordered(x: float) -> int:
    """The place of a float64 among all of them, as an int64 that grows with it."""
    bits = int(torch.tensor(x, dtype=torch.float64).view(torch.int64).item())
    return bits if bits >= 0 else bits ^ (2**63 - 1)


def _float(place: Tensor) -> Tensor:
    """The float64 at a place."""
    return torch.where(place >= 0, place, place ^ (2**63 - 1)).view(torch.float64)


class _Tail(Flows):
    """Σ_u flow_u · P_u(X_v <= x_v), or P_u(X_v > x_v), for each missing variable, (B, D), in float64."""

    def __init__(self, known: Evidence, x: Tensor, upper: bool) -> None:
        self.known, self.x, self.upper = known, x, upper
        self.total = torch.zeros_like(x)

    def leaves(
        self, state: State, own: LeafUnits, begin: int, columns: Tensor, parameters: Parameters, flow: Tensor
    ) -> None:
        wide = {name: value.double().unsqueeze(1) for name, value in parameters.items()}  # (R, 1, A, K, *event)
        size = max(1, BLOCK // (columns.numel() * flow.shape[-1]))
        for first in range(0, self.known.rows, size):
            self._of_rows(own.family, columns, wide, flow, slice(first, first + size))

    def _of_rows(
        self, family: AbstractFamily, columns: Tensor, parameters: Parameters, flow: Tensor, rows: slice
    ) -> None:
        weights = flow[:, rows].double().unsqueeze(2)  # (R, b, 1, K)
        x, observed = self.known.x[rows].double(), self.known.observed[rows]
        x, observed = (t[:, columns].transpose(0, 1).unsqueeze(3) for t in (x, observed))  # (R, b, A, 1, size)
        for member in range(columns.shape[2]):
            own = torch.arange(columns.shape[2], device=columns.device) == member
            others = observed & ~own
            at = self.x[rows][:, columns[..., member]].transpose(0, 1)[..., None, None]  # (R, b, A, 1, 1)
            infinite = torch.full_like(at, torch.inf)
            lower, upper = (above(at, family), infinite) if self.upper else (-infinite, at)
            lower, upper = torch.where(own, lower, -infinite), torch.where(own, upper, infinite)
            log = family.log_mass(lower, upper, torch.where(others, x, 0.0), others, parameters)
            if columns.shape[2] > 1:
                log = log - family.log_prob(torch.where(others, x, 0.0), others, parameters)
            part = (weights * log.exp()).sum(-1).transpose(0, 1)  # (b, R, A)
            self.total[rows].index_add_(1, columns[..., member].flatten(), part.flatten(1))


def above(x: Tensor, family: AbstractFamily) -> Tensor:
    """The least value above x that a variable of the family may take: the next integer, or the next float."""
    return x.floor() + 1 if family.base == "counting" else torch.nextafter(x, torch.full_like(x, torch.inf))


@dataclass
class _Replay(Flows):
    """The flows of all leaves, kept from one reverse pass where memory allows; else every listener has a pass of its own."""

    program: Program
    state: State
    flow: Tensor
    kept: list[tuple[LeafUnits, int, Tensor, Parameters, Tensor]] = field(default_factory=list)
    size: int = 0

    def __post_init__(self) -> None:
        if not self.program.chunked or not len(self.program.sources):
            self.program.down(self.state, self.flow, self)

    def leaves(
        self, state: State, own: LeafUnits, begin: int, columns: Tensor, parameters: Parameters, flow: Tensor
    ) -> None:
        self.size += flow.numel() * flow.element_size()
        if self.program.chunked and 4 * self.size > self.program.memory:
            self.kept.clear()
        else:
            self.kept.append((own, begin, columns, parameters, flow))

    def tell(self, listener: Flows) -> None:
        """Tell a listener of all leaves."""
        if not self.kept or (self.program.chunked and 4 * self.size > self.program.memory):
            self.program.down(self.state, self.flow, listener)
            return
        for leaves in self.kept:
            listener.leaves(self.state, *leaves)
