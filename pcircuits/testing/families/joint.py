"""The contract of families over several variables, under every pattern of what is observed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from pcircuits.families.interface import AbstractFamily, Parameters
from pcircuits.testing.families.case import REACH, flattened, panels, require_close

__all__ = ["check_joint"]

POINTS = 4
"""How many drawn points stand for what is observed."""


def check_joint(family: AbstractFamily, parameters: Parameters, count: int, seed: int) -> None:
    """Every law of a family over several variables, on `count` draws from `seed`; see `check_family`."""
    family.validate(parameters)
    units, flat = flattened(family, parameters)
    if dataclasses.replace(family) != family:  # type: ignore[type-var]
        raise AssertionError(f"{family} rebuilt from its fields is not equal to itself")
    generator = torch.Generator().manual_seed(seed)
    nothing = torch.full((POINTS, units, family.size), torch.nan, dtype=torch.float64)
    x = family.sample(nothing, nothing > 0, flat, generator)
    for pattern in itertools.product([False, True], repeat=family.size):
        case = _Seen(family, flat, x, torch.tensor(pattern).expand(x.shape))
        _what_is_observed_is_kept(case, generator)
        _what_is_missing_leaves_no_trace(case)
        _mode_is_largest(case, generator)
        for variable in case.missing():
            _one_variable_is_summed_out(case, variable)
    _impossible_values(family, flat, x)
    _draws_follow(family, flat, count, generator)


@dataclasses.dataclass(frozen=True)
class _Seen:
    """Points (M, n, size), of which some variables are observed; the others are NaN when the family is asked."""

    family: AbstractFamily
    parameters: dict[str, Tensor]
    points: Tensor
    observed: Tensor

    @property
    def x(self) -> Tensor:
        return torch.where(self.observed, self.points, torch.nan)

    def missing(self) -> Iterator[int]:
        """The variables that are not observed."""
        return (v for v in range(self.family.size) if not bool(self.observed[0, 0, v]))

    def log_prob(self) -> Tensor:
        """(M, n)."""
        return self.family.log_prob(self.x, self.observed, self.parameters)

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Of bounds (M, n, size), (M, n)."""
        return self.family.log_mass(lower, upper, self.x, self.observed, self.parameters)

    def with_values(self, variable: int, values: Tensor) -> _Seen:
        """One more variable observed, at values (..., M, n)."""
        shape = (*values.shape, self.family.size)
        chosen = torch.arange(self.family.size) == variable
        points = torch.where(chosen, values.unsqueeze(-1), self.points.expand(shape))
        return _Seen(self.family, self.parameters, points, self.observed.expand(shape) | chosen)

    def close(self, got: Tensor, want: Tensor, what: str, tolerance: float = 1e-8) -> None:
        seen = [v for v in range(self.family.size) if bool(self.observed[0, 0, v])]
        require_close(got, want, f"{what} of {self.family} given its variables {seen}", tolerance)


def _grid(case: _Seen, variable: int) -> tuple[Tensor, Tensor, Tensor]:
    """Values of a missing variable (Q, M, n), their weights, and how probable each is given what is observed."""
    family, given = case.family, (case.x, case.observed, case.parameters)
    mean, deviation = family.moment(1, *given)[..., variable], family.variance(*given)[..., variable].sqrt()
    if family.base == "counting":
        largest = (mean + REACH * deviation).max().ceil().item() if family.states is None else family.states - 1
        values = torch.arange(int(largest) + 1).double()[:, None, None].expand(-1, *mean.shape)
        weights = torch.ones_like(values)
    else:
        z, rule = panels()
        values, weights = mean + deviation * z[:, None, None], rule[:, None, None] * deviation
    return values, weights, case.with_values(variable, values).log_prob()


def _one_variable_is_summed_out(case: _Seen, variable: int) -> None:
    """Density, mass, moments, variance and expectation, as sums or integrals over one of the missing variables."""
    values, weights, joint = _grid(case, variable)
    total = case.log_prob()
    share = (joint - total).exp() * weights
    case.close(share.sum(0).log() + total, total, f"log_prob, variable {variable} summed out by hand,")
    given = (case.x, case.observed, case.parameters)

    def expected(f: Tensor) -> Tensor:
        return torch.where(share > 0, f * share, 0.0).sum(0)

    for order in range(5):
        got = case.family.moment(order, *given)[..., variable]
        case.close(got, expected(values**order), f"moment {order} of variable {variable}")
    mean = expected(values)
    got = case.family.variance(*given)[..., variable]
    case.close(got, expected((values - mean) ** 2), f"the variance of variable {variable}")
    size = 1.0 + got.max().sqrt().item()
    cosine = case.family.expectation(lambda v: torch.cos(v / size), *given)[..., variable]
    case.close(cosine, expected(torch.cos(values / size)), f"the expectation of cos(x / {size:.3g})")
    for low, high in ((-0.6, 1.4), (-torch.inf, 0.2), (0.4, torch.inf), (1.0, -1.0)):
        spread = got.sqrt().clamp(min=1e-300)
        lower, upper = mean + low * spread, mean + high * spread
        free = torch.full_like(case.points, torch.inf)
        chosen = torch.arange(case.family.size) == variable
        found = case.log_mass(
            torch.where(chosen, lower.unsqueeze(-1), -free), torch.where(chosen, upper.unsqueeze(-1), free)
        )
        inside = expected(((values >= lower) & (values <= upper)).double())
        case.close((found - total).exp(), inside, f"the mass of [{low}, {high}] deviations of variable {variable}")


def _what_is_observed_is_kept(case: _Seen, generator: torch.Generator) -> None:
    family, given = case.family, (case.x, case.observed, case.parameters)
    kept = torch.where(case.observed, case.points, 0.0)
    answers = {
        "the mode": family.mode(*given),
        "a sample": family.sample(*given, generator),
        "moment 1": family.moment(1, *given),
    }
    for name, answer in answers.items():
        if answer.shape != case.points.shape:
            raise AssertionError(f"{name} of {family} has shape {tuple(answer.shape)}, not {tuple(case.points.shape)}")
        case.close(torch.where(case.observed, answer, 0.0), kept, f"{name}, where it was observed,", 0.0)
    spread = torch.where(case.observed, family.variance(*given), 0.0)
    case.close(spread, torch.zeros(1).double(), "the variance, where it was observed,")
    free = torch.full_like(case.points, torch.inf)
    case.close(case.log_mass(-free, free), case.log_prob(), "the mass of everything")


def _what_is_missing_leaves_no_trace(case: _Seen) -> None:
    """NaN where nothing is observed reaches no gradient; nor does a number that stands there."""
    leaves = {name: value.clone().requires_grad_() for name, value in case.parameters.items()}
    value = case.family.log_prob(case.x, case.observed, leaves)
    other = case.family.log_prob(torch.where(case.observed, case.points, 7e7), case.observed, case.parameters)
    case.close(value.detach(), other, "log_prob, with numbers where nothing was observed,", 0.0)
    if not value.requires_grad:
        return
    for name, gradient in zip(
        leaves, torch.autograd.grad(value.sum(), list(leaves.values()), allow_unused=True), strict=True
    ):
        if gradient is not None and bool(gradient.isnan().any()):
            raise AssertionError(f"the gradient of log_prob of {case.family} for {name} is NaN where x is missing")


def _mode_is_largest(case: _Seen, generator: torch.Generator) -> None:
    family, given = case.family, (case.x, case.observed, case.parameters)
    everything = torch.ones_like(case.observed)
    value = family.log_mode(*given)
    case.close(family.log_prob(family.mode(*given), everything, case.parameters), value, "log_prob at the mode")
    for _ in range(20):
        drawn = family.log_prob(family.sample(*given, generator), everything, case.parameters)
        if bool((drawn == -torch.inf).any()):
            raise AssertionError(f"a draw of {family} is impossible")
        if bool((drawn > value + 1e-9 * value.abs().clamp(min=1.0)).any()):
            raise AssertionError(f"log_mode of {family} is below log_prob of a draw")


def _impossible_values(family: AbstractFamily, parameters: dict[str, Tensor], x: Tensor) -> None:
    """Infinite values, and halves and negatives of counts: -inf, with zero gradients."""
    values = [torch.inf, -torch.inf] + ([-1.0, 0.5] if family.base == "counting" else [])
    for variable, value in itertools.product(range(family.size), values):
        point = torch.where(torch.arange(family.size) == variable, value, x)
        leaves = {name: p.clone().requires_grad_() for name, p in parameters.items()}
        log = family.log_prob(point, torch.ones_like(point) > 0, leaves)
        where = f"of {family} at {value} for variable {variable}"
        require_close(log.detach(), torch.full((), -torch.inf).double(), f"log_prob {where}", 0.0)
        if not log.requires_grad:
            continue
        for gradient in torch.autograd.grad(log.sum(), list(leaves.values()), allow_unused=True):
            if gradient is not None:
                require_close(gradient, torch.zeros(1).double(), f"the gradient of log_prob {where}", 0.0)


def _draws_follow(
    family: AbstractFamily, parameters: dict[str, Tensor], count: int, generator: torch.Generator
) -> None:
    """Rosenblatt's transform: each variable's distribution function given those before it is uniform at the draws.

    At a jump, a uniform point within it (Rosenblatt 1952; for counts, Brockwell 2007, "Universal residuals").
    """
    from scipy import stats

    units = len(next(iter(parameters.values())))
    nothing = torch.full((count, units, family.size), torch.nan, dtype=torch.float64)
    many = {name: value.expand(count, *value.shape) for name, value in parameters.items()}
    drawn = family.sample(nothing, nothing > 0, many, generator)
    order = torch.arange(family.size)
    for variable in range(family.size):
        seen = (order < variable).expand(drawn.shape)
        case = _Seen(family, many, drawn, seen)
        total, own = case.log_prob(), order == variable
        free = torch.full_like(drawn, torch.inf)
        upto = (case.log_mass(-free, torch.where(own, drawn, free)) - total).exp()
        if family.base == "counting":
            jump = (case.with_values(variable, drawn[..., variable]).log_prob() - total).exp()
            upto = upto - jump * torch.rand(jump.shape, generator=generator, dtype=torch.float64)
        for unit in range(units):
            pvalue = stats.kstest(upto[:, unit].numpy(), "uniform").pvalue
            if pvalue < 1e-4 / units / family.size:
                raise AssertionError(
                    f"the draws of {family}, variable {variable} given those before it, do not follow it (unit {unit}, "
                    f"p = {pvalue:.2g})"
                )
