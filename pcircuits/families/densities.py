"""Densities whose expectations are integrals over a warped line, and whose distribution functions come from scipy."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from pcircuits.families.expectations import integrate
from pcircuits.families.interface import AbstractUnivariate, Parameters
from pcircuits.families.numerics import log_add

__all__ = ["AbstractDensity", "flattened", "log_between", "log_special"]

CORE = [*(-x for x in (40, 32, 26, 21, 17, 14, 12, 10, 9, 8, 7, 6)), *(0.5 * i for i in range(-10, 11)), 6, 7, 8]
CORE = [float(x) for x in (*CORE, 9, 10, 12, 14, 17, 21, 26, 32, 40)]
OUTER = [[-80.0, -70.0, -60.0, -50.0, -40.0], [40.0, 50.0, 60.0, 70.0, 80.0]]
NODES, WEIGHTS = (torch.as_tensor(a) for a in np.polynomial.legendre.leggauss(24))
NARROW = 0.25
"""Intervals of less than this share of the spread are integrated: a difference of tails would lose their digits."""


class AbstractDensity(AbstractUnivariate):
    """A density of X = warp(T), where T has tails that fall at least exponentially on the whole line.

    Members give what `AbstractUnivariate` asks, but for `integral`, and with it the place, spread and density of T; and for
    expectation-maximisation the statistics of values, and what units expect of them.
    """

    base: ClassVar[Literal["counting", "lebesgue"]] = "lebesgue"

    def warp(self, t: Tensor, parameters: Parameters) -> Tensor:
        """X from T."""
        return t

    @abstractmethod
    def line(self, parameters: Parameters) -> tuple[Tensor, Tensor]:
        """A place and a spread of T, such as its mean and standard deviation, each (...)."""

    @abstractmethod
    def log_weight(self, t: Tensor, parameters: Parameters) -> Tensor:
        """The log-density of T."""

    def statistics(self, x: Tensor, parameters: Parameters, centre: Tensor) -> list[Tensor]:
        """What the update needs of values, each (...); of impossible ones anything finite."""
        raise self._no_update()

    def mean_statistics(self, parameters: Parameters, centre: Tensor) -> list[Tensor]:
        """What units expect of them."""
        raise self._no_update()

    def expected_statistics(
        self, x: Tensor, observed: Tensor, parameters: Parameters, centre: Tensor | None = None
    ) -> list[Tensor]:
        x, observed = x[..., 0], observed[..., 0]
        centre = torch.zeros((), dtype=x.dtype, device=x.device) if centre is None else centre
        seen = self.statistics(torch.where(observed, x, self._inside(x)), parameters, centre)
        expected = self.mean_statistics(parameters, centre)
        return [torch.where(observed, one, other) for one, other in zip(seen, expected, strict=True)]

    def integral(self, f: Callable[[Tensor], Tensor], parameters: Parameters) -> Tensor:
        shape, flat = flattened(self, parameters)
        fixed = {name: value.detach() for name, value in flat.items()}
        loc, scale = self.line(fixed)
        log_density = None
        if torch.is_grad_enabled() and any(value.requires_grad for value in flat.values()):

            def log_density(x: Tensor, unit: Tensor) -> Tensor:
                return self.log_density(x, {name: value[unit].unsqueeze(-1) for name, value in flat.items()})

        def log_standard(z: Tensor, unit: Tensor) -> Tensor:
            of_unit = {name: value[unit].unsqueeze(-1) for name, value in fixed.items()}
            place, spread = loc[unit].unsqueeze(-1), scale[unit].unsqueeze(-1)
            return self.log_weight(place + spread * z, of_unit) + spread.log()

        def warp(t: Tensor, unit: Tensor) -> Tensor:
            return self.warp(t, {name: value[unit].unsqueeze(-1) for name, value in fixed.items()})

        value = integrate(f, loc, scale, log_standard, CORE, OUTER, log_density, warp)
        return value.reshape(shape).to(next(iter(parameters.values())).dtype)


def flattened(family: AbstractUnivariate, parameters: Parameters) -> tuple[torch.Size, dict[str, Tensor]]:
    """The shape of units, and their parameters (n,) in float64."""
    shape = family.unit_shape(parameters)
    return shape, {name: value.expand(shape).reshape(-1).double() for name, value in parameters.items()}


class _LogSpecial(torch.autograd.Function):
    """A function of scipy, whose derivatives in the parameters are differences of five points."""

    @staticmethod
    def forward(function: Callable[..., Any], x: Tensor, *parameters: Tensor) -> Tensor:
        wide = torch.broadcast_tensors(*(t.double() for t in (x, *parameters)))  # type: ignore[no-untyped-call]
        with np.errstate(all="ignore"):
            value = np.asarray(function(*(t.cpu().numpy() for t in wide)))
        return torch.as_tensor(value, dtype=torch.float64).to(parameters[0])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.function = inputs[0]
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        slopes: list[Tensor | None] = [None, None]
        for position, parameter in enumerate(parameters):
            wide = parameter.double()
            step = 1e-3 * wide.abs()

            def at(moved: Tensor, position: int = position) -> Tensor:
                others = [*parameters[:position], moved, *parameters[position + 1 :]]
                value: Tensor = _LogSpecial.apply(ctx.function, x.double(), *(p.double() for p in others))
                return value

            slope = 8 * (at(wide + step) - at(wide - step)) - (at(wide + 2 * step) - at(wide - 2 * step))
            slope = (slope / (12 * step)).nan_to_num(0.0, 0.0, 0.0)
            slopes.append((grads[0].double() * slope).sum_to_size(parameter.shape).to(parameter.dtype))
        return tuple(slopes)


def log_special(function: Callable[..., Any], x: Tensor, *parameters: Tensor) -> Tensor:
    """`function(x, *parameters)` of numpy arrays in float64, differentiable in the parameters, which must be positive.

    >>> from scipy import special
    >>> rate = torch.tensor(2.0, requires_grad=True)
    >>> log_special(lambda x, r: special.gammaln(r) + x, torch.tensor(1.0), rate).backward()
    >>> round(rate.grad.item(), 4)  # the digamma function at 2
    0.4228
    """
    value: Tensor = _LogSpecial.apply(function, x, *parameters)
    return value


def log_between(
    lower: Tensor,
    upper: Tensor,
    log_below: Callable[[Tensor], Tensor],
    log_above: Callable[[Tensor], Tensor],
    log_density: Callable[[Tensor], Tensor],
    middle: Tensor,
    spread: Tensor,
    room: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """log P(lower <= X <= upper) of a density, as one tail less another on the side where they are small.

    **Arguments**

    - `log_below`, `log_above`: log P(X <= x) and log P(X >= x).
    - `middle`, `spread`: about where half of the mass lies, and how wide the density is; narrow intervals are integrated.
    - `room`: how far the nearest place is from (lower, upper) at which the density is not smooth.
    """
    lower, upper, middle, spread = torch.broadcast_tensors(lower, upper, middle.detach(), spread.detach())  # type: ignore[no-untyped-call]
    empty = ~(lower < upper)
    a, b = torch.where(empty, middle, lower), torch.where(empty, middle + spread, upper)
    high, low = a >= middle, b <= middle
    from_a, from_b = (torch.where(torch.isinf(t), middle, t) for t in (a, b))
    above_a = torch.where(a == -torch.inf, 0.0, log_above(from_a))
    above_b = torch.where(b == torch.inf, -torch.inf, log_above(from_b))
    below_a = torch.where(a == -torch.inf, -torch.inf, log_below(from_a))
    below_b = torch.where(b == torch.inf, 0.0, log_below(from_b))
    whole = torch.where(high, above_a, torch.where(low, below_b, 0.0))
    taken = torch.where(high, above_b, torch.where(low, below_a, log_add(below_a, above_b)))
    some = (taken < whole) & (taken > -torch.inf)
    value = torch.where(some, whole + torch.log1p(-torch.where(some, taken - whole, -1.0).exp()), whole)
    width = b - a
    narrow = width <= NARROW * spread
    if room is not None:
        narrow = narrow & (width <= 0.5 * room(a, b))
    if bool(narrow.any()):
        at = torch.where(narrow, a, middle), torch.where(narrow, width, NARROW * spread)
        t, weights = NODES.to(value), WEIGHTS.to(value).log()
        points = at[0].unsqueeze(0) + 0.5 * at[1].unsqueeze(0) * (1 + t.view(-1, *[1] * value.ndim))
        terms = log_density(points) + weights.view(-1, *[1] * value.ndim)
        inside = torch.logsumexp(terms, 0) + (0.5 * at[1]).log()
        value = torch.where(narrow, inside.to(value.dtype), value)
    return torch.where(empty, -torch.inf, value)
