"""Any continuous distribution of torch.distributions over one variable, as a family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, distributions
from torch.distributions import constraints

from pcircuits.errors import ParameterError
from pcircuits.families.densities import AbstractDensity, log_between
from pcircuits.families.draws import uniform
from pcircuits.families.interface import Parameters, ParameterSpec
from pcircuits.families.support import Support
from pcircuits.parameters import Constraint, nonnegative, positive, real, unit_interval

__all__ = ["External"]

KNOWN: tuple[tuple[object, Constraint], ...] = (
    (constraints.real, real),
    (constraints.positive, positive),
    (constraints.nonnegative, nonnegative),
    (constraints.unit_interval, unit_interval),
)
SUPPORTS: tuple[tuple[object, Support], ...] = (
    (constraints.real, Support(integers=False)),
    (constraints.positive, Support(integers=False, least=0.0)),
    (constraints.nonnegative, Support(integers=False, least=0.0)),
    (constraints.unit_interval, Support(integers=False, least=0.0, most=1.0)),
)


@dataclass(frozen=True)
class External(AbstractDensity):
    """The density of a distribution of torch.distributions: `log_prob`, `cdf`, `icdf`, `mean` and `variance` are torch's.

    What torch does not say of a distribution is refused by name when it is asked for, such as samples of one without
    `icdf`. Intervals far above the median keep the digits that 1 - cdf has. There is no update for
    expectation-maximisation: train by gradients.

    **Arguments**

    - `distribution`: the name of the class, such as "Gumbel". Its parameters are those of its constructor.

    **Raises** `ParameterError` for names that torch.distributions does not have, and for distributions over integers or
    over several variables.

    >>> import pcircuits as pc
    >>> units = pc.inputs(External("Gumbel"), "level", {"loc": [0.0, 2.0], "scale": 1.0})
    >>> pc.Circuit(units.sum([0.5, 0.5])).compile().mean()  # the Euler-Mascheroni constant, and 1
    tensor([1.5772])
    """

    distribution: str
    name: ClassVar[str] = "External"
    description: ClassVar[str] = (
        """Use `pcircuits.inputs(families.External("Gumbel"), variables, parameters)`: parameters have torch's names."""
    )

    def __post_init__(self) -> None:
        kind = getattr(distributions, str(self.distribution), None)
        if not isinstance(kind, type) or not issubclass(kind, distributions.Distribution):
            raise ParameterError(f"torch.distributions has no {self.distribution!r}")
        support = kind.support
        if not any(support is known for known, _ in SUPPORTS) and not isinstance(support, property):
            raise ParameterError(
                f"External takes continuous distributions over one variable: the support of {self.distribution} is {support}"
            )
        if unknown := [name for name, constraint in self._arguments().items() if self._constraint(constraint) is None]:
            raise ParameterError(f"External knows no constraint such as that of {unknown[0]} of {self.distribution}")

    def _arguments(self) -> dict[str, object]:
        arguments = dict(getattr(distributions, self.distribution).arg_constraints)
        if "probs" in arguments:
            arguments.pop("logits", None)
        return arguments

    @staticmethod
    def _constraint(constraint: object) -> Constraint | None:
        return next((own for known, own in KNOWN if constraint is known), None)

    @property
    def support(self) -> Support:
        found = getattr(distributions, self.distribution).support
        return next((own for known, own in SUPPORTS if found is known), Support(integers=False))

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        if not hasattr(self, "distribution"):  # asked of the class, by its constructor
            return {}
        specs = {}
        for name, constraint in self._arguments().items():
            own = self._constraint(constraint)
            assert own is not None
            specs[name] = ParameterSpec(own)
        return specs

    def _of(self, parameters: Parameters) -> Any:
        return getattr(distributions, self.distribution)(**parameters, validate_args=False)

    def _ask(self, parameters: Parameters, what: str, *arguments: Tensor) -> Tensor:
        """A method or a property of torch's. **Raises** `ParameterError` where torch does not have it."""
        try:
            found = getattr(self._of(parameters), what)
            value: Tensor = found(*arguments) if arguments else found
        except NotImplementedError as error:
            raise ParameterError(f"torch.distributions.{self.distribution} has no {what}, which this needs") from error
        return value.expand(np.broadcast_shapes(value.shape, self.unit_shape(parameters)))

    def log_density(self, x: Tensor, parameters: Parameters) -> Tensor:
        support = self._of(parameters).support
        inside = torch.isfinite(x)
        inside = inside & support.check(torch.where(inside, x, 0.0))
        at = torch.where(inside, x, self._middle(parameters, x))
        return torch.where(inside, self._ask(parameters, "log_prob", at), -torch.inf)

    def _middle(self, parameters: Parameters, like: Tensor) -> Tensor:
        """A value that is possible for sure, where none is known: the median, or 1."""
        with torch.no_grad():
            try:
                half = torch.full((), 0.5, dtype=like.dtype, device=like.device)
                middle: Tensor = self._of({name: p.detach() for name, p in parameters.items()}).icdf(half)
                return middle
            except NotImplementedError:
                return torch.ones((), dtype=like.dtype, device=like.device)

    def log_interval(self, lower: Tensor, upper: Tensor, parameters: Parameters) -> Tensor:
        support = self.support
        lower, upper = lower.clamp(min=support.least), upper.clamp(max=support.most)

        def below(x: Tensor) -> Tensor:
            return self._ask(parameters, "cdf", x).clamp(0.0, 1.0).log()

        def above(x: Tensor) -> Tensor:
            return torch.log1p(-self._ask(parameters, "cdf", x).clamp(0.0, 1.0))

        fixed = {name: p.detach() for name, p in parameters.items()}
        half = torch.full((), 0.5, dtype=lower.dtype, device=lower.device)
        low, middle, high = (self._ask(fixed, "icdf", share * half) for share in (0.5, 1.0, 1.5))
        return log_between(lower, upper, below, above, lambda x: self.log_density(x, parameters), middle, high - low)

    def argmax(self, parameters: Parameters) -> Tensor:
        return self._ask(parameters, "mode").detach()

    def log_max(self, parameters: Parameters) -> Tensor:
        return self.log_density(self.argmax(parameters), parameters)

    def draw(self, parameters: Parameters, generator: torch.Generator | None) -> Tensor:
        first = next(iter(parameters.values()))
        level = uniform(self.unit_shape(parameters), first, generator).clamp(min=1e-300)
        return self._ask({n: p.detach().double() for n, p in parameters.items()}, "icdf", level).to(first.dtype)

    def raw_moment(self, order: int, parameters: Parameters) -> Tensor:
        return self._ask(parameters, "mean") if order == 1 else self.integral(lambda x: x**order, parameters)

    def central_second_moment(self, parameters: Parameters) -> Tensor:
        return self._ask(parameters, "variance")

    def warp(self, t: Tensor, parameters: Parameters) -> Tensor:
        """The quantile at the level σ(t)."""
        level = torch.sigmoid(t).clamp(1e-300, 1 - 1e-16)
        return self._ask(parameters, "icdf", level)

    def line(self, parameters: Parameters) -> tuple[Tensor, Tensor]:
        first = next(iter(parameters.values()))
        return torch.zeros_like(first), torch.ones_like(first)

    def log_weight(self, t: Tensor, parameters: Parameters) -> Tensor:
        sigmoid = torch.nn.functional.logsigmoid
        return sigmoid(t) + sigmoid(-t)
