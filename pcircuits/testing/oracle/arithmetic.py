"""Sums and differences of numbers kept as logs, in plain floats, with exact -inf."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

__all__ = ["log", "log_add", "log_sub", "log_sum", "shares", "softplus"]


def log(value: float) -> float:
    """log(value), with log 0 = -inf.

    >>> log(0.0)
    -inf
    """
    return math.log(value) if value > 0 else -math.inf


def log_sum(values: Iterable[float]) -> float:
    """log Σ exp(v): the largest is taken out, the rest is added without rounding between the terms.

    >>> log_sum([-1e5, -1e5]) == -1e5 + math.log(2), log_sum([])
    (True, -inf)
    """
    terms = sorted(values)
    if not terms or terms[-1] == -math.inf:
        return -math.inf
    largest = terms.pop()
    if largest == math.inf:
        return math.inf
    return largest + math.log1p(math.fsum(math.exp(term - largest) for term in terms))


def log_add(log_factor: float, value: float) -> float:
    """The log of a product; a factor of zero wins over everything, +inf included."""
    return -math.inf if -math.inf in (log_factor, value) else log_factor + value


def log_sub(larger: float, smaller: float) -> float:
    """log(exp(larger) - exp(smaller)), for larger >= smaller."""
    if smaller == -math.inf:
        return larger
    return larger + log(-math.expm1(smaller - larger))


def softplus(value: float) -> float:
    """log(1 + exp(value)).

    >>> softplus(1000.0), softplus(-1000.0)
    (1000.0, 0.0)
    """
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))


def shares(log_terms: Sequence[float]) -> list[float]:
    """exp(t) / Σ exp(t), relative to the largest, so that the size of the terms costs no digits.

    >>> shares([-1e6, -1e6, -math.inf])
    [0.5, 0.5, 0.0]
    """
    largest = max(log_terms)
    terms = [math.exp(term - largest) for term in log_terms]
    total = math.fsum(terms)
    return [term / total for term in terms]
