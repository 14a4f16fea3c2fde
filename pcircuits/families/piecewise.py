"""Densities on an interval that is cut at fixed edges: mixtures of one simple density for each bin or each knot."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from pcircuits.errors import ParameterError
from pcircuits.families.draws import standard_normal, uniform
from pcircuits.families.expectations import integrate
from pcircuits.families.interface import AbstractUnivariate, Parameters, ParameterSpec, kept_where_unused
from pcircuits.families.numerics import safe_log
from pcircuits.families.support import Support
from pcircuits.parameters import simplex

__all__ = ["AbstractPiecewise"]

CORE = [i / 16 for i in range(17)]
NODES, WEIGHTS = (torch.as_tensor(a) for a in np.polynomial.legendre.leggauss(24))


@dataclass(frozen=True)
class AbstractPiecewise(AbstractUnivariate):
    """p(x) = Σ_j probs_j p_j(x), each p_j a fixed density over the pieces beside it: linear on every piece.

    **Arguments**

    - `cuts`: the ends of the pieces, at least two numbers in ascending order.
    """

    cuts: tuple[float, ...]
    base: ClassVar[Literal["counting", "lebesgue"]] = "lebesgue"

    def __post_init__(self) -> None:
        try:
            cuts = tuple(float(cut) for cut in self.cuts)
        except (TypeError, ValueError) as error:
            raise ParameterError(f"the cuts of {self.name} are {self.cuts!r}: they must be numbers") from error
        if len(cuts) < 2 or not all(a < b for a, b in pairwise(cuts)) or not np.isfinite(cuts).all():
            raise ParameterError(
                f"the cuts of {self.name} are {self.cuts!r}: they must be finite, at least two, and in ascending order"
            )
        object.__setattr__(self, "cuts", cuts)

    @property
    @abstractmethod
    def parts(self) -> int:
        """J, the number of densities that are mixed."""

    @abstractmethod
    def heights(self, parameters: Parameters) -> tuple[Tensor, Tensor]:
        """The density at the left and at the right end of every piece, (..., pieces)."""

    @abstractmethod
    def responsibilities(self, x: Tensor, parameters: Parameters) -> Tensor:
        """The probability of each part, (..., J), given a value (...) inside."""

    @classmethod
    def even(cls, low: float, high: float, pieces: int) -> AbstractPiecewise:
        """A member whose pieces are of one width.

        >>> from pcircuits.families import Histogram
        >>> Histogram.even(0.0, 1.0, 2)
        Histogram(cuts=(0.0, 0.5, 1.0))
        """
        return cls(tuple(np.linspace(low, high, pieces + 1).tolist()))

    def examples(
        self, shape: Collection[int], generator: torch.Generator, states: int = 2, extreme: bool = False
    ) -> dict[str, Tensor]:
        decades = 6.0 if extreme else 0.7
        value = 10.0 ** (decades * (2 * uniform((*shape, self.parts), torch.empty(0), generator) - 1))
        return {"probs": value / value.sum(-1, keepdim=True)}

    def initial(self, shape: Collection[int], generator: torch.Generator) -> dict[str, Tensor]:
        """The softmax of standard normal numbers."""
        return {"probs": torch.softmax(standard_normal((*shape, self.parts), torch.empty(0), generator), -1)}

    @property
    def support(self) -> Support:
        return Support(integers=False, least=self.cuts[0], most=self.cuts[-1])

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return {"probs": ParameterSpec(simplex, event_ndim=1)}

    def validate(self, parameters: Parameters) -> None:
        shape = tuple(parameters["probs"].shape)
        if not shape or shape[-1] != self.parts:
            raise ParameterError(f"probs of {self} has shape {shape}: its last axis must hold the {self.parts} parts")

    def edges(self, parameters: Parameters) -> Tensor:
        probs = parameters["probs"]
        return probs.new_tensor(self.cuts).expand(*probs.shape[:-1], -1)

    def _inside(self, x: Tensor) -> Tensor:
        return torch.full((), 0.5 * (self.cuts[0] + self.cuts[1]), dtype=x.dtype, device=x.device)

    def _ends(self, like: Tensor) -> tuple[Tensor, Tensor]:
        cuts = like.new_tensor(self.cuts, dtype=torch.float64)
        return cuts[:-1], cuts[1:]

    def piece(self, x: Tensor) -> Tensor:
        """The piece that a value inside lies in, (...) int64."""
        inner = x.new_tensor(self.cuts[1:-1], dtype=torch.float64)
        return torch.searchsorted(inner, x.double().contiguous(), right=True)

    def log_density(self, x: Tensor, parameters: Parameters) -> Tensor:
        inside = (x >= self.cuts[0]) & (x <= self.cuts[-1])
        at = torch.where(inside, x, self._inside(x))
        left, right = self.heights(parameters)
        start, end = self._ends(x)
        piece = self.piece(at)
        t = ((at.double() - start[piece]) / (end - start)[piece]).to(left.dtype)
        low, high = (_pick(side, piece) for side in (left, right))
        return torch.where(inside, safe_log((1 - t) * low + t * high), -torch.inf)

    def log_interval(self, lower: Tensor, upper: Tensor, parameters: Parameters) -> Tensor:
        """Σ over pieces of the width of what is inside, times the density at its middle: all terms are positive."""
        left, right = self.heights(parameters)
        start, end = self._ends(lower)
        low = torch.maximum(lower.double().unsqueeze(-1), start)
        high = torch.minimum(upper.double().unsqueeze(-1), end)
        width = (high - low).clamp(min=0.0)
        t = torch.where(width > 0, (0.5 * (low + high) - start) / (end - start), 0.5).to(left.dtype)
        mass = (width.to(left.dtype) * ((1 - t) * left + t * right)).sum(-1)
        everything = (lower <= self.cuts[0]) & (upper >= self.cuts[-1])
        return torch.where(everything, 0.0, safe_log(mass))

    def argmax(self, parameters: Parameters) -> Tensor:
        left, right = self.heights(parameters)
        best = torch.maximum(left, right).argmax(-1)
        start, end = self._ends(left)
        to_right = _pick(right, best) > _pick(left, best)
        flat = _pick(right, best) == _pick(left, best)
        place = torch.where(to_right, end[best], start[best])
        return torch.where(flat, 0.5 * (start + end)[best], place).to(left.dtype)

    def log_max(self, parameters: Parameters) -> Tensor:
        left, right = self.heights(parameters)
        return safe_log(torch.maximum(left, right).amax(-1))

    def draw(self, parameters: Parameters, generator: torch.Generator | None) -> Tensor:
        """A piece in proportion to its mass, then a place in it by the inverse of a quadratic."""
        left, right = (side.detach().double() for side in self.heights(parameters))
        start, end = self._ends(left)
        cumulative = (0.5 * (left + right) * (end - start)).cumsum(-1)
        shape = cumulative.shape[:-1]
        level = uniform(shape, cumulative, generator).unsqueeze(-1) * cumulative[..., -1:]
        piece = (cumulative <= level).sum(-1).clamp(max=len(start) - 1)
        low, high = (_pick(side, piece) for side in (left, right))
        u = uniform(shape, cumulative, generator) * 0.5 * (low + high)
        t = 2 * u / (low + (low**2 + 2 * (high - low) * u).clamp(min=0.0).sqrt()).clamp(min=1e-300)
        value = start[piece] + t.clamp(0.0, 1.0) * (end - start)[piece]
        return value.to(parameters["probs"].dtype).clamp(self.cuts[0], self.cuts[-1])

    def _weighed(self, f: Callable[[Tensor], Tensor], parameters: Parameters) -> Tensor:
        """E[f(X, unit...)] of polynomials, by nodes that integrate them exactly; f takes (..., pieces, nodes)."""
        left, right = (side.double().unsqueeze(-1) for side in self.heights(parameters))
        start, end = (side.unsqueeze(-1) for side in self._ends(left))
        t = 0.5 * (1 + NODES.to(left))
        weights = 0.5 * WEIGHTS.to(left) * (end - start) * ((1 - t) * left + t * right)
        return (weights * f(start + t * (end - start))).sum((-1, -2))

    def raw_moment(self, order: int, parameters: Parameters) -> Tensor:
        return self._weighed(lambda x: x**order, parameters).to(parameters["probs"].dtype)

    def central_second_moment(self, parameters: Parameters) -> Tensor:
        mean = self._weighed(lambda x: x, parameters)[..., None, None]
        return self._weighed(lambda x: (x - mean) ** 2, parameters).to(parameters["probs"].dtype)

    def integral(self, f: Callable[[Tensor], Tensor], parameters: Parameters) -> Tensor:
        """f is integrated over each piece once for all units, times the density's rise and its fall."""
        left, right = self.heights(parameters)
        start, end = self._ends(left)
        flat = integrate(f, start, end - start, lambda z, _: torch.zeros_like(z), CORE)
        if bool((left == right).all()) and not (torch.is_grad_enabled() and left.requires_grad):
            return ((end - start) * flat * left.double()).sum(-1).to(left.dtype)
        rising = integrate(f, start, end - start, lambda z, _: z.log(), CORE)
        total = (end - start) * ((flat - rising) * left.double() + rising * right.double())
        return total.sum(-1).to(left.dtype)

    @property
    def statistic_shapes(self) -> Sequence[Sequence[int]]:
        return [(self.parts,)]

    def expected_statistics(
        self, x: Tensor, observed: Tensor, parameters: Parameters, centre: Tensor | None = None
    ) -> list[Tensor]:
        """The probability of each part, (..., J)."""
        x, observed = x[..., 0], observed[..., 0]
        inside = observed & (x >= self.cuts[0]) & (x <= self.cuts[-1])
        seen = self.responsibilities(torch.where(inside, x, self._inside(x)), parameters)
        return [torch.where(observed.unsqueeze(-1), seen, parameters["probs"])]

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
        """The shares of the parts."""
        before = parameters["probs"]
        counts = torch.where(before > 0, statistics[0].double() + pseudocount, 0.0)
        total = counts.sum(-1, keepdim=True)
        used = torch.where(count > 0, total[..., 0], 0.0).unsqueeze(-1)
        return {"probs": kept_where_unused(counts / total, used, before)}


def _pick(values: Tensor, index: Tensor) -> Tensor:
    """Entry `index` (...) of the last axis of `values` (*units, n), which broadcast."""
    shape = np.broadcast_shapes(values.shape[:-1], index.shape)
    wide = values.expand(*shape, values.shape[-1])
    return wide.gather(-1, index.expand(shape).unsqueeze(-1)).squeeze(-1)
