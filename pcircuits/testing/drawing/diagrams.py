"""Random decision diagrams, whose sums branch on the state of a variable."""

from __future__ import annotations

from pcircuits.circuit.algebra import concat
from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.leaves import Indicator
from pcircuits.circuit.units import Product, Units
from pcircuits.scope import Variable
from pcircuits.testing.drawing.choices import Choices
from pcircuits.testing.drawing.ingredients import Ingredients, draw_variables

__all__ = ["draw_deterministic"]


class _Diagram(Ingredients):
    """Grows (1, 1) units of a given scope, each deterministic; what was grown before may be used again."""

    def __init__(self, choices: Choices, kinds: dict[Variable, int | None]) -> None:
        super().__init__(choices, kinds)
        self._grown: dict[frozenset[Variable], list[Units]] = {}

    def unit(self, scope: tuple[Variable, ...]) -> Units:
        known = self._grown.setdefault(frozenset(scope), [])
        if len(known) > 2 or (known and self.flag()):
            return self.one_of(known)
        known.append(self._grow(scope))
        return known[-1]

    def _grow(self, scope: tuple[Variable, ...]) -> Units:
        gates = [label for label in scope if self.kinds[label]]
        if len(scope) == 1 and (not gates or not self.flag()):
            return self.leaves(scope, 1)
        if not gates or (len(scope) > 1 and self.integer(0, 3) == 3):
            return Product([self.unit(part) for part in self.split(scope, 2)])
        return self._branch(self.one_of(gates), scope)

    def _branch(self, gate: Variable, scope: tuple[Variable, ...]) -> Units:
        """Σ_s w_s · [gate = s] · (a unit of the other variables)."""
        states = self.kinds[gate]
        assert states
        rest = tuple(label for label in scope if label != gate)
        if self.flag():  # one array of indicators, one dense sum
            indicators: Units = Indicator(gate, list(range(states)))
            if rest:
                indicators = Product([indicators, concat([self.unit(rest) for _ in range(states)], axis="width")])
            return indicators.sum(self.weights((states,)))
        terms: list[Units] = [Indicator(gate, s) for s in range(states)]
        if rest:
            terms = [Product([term, self.unit(rest)]) for term in terms]
        total = 0.5 * terms[0]
        for term in terms[1:]:
            total = total + self.number() * term
        return total.units  # type: ignore[union-attr]


def draw_deterministic(
    choices: Choices, densities: bool = True, max_variables: int = 4, max_states: int = 3
) -> Circuit:
    """A random deterministic circuit; see `pcircuits.testing.strategies.deterministic_circuits`.

    >>> from pcircuits.testing.drawing.choices import Seeded
    >>> bool(draw_deterministic(Seeded(3)).check().deterministic)
    True
    """
    kinds = draw_variables(choices, max_variables, max_states, densities)
    return Circuit(_Diagram(choices, kinds).unit(tuple(kinds)))
