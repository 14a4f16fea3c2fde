"""What a family of distributions must know for every query to run on circuits that use it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from pcircuits.families.expectations import defined, elementwise
from pcircuits.parameters import Constraint

__all__ = ["AbstractExponentialFamily", "AbstractFamily", "AbstractUnivariate", "ParameterSpec", "Parameters"]

Parameters = Mapping[str, Tensor]


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter of a family: its constraint and the rank of its event (0 a number, 1 a vector such as `probs`)."""

    constraint: Constraint
    event_ndim: int = 0
    trainable: bool = True


class AbstractFamily(ABC):
    """A family of distributions over `size` variables, without parameters of its own.

    A member is a frozen dataclass whose fields are plain numbers, so that families compare, hash and save.
    Everywhere, `x` and `observed` are (..., size), a parameter is (..., *event), and the leading axes broadcast.
    `observed` marks the variables whose value in `x` counts; every method is conditioned on those, and for a
    univariate family an observed variable simply keeps its value. Values of `x` that are not observed are ignored
    (they may be NaN).
    """

    name: ClassVar[str]
    base: ClassVar[Literal["counting", "lebesgue"]]
    """The base measure: sums over integers, or integrals."""
    positive: ClassVar[bool] = False
    """Whether every member is positive on all states, whatever its parameters (then no support needs computing)."""

    @property
    def size(self) -> int:
        """The number of variables of one unit."""
        return 1

    @property
    def states(self) -> int | None:
        """S where the support is within 0..S-1; None where it is infinite, or left open (an indicator)."""
        return None

    def support_sizes(self, parameters: Parameters) -> Tensor | None:
        """For each unit an S such that it is zero outside of 0..S-1, broadcasting to (...); None where there is none."""
        return None if self.states is None else torch.tensor(self.states)

    @property
    @abstractmethod
    def parameters(self) -> Mapping[str, ParameterSpec]:
        """Name to constraint and event rank, in the order of the leaf constructor."""

    def unit_shape(self, parameters: Parameters) -> torch.Size:
        """The units' shape: what the parameters' leading axes broadcast to."""
        specs = self.parameters
        leading = [p.shape[: p.ndim - specs[name].event_ndim] for name, p in parameters.items()]
        return torch.Size(np.broadcast_shapes(*leading))

    def validate(self, parameters: Parameters) -> None:  # noqa: B027  (most families have nothing to add)
        """Raise `ParameterError` for what constraints on single parameters cannot say (shapes against `states`)."""

    @abstractmethod
    def log_prob(self, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        """log p(x_observed), (...). Impossible values give -inf, and zero gradients, never NaN."""

    @abstractmethod
    def log_mass(self, lower: Tensor, upper: Tensor, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        """log [p(x_observed) · P(lower <= rest <= upper | x_observed)], (...).

        Bounds are (..., size), closed, may be infinite, and are ignored where a value was observed.
        """

    @abstractmethod
    def log_mode(self, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        """The largest log p(x_observed, rest), (...); +inf where the density is unbounded."""

    @abstractmethod
    def mode(self, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        """An arg max of p(rest | x_observed), with the observed values in place, (..., size)."""

    @abstractmethod
    def sample(self, x: Tensor, observed: Tensor, parameters: Parameters, generator: torch.Generator | None) -> Tensor:
        """A draw from p(rest | x_observed), with the observed values in place, (..., size).

        The draw's device is the parameters'; numbers are drawn on the generator's device and moved.
        """

    @abstractmethod
    def moment(self, order: int, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        """E[X_v ** order | x_observed] for each variable, (..., size)."""

    @abstractmethod
    def expectation(self, f: Callable[[Tensor], Tensor], x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        """E[f(X_v) | x_observed] for each variable, (..., size); `f` acts elementwise."""

    @abstractmethod
    def variance(self, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        """Var[X_v | x_observed] for each variable, (..., size); zero for observed ones. Not a difference of moments."""


class AbstractUnivariate(AbstractFamily):
    """A family over one variable: what is observed is fixed, what is not is integrated out; members write the rest.

    Members implement the methods below on `x` without the trailing axis; shapes broadcast as in `AbstractFamily`.
    """

    @abstractmethod
    def log_density(self, x: Tensor, parameters: Parameters) -> Tensor:
        """log p(x), (...), for x (...); -inf outside the support."""

    @abstractmethod
    def log_interval(self, lower: Tensor, upper: Tensor, parameters: Parameters) -> Tensor:
        """log P(lower <= X <= upper), (...), for closed bounds (...)."""

    @abstractmethod
    def argmax(self, parameters: Parameters) -> Tensor:
        """A mode, (...)."""

    @abstractmethod
    def log_max(self, parameters: Parameters) -> Tensor:
        """log p at the mode, (...)."""

    @abstractmethod
    def draw(self, parameters: Parameters, generator: torch.Generator | None) -> Tensor:
        """One value for each unit, (...)."""

    @abstractmethod
    def raw_moment(self, order: int, parameters: Parameters) -> Tensor:
        """E[X ** order], (...)."""

    @abstractmethod
    def central_second_moment(self, parameters: Parameters) -> Tensor:
        """Var[X], (...), computed without cancellation."""

    @abstractmethod
    def integral(self, f: Callable[[Tensor], Tensor], parameters: Parameters) -> Tensor:
        """E[f(X)], (...), for an elementwise f that gives a number of the dtype of what it is given."""

    def log_prob(self, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        x, observed = x[..., 0], observed[..., 0]
        value = self.log_density(torch.where(observed, x, self._inside(x)), parameters)
        return torch.where(observed, value, torch.zeros((), dtype=value.dtype, device=value.device))

    def log_mass(self, lower: Tensor, upper: Tensor, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        inside = self.log_interval(lower[..., 0], upper[..., 0], parameters)
        if not bool(observed.any()):
            return inside
        return torch.where(observed[..., 0], self.log_prob(x, observed, parameters), inside)

    def log_mode(self, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        x, observed = x[..., 0], observed[..., 0]
        value = self.log_density(torch.where(observed, x, self._inside(x)), parameters)
        return torch.where(observed, value, self.log_max(parameters))

    def mode(self, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        return self._unless_observed(x, observed, self.argmax(parameters))

    def sample(self, x: Tensor, observed: Tensor, parameters: Parameters, generator: torch.Generator | None) -> Tensor:
        return self._unless_observed(x, observed, self.draw(parameters, generator))

    def moment(self, order: int, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        return self._unless_observed(x**order, observed, self.raw_moment(order, parameters))

    def variance(self, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        return self._unless_observed(torch.zeros_like(x), observed, self.central_second_moment(parameters))

    def expectation(self, f: Callable[[Tensor], Tensor], x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        function = elementwise(f)
        at = torch.where(observed, x, self._inside(x))
        seen = defined(function(at), at, observed) if bool(observed.any()) else torch.zeros_like(at)
        return self._unless_observed(seen, observed, self.integral(function, parameters))

    def _inside(self, x: Tensor) -> Tensor:
        """A value that is safe to evaluate where nothing was observed."""
        return torch.zeros((), dtype=x.dtype, device=x.device)

    def _unless_observed(self, x: Tensor, observed: Tensor, value: Tensor) -> Tensor:
        return torch.where(observed, x, value.unsqueeze(-1))


class AbstractExponentialFamily(AbstractUnivariate):
    """log p(x) = Σ_t η_t T_t(x - c) - A + log h, for any centre c: products of such leaves are matrix products.

    The centre is the caller's, per variable; a family without a location ignores it.
    """

    @abstractmethod
    def sufficient_statistics(self, x: Tensor, centre: Tensor) -> list[Tensor]:
        """[T_t(x - c)], each of the shape of x."""

    @abstractmethod
    def natural_parameters(self, parameters: Parameters, centre: Tensor) -> tuple[list[Tensor], Tensor]:
        """([η_t], log h - A), each of the units' shape."""

    @abstractmethod
    def cancellation(self, parameters: Parameters, centre: Tensor) -> Tensor:
        """The size, in nats, of the terms that cancel at a unit's own mode: what rounding is proportional to."""

    @abstractmethod
    def centre(self, parameters: Parameters) -> Tensor:
        """A centre for units (R, K): (R,), such as the mean of their locations."""
