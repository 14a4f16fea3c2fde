"""A compiled circuit against the oracle, query by query, to the digits that its dtype promises."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pcircuits.queries.compiled import CompiledCircuit, Queries
from pcircuits.scope import REAL, Variable
from pcircuits.testing.oracle import Oracle, Row

__all__ = ["Agreement"]

DIGITS = {torch.float64: 1e-9, torch.float32: 1e-4}
"""|error| <= digits · max(1, |log p|)."""

COMPLETIONS = 300
"""How many completions the oracle may try to find the best one."""


@dataclass(frozen=True)
class Agreement:
    """Asks a model and the oracle of its circuit the same, and raises `AssertionError` where they differ.

    Answers that are not log-probabilities follow from shares between them, whose error is that of the logs: their
    tolerance is the dtype's digits times the size of the evidence's log-probability and of the answer's own scale.

    >>> import pcircuits as pc
    >>> circuit = pc.Circuit(pc.Bernoulli("a", 0.25))
    >>> Agreement(circuit.compile(dtype=torch.float64), Oracle(circuit)).statistics({})
    """

    model: CompiledCircuit
    oracle: Oracle
    _kept: dict[object, Queries] = field(default_factory=dict, repr=False)
    """The model given what was asked about last: several queries are asked of the same evidence."""

    @property
    def _roots(self) -> int:
        return self.oracle.circuit.num_roots

    def log_prob(self, x: Tensor) -> None:
        """log p of rows (B, D), under every root."""
        want = [[self.oracle.log_value(row, k) for k in range(self._roots)] for row in self._rows(x)]
        shape = (len(x), self._roots) if self._roots > 1 else (len(x),)
        self._close("log_prob", self.model.log_prob(x), torch.tensor(want, dtype=torch.float64).reshape(shape))

    def conditional(self, known: Row, asked: Row, root: int = 0) -> None:
        """log p(asked | known); some of what is asked may be known."""
        got = self._given(known, root).log_prob({**known, **asked})
        size = 1.0 + abs(self.oracle.log_value(known, root))
        self._close("conditional log_prob", got, [self.oracle.log_prob(asked, known, root)], size=size)

    def box(self, lower: Row, upper: Row, known: Row, root: int = 0) -> None:
        """log P(lower <= x <= upper | known); absent bounds are infinite."""
        got = self._given(known, root).log_probability(dict(lower), dict(upper))
        size = 1.0 + abs(self.oracle.log_value(known, root))
        self._close("log_probability", got, [self.oracle.log_probability(lower, upper, known, root)], size=size)

    def mean(self, known: Row, root: int = 0) -> None:
        """The mean of every variable, given what is known."""
        self._statistic("mean", self._given(known, root).mean(), self.oracle.mean(known, root), known, root)

    def statistics(self, known: Row, root: int = 0) -> None:
        """The mean, the variance and the second moment of every variable, given what is known, and E[x_v²] by `expectation`."""
        given, oracle = self._given(known, root), self.oracle
        self.mean(known, root)
        self._statistic("variance", given.variance(), oracle.variance(known, root), known, root)
        second = oracle.moment(2, known, root)
        self._statistic("moment 2", given.moment(2), second, known, root)
        self._statistic("expectation of x²", given.expectation(torch.square), second, known, root)

    def covariance(self, known: Row, root: int = 0) -> None:
        """The covariance of every pair of variables, given what is known."""
        oracle, labels = self.oracle, self.oracle.circuit.variables
        want = [[oracle.covariance(one, other, known, root) for one in labels] for other in labels]
        size = 1.0 + max(oracle.moment(2, known, root).values())
        exponent = 1.0 + abs(oracle.log_value(known, root))
        self._close("covariance", self._given(known, root).covariance(), [want], exponent, size)

    def tables(self, known: Row, root: int = 0) -> None:
        """The probability of every state of every discrete variable, and the table of one pair, given what is known."""
        given, exponent = self._given(known, root), 1.0 + abs(self.oracle.log_value(known, root))

        def probability(asked: Row) -> float:
            if any(known.get(label, value) != value for label, value in asked.items()):
                return 0.0
            return math.exp(self.oracle.log_prob(asked, known, root))

        found = given.state_probabilities()
        states = {label: range(table.shape[-1]) for label, table in found.items()}
        for label, table in found.items():
            self._close(f"the table of {label!r}", table, [[probability({label: s}) for s in states[label]]], exponent)
        if len(found) > 1:
            one, *_, other = found
            pair = [[probability({one: s, other: t}) for t in states[other]] for s in states[one]]
            self._close("a table of pairs", given.pairwise_probabilities(one, other), [pair], exponent)

    def quantiles(self, known: Row, level: float, root: int = 0) -> None:
        """The mass up to a quantile reaches the level, and that below it does not."""
        (found,) = self._given(known, root).quantile(level).tolist()
        slack = 4 * DIGITS[self.model.program.like.dtype] * (1.0 + abs(self.oracle.log_value(known, root)))
        for label, x in zip(self.oracle.circuit.variables, found, strict=True):
            if label in known:
                continue
            real = self.oracle.circuit.states[self.oracle.circuit.column_of[label]] == REAL
            below = x - 1e-5 * max(1.0, abs(x)) if real else x - 1
            ends = [self.oracle.probability({}, {label: end}, known, root) for end in (below, x)]
            if real:  # nor do floats end exactly at the level
                ends[1] = self.oracle.probability({}, {label: x + 1e-5 * max(1.0, abs(x))}, known, root)
            if not ends[0] - slack <= level <= ends[1] + slack:
                raise AssertionError(f"the quantile {level} of {label!r} is {x!r}, between the masses {ends}")

    def _statistic(self, name: str, got: Tensor, want: Mapping[Variable, float], known: Row, root: int) -> None:
        size = 1.0 + max(self.oracle.moment(2, known, root).values())
        exponent = 1.0 + abs(self.oracle.log_value(known, root))
        self._close(name, got, [list(want.values())], exponent, size)

    def posteriors(self, known: Row, root: int = 0, arrays: int = 3) -> None:
        """Which inputs are used, of the last few arrays of sums."""
        given, circuit = self._given(known, root), self.oracle.circuit
        exponent = 1.0 + abs(self.oracle.log_value(known, root))
        for array in circuit.sums[-arrays:]:
            units = [[circuit.unit(array, r, k) for k in range(array.width)] for r in range(array.regions)]
            want = [[self.oracle.posterior(unit, known, root) for unit in region] for region in units]
            self._close("posterior", given.posterior(array), want[0] if array.shape == (1, 1) else [want], exponent)

    def samples(self, known: Row, n: int, generator: torch.Generator, root: int = 0) -> None:
        """Samples are possible, and keep what is known."""
        drawn = self._given(known, root).sample(n, generator)
        if drawn.shape != (n, 1, len(self.oracle.circuit.variables)):
            raise AssertionError(f"samples have the shape {tuple(drawn.shape)}")
        for row in self._rows(drawn[:, 0]):
            if len(row) < drawn.shape[2] or self.oracle.log_value(row, root) == -math.inf:
                raise AssertionError(f"the sample {row} given {dict(known)} is impossible")
            if changed := [label for label, value in known.items() if row[label] != value]:
                raise AssertionError(f"the sample {row} does not keep what is known of {changed}")

    def completion(self, known: Row, root: int = 0) -> None:
        """map: its log-probability is that of its assignment, its bound is one, and what is called exact is the best."""
        oracle, verdicts = self.oracle, self.oracle.circuit.check()
        found = self._given(known, root).map(exact=bool(verdicts.deterministic.holds))
        size = 1.0 + abs(oracle.log_value(known, root))
        (row,) = self._rows(found.assignment)
        self._close("map's log_prob", found.log_prob, [oracle.log_prob(row, known, root)], size=size)
        best = self._best(known, root)
        slack = DIGITS[found.log_prob.dtype] * max(size, abs(best))
        if found.upper_bound.item() < best - slack:
            raise AssertionError(
                f"map's upper bound {found.upper_bound.item()!r} is below {best!r}, given {dict(known)}"
            )
        if found.exact.item() and found.log_prob.item() < best - slack:
            raise AssertionError(f"map is called exact at {found.log_prob.item()!r}, and {best!r} is more probable")

    def possible(self, row: Row) -> bool:
        """Whether every root gives a row positive probability."""
        return all(self.oracle.log_value(row, root) > -math.inf for root in range(self._roots))

    def _best(self, known: Row, root: int) -> float:
        """The largest log-probability of a completion that the oracle finds without trying too many."""
        free = [label for label in self.oracle.circuit.variables if label not in known]
        fixed: dict[Variable, float] = dict(known)
        while math.prod(len(self.oracle.candidates(label)) for label in free) > COMPLETIONS:
            label = free.pop()
            options = [(self.oracle.log_value({**fixed, label: x}, root), x) for x in self.oracle.candidates(label)]
            fixed[label] = max(options)[1]
        if self.oracle.log_value(fixed, root) == -math.inf:
            return -math.inf
        return self.oracle.map(fixed, root).log_value - self.oracle.log_value(known, root)

    def _given(self, known: Row, root: int) -> Queries:
        key = (root, tuple(known.items()))
        if key not in self._kept:
            self._kept.clear()
            self._kept[key] = self.model.root(root).given(dict(known))
        return self._kept[key]

    def _rows(self, x: Tensor) -> list[dict[Variable, float]]:
        return [self.oracle.row(row) for row in x.double().tolist()]

    def _close(self, name: str, got: Tensor, want: object, exponent: float = 1.0, size: float = 1.0) -> None:
        """|got - want| <= digits · exponent · max(size, |want|), and infinities exactly."""
        wanted = torch.as_tensor(want, dtype=torch.float64)
        if got.shape != wanted.shape:
            raise AssertionError(f"{name} has the shape {tuple(got.shape)}, not {tuple(wanted.shape)}")
        digits = DIGITS[got.dtype] * exponent
        answer = got.detach().double()
        right = (answer == wanted) | ((answer - wanted).abs() <= digits * wanted.abs().clamp(min=size))
        if not bool(right.all()):
            where = tuple((~right).nonzero()[0].tolist())
            raise AssertionError(f"{name} is {answer[where].item()!r}, not {wanted[where].item()!r}, at {list(where)}")
