"""Families over the integers from 0, without a largest: expectations are sums that end where nothing is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pcircuits.errors import CircuitError
from pcircuits.families.expectations import ElementwiseFunction, defined
from pcircuits.families.interface import AbstractUnivariate, Parameters

__all__ = ["AbstractCounts"]

BLOCK = 2**20
"""How many terms are summed at a time."""
LONGEST = 2**22
"""How many terms one unit may take."""
NEGLIGIBLE = 1e-14


class AbstractCounts(AbstractUnivariate):
    """A family over 0, 1, 2, ...; members give what `AbstractUnivariate` asks, but for `integral`."""

    base: ClassVar[Literal["counting", "lebesgue"]] = "counting"

    def integral(self, f: Callable[[Tensor], Tensor], parameters: Parameters) -> Tensor:
        """Σ_k p(k) f(k), over 40 standard deviations to either side, and further where f grows so fast that it matters.

        **Raises** `CircuitError` where f is NaN, and where the sum does not seem to end.
        """
        shape = self.unit_shape(parameters)
        dtype = next(iter(parameters.values())).dtype
        flat = {name: value.expand(shape).reshape(-1).double() for name, value in parameters.items()}
        with torch.no_grad():
            mean, spread = self.raw_moment(1, flat), self.central_second_moment(flat).sqrt()
            start = (mean - 40 * spread).floor().clamp(min=0.0)
            length = int((mean + 40 * spread + 40 - start).max().item()) if len(mean) else 1
        pieces = []
        size = max(1, BLOCK // length)
        for begin in range(0, max(1, len(mean)), size):
            of = slice(begin, begin + size)
            pieces.append(self._summed(f, {name: value[of] for name, value in flat.items()}, start[of], length))
        return torch.cat(pieces).reshape(shape).to(dtype)

    def _summed(self, f: ElementwiseFunction, parameters: Mapping[str, Tensor], start: Tensor, length: int) -> Tensor:
        wide = {name: value.unsqueeze(-1) for name, value in parameters.items()}
        while True:
            k = start.unsqueeze(-1) + torch.arange(length, dtype=start.dtype, device=start.device)
            p = self.log_density(k, wide).exp()
            possible = p > 0
            terms = torch.where(possible, p * torch.where(possible, defined(f(k), k, possible), 0.0), 0.0)
            left, size = terms.detach()[:, -1:].abs(), terms.detach().abs().sum(-1, keepdim=True)
            if bool((~(left > NEGLIGIBLE * size) | torch.isinf(size)).all()):
                return terms.sum(-1)
            if length >= LONGEST:
                raise CircuitError(
                    f"the function of an expectation grows too fast: at {k.max().item():g} its values still count under "
                    f"{self}, and the expectation may be infinite"
                )
            length *= 2
