"""The chi-square test of counts, with rare outcomes pooled."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["chi_square"]


def chi_square(counts: ArrayLike, expected: ArrayLike) -> float:
    """The p-value of counts (n,) against the counts (n,) expected; outcomes expected less than five times are pooled.

    0 where something was seen that is impossible.

    >>> round(chi_square([48, 52], [50, 50]), 3), chi_square([50, 50, 1], [50, 51, 0])
    (0.689, 0.0)
    """
    from scipy import stats

    seen, wanted = np.asarray(counts, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    if bool(((wanted <= 0) & (seen > 0)).any()):
        return 0.0
    rare = wanted < 5
    seen = np.append(seen[~rare], seen[rare].sum())
    wanted = np.append(wanted[~rare], wanted[rare].sum())
    if wanted[-1] < 5 and len(wanted) > 1:  # too few to judge by themselves: join the smallest of the others
        least = int(wanted[:-1].argmin())
        seen[least] += seen[-1]
        wanted[least] += wanted[-1]
        seen, wanted = seen[:-1], wanted[:-1]
    if len(wanted) < 2:
        return 1.0
    statistic = float(((seen - wanted) ** 2 / wanted).sum())
    return float(stats.chi2.sf(statistic, len(wanted) - 1))
