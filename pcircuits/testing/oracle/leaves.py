"""The leaves of the oracle: each family once more, in plain `math` floats, by the textbook or by scipy."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.special import i0e

from pcircuits.families import FAMILIES
from pcircuits.families.interface import AbstractFamily
from pcircuits.testing.oracle.arithmetic import log, log_add, log_sub, log_sum, softplus

__all__ = [
    "LEAVES",
    "BoundedLeaf",
    "Build",
    "CountLeaf",
    "DensityLeaf",
    "FiniteLeaf",
    "Leaf",
    "NormalLeaf",
    "from_reference",
]

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


class CountLeaf(Leaf):
    """A discrete distribution of scipy over integers without a largest, as a table that ends where nothing is left."""

    states = None

    def __init__(self, distribution: Any) -> None:
        self.distribution = distribution
        mean, spread = float(distribution.mean()), float(distribution.std())
        self.first = max(0, math.floor(mean - 40 * spread))
        states = range(self.first, math.ceil(mean + 40 * spread) + 40)
        self.log_probs: list[float] = distribution.logpmf(states).tolist()

    def log_density(self, x: float) -> float:
        return float(self.distribution.logpmf(x)) if math.isfinite(x) else -math.inf

    def log_interval(self, lower: float, upper: float) -> float:
        """Far in the tails, beyond the table, its first terms: the others are much smaller."""
        inside = [p for k, p in enumerate(self.log_probs, self.first) if lower <= k <= upper]
        if inside or not lower <= upper:
            return log_sum(inside)
        start, step = (math.ceil(max(lower, 0.0)), 1) if lower > self.first else (math.floor(upper), -1)
        if not math.isfinite(start):
            return -math.inf
        near = range(start, start + 1000 * step, step)
        return log_sum(float(self.distribution.logpmf(k)) for k in near if max(lower, 0.0) <= k <= upper)

    def mode(self) -> float:
        return float(self.first + self.log_probs.index(max(self.log_probs)))

    def moment(self, order: int) -> float:
        return float(self.distribution.moment(order)) if order else 1.0

    def variance(self) -> float:
        return float(self.distribution.var())

    def expectation(self, f: Callable[[float], float]) -> float:
        return math.fsum(math.exp(p) * float(f(float(k))) for k, p in enumerate(self.log_probs, self.first))


class DensityLeaf(Leaf):
    """A density of scipy, with its own tails; what scipy has no answer for is found by quadrature and search."""

    states = None

    def __init__(self, distribution: Any) -> None:
        self.distribution = distribution
        far = (1e-300, 1e-50, 1e-12, 1e-6, 1e-3, 0.1, 0.3, 0.5)
        low, high = distribution.support()
        ends = [float(distribution.ppf(share)) for share in (far[2:] if math.isfinite(low) else far)]
        ends += [float(distribution.isf(share)) for share in (far[2:] if math.isfinite(high) else far)]
        ends += [float(end) for end in (low, high) if math.isfinite(end)]
        self.ends = sorted(set(ends))

    def log_density(self, x: float) -> float:
        return float(self.distribution.logpdf(x)) if math.isfinite(x) else -math.inf

    def log_interval(self, lower: float, upper: float) -> float:
        if not lower < upper:
            return -math.inf
        middle = float(self.distribution.median())
        if lower >= middle:
            mass = log_sub(float(self.distribution.logsf(lower)), float(self.distribution.logsf(upper)))
        elif upper <= middle:
            mass = log_sub(float(self.distribution.logcdf(upper)), float(self.distribution.logcdf(lower)))
        else:
            mass = math.log1p(-float(self.distribution.cdf(lower)) - float(self.distribution.sf(upper)))
        return (
            mass
            if mass > math.log(1e-3) or not upper - lower < 4 * self.distribution.std()
            else self._narrow(lower, upper)
        )

    def _narrow(self, lower: float, upper: float) -> float:
        """By Gauss-Legendre nodes, where a difference of tails loses its digits."""
        middle, half = 0.5 * (lower + upper), 0.5 * (upper - lower)
        terms = [(self.log_density(middle + half * t), w * half) for t, w in zip(NODES, WEIGHTS, strict=True)]
        return log_sum(value + math.log(weight) for value, weight in terms if value > -math.inf)

    def mode(self) -> float:
        """The best of the ends of the support, of the median, and of a search between quantiles."""
        low, high = float(self.distribution.ppf(1e-12)), float(self.distribution.isf(1e-12))
        found = float(minimize_scalar(lambda x: -self.log_density(x), (low, high), bounds=(low, high)).x)
        ends = [float(end) for end in self.distribution.support() if math.isfinite(end)]
        return max([*ends, float(self.distribution.median()), found], key=self.log_density)

    def moment(self, order: int) -> float:
        return float(self.distribution.moment(order)) if order else 1.0

    def variance(self) -> float:
        return float(self.distribution.var())

    def expectation(self, f: Callable[[float], float]) -> float:
        def integrand(x: float) -> float:
            return float(f(x)) * math.exp(self.log_density(x))

        return math.fsum(
            quad(integrand, a, b, epsabs=1e-14, epsrel=1e-13, limit=200, full_output=1)[0]
            for a, b in pairwise(self.ends)
        )


class BoundedLeaf(Leaf):
    """A density that is smooth between given ends and 0 outside of them, by adaptive quadrature."""

    states = None

    def __init__(self, log_density: Callable[[float], float], ends: Sequence[float], mode: float) -> None:
        self._log_density, self.ends, self._mode = log_density, list(ends), mode

    def log_density(self, x: float) -> float:
        return self._log_density(x) if self.ends[0] <= x <= self.ends[-1] else -math.inf

    def log_interval(self, lower: float, upper: float) -> float:
        """Relative to the largest density at the ends of the pieces inside, so that nothing underflows."""
        low, high = max(lower, self.ends[0]), min(upper, self.ends[-1])
        if not low < high:
            return -math.inf
        ends = [low, *(end for end in self.ends if low < end < high), high]
        top = max(self.log_density(x) for x in (*ends, *(0.5 * (a + b) for a, b in pairwise(ends))))
        if top == -math.inf:
            return -math.inf
        return top + log(
            math.fsum(self._quad(lambda x: math.exp(self.log_density(x) - top), a, b) for a, b in pairwise(ends))
        )

    def mode(self) -> float:
        return self._mode

    def moment(self, order: int) -> float:
        return self.expectation(lambda x: x**order)

    def variance(self) -> float:
        mean = self.moment(1)
        return self.expectation(lambda x: (x - mean) ** 2)

    def expectation(self, f: Callable[[float], float]) -> float:
        def integrand(x: float) -> float:
            return float(f(x)) * math.exp(self.log_density(x))

        return math.fsum(self._quad(integrand, a, b) for a, b in pairwise(self.ends))

    @staticmethod
    def _quad(integrand: Callable[[float], float], a: float, b: float) -> float:
        return float(quad(integrand, a, b, epsabs=1e-14, epsrel=1e-13, limit=200, full_output=1)[0])


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


def _uniform(family: Any, values: Values) -> Leaf:
    low, high = values["low"], values["high"]
    return BoundedLeaf(lambda x: -math.log(high - low), [low, high], 0.5 * (low + high))


def _von_mises(family: Any, values: Values) -> Leaf:
    loc, kappa = values["loc"], values["concentration"]
    top = -math.log(2 * math.pi * float(i0e(kappa)))
    ends = [math.pi * i / 16 for i in range(-16, 17)]
    mode = min(max(math.atan2(math.sin(loc), math.cos(loc)), -math.pi), math.pi)
    return BoundedLeaf(lambda x: kappa * (math.cos(x - loc) - 1) + top, ends, mode)


def _piecewise(cuts: Sequence[float], heights: Callable[[int, float], float]) -> Leaf:
    """The density at t in [0, 1] of a piece is `heights(piece, t)`."""
    last = len(cuts) - 2

    def log_density(x: float) -> float:
        piece = min(max(i for i, cut in enumerate(cuts) if cut <= x), last)
        return log(heights(piece, (x - cuts[piece]) / (cuts[piece + 1] - cuts[piece])))

    best = max(((i, t) for i in range(last + 1) for t in (0.5, 0.0, 1.0)), key=lambda at: heights(*at))
    return BoundedLeaf(log_density, cuts, cuts[best[0]] + best[1] * (cuts[best[0] + 1] - cuts[best[0]]))


def _histogram(family: Any, values: Values) -> Leaf:
    cuts, probs = family.cuts, values["probs"]
    return _piecewise(cuts, lambda i, t: probs[i] / (cuts[i + 1] - cuts[i]))


def _piecewise_linear(family: Any, values: Values) -> Leaf:
    cuts, probs = family.cuts, values["probs"]
    ends = [cuts[0], *cuts, cuts[-1]]
    tops = [2 * p / (ends[j + 2] - ends[j]) for j, p in enumerate(probs)]
    return _piecewise(cuts, lambda i, t: (1 - t) * tops[i] + t * tops[i + 1])


def _normal(family: Any, values: Values) -> Leaf:
    return NormalLeaf(values["loc"], values["scale"])


def _discretized_normal(family: Any, values: Values) -> Leaf:
    return _bins(family, values, log_normal_mass)


def _discretized_logistic(family: Any, values: Values) -> Leaf:
    return _bins(family, values, log_logistic_mass)


Build = Callable[[AbstractFamily, Values], Leaf]
"""A leaf from a family (for its own numbers, such as `levels`) and the parameters of one unit."""

_TEXTBOOK: dict[str, Build] = {
    "Normal": _normal,
    "Uniform": _uniform,
    "VonMises": _von_mises,
    "Histogram": _histogram,
    "PiecewiseLinear": _piecewise_linear,
    "DiscretizedNormal": _discretized_normal,
    "DiscretizedLogistic": _discretized_logistic,
}
"""What needs more digits in the tails than scipy keeps, and what has jumps."""


def from_reference(family: AbstractFamily, values: Values) -> Leaf:
    """The leaf of a family that has a `reference`.

    >>> from pcircuits.families import Poisson
    >>> from_reference(Poisson(), {"rate": 2.0}).mode()
    1.0
    """
    made = family.reference(values)
    if isinstance(made, Mapping):
        return FiniteLeaf(made)
    return CountLeaf(made) if family.base == "counting" else DensityLeaf(made)


LEAVES: Mapping[str, Build] = {name: _TEXTBOOK.get(name, from_reference) for name in FAMILIES}
"""How to build the leaf of a family, by the name of its class."""
