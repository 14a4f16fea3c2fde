"""`Oracle`: every query on a circuit, answered slowly in plain Python by the definitions of the units."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pcircuits.circuit.circuit import Circuit, Unit
from pcircuits.errors import CircuitError, EvidenceError
from pcircuits.scope import Variable
from pcircuits.testing.oracle.arithmetic import shares
from pcircuits.testing.oracle.graph import Graph, InputNode, ProductNode, SumNode, unroll
from pcircuits.testing.oracle.leaves import LEAVES, Build, Leaf

__all__ = ["Best", "Oracle", "Row"]

Row = Mapping[Variable, float]
"""A value for each observed variable; the others are missing."""

T = TypeVar("T")


@dataclass(frozen=True)
class Best(Generic[T]):
    """A most probable completion: all values, its log-probability given the evidence, and its log-value."""

    assignment: dict[Variable, T]
    log_prob: float
    log_value: float


class Oracle:
    """A circuit unrolled to single units and evaluated one number at a time.

    Right where the circuit is smooth and decomposable; `Enumeration` needs neither. Variables are labels, a row is a
    dict of the observed ones, and every answer is about one root.

    **Arguments**

    - `circuit`: any circuit over families that `leaves` knows.
    - `leaves`: how to build each family's leaf in plain Python, by the name of its class.

    >>> import pcircuits as pc
    >>> oracle = Oracle(pc.Circuit(0.8 * pc.Bernoulli("a", 0.5) + 0.2 * pc.Bernoulli("a", 1.0)))
    >>> round(oracle.mean()["a"], 12)
    0.6
    """

    def __init__(self, circuit: Circuit, leaves: Mapping[str, Build] = LEAVES) -> None:
        self.circuit = circuit
        self.graph: Graph = unroll(circuit, leaves)
        self.roots = self.graph.places[id(circuit.root)][0]
        self.leaves_of: dict[Variable, list[Leaf]] = {label: [] for label in circuit.variables}
        for node in self.graph.used(self.roots).values():
            if isinstance(node, InputNode):
                self.leaves_of[node.variable].append(node.leaf)

    def row(self, values: Sequence[float | None]) -> dict[Variable, float]:
        """Values in the order of the columns, None or NaN where missing, as a dict of the observed ones."""
        pairs = zip(self.circuit.variables, values, strict=True)
        return {label: float(x) for label, x in pairs if x is not None and not math.isnan(x)}

    def log_value(self, row: Row, root: int = 0) -> float:
        """log root(row), missing variables integrated out."""
        return self._values(row)[self.roots[root]]

    def log_prob(self, row: Row, evidence: Row | None = None, root: int = 0) -> float:
        """log p(row), or log p(row | evidence); a row that contradicts the evidence is an error."""
        if evidence is None:
            return self.log_value(row, root)
        if clash := [label for label in row if label in evidence and row[label] != evidence[label]]:
            raise EvidenceError(f"the row contradicts the evidence on {clash}")
        return self.log_value({**evidence, **row}, root) - self._possible(evidence, root)

    def log_probability(self, lower: Row, upper: Row, evidence: Row | None = None, root: int = 0) -> float:
        """log P(lower <= x <= upper), given the evidence; a bound that is absent is infinite."""
        seen = evidence or {}

        def inside(node: InputNode) -> float:
            low, high = lower.get(node.variable, -math.inf), upper.get(node.variable, math.inf)
            if node.variable not in seen:
                return node.leaf.log_interval(low, high)
            x = seen[node.variable]
            return node.leaf.log_density(x) if low <= x <= high else -math.inf

        mass = self.graph.evaluate(inside)[self.roots[root]]
        return mass if evidence is None else mass - self._possible(evidence, root)

    def probability(self, lower: Row, upper: Row, evidence: Row | None = None, root: int = 0) -> float:
        """P(lower <= x <= upper), given the evidence; a bound that is absent is infinite."""
        return math.exp(self.log_probability(lower, upper, evidence, root))

    def expectation(
        self, f: Callable[[float], float], evidence: Row | None = None, root: int = 0
    ) -> dict[Variable, float]:
        """E[f(x_v) | evidence] for every variable v."""
        return self._statistics(lambda leaf: leaf.expectation(f), f, _mean, evidence or {}, root)

    def moment(self, order: int, evidence: Row | None = None, root: int = 0) -> dict[Variable, float]:
        """E[x_v ** order | evidence] for every variable v."""
        return self._statistics(lambda leaf: leaf.moment(order), lambda x: x**order, _mean, evidence or {}, root)

    def mean(self, evidence: Row | None = None, root: int = 0) -> dict[Variable, float]:
        """E[x_v | evidence] for every variable v."""
        return self.moment(1, evidence, root)

    def variance(self, evidence: Row | None = None, root: int = 0) -> dict[Variable, float]:
        """Var[x_v | evidence] for every variable v, by the law of total variance at every sum."""
        found = self._statistics(
            lambda leaf: (leaf.moment(1), leaf.variance()), lambda x: (x, 0.0), _mean_and_variance, evidence or {}, root
        )
        return {label: variance for label, (_, variance) in found.items()}

    def covariance(self, one: Variable, other: Variable, evidence: Row | None = None, root: int = 0) -> float:
        """Cov[x_one, x_other | evidence], by the law of total covariance at every sum; 0 where one of them is observed."""
        seen = evidence or {}
        self._possible(seen, root)
        if one == other:
            return self.variance(seen, root)[one]
        if one in seen or other in seen:
            return 0.0
        values = self._values(seen)
        means = [self._statistic(label, values, lambda leaf: leaf.moment(1), _mean) for label in (one, other)]
        found: dict[int, float] = {}
        for position, node in self.graph.used(self.roots).items():
            scope = self.graph.scopes[position]
            if one not in scope or other not in scope or values[position] == -math.inf:
                continue
            if isinstance(node, ProductNode):
                both = [child for child in node.children if {one, other} <= self.graph.scopes[child]]
                found[position] = found[both[0]] if both else 0.0
            elif isinstance(node, SumNode):
                weighed = zip(shares(node.log_terms(values)), node.children, strict=True)
                used = [(share, child) for share, child in weighed if share > 0]
                a, b = (of[position] for of in means)
                found[position] = math.fsum(
                    share * (found[child] + (means[0][child] - a) * (means[1][child] - b)) for share, child in used
                )
        return found[self.roots[root]]

    def posterior(self, unit: Unit, evidence: Row | None = None, root: int = 0) -> list[float]:
        """P(a sum unit is used, and takes its input i | evidence), in the order of its weights."""
        node = self.graph.nodes[self._position(unit)]
        if not isinstance(node, SumNode):
            raise CircuitError(f"{unit} is not a sum unit")
        if not (used := self.flow(unit, evidence, root)):
            return [0.0] * len(node.children)
        return [used * share for share in shares(node.log_terms(self._values(evidence or {})))]

    def flow(self, unit: Unit, evidence: Row | None = None, root: int = 0) -> float:
        """The flow of a unit, ∂ log root / ∂ log unit: the posterior probability that it is used."""
        position = self._position(unit)
        self._possible(evidence or {}, root)
        return self._flows(self._values(evidence or {}), root)[position]

    def map(self, evidence: Row | None = None, root: int = 0, limit: int = 100_000) -> Best[float]:
        """The most probable completion, by trying every one.

        A continuous variable is tried at the modes of its leaves, so that the answer is exact where all missing
        variables are finite, and on deterministic circuits; elsewhere it is a lower bound.

        **Raises** `CircuitError` where there are more than `limit` completions.
        """
        seen = dict(evidence or {})
        total = self._possible(seen, root)
        missing = [label for label in self.circuit.variables if label not in seen]
        candidates = [self.candidates(label) for label in missing]
        if (number := math.prod(map(len, candidates))) > limit:
            raise CircuitError(f"{number} completions are more than the limit of {limit}")
        best, assignment = -math.inf, dict[Variable, float]()
        for values in itertools.product(*candidates):
            row = {**seen, **dict(zip(missing, values, strict=True))}
            value = self.log_value(row, root)
            if value > best or not assignment:
                best, assignment = value, row
        return Best({label: assignment[label] for label in self.circuit.variables}, best - total, best)

    def candidates(self, label: Variable) -> list[float]:
        """The values at which a maximum over a variable is looked for: all states, or the modes of its densities."""
        leaves = self.leaves_of[label]
        if all(leaf.states is not None for leaf in leaves):
            return sorted({float(state) for leaf in leaves for state in leaf.states or ()})
        return sorted({leaf.mode() for leaf in leaves})

    def upper_bound(
        self, evidence: Row | None = None, deterministic: Mapping[int, Sequence[bool]] | None = None, root: int = 0
    ) -> float:
        """An upper bound of max log p(x | evidence): missing leaves at their modes, sums added.

        `deterministic` says, by `id(array)` and region, which sums have at most one positive input: there the largest
        term is the bound.
        """
        seen = evidence or {}
        maximised = frozenset(
            position
            for array, flags in (deterministic or {}).items()
            for row, flag in zip(self.graph.places[array], flags, strict=True)
            if flag
            for position in row
        )

        def at_best(node: InputNode) -> float:
            return node.leaf.log_density(seen[node.variable] if node.variable in seen else node.leaf.mode())

        return self.graph.evaluate(at_best, maximised)[self.roots[root]] - self._possible(seen, root)

    def _values(self, row: Row) -> list[float]:
        if unknown := [label for label in row if label not in self.leaves_of]:
            raise EvidenceError(f"the circuit has no variables {unknown}")

        def observed(node: InputNode) -> float:
            return node.leaf.log_density(row[node.variable]) if node.variable in row else 0.0

        return self.graph.evaluate(observed)

    def _possible(self, evidence: Row, root: int) -> float:
        value = self.log_value(evidence, root)
        if value == -math.inf:
            raise EvidenceError(f"the evidence {dict(evidence)} has probability zero")
        return value

    def _position(self, unit: Unit) -> int:
        return self.graph.places[id(unit.array)][unit.region][unit.column]

    def _statistics(
        self,
        of_leaf: Callable[[Leaf], T],
        of_value: Callable[[float], T],
        blend: Callable[[list[float], list[T]], T],
        evidence: Row,
        root: int,
    ) -> dict[Variable, T]:
        """For every variable, a statistic of its distribution given the evidence."""
        self._possible(evidence, root)
        values, found = self._values(evidence), {}
        for label in self.circuit.variables:
            if label in evidence:
                found[label] = of_value(float(evidence[label]))
            else:
                found[label] = self._statistic(label, values, of_leaf, blend)[self.roots[root]]
        return found

    def _statistic(
        self,
        label: Variable,
        values: Sequence[float],
        of_leaf: Callable[[Leaf], T],
        blend: Callable[[list[float], list[T]], T],
    ) -> dict[int, T]:
        """Bottom-up, for every possible unit with the variable in its scope: a sum blends what its inputs have, by
        their posterior shares; a product has what its one factor with the variable has.
        """
        found: dict[int, T] = {}
        for position, node in self.graph.used(self.roots).items():
            if label not in self.graph.scopes[position] or values[position] == -math.inf:
                continue
            if isinstance(node, InputNode):
                found[position] = of_leaf(node.leaf)
            elif isinstance(node, ProductNode):
                found[position] = next(found[child] for child in node.children if label in self.graph.scopes[child])
            else:
                weighed = zip(shares(node.log_terms(values)), node.children, strict=True)
                used = [(share, found[child]) for share, child in weighed if share > 0]
                found[position] = blend([share for share, _ in used], [part for _, part in used])
        return found

    def _flows(self, values: Sequence[float], root: int) -> list[float]:
        flows: list[list[float]] = [[] for _ in values]
        flows[self.roots[root]].append(1.0)
        totals = [0.0] * len(values)
        for position in range(len(values) - 1, -1, -1):
            total = totals[position] = math.fsum(flows[position])
            node = self.graph.nodes[position]
            if total == 0 or isinstance(node, InputNode):
                continue
            parts = [1.0] * len(node.children) if isinstance(node, ProductNode) else shares(node.log_terms(values))
            for share, child in zip(parts, node.children, strict=True):
                flows[child].append(total * share)
        return totals


def _mean(weights: list[float], parts: list[float]) -> float:
    return math.fsum(w * part for w, part in zip(weights, parts, strict=True))


def _mean_and_variance(weights: list[float], parts: list[tuple[float, float]]) -> tuple[float, float]:
    mean = _mean(weights, [m for m, _ in parts])
    return mean, math.fsum(w * (v + (m - mean) ** 2) for w, (m, v) in zip(weights, parts, strict=True))
