"""What a univariate family says of itself, against sums over its states or integrals of its density."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from pcircuits.testing.families.case import Case, mass

__all__ = [
    "bounds",
    "mass_of_intervals",
    "mode_is_largest",
    "moments",
    "observed_values_are_kept",
    "rebuilds",
    "sums_to_one",
]


def rebuilds(case: Case) -> None:
    """A family is a dataclass, equal to what its fields rebuild, with the parameters that it declares."""
    family = case.family
    if not dataclasses.is_dataclass(family):
        raise AssertionError(f"{family!r} is not a dataclass: it can be neither compared nor saved")
    again = type(family)(**{f.name: getattr(family, f.name) for f in dataclasses.fields(family)})
    if again != family or hash(again) != hash(family):
        raise AssertionError(f"{family} rebuilt from its fields is not equal to itself")
    if set(case.parameters) != set(family.parameters):
        raise AssertionError(f"{family} declares {list(family.parameters)}, and was given {list(case.parameters)}")


def sums_to_one(case: Case) -> None:
    """The density, and the mass of everything, are 1."""
    one = torch.ones(case.units, dtype=torch.float64)
    case.close(case.total(torch.ones_like(case.points)), one, "the total probability")
    everything = torch.full((1, 1), torch.inf, dtype=torch.float64)
    case.close(mass(case.family, -everything, everything, case.parameters), torch.log(one), "log_mass(-inf, inf)")


def bounds(case: Case) -> list[tuple[Tensor, Tensor]]:
    """Pairs of bounds (n,): pieces of the range, both tails, points, and the wrong way round."""
    mean = case.family.raw_moment(1, case.parameters)
    deviation = case.family.central_second_moment(case.parameters).sqrt()
    spread = [mean + deviation * z for z in (-torch.inf, -2.0, -0.7, -0.1, 0.0, 0.3, 1.5, torch.inf)]
    ends = [torch.where(end.isnan(), mean, end) for end in spread]
    pairs = [(a, b) for a in ends for b in ends]
    if case.family.base == "counting":
        whole = [torch.full_like(mean, s) for s in (-3.0, -0.5, 0.0, 1.0, 1.5, 2.0, 4.0, 9.0)]
        pairs += [(a, b) for a in whole for b in whole]
    return pairs


def mass_of_intervals(case: Case) -> None:
    """The mass of closed intervals, against the density summed or integrated over them."""
    for lower, upper in bounds(case):
        got = mass(case.family, lower.unsqueeze(-1), upper.unsqueeze(-1), case.parameters)
        what = f"log_mass({lower.tolist()}, {upper.tolist()})"
        if bool(got.isnan().any()):
            raise AssertionError(f"{what} of {case.family} is {got.tolist()}")
        if case.family.base == "counting":
            inside = (case.points >= lower) & (case.points <= upper)
            case.close(got.exp(), case.total(inside.double()), f"exp {what}")
        else:
            case.close(got.exp(), _integral(case, lower, upper), f"exp {what}")


def _integral(case: Case, lower: Tensor, upper: Tensor) -> Tensor:
    """∫ p between bounds (n,), cut off where the points or the support end; 0 where lower >= upper."""
    inner = case.family.edges(case.parameters)
    if inner is not None:  # the pieces between jumps, one after the other
        cuts = [torch.full_like(lower, -torch.inf), *inner.unbind(-1), torch.full_like(lower, torch.inf)]
        parts = [_smooth(case, torch.maximum(lower, a), torch.minimum(upper, b)) for a, b in pairwise(cuts)]
        return torch.stack(parts).sum(0)
    return _smooth(case, lower, upper)


def _smooth(case: Case, lower: Tensor, upper: Tensor) -> Tensor:
    least, most = case.family.support.least, case.family.support.most
    start = case.points[0] if math.isinf(least) else torch.full_like(case.points[0], least)
    end = case.points[-1] if math.isinf(most) else torch.full_like(case.points[0], most)
    lower, upper = torch.maximum(lower, start), torch.minimum(upper, end)
    width = (upper - lower).clamp(min=0.0)
    nodes, weights = (torch.as_tensor(a) for a in np.polynomial.legendre.leggauss(16))
    t = ((torch.arange(400).double().unsqueeze(-1) + 0.5 * (1 + nodes)) / 400).reshape(-1, 1)
    return (case.log_prob(lower + width * t).exp() * weights.repeat(400).unsqueeze(-1)).sum(0) * width / 800


def mode_is_largest(case: Case) -> None:
    """The density at the mode is `log_mode`, and nowhere larger."""
    x, seen = case.missing(case.units)
    mode, value = case.family.mode(x, seen, case.parameters), case.family.log_mode(x, seen, case.parameters)
    case.close(case.log_prob(mode[..., 0]), value, "log_prob at the mode, against log_mode,")
    every = case.log_prob(case.points)
    above = every > value + 1e-9 * value.abs().clamp(min=1.0)
    if bool(above.any()):
        where = above.nonzero()[0].tolist()
        raise AssertionError(f"log_mode of {case.family}, unit {where[1]}, is below log_prob at {case.points[*where]}")


def moments(case: Case) -> None:
    """Moments, variance and expectation, against sums or integrals of the density."""
    x, seen = case.missing(case.units)
    for order in range(5):
        got = case.family.moment(order, x, seen, case.parameters)[..., 0]
        case.close(got, case.total(case.points**order), f"moment {order}")
    mean = case.total(case.points)
    variance = case.family.variance(x, seen, case.parameters)[..., 0]
    case.close(variance, case.total((case.points - mean) ** 2), "the variance")
    size = 1.0 + variance.max().sqrt().item()
    got = case.family.expectation(lambda v: torch.cos(v / size), x, seen, case.parameters)[..., 0]
    case.close(got, case.total(torch.cos(case.points / size)), f"the expectation of cos(x / {size:.3g})")


def observed_values_are_kept(case: Case) -> None:
    """What is observed is returned as it is, and spreads nothing."""
    x, seen = case.missing(case.units)
    kept = case.family.mode(x, seen, case.parameters)
    p, family, generator = case.parameters, case.family, torch.Generator().manual_seed(0)
    case.close(family.log_prob(x, seen, p), torch.zeros(1).double(), "log_prob of nothing observed")
    case.close(family.mode(kept, ~seen, p), kept, "the mode given the value")
    case.close(family.log_mode(kept, ~seen, p), family.log_prob(kept, ~seen, p), "log_mode given the value")
    case.close(family.sample(kept, ~seen, p, generator), kept, "a sample given the value")
    case.close(family.moment(3, kept, ~seen, p), kept**3, "moment 3 given the value")
    case.close(family.variance(kept, ~seen, p), torch.zeros(1).double(), "the variance given the value")
    case.close(family.expectation(torch.cos, kept, ~seen, p), kept.cos(), "the expectation of cos given the value")
