"""A contract suite for families of distributions: the library's own, and those that users write."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from pcircuits.families.interface import AbstractExponentialFamily, AbstractFamily, AbstractUnivariate, Parameters

__all__ = ["check_family"]

REACH = 40.0
"""Standard deviations on either side of the mean that densities are integrated over."""

STEPS = (1e-5, 1e-7, 1e-9)
"""Steps of the differences that gradients are checked against: the closest counts, as scales differ by unit."""


def check_family(family: AbstractUnivariate, parameters: Parameters, *, draws: int = 4000, seed: int = 0) -> None:
    """Check every method of a univariate family against sums over its states, or integrals of its density.

    Densities must be smooth, with tails that 40 standard deviations hold.

    **Arguments**

    - `parameters`: float64, for a few units: name to (*units, *event). Extreme and structural values are welcome.
    - `draws`: how many samples to test for each unit; the test rejects one correct family in 10,000.
    - `seed`: of the samples.

    **Raises** `AssertionError` that names the method, the unit and the values that disagree.

    >>> from pcircuits.families import Normal
    >>> check_family(Normal(), {"loc": torch.tensor([0.0, 9.0]).double(), "scale": torch.tensor([1.0, 0.1]).double()})
    """
    case = _Case.of(family, parameters)
    for check in (
        _rebuilds,
        _sums_to_one,
        _mass_of_intervals,
        _mode_is_largest,
        _moments,
        _observed_values_are_kept,
        _missing_values_leave_no_trace,
        _broadcasts_as_the_engine_calls,
        _impossible_values_have_zero_gradients,
        _gradients,
        _single_precision,
        _exponential_form,
    ):
        check(case)
    _draws_follow_the_density(case, draws, seed)


@dataclasses.dataclass(frozen=True)
class _Case:
    """A family with n units, and the points and weights (M, n) that sums and integrals run over."""

    family: AbstractUnivariate
    parameters: dict[str, Tensor]
    points: Tensor
    weights: Tensor

    @classmethod
    def of(cls, family: AbstractUnivariate, parameters: Parameters) -> _Case:
        family.validate(parameters)
        shape, flat = family.unit_shape(parameters), {}
        for name, value in parameters.items():
            event = value.shape[value.ndim - family.parameters[name].event_ndim :]
            flat[name] = value.detach().double().expand(*shape, *event).reshape(-1, *event)
        n = shape.numel()
        if family.base == "counting":
            largest = family.raw_moment(1, flat).max().item() if family.states is None else family.states - 1
            points = torch.arange(int(largest) + 1).double().unsqueeze(-1).expand(-1, n)
            return cls(family, flat, points, torch.ones_like(points))
        mean, deviation = family.raw_moment(1, flat), family.central_second_moment(flat).sqrt()
        edges = torch.linspace(-REACH, REACH, 401, dtype=torch.float64)
        nodes, weights = (torch.as_tensor(a) for a in np.polynomial.legendre.leggauss(16))
        half = 0.5 * (edges[1] - edges[0])
        z = (edges[:-1, None] + half * (1 + nodes)).reshape(-1, 1)
        return cls(family, flat, mean + deviation * z, (half * weights).repeat(400).unsqueeze(-1) * deviation)

    @property
    def units(self) -> int:
        return self.points.shape[1]

    def log_prob(self, x: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        seen = torch.ones_like(x, dtype=torch.bool).unsqueeze(-1)
        return self.family.log_prob(x.unsqueeze(-1), seen, parameters or self.parameters)

    def missing(self, *shape: int) -> tuple[Tensor, Tensor]:
        x = torch.full((*shape, 1), torch.nan, dtype=torch.float64)
        return x, torch.zeros_like(x, dtype=torch.bool)

    def total(self, values: Tensor) -> Tensor:
        """Σ or ∫ p · values, (n,)."""
        p = self.log_prob(self.points).exp()
        return (torch.where(p > 0, values * p, 0.0) * self.weights).sum(0)

    def close(self, got: Tensor, want: Tensor, what: str, tolerance: float = 1e-8) -> None:
        """Equal up to `tolerance` · max(1, |want|), and infinite in the same places."""
        got, want = torch.broadcast_tensors(got, want)  # type: ignore[no-untyped-call]
        same = (got == want) | ((got - want).abs() <= tolerance * want.abs().clamp(min=1.0))
        if not bool(same.all()):
            where = tuple((~same).nonzero()[0].tolist())
            raise AssertionError(
                f"{what} of {self.family} is {got[where].item()!r}, not {want[where].item()!r}, at {list(where)}"
            )


def _rebuilds(case: _Case) -> None:
    family = case.family
    if not dataclasses.is_dataclass(family):
        raise AssertionError(f"{family!r} is not a dataclass: it can be neither compared nor saved")
    again = type(family)(**{f.name: getattr(family, f.name) for f in dataclasses.fields(family)})
    if again != family or hash(again) != hash(family):
        raise AssertionError(f"{family} rebuilt from its fields is not equal to itself")
    if set(case.parameters) != set(family.parameters):
        raise AssertionError(f"{family} declares {list(family.parameters)}, and was given {list(case.parameters)}")


def _sums_to_one(case: _Case) -> None:
    one = torch.ones(case.units, dtype=torch.float64)
    case.close(case.total(torch.ones_like(case.points)), one, "the total probability")
    everything = torch.full((1, 1), torch.inf, dtype=torch.float64)
    case.close(_mass(case.family, -everything, everything, case.parameters), torch.log(one), "log_mass(-inf, inf)")


def _bounds(case: _Case) -> list[tuple[Tensor, Tensor]]:
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


def _mass_of_intervals(case: _Case) -> None:
    for lower, upper in _bounds(case):
        got = _mass(case.family, lower.unsqueeze(-1), upper.unsqueeze(-1), case.parameters)
        what = f"log_mass({lower.tolist()}, {upper.tolist()})"
        if bool(got.isnan().any()):
            raise AssertionError(f"{what} of {case.family} is {got.tolist()}")
        if case.family.base == "counting":
            inside = (case.points >= lower) & (case.points <= upper)
            case.close(got.exp(), case.total(inside.double()), f"exp {what}")
        else:
            case.close(got.exp(), _integral(case, lower, upper), f"exp {what}")


def _integral(case: _Case, lower: Tensor, upper: Tensor) -> Tensor:
    """∫ p between bounds (n,), cut off where the points end; 0 where lower >= upper."""
    lower, upper = torch.maximum(lower, case.points[0]), torch.minimum(upper, case.points[-1])
    width = (upper - lower).clamp(min=0.0)
    nodes, weights = (torch.as_tensor(a) for a in np.polynomial.legendre.leggauss(16))
    t = ((torch.arange(400).double().unsqueeze(-1) + 0.5 * (1 + nodes)) / 400).reshape(-1, 1)
    return (case.log_prob(lower + width * t).exp() * weights.repeat(400).unsqueeze(-1)).sum(0) * width / 800


def _mode_is_largest(case: _Case) -> None:
    x, seen = case.missing(case.units)
    mode, value = case.family.mode(x, seen, case.parameters), case.family.log_mode(x, seen, case.parameters)
    case.close(case.log_prob(mode[..., 0]), value, "log_prob at the mode, against log_mode,")
    every = case.log_prob(case.points)
    above = every > value + 1e-9 * value.abs().clamp(min=1.0)
    if bool(above.any()):
        where = above.nonzero()[0].tolist()
        raise AssertionError(f"log_mode of {case.family}, unit {where[1]}, is below log_prob at {case.points[*where]}")


def _moments(case: _Case) -> None:
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


def _observed_values_are_kept(case: _Case) -> None:
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


def _missing_values_leave_no_trace(case: _Case) -> None:
    """NaN where nothing is observed reaches neither values nor gradients."""
    x, seen = case.missing(case.units)
    leaves = {name: value.clone().requires_grad_() for name, value in case.parameters.items()}
    for label, value in (
        ("log_prob", case.family.log_prob(x, seen, leaves)),
        ("log_mode", case.family.log_mode(x, seen, leaves)),
        ("the expectation of cos", case.family.expectation(torch.cos, x, seen, leaves)),
    ):
        if not value.requires_grad:
            continue
        found = torch.autograd.grad(value.sum(), list(leaves.values()), retain_graph=True, allow_unused=True)
        for name, gradient in zip(leaves, found, strict=True):
            if gradient is not None and bool(gradient.isnan().any()):
                raise AssertionError(f"the gradient of {label} of {case.family} for {name} is NaN where x is missing")


def _broadcasts_as_the_engine_calls(case: _Case) -> None:
    """Units (1, 1, K) at values (1, B, 1), as they are one by one."""
    one = {name: value.unsqueeze(0).unsqueeze(0) for name, value in case.parameters.items()}
    x = case.points[torch.linspace(0, len(case.points) - 1, 7).long(), :1].unsqueeze(0)
    got = case.log_prob(x, one)
    if got.shape != (1, 7, case.units):
        raise AssertionError(f"log_prob of {case.family} has shape {tuple(got.shape)}, not {(1, 7, case.units)}")
    case.close(got[0], torch.stack([case.log_prob(v) for v in x[0].expand(-1, case.units)]), "log_prob, broadcast,")
    bounds = x.unsqueeze(-1)
    mass = _mass(case.family, bounds, bounds + 1.5, one)
    columns = x[0].expand(-1, case.units).unsqueeze(-1)
    want = [_mass(case.family, column, column + 1.5, case.parameters) for column in columns]
    case.close(mass[0], torch.stack(want), "log_mass, broadcast,")


def _impossible_values_have_zero_gradients(case: _Case) -> None:
    values = [-torch.inf, torch.inf]
    if case.family.base == "counting":
        values += [-1.0, 0.5, float(len(case.points)), 1e30]
    leaves = {name: value.clone().requires_grad_() for name, value in case.parameters.items()}
    for value in values:
        log = case.log_prob(torch.full((case.units,), value, dtype=torch.float64), leaves)
        case.close(log, torch.full((), -torch.inf).double(), f"log_prob at {value}")
        if not log.requires_grad:
            continue
        found = torch.autograd.grad(
            torch.where(log > -torch.inf, log, 0.0).sum(), list(leaves.values()), retain_graph=True
        )
        found += torch.autograd.grad(log.sum(), list(leaves.values()))
        for name, gradient in zip([*leaves, *leaves], found, strict=True):
            case.close(gradient, torch.zeros(1).double(), f"the gradient of log_prob at {value} for {name}")


def _gradients(case: _Case) -> None:
    """Autograd against central differences, along a direction in the unconstrained numbers that are not structural."""
    lower, upper = _bounds(case)[11]
    x = case.points[torch.linspace(0, len(case.points) - 1, 9).long()]
    queries: dict[str, Callable[[Mapping[str, Tensor]], Tensor]] = {
        "log_prob": lambda p: case.log_prob(x, p),
        "log_mass": lambda p: _mass(case.family, lower.unsqueeze(-1), upper.unsqueeze(-1), p),
    }
    for name, spec in case.family.parameters.items():
        if not spec.trainable:
            continue
        raw = spec.constraint.unconstrain(case.parameters[name])
        direction = torch.where(raw.isfinite(), torch.cos(torch.arange(raw.numel()).double()).reshape(raw.shape), 0.0)
        for label, query in queries.items():

            def along(step: Tensor) -> Tensor:
                moved = torch.where(raw.isfinite(), raw + step * direction, raw)  # noqa: B023
                value = query({**case.parameters, name: spec.constraint.constrain(moved)})  # noqa: B023
                return torch.where(value > -torch.inf, value, 0.0).reshape(-1)

            zero = torch.zeros((), dtype=torch.float64)
            got = torch.autograd.functional.jacobian(along, zero)  # type: ignore[no-untyped-call]
            slopes = torch.stack([(along(zero + h) - along(zero - h)) / (2 * h) for h in STEPS])
            want = slopes.gather(0, (slopes - got).abs().argmin(0, keepdim=True)).squeeze(0)
            noise = 1e-5 + 1e-10 * along(zero).abs().max().item()
            case.close(got, want, f"the derivative of {label} by {name}", tolerance=noise)


def _single_precision(case: _Case) -> None:
    single = {name: value.float() for name, value in case.parameters.items()}
    x = case.points[torch.linspace(0, len(case.points) - 1, 9).long()].float()
    got = case.log_prob(x, single)
    if got.dtype != torch.float32:
        raise AssertionError(f"log_prob of {case.family} in float32 has dtype {got.dtype}")
    want = case.log_prob(x.double(), {name: value.double() for name, value in single.items()})
    case.close(got.double(), want, "log_prob in float32", tolerance=1e-4)


def _exponential_form(case: _Case) -> None:
    family = case.family
    if not isinstance(family, AbstractExponentialFamily):
        return
    best = family.centre({name: value.unsqueeze(0) for name, value in case.parameters.items()})
    if best.shape != (1,):
        raise AssertionError(f"the centre of {family} for (1, K) units has shape {tuple(best.shape)}, not (1,)")
    x = case.points[:: len(case.points) // 9]
    for centre in (best, best + 1.0):
        eta, rest = family.natural_parameters(case.parameters, centre)
        size = family.cancellation(case.parameters, centre)
        terms = family.sufficient_statistics(x, centre)
        total = rest + sum((e * t for e, t in zip(eta, terms, strict=True)), torch.zeros(()).double())
        lost = 1e-9 + 1e-15 * size.max().item()
        case.close(total, case.log_prob(x), f"the exponential form about {centre.item():.6g}", tolerance=lost)


def _draws_follow_the_density(case: _Case, draws: int, seed: int) -> None:
    """Chi-square over states, or Kolmogorov-Smirnov of the distribution function at the draws; and seeds repeat."""
    from scipy import stats

    x, seen = case.missing(draws, case.units)
    many = {name: value.expand(draws, *value.shape) for name, value in case.parameters.items()}
    values = case.family.sample(x, seen, many, torch.Generator().manual_seed(seed))[..., 0]
    again = case.family.sample(x, seen, many, torch.Generator().manual_seed(seed))[..., 0]
    case.close(values, again, "a sample drawn again from the same seed", tolerance=0.0)
    if not bool((case.log_prob(values) > -torch.inf).all()):
        raise AssertionError(f"a draw of {case.family} is impossible")
    for unit in range(case.units):
        column = values[:, unit]
        if case.family.base == "counting":
            expected = (case.log_prob(case.points)[:, unit].exp() * draws).numpy()
            seen_counts = np.bincount(column.long().numpy(), minlength=len(expected))
            pvalue = _chi_square(seen_counts, expected)
        else:
            one = {name: value[unit : unit + 1] for name, value in case.parameters.items()}
            below = _mass(case.family, torch.full((1, 1), -torch.inf).double(), column.unsqueeze(-1), one)
            pvalue = stats.kstest(below.exp().numpy(), "uniform").pvalue
        if pvalue < 1e-4 / case.units:
            raise AssertionError(f"the draws of {case.family}, unit {unit}, do not follow it (p = {pvalue:.2g})")


def _chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    """The p-value of counts, with states that expect fewer than five pooled into one."""
    from scipy import stats

    rare = expected < 5
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    if expected[-1] < 5 and len(expected) > 1:  # too few to judge by themselves: join the smallest of the others
        least = int(expected[:-1].argmin())
        counts[least] += counts[-1]
        expected[least] += expected[-1]
        counts, expected = counts[:-1], expected[:-1]
    if len(expected) < 2:
        return 1.0
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return float(stats.chi2.sf(statistic, len(expected) - 1))


def _mass(family: AbstractFamily, lower: Tensor, upper: Tensor, parameters: Parameters) -> Tensor:
    """log P(lower <= X <= upper) with nothing observed."""
    nothing = torch.zeros_like(lower)
    return family.log_mass(lower, upper, nothing, nothing > 0, parameters)
