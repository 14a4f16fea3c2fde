"""Samples of univariate families against their density."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pcircuits.testing.chi_square import chi_square
from pcircuits.testing.families.case import Case, mass

__all__ = ["draws_follow_the_density", "draws_keep_to_their_generator"]


def draws_follow_the_density(case: Case, draws: int, seed: int) -> None:
    """Chi-square over states, or Kolmogorov-Smirnov of the distribution function at the draws."""
    values = _drawn(case, draws, torch.Generator().manual_seed(seed))
    if not bool((case.log_prob(values) > -torch.inf).all()):
        raise AssertionError(f"a draw of {case.family} is impossible")
    for unit in range(case.units):
        pvalue = _pvalue(case, unit, values[:, unit])
        if pvalue < 1e-4 / case.units:
            raise AssertionError(f"the draws of {case.family}, unit {unit}, do not follow it (p = {pvalue:.2g})")


def draws_keep_to_their_generator(case: Case, seed: int) -> None:
    """The same seed draws the same, whatever else is drawn meanwhile; and torch's own generator is left alone."""
    before = torch.get_rng_state()
    values = _drawn(case, 50, torch.Generator().manual_seed(seed))
    if not torch.equal(torch.get_rng_state(), before):
        raise AssertionError(
            f"sample of {case.family} draws from torch's global generator, not from the one it is given"
        )
    again = _drawn(case, 50, torch.Generator().manual_seed(seed))
    case.close(values, again, "a sample drawn again from the same seed", tolerance=0.0)
    for device in ["cuda"] if torch.cuda.is_available() else []:
        moved = Case(case.family, {n: v.to(device) for n, v in case.parameters.items()}, case.points, case.weights)
        there = _drawn(moved, 50, torch.Generator().manual_seed(seed))
        if there.device.type != device:
            raise AssertionError(f"sample of {case.family} is on {there.device}, its parameters on {device}")
        case.close(there.cpu(), values, f"a sample on {device} from a seed on the CPU", tolerance=1e-9)


def _drawn(case: Case, draws: int, generator: torch.Generator) -> Tensor:
    """(draws, n)."""
    x, seen = case.missing(draws, case.units)
    device = next(iter(case.parameters.values())).device
    many = {name: value.expand(draws, *value.shape) for name, value in case.parameters.items()}
    drawn = case.family.sample(x.to(device), seen.to(device), many, generator)
    if drawn.shape != x.shape:
        raise AssertionError(f"sample of {case.family} has shape {tuple(drawn.shape)}, not {tuple(x.shape)}")
    return drawn[..., 0]


def _pvalue(case: Case, unit: int, column: Tensor) -> float:
    from scipy import stats

    if case.family.base == "counting":
        expected = (case.log_prob(case.points)[:, unit].exp() * len(column)).numpy()
        return chi_square(np.bincount(column.long().numpy(), minlength=len(expected)), expected)
    one = {name: value[unit : unit + 1] for name, value in case.parameters.items()}
    below = mass(case.family, torch.full((1, 1), -torch.inf).double(), column.unsqueeze(-1), one)
    return float(stats.kstest(below.exp().numpy(), "uniform").pvalue)
