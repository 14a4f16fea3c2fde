"""`Enumeration`: the joint distribution of a finite circuit as a table; every query is a sum or a maximum over it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping

from pcircuits.circuit.circuit import Circuit
from pcircuits.errors import CircuitError, EvidenceError
from pcircuits.scope import Variable
from pcircuits.testing.oracle.arithmetic import log_sum
from pcircuits.testing.oracle.leaves import LEAVES, Build
from pcircuits.testing.oracle.oracle import Best, Oracle, Row

__all__ = ["Enumeration"]

Assignment = tuple[float, ...]
"""A value for every variable, in the order of the columns."""


class Enumeration:
    """All assignments of a circuit of finite support with their log-values.

    Only full assignments are ever evaluated, so nothing here leans on smoothness or decomposability: it is what the
    oracle, too, is tested against.

    **Raises** `CircuitError` for densities, and for more than `limit` assignments.

    >>> import pcircuits as pc
    >>> table = Enumeration(pc.Circuit(0.5 * pc.Indicator("a", 0) + 0.5 * pc.Indicator("a", 3)))
    >>> table.enumerate()
    {(0.0,): 0.5, (3.0,): 0.5}
    """

    def __init__(
        self, circuit: Circuit, root: int = 0, leaves: Mapping[str, Build] = LEAVES, limit: int = 20_000
    ) -> None:
        oracle = Oracle(circuit, leaves)
        self.variables = circuit.variables
        states = [oracle.candidates(label) for label in self.variables]
        if any(leaf.states is None for found in oracle.leaves_of.values() for leaf in found):
            raise CircuitError("a circuit with densities cannot be enumerated: use Oracle")
        if (number := math.prod(map(len, states))) > limit:
            raise CircuitError(f"{number} assignments are more than the limit of {limit}")
        self.log_values: dict[Assignment, float] = {
            values: oracle.log_value(dict(zip(self.variables, values, strict=True)), root)
            for values in itertools.product(*states)
        }

    def enumerate(self) -> dict[Assignment, float]:
        """Every full assignment with the value of the root there (its probability, where the circuit is normalised)."""
        return {assignment: math.exp(value) for assignment, value in self.log_values.items()}

    def log_prob(self, row: Row, evidence: Row | None = None) -> float:
        """log p(row), or log p(row | evidence): the sum over all assignments that agree."""
        total = 0.0 if evidence is None else self._possible(evidence)
        return log_sum(value for _, value in self._agreeing({**(evidence or {}), **row})) - total

    def probability(self, lower: Row, upper: Row, evidence: Row | None = None) -> float:
        """P(lower <= x <= upper), given the evidence."""
        inside = log_sum(
            value
            for point, value in self._agreeing(evidence or {})
            if all(lower.get(v, -math.inf) <= x <= upper.get(v, math.inf) for v, x in point.items())
        )
        return math.exp(inside - (0.0 if evidence is None else self._possible(evidence)))

    def expectation(self, f: Callable[[float], float], evidence: Row | None = None) -> dict[Variable, float]:
        """E[f(x_v) | evidence] for every variable v."""
        total = self._possible(evidence or {})
        weighed = [(point, math.exp(value - total)) for point, value in self._agreeing(evidence or {})]
        return {v: math.fsum(p * float(f(point[v])) for point, p in weighed if p > 0) for v in self.variables}

    def moment(self, order: int, evidence: Row | None = None) -> dict[Variable, float]:
        """E[x_v ** order | evidence] for every variable v."""
        return self.expectation(lambda x: x**order, evidence)

    def mean(self, evidence: Row | None = None) -> dict[Variable, float]:
        """E[x_v | evidence] for every variable v."""
        return self.moment(1, evidence)

    def variance(self, evidence: Row | None = None) -> dict[Variable, float]:
        """Var[x_v | evidence] for every variable v."""
        means = self.mean(evidence)
        return {v: self.expectation(lambda x, m=mean: (x - m) ** 2, evidence)[v] for v, mean in means.items()}  # type: ignore[misc]

    def map(self, evidence: Row | None = None) -> Best[float]:
        """The assignment of largest value among those that agree with the evidence."""
        total = self._possible(evidence or {})
        point, value = max(self._agreeing(evidence or {}), key=lambda pair: pair[1])
        return Best(point, value - total, value)

    def _agreeing(self, row: Row) -> Iterator[tuple[dict[Variable, float], float]]:
        for assignment, value in self.log_values.items():
            point = dict(zip(self.variables, assignment, strict=True))
            if all(point[label] == x for label, x in row.items()):
                yield point, value

    def _possible(self, evidence: Row) -> float:
        total = log_sum(value for _, value in self._agreeing(evidence))
        if total == -math.inf:
            raise EvidenceError(f"the evidence {dict(evidence)} has probability zero")
        return total
