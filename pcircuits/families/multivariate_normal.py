"""The multivariate Normal family with a full covariance, conditioned and marginalised exactly."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from pcircuits.errors import CircuitError, ParameterError
from pcircuits.families.draws import standard_normal, uniform
from pcircuits.families.expectations import defined, elementwise
from pcircuits.families.fields import integer
from pcircuits.families.interface import UNNOTICED, AbstractFamily, Parameters, ParameterSpec, kept_where_unused
from pcircuits.families.normal import Normal
from pcircuits.families.numerics import HALF_LOG_TWO_PI
from pcircuits.parameters import positive, real

__all__ = ["MultivariateNormal"]

NORMAL = Normal()


@dataclass(frozen=True)
class MultivariateNormal(AbstractFamily):
    """log p(x) = -½ (x - loc)ᵀ Σ⁻¹ (x - loc) - ½ log det 2πΣ over n variables, Σ = L Lᵀ, L = diag(scale) U.

    U is lower triangular with ones on its diagonal, and `lower` below it, row by row. So any numbers are parameters, and
    scale_v is the standard deviation of x_v given the variables before it. What is observed of a unit conditions the rest,
    in each row by itself: a row takes n³ multiplications for each unit, so that n should be small.

    **Arguments**

    - `dimensions`: n >= 2; over one variable it is a `Normal`.

    >>> pair = MultivariateNormal(2)
    >>> values = {"loc": torch.zeros(2), "scale": torch.ones(2), "lower": torch.tensor([0.5])}
    >>> pair.covariance(torch.zeros(2), torch.zeros(2) > 0, values)
    tensor([[1.0000, 0.5000],
            [0.5000, 1.2500]])
    """

    dimensions: int
    name: ClassVar[str] = "MultivariateNormal"
    base: ClassVar[Literal["counting", "lebesgue"]] = "lebesgue"
    positive: ClassVar[bool] = True
    inferred: ClassVar[tuple[str, ...]] = ("dimensions",)
    description: ClassVar[str] = """Normal densities over n variables together; a region is over a tuple of n labels.

    `loc` and `scale` are (n,) for one unit, (K, n) for K units, or (R, K, n); `lower` has n (n - 1) / 2 in place of n.

    >>> MultivariateNormal(("x", "y"), [0.0, 0.0], [1.0, 1.0], [0.5]).shape
    (1, 1)
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "dimensions", integer(self.dimensions, "dimensions of MultivariateNormal", least=2))

    @classmethod
    def fields_from(cls, shapes: Mapping[str, torch.Size]) -> dict[str, Any]:
        if not shapes["loc"]:
            raise ParameterError("loc of MultivariateNormal is a single number where a vector is needed")
        return {"dimensions": shapes["loc"][-1]}

    def examples(
        self, shape: Collection[int], generator: torch.Generator, states: int = 2, extreme: bool = False
    ) -> dict[str, Tensor]:
        like, decades, n = torch.empty(0), 2.0 if extreme else 0.5, self.dimensions
        scale = 10.0 ** (decades * (2 * uniform((*shape, n), like, generator) - 1))
        return {
            "loc": 3 * scale * standard_normal((*shape, n), like, generator),
            "scale": scale,
            "lower": standard_normal((*shape, n * (n - 1) // 2), like, generator),
        }

    def initial(
        self, shape: Collection[int], generator: torch.Generator, centre: float = 0.0, spread: float = 1.0
    ) -> dict[str, Tensor]:
        """Locations drawn from N(centre, spread²), scales of `spread`, and no correlations."""
        n = self.dimensions
        z = standard_normal((*shape, n), torch.empty(0), generator)
        lower = torch.zeros((*shape, n * (n - 1) // 2), dtype=torch.float64)
        return {"loc": centre + spread * z, "scale": torch.full_like(z, spread), "lower": lower}

    @property
    def size(self) -> int:
        return self.dimensions

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return {"loc": ParameterSpec(real, 1), "scale": ParameterSpec(positive, 1), "lower": ParameterSpec(real, 1)}

    def validate(self, parameters: Parameters) -> None:
        n = self.dimensions
        for name, wanted in (("loc", n), ("scale", n), ("lower", n * (n - 1) // 2)):
            shape = tuple(parameters[name].shape)
            if not shape or shape[-1] != wanted:
                raise ParameterError(f"{name} of {self} has shape {shape}: its last axis needs {wanted} numbers")

    def resolution(self, parameters: Parameters) -> Mapping[str, Tensor]:
        return {"loc": UNNOTICED * parameters["scale"]}

    def _root(self, parameters: Parameters) -> Tensor:
        """L, (..., n, n), in float64."""
        scale, lower = parameters["scale"].double(), parameters["lower"].double()
        n = self.dimensions
        row, column = torch.tril_indices(n, n, -1, device=scale.device)
        shape = np.broadcast_shapes(scale.shape[:-1], lower.shape[:-1])
        unit = torch.eye(n, dtype=torch.float64, device=scale.device).expand(*shape, n, n)
        return scale.unsqueeze(-1) * _put(unit, row, column, lower)

    def _conditioned(self, x: Tensor, observed: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor, Tensor]:
        """log p(x_observed) (...), and mean (..., n) and covariance (..., n, n) given it; 0 where observed."""
        root, loc = self._root(parameters), parameters["loc"].double()
        sigma = root @ root.mT
        both = observed.unsqueeze(-1) & observed.unsqueeze(-2)
        eye = torch.eye(self.dimensions, dtype=torch.float64, device=x.device)
        inner = torch.linalg.cholesky(torch.where(both, sigma, eye))
        apart = torch.where(observed, torch.where(observed, x.double(), 0.0) - loc, 0.0)
        across = torch.where(observed.unsqueeze(-2) & ~observed.unsqueeze(-1), sigma, 0.0)  # (missing, observed)
        shape = np.broadcast_shapes(inner.shape[:-2], apart.shape[:-1])
        inner = inner.expand(*shape, *inner.shape[-2:])
        apart, across = apart.expand(*shape, -1), across.expand(*shape, *across.shape[-2:])
        white = torch.linalg.solve_triangular(inner, torch.cat([apart.unsqueeze(-1), across.mT], -1), upper=False)
        z, gain = white[..., :1], white[..., 1:]
        log = -0.5 * (z**2).sum((-1, -2)) - inner.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        log = log - HALF_LOG_TWO_PI * observed.sum(-1, dtype=torch.float64)
        mean = torch.where(observed, x.double(), loc + (gain.mT @ z).squeeze(-1))
        left = ~observed.unsqueeze(-1) & ~observed.unsqueeze(-2)
        return log, mean, torch.where(left, sigma - gain.mT @ gain, 0.0)

    def _seen(self, x: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Values that are safe to compute with, and whether the observed ones are possible, (...)."""
        good = torch.isfinite(x) | ~observed
        return torch.where(observed & good, x, 0.0), good.all(-1)

    def log_prob(self, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        at, possible = self._seen(x, observed)
        value = self._conditioned(at, observed, parameters)[0].to(parameters["loc"].dtype)
        return torch.where(possible, value, -torch.inf)

    def log_mass(self, lower: Tensor, upper: Tensor, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        """Of bounds on one of the missing variables; **raises** `CircuitError` for several: there is no closed form."""
        at, possible = self._seen(x, observed)
        log, mean, covariance = self._conditioned(at, observed, parameters)
        low, high, seen = torch.broadcast_tensors(lower.double(), upper.double(), observed)  # type: ignore[no-untyped-call]
        bounded = ~seen & ((low > -torch.inf) | (high < torch.inf))
        if bool((bounded.sum(-1) > 1).any()):
            raise CircuitError(
                f"the probability of a box that bounds several variables of one unit of {self} has no closed form: bound one "
                "of them, or estimate it by model.sample(n)"
            )
        spread = covariance.diagonal(dim1=-2, dim2=-1)
        free = torch.where(spread > 0, spread, 1.0).sqrt()
        inside = NORMAL.log_interval(low, high, {"loc": mean, "scale": free})
        inside = torch.where(bounded, inside, 0.0).sum(-1)
        return torch.where(possible, log + inside, -torch.inf).to(parameters["loc"].dtype)

    def log_mode(self, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        at, possible = self._seen(x, observed)
        log, _, covariance = self._conditioned(at, observed, parameters)
        eye = torch.diag_embed(observed.double().expand(*covariance.shape[:-1]))
        root = torch.linalg.cholesky(covariance + eye).diagonal(dim1=-2, dim2=-1).log().sum(-1)
        value = log - root - HALF_LOG_TWO_PI * (~observed).sum(-1, dtype=torch.float64)
        return torch.where(possible, value, -torch.inf).to(parameters["loc"].dtype)

    def mode(self, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        return self.moment(1, x, observed, parameters)

    def sample(self, x: Tensor, observed: Tensor, parameters: Parameters, generator: torch.Generator | None) -> Tensor:
        at, _ = self._seen(x, observed)
        _, mean, covariance = self._conditioned(at, observed, {n: p.detach() for n, p in parameters.items()})
        eye = torch.diag_embed(observed.double().expand(*covariance.shape[:-1]))
        root = torch.linalg.cholesky(covariance + eye)
        z = standard_normal(mean.shape, mean, generator).unsqueeze(-1)
        drawn = mean + (root @ z).squeeze(-1)
        return torch.where(observed, x, drawn.to(parameters["loc"].dtype))

    def moment(self, order: int, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        _, mean, covariance = self._conditioned(self._seen(x, observed)[0], observed, parameters)
        spread = covariance.diagonal(dim1=-2, dim2=-1).clamp(min=0.0).sqrt()
        value = NORMAL.raw_moment(order, {"loc": mean, "scale": spread}).to(parameters["loc"].dtype)
        return torch.where(observed, x**order, value)

    def expectation(self, f: Callable[[Tensor], Tensor], x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        function = elementwise(f)
        at = self._seen(x, observed)[0]
        _, mean, covariance = self._conditioned(at, observed, parameters)
        spread = covariance.diagonal(dim1=-2, dim2=-1)
        scale = torch.where(spread > 0, spread, 1.0).sqrt()
        value = NORMAL.integral(function, {"loc": torch.where(observed, 0.0, mean), "scale": scale})
        seen = defined(function(at), at, observed) if bool(observed.any()) else torch.zeros_like(at)
        return torch.where(observed, seen, value.to(parameters["loc"].dtype))

    def variance(self, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        return self.covariance(x, observed, parameters).diagonal(dim1=-2, dim2=-1)

    def covariance(self, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        return self._conditioned(self._seen(x, observed)[0], observed, parameters)[2].to(parameters["loc"].dtype)

    @property
    def statistic_shapes(self) -> Sequence[Sequence[int]]:
        return [(self.dimensions,), (self.dimensions, self.dimensions)]

    def expected_statistics(
        self, x: Tensor, observed: Tensor, parameters: Parameters, centre: Tensor | None = None
    ) -> list[Tensor]:
        """E[x - c] (..., n) and E[(x - c) (x - c)ᵀ] (..., n, n), of what is missing given what is observed."""
        _, mean, covariance = self._conditioned(self._seen(x, observed)[0], observed, parameters)
        y = mean if centre is None else mean - centre.unsqueeze(-1)
        return [y, y.unsqueeze(-1) * y.unsqueeze(-2) + covariance]

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
        """The weighted mean and covariance; no direction has a standard deviation below `minimum_scale`."""
        total = torch.where(count > 0, count, 1.0).double()
        mean, second = statistics[0].double() / total[..., None], statistics[1].double() / total[..., None, None]
        value, vector = torch.linalg.eigh(second - mean.unsqueeze(-1) * mean.unsqueeze(-2))
        sigma = (vector * value.clamp(min=minimum_scale**2).unsqueeze(-2)) @ vector.mT
        root = torch.linalg.cholesky(0.5 * (sigma + sigma.mT))
        scale = root.diagonal(dim1=-2, dim2=-1)
        row, column = torch.tril_indices(self.dimensions, self.dimensions, -1, device=root.device)
        found = {
            "loc": mean if centre is None else mean + centre.unsqueeze(-1),
            "scale": scale,
            "lower": (root / scale.unsqueeze(-1))[..., row, column],
        }
        return {name: kept_where_unused(v, count.unsqueeze(-1), parameters[name]) for name, v in found.items()}


def _put(unit: Tensor, row: Tensor, column: Tensor, lower: Tensor) -> Tensor:
    """The matrices (..., n, n) with entries (..., m) below their diagonals."""
    place = row * unit.shape[-1] + column
    spread = torch.zeros((len(place), unit.shape[-1] ** 2), dtype=lower.dtype, device=lower.device)
    spread[torch.arange(len(place), device=place.device), place] = 1.0
    below: Tensor = (lower @ spread).reshape(*lower.shape[:-1], *unit.shape[-2:])
    return unit + below
