"""What a family of distributions must know for every query to run on circuits that use it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from pcircuits.errors import ParameterError
from pcircuits.families.expectations import defined, elementwise
from pcircuits.families.rounding import lost_by_rounding
from pcircuits.families.support import Support
from pcircuits.parameters import Constraint

__all__ = [
    "FAMILIES",
    "AbstractExponentialFamily",
    "AbstractFamily",
    "AbstractUnivariate",
    "ParameterSpec",
    "Parameters",
    "kept_where_unused",
    "no_smaller",
]

Parameters = Mapping[str, Tensor]

FAMILIES: dict[str, type[AbstractFamily]] = {}
"""Name to class, to rebuild a family from its name and its dataclass fields. A class of this package joins by its name."""

UNNOTICED = 1e-3
"""How far rounding may move a parameter, in shares of the spread of its unit."""


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
    """A class that gives itself a name is a family; one that does not is a base of others."""
    base: ClassVar[Literal["counting", "lebesgue"]]
    """The base measure: sums over integers, or integrals."""
    positive: ClassVar[bool] = False
    """Whether every member is positive on all states, whatever its parameters (then no support needs computing)."""

    inferred: ClassVar[tuple[str, ...]] = ()
    """Fields that follow from the parameters (see `fields_from`): constructors of units do not ask for them."""
    description: ClassVar[str] = ""
    """The docstring of the constructor of units; where it is empty, that of the class."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "name" in cls.__dict__ and cls.__module__.startswith(f"{__package__}."):
            FAMILIES[cls.name] = cls

    @classmethod
    def fields_from(cls, shapes: Mapping[str, torch.Size]) -> dict[str, Any]:
        """The `inferred` fields, from the shapes of the parameters that a constructor was given."""
        return {}

    @classmethod
    def members(cls, states: int) -> Collection[AbstractFamily]:
        """Members over variables of so many states (0: open-ended counts, -1: real numbers), for random circuits."""
        return []

    def examples(
        self, shape: Collection[int], generator: torch.Generator, states: int = 2, extreme: bool = False
    ) -> dict[str, Tensor]:
        """Random parameters (*shape, *event) in float64 that a test should see, structural values among them.

        **Arguments**

        - `states`: how many states the variable has, for a family that leaves it open.
        - `extreme`: whether to spread them over many orders of magnitude.
        """
        raise ParameterError(f"{self.name} has no examples: write its method `examples`")

    def initial(self, shape: Collection[int], generator: torch.Generator) -> dict[str, Tensor]:
        """Random parameters (*shape, *event) in float64 for training to start from; members may take options."""
        raise ParameterError(f"{self.name} has no initial parameters: write its method `initial`, or a maker of leaves")

    def reference(self, values: Mapping[str, Any]) -> Any:
        """One unit again, independently: a frozen distribution of `scipy.stats`, or a dict from states to log p.

        The oracle of `pcircuits.testing` answers with it. `values` are floats, or lists of floats. It must share nothing
        with the other methods: scipy or plain Python.
        """
        raise ParameterError(f"{self.name} has no reference for the oracle: write its method `reference`")

    @property
    def size(self) -> int:
        """The number of variables of one unit."""
        return 1

    @property
    def states(self) -> int | None:
        """S where the support is within 0..S-1; None where it is infinite, or left open (an indicator)."""
        return None

    @property
    def support(self) -> Support:
        """The values that any member may be positive on, for each variable."""
        if self.base == "lebesgue":
            return Support(integers=False)
        return Support(integers=True, least=0.0, most=math.inf if self.states is None else self.states - 1.0)

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

    def resolution(self, parameters: Parameters) -> Mapping[str, Tensor]:
        """How far rounding may move parameters before it matters, such as a thousandth of the spread for a location.

        What is left out may be rounded as it comes, like a scale, of which only relative changes matter.
        """
        return {}

    def representable(self, parameters: Parameters, dtype: torch.dtype) -> str | None:
        """What rounding float64 `parameters` to `dtype` would destroy, in words with the remedy; None where nothing is lost.

        >>> from pcircuits.families import Normal
        >>> clock = {name: torch.tensor(value).double() for name, value in {"loc": 1.7e9, "scale": 10.0}.items()}
        >>> Normal().representable(clock, torch.float64)
        >>> print(Normal().representable(clock, torch.float32))
        loc of Normal() is 1700000000.0, and 1700000000.0 in torch.float32, whose numbers are 128 apart there, although a
        shift by 0.01 matters: compile in float64 (dtype=torch.float64), or measure the variable from another origin
        """
        return lost_by_rounding(self, parameters, dtype)

    @property
    def statistic_shapes(self) -> Sequence[Sequence[int]]:
        """What the shape of each of the `expected_statistics` has beyond that of the units."""
        raise self._no_update()

    def expected_statistics(
        self, x: Tensor, observed: Tensor, parameters: Parameters, centre: Tensor | None = None
    ) -> list[Tensor]:
        """E[T_t | what is observed]: the statistics that `m_step` needs, of x where observed, of the unit where not.

        Each is of the shape (...) of `log_prob`; a family over finitely many states has one, of shape (..., S).

        **Arguments**

        - `centre`: where statistics are centred, broadcasting to (...); 0 where it is not given.
        """
        raise self._no_update()

    def m_step(
        self,
        statistics: Sequence[Tensor],
        count: Tensor,
        parameters: Parameters,
        *,
        pseudocount: float = 0.0,
        minimum_scale: float = 1e-3,
        centre: Tensor | None = None,
    ) -> Parameters:
        """The parameters of largest likelihood, given Σ w E[T_t] and Σ w over the rows of data.

        A unit that no row uses keeps its parameters. Answers have the dtype of the parameters.

        **Arguments**

        - `statistics`: the weighted sums of `expected_statistics`, each (...).
        - `count`: the sum of the weights, (...).
        - `parameters`: those before the update.
        - `pseudocount`: added to the count of every state of a discrete variable with a largest state; a state of
          probability zero keeps it.
        - `minimum_scale`: no standard deviation or scale gets smaller, but for those that were from the start; likelihoods
          of densities are unbounded without it.
        - `centre`: where the statistics are centred. Far from 0, variances need one near the data.
        """
        raise self._no_update()

    def _no_update(self) -> ParameterError:
        return ParameterError(
            f"{self} has no update for expectation-maximisation: train its parameters by gradients (pcircuits.learning.fit), "
            "or write its methods `expected_statistics` and `m_step`"
        )

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

    def covariance(self, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        """Cov[X_v, X_w | x_observed] within a unit, (..., size, size); zero in rows and columns of observed variables."""
        if self.size == 1:
            return self.variance(x, observed, parameters).unsqueeze(-1)
        raise ParameterError(
            f"{self.name} says no covariance of its {self.size} variables: write its method `covariance`"
        )


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

    def edges(self, parameters: Parameters) -> Tensor | None:
        """Where a density has jumps or kinks, (..., J) in ascending order; None where it is smooth on its support."""
        return None

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
    """log p(x) = Σ_t η_t T_t(x - c) - A + log h(x), for any centre c: products of such leaves are matrix products.

    The centre is the caller's, per variable; a family without a location ignores it.
    """

    @abstractmethod
    def sufficient_statistics(self, x: Tensor, centre: Tensor) -> list[Tensor]:
        """[T_t(x - c)], each of the shape of x."""

    @abstractmethod
    def natural_parameters(self, parameters: Parameters, centre: Tensor) -> tuple[list[Tensor], Tensor]:
        """([η_t], -A), each of the units' shape; what of h is a constant may be part of the second."""

    def log_base_measure(self, x: Tensor) -> Tensor:
        """log h(x), of the shape of x, whatever the centre: what no parameter changes; 0 for most densities."""
        return torch.zeros_like(x)

    @abstractmethod
    def cancellation(self, parameters: Parameters, centre: Tensor) -> Tensor:
        """The size, in nats, of the terms that cancel at a unit's own mode: what rounding is proportional to."""

    @abstractmethod
    def centre(self, parameters: Parameters) -> Tensor:
        """A centre for units (R, K): (R,), such as the mean of their locations."""

    @property
    def statistic_shapes(self) -> Sequence[Sequence[int]]:
        one = torch.ones(())
        return [()] * len(self.sufficient_statistics(one, torch.zeros(())))

    def inside(self, x: Tensor) -> Tensor:
        """A value of the support, for where nothing is observed."""
        return self._inside(x)

    def mean_statistics(self, parameters: Parameters, centre: Tensor) -> list[Tensor]:
        """[E[T_t(X - c)]], each of the units' shape."""
        count = len(self.natural_parameters(parameters, centre)[0])
        return [
            self.integral(lambda x, t=t: self.sufficient_statistics(x, centre)[t], parameters)  # type: ignore[misc]
            for t in range(count)
        ]

    def expected_statistics(
        self, x: Tensor, observed: Tensor, parameters: Parameters, centre: Tensor | None = None
    ) -> list[Tensor]:
        x, observed = x[..., 0], observed[..., 0]
        centre = torch.zeros((), dtype=x.dtype, device=x.device) if centre is None else centre
        seen = self.sufficient_statistics(torch.where(observed, x, self._inside(x)), centre)
        expected = self.mean_statistics(parameters, centre)
        return [torch.where(observed, one, other) for one, other in zip(seen, expected, strict=True)]


def no_smaller(new: Tensor, old: Tensor, least: float) -> Tensor:
    """Scales that are at least `least`, or the old ones where those were smaller: then likelihoods never fall.

    >>> no_smaller(torch.tensor([0.5, 0.5]), torch.tensor([2.0, 0.7]), 1.0).tolist()
    [1.0, 0.699999988079071]
    """
    return torch.maximum(new, old.to(new.dtype).clamp(max=least))


def kept_where_unused(new: Tensor, count: Tensor, old: Tensor) -> Tensor:
    """The new parameters of units that some row uses, the old ones of the others, in their dtype.

    >>> kept_where_unused(torch.tensor([1.0, torch.nan]), torch.tensor([2.0, 0.0]), torch.tensor([3.0, 3.0])).tolist()
    [1.0, 3.0]
    """
    return torch.where(count > 0, new, old.to(new.dtype)).to(old.dtype)
