"""The leaves of the oracle: each family once more, in plain `math` floats, by the textbook."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.integrate import quad

from pcircuits.families.interface import AbstractFamily
from pcircuits.testing.oracle.arithmetic import log, log_add, log_sub, log_sum, softplus

__all__ = ["LEAVES", "Build", "FiniteLeaf", "Leaf", "NormalLeaf"]

Values = Mapping[str, Any]
"""The parameters of one unit: floats, or lists of floats."""

LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)
NODES, WEIGHTS = (array.tolist() for array in np.polynomial.legendre.leggauss(24))


class Leaf(ABC):
    """The distribution of one input unit over one variable."""

    states: tuple[int, ...] | None
    """Every value of positive probability may be found among these; None for a density."""

    @abstractmethod
    def log_density(self, x: float) -> float:
        """log p(x)."""

    @abstractmethod
    def log_interval(self, lower: float, upper: float) -> float:
        """log P(lower <= X <= upper)."""

    @abstractmethod
    def mode(self) -> float:
        """A value at which p is largest."""

    @abstractmethod
    def moment(self, order: int) -> float:
        """E[X ** order]."""

    @abstractmethod
    def variance(self) -> float:
        """Var[X]."""

    @abstractmethod
    def expectation(self, f: Callable[[float], float]) -> float:
        """E[f(X)]."""


class FiniteLeaf(Leaf):
    """A distribution over finitely many integers, as a table: every question is a sum over it."""

    def __init__(self, log_probs: Mapping[int, float]) -> None:
        self.log_probs = dict(log_probs)
        self.states = tuple(sorted(self.log_probs))

    def log_density(self, x: float) -> float:
        return self.log_probs.get(int(x), -math.inf) if math.isfinite(x) and x == int(x) else -math.inf

    def log_interval(self, lower: float, upper: float) -> float:
        return log_sum(p for state, p in self.log_probs.items() if lower <= state <= upper)

    def mode(self) -> float:
        return float(max(self.log_probs, key=self.log_probs.__getitem__))

    def moment(self, order: int) -> float:
        return self.expectation(lambda x: x**order)

    def variance(self) -> float:
        mean = self.moment(1)
        return self.expectation(lambda x: (x - mean) ** 2)

    def expectation(self, f: Callable[[float], float]) -> float:
        return math.fsum(math.exp(p) * float(f(float(state))) for state, p in self.log_probs.items() if p > -math.inf)


class NormalLeaf(Leaf):
    """A normal density."""

    states = None

    def __init__(self, loc: float, scale: float) -> None:
        self.loc, self.scale = loc, scale

    def log_density(self, x: float) -> float:
        z = (x - self.loc) / self.scale
        return -0.5 * z * z - math.log(self.scale) - LOG_ROOT_TWO_PI

    def log_interval(self, lower: float, upper: float) -> float:
        return log_normal_mass(lower, upper, self.loc, self.scale)

    def mode(self) -> float:
        return self.loc

    def moment(self, order: int) -> float:
        before, now = 0.0, 1.0
        for k in range(order):
            before, now = now, self.loc * now + k * self.scale**2 * before
        return now

    def variance(self) -> float:
        return self.scale**2

    def expectation(self, f: Callable[[float], float]) -> float:
        """By adaptive quadrature, panel by panel, over 40 standard deviations to either side."""

        def integrand(z: float) -> float:
            return float(f(self.loc + self.scale * z)) * math.exp(-0.5 * z * z - LOG_ROOT_TWO_PI)

        ends = [-40.0, -12.0, -6.0, -3.0, -1.0, 0.0, 1.0, 3.0, 6.0, 12.0, 40.0]
        return math.fsum(
            quad(integrand, a, b, epsabs=1e-14, epsrel=1e-13, limit=200, full_output=1)[0] for a, b in pairwise(ends)
        )


def log_upper_tail(z: float) -> float:
    """log P(Z > z) of a standard normal.

    Beyond erfc's range by its asymptotic series, Abramowitz and Stegun (1964), 26.2.12.

    >>> round(log_upper_tail(0.0) + math.log(2), 15), round(log_upper_tail(40.0), 6)
    (0.0, -804.608442)
    """
    if z < 25:
        return math.log(0.5 * math.erfc(z / math.sqrt(2)))
    if z == math.inf:
        return -math.inf
    term, series = 1.0, 1.0
    for n in range(1, 9):
        term *= -(2 * n - 1) / (z * z)
        series += term
    return -0.5 * z * z - LOG_ROOT_TWO_PI - math.log(z) + math.log(series)


def log_normal_mass(lower: float, upper: float, loc: float, scale: float) -> float:
    """log P(lower <= X <= upper): over a narrow interval the density is integrated, else two tails are subtracted.

    Where the density changes little, Gauss-Legendre nodes add positive terms only; where it changes much, the two
    tails differ by a factor, so that their difference keeps its digits too.
    """
    if not lower < upper:
        return -math.inf
    a, b, width = (lower - loc) / scale, (upper - loc) / scale, (upper - lower) / scale
    if width * max(1.0, abs(a), abs(b)) <= 4:
        middle, half = (0.5 * (lower + upper) - loc) / scale, 0.5 * width
        terms = [log(w * half) - 0.5 * half * t * (2 * middle + half * t) for t, w in zip(NODES, WEIGHTS, strict=True)]
        return log_sum(terms) - 0.5 * middle * middle - LOG_ROOT_TWO_PI
    if a < 0 < b:
        return math.log1p(-math.exp(log_sum([log_upper_tail(-a), log_upper_tail(b)])))
    near, far = (a, b) if a >= 0 else (-b, -a)
    return log_sub(log_upper_tail(near), log_upper_tail(far))


def log_logistic_mass(lower: float, upper: float, loc: float, scale: float) -> float:
    """log P(lower <= X <= upper) = log(1 - exp(a - b)) - softplus(a) - softplus(-b), without cancellation.

    >>> log_logistic_mass(-math.inf, math.inf, 0.0, 1.0), log_logistic_mass(0.0, math.inf, 0.0, 1.0) == math.log(0.5)
    (0.0, True)
    """
    a, b, width = (lower - loc) / scale, (upper - loc) / scale, (upper - lower) / scale
    return log(-math.expm1(-width)) - softplus(a) - softplus(-b)


def _bins(family: Any, values: Values, log_mass: Callable[[float, float, float, float], float]) -> FiniteLeaf:
    """Mass of [v, v + 1) / levels for each integer v, tails in the edge bins, mixed with a uniform share."""
    levels, uniform, loc, scale = family.levels, family.uniform, values["loc"], values["scale"]
    flat = log(uniform) - math.log(levels)
    table = {}
    for v in range(levels):
        lower = v / levels if v else -math.inf
        upper = (v + 1) / levels if v < levels - 1 else math.inf
        peaked = log_add(math.log1p(-uniform) if uniform < 1 else -math.inf, log_mass(lower, upper, loc, scale))
        table[v] = log_sum([peaked, flat])
    return FiniteLeaf(table)


def _bernoulli(family: Any, values: Values) -> Leaf:
    p = values["probs"]
    return FiniteLeaf({0: math.log1p(-p) if p < 1 else -math.inf, 1: log(p)})


def _categorical(family: Any, values: Values) -> Leaf:
    probs: Sequence[float] = values["probs"]
    return FiniteLeaf({state: log(p) for state, p in enumerate(probs)})


def _indicator(family: Any, values: Values) -> Leaf:
    return FiniteLeaf({int(values["state"]): 0.0})


def _normal(family: Any, values: Values) -> Leaf:
    return NormalLeaf(values["loc"], values["scale"])


def _discretized_normal(family: Any, values: Values) -> Leaf:
    return _bins(family, values, log_normal_mass)


def _discretized_logistic(family: Any, values: Values) -> Leaf:
    return _bins(family, values, log_logistic_mass)


Build = Callable[[AbstractFamily, Values], Leaf]
"""A leaf from a family (for its own numbers, such as `levels`) and the parameters of one unit."""

LEAVES: Mapping[str, Build] = {
    "Bernoulli": _bernoulli,
    "Categorical": _categorical,
    "Indicator": _indicator,
    "Normal": _normal,
    "DiscretizedNormal": _discretized_normal,
    "DiscretizedLogistic": _discretized_logistic,
}
"""How to build the leaf of a family, by the name of its class."""
