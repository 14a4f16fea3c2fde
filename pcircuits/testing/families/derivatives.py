"""Gradients of univariate families: right where values are possible, zero and never NaN where not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pcircuits.testing.families.case import Case, mass
from pcircuits.testing.families.laws import bounds

__all__ = ["gradients", "impossible_values_have_zero_gradients", "missing_values_leave_no_trace"]

STEPS = (1e-5, 1e-7, 1e-9)
"""Steps of the differences that gradients are checked against: the closest counts, as scales differ by unit."""


def missing_values_leave_no_trace(case: Case) -> None:
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


def impossible_values_have_zero_gradients(case: Case) -> None:
    """Infinite values, and states that there are not: -inf, with no gradient in any parameter."""
    values = [-torch.inf, torch.inf]
    if case.family.base == "counting":
        values += [-1.0, 0.5]
    if math.isfinite(case.family.support.least):
        values.append(case.family.support.least - 1.0)
    if case.family.states is not None:
        values += [float(case.family.states), 1e30]
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


def gradients(case: Case) -> None:
    """Autograd against central differences, along a direction in the unconstrained numbers that are not structural."""
    lower, upper = bounds(case)[11]
    x = case.points[torch.linspace(0, len(case.points) - 1, 9).long()]
    queries: dict[str, Callable[[Mapping[str, Tensor]], Tensor]] = {
        "log_prob": lambda p: case.log_prob(x, p),
        "log_mass": lambda p: mass(case.family, lower.unsqueeze(-1), upper.unsqueeze(-1), p),
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
