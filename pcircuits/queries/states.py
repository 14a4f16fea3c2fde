"""P(X_v = s | given) of every state of one variable: flows of its leaf units times their probabilities."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pcircuits.errors import CircuitError
from pcircuits.evidence import Evidence
from pcircuits.families.interface import Parameters
from pcircuits.program.layers.layer import Flows, LeafUnits
from pcircuits.program.state import State
from pcircuits.queries.conditional import Conditional
from pcircuits.scope import Variable

__all__ = ["state_probabilities"]


class _States(Flows):
    """Σ_u flow_u · p_u(s) over the leaf units of one column, (B, S)."""

    def __init__(self, column: int, total: Tensor) -> None:
        self.column, self.total = column, total
        self.values = torch.arange(total.shape[1], dtype=total.dtype, device=total.device).view(-1, 1, 1)

    def leaves(
        self, state: State, own: LeafUnits, begin: int, columns: Tensor, parameters: Parameters, flow: Tensor
    ) -> None:
        family, here = own.family, (columns == self.column).any(-1)
        if bool(here.any()) and columns.shape[2] > 1:
            raise CircuitError(
                f"column {self.column} is part of {family} over several variables: ask for the probability of one state at "
                "a time, by given(...).log_prob"
            )
        for region, factor in here.nonzero().tolist():
            of_unit = {name: value[region, factor] for name, value in parameters.items()}
            seen = torch.ones((), dtype=torch.bool, device=columns.device).view(1, 1, 1)
            probs = family.log_prob(self.values, seen, of_unit).exp().to(flow.dtype)  # (S, K)
            self.total += torch.matmul(flow[region], probs.expand(-1, flow.shape[-1]).T)


def state_probabilities(given: Conditional, variable: Variable, states: int) -> Float[Tensor, "B S"]:
    """P(X_v = s | given) for s in 0..S−1, (B, S), by one pass up and one down for all states together.

    Asking `log_prob` of every state would take S passes up. Nothing is subtracted, so that small probabilities keep
    their digits, and a state that is impossible has probability 0.

    **Arguments**

    - `given`: a model given evidence, which does not hold the variable.
    - `variable`: the label of a discrete variable.
    - `states`: S.

    **Raises** `ScopeError` for a label that is none; `CircuitError` where the variable's leaves are over several.

    >>> import pcircuits as pc
    >>> a, b = pc.Bernoulli("a", [0.2, 0.8]), pc.Bernoulli("b", [0.2, 0.8])
    >>> model = pc.Circuit((a * b).sum([0.5, 0.5])).compile()
    >>> state_probabilities(model.given({"a": 1}), "b", 2)  # P(b | a) = (0.2 · 0.2 + 0.8 · 0.8) / 2 / 0.5
    tensor([[0.3200, 0.6800]])
    """
    column = given.columns.column(variable)

    def answer(state: State, known: Evidence, roots: Tensor) -> Tensor:
        total = torch.zeros((known.rows, states), dtype=state.dtype, device=known.x.device)
        given.program.down(state, given.flow(roots), _States(column, total))
        return total

    with torch.no_grad():
        return given.each("state_probabilities", answer)
