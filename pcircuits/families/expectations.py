"""Expectations of functions that users give: as numbers for each element, and as integrals that refine themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pcircuits.errors import CircuitError

__all__ = ["ElementwiseFunction", "defined", "elementwise", "integrate"]

ElementwiseFunction = Callable[[Tensor], Tensor]
Standard = Callable[[Tensor, Tensor], Tensor]
TOLERANCE = 1e-9
"""How far the two rules of a panel may differ, in shares of E|f|: in float64, whatever the model's dtype."""
SHARE = TOLERANCE / 64
"""The share of E|f| that the two rules may differ by in one panel."""
PANELS = 2**14
"""How many panels one unit may take: enough for a cosine of about eight thousand standard deviations."""
BLOCK = 2**10
"""How many units are integrated at a time."""
SLICE = 2**16
"""How many panels are evaluated at a time, where they are refined."""


def _clenshaw_curtis(order: int) -> Tensor:
    """The weights of the rule of Clenshaw and Curtis (1960) at the nodes cos(πj / order), j = 0..order."""
    j, k = np.arange(order + 1), np.arange(1, order // 2 + 1)
    terms = np.where(k == order // 2, 1, 2) / (4 * k**2 - 1) * np.cos(2 * np.pi * np.outer(j, k) / order)
    return torch.as_tensor(np.where((j == 0) | (j == order), 1, 2) / order * (1 - terms.sum(1)))


# The ends of a panel are among the nodes: else a jump between an end and its next node would escape both rules.
NODES = torch.cos(torch.pi * torch.arange(17, dtype=torch.float64) / 16)
FINE, COARSE = _clenshaw_curtis(16), torch.zeros(17, dtype=torch.float64)
COARSE[::2] = _clenshaw_curtis(8)


def elementwise(f: object) -> ElementwiseFunction:
    """A user's function as one from a tensor to a tensor of the same shape and dtype.

    Booleans and integers become numbers, arrays of numpy become tensors, and a constant counts for every element.

    **Raises** `CircuitError` for what is no function; and, when it is called, where the function fails, or gives
    anything but a number for each element.

    >>> elementwise(lambda x: x > 1)(torch.tensor([0.0, 2.0])).tolist()
    [0.0, 1.0]
    """
    if not callable(f):
        raise CircuitError(f"an expectation needs a function of a tensor, such as torch.exp, not {f!r}")

    def called(x: Tensor) -> Tensor:
        try:
            return _numbers(f(x))
        except CircuitError:
            raise
        except Exception as error:
            raise CircuitError(
                f"the function of an expectation failed on a tensor of shape {tuple(x.shape)}: {error}. It must act on "
                "each element of a tensor, as torch.exp does and math.exp does not"
            ) from error

    def function(x: Tensor) -> Tensor:
        value = called(x)
        if value.ndim == 0 and x.numel() != 1:
            _check_constant(value, called(x + 1.0), x)
            _check_constant(value, called(x.reshape(-1)[:1]), x)
            value = value.expand(x.shape)
        if value.shape != x.shape and not (value.numel() == x.numel() == 1):
            raise CircuitError(
                f"the function of an expectation gave a tensor of shape {tuple(value.shape)} for one of shape "
                f"{tuple(x.shape)}: it must act on each element by itself"
            )
        return value.reshape(x.shape).to(dtype=x.dtype, device=x.device)

    return function


def _numbers(value: object) -> Tensor:
    if isinstance(value, np.ndarray | np.generic):
        value = torch.as_tensor(np.array(value))
    elif isinstance(value, bool | int | float):
        value = torch.tensor(float(value), dtype=torch.float64)
    if not isinstance(value, Tensor) or value.is_complex():
        kind = "complex numbers" if isinstance(value, Tensor) else repr(value)
        raise CircuitError(f"the function of an expectation gave {kind}: it must give a real number for each element")
    return value.detach() if not torch.is_grad_enabled() else value


def _check_constant(value: Tensor, again: Tensor, x: Tensor) -> None:
    """A single number for many elements is a constant; a sum or a mean of them is not."""
    if again.numel() == 1 and torch.equal(value.nan_to_num(), again.reshape(()).nan_to_num().to(value.dtype)):
        return
    raise CircuitError(
        f"the function of an expectation gave one number for a tensor of shape {tuple(x.shape)}, and another for other "
        "elements: it must act on each element by itself, without sums or means over them"
    )


def defined(value: Tensor, x: Tensor, counts: Tensor) -> Tensor:
    """`value` = f(x); `CircuitError` where it is NaN and counts.

    >>> defined(torch.tensor([torch.nan, 1.0]), torch.zeros(2), torch.tensor([False, True])).tolist()
    [nan, 1.0]
    """
    undefined = torch.isnan(value) & counts
    if bool(undefined.any()):
        where = x.expand(undefined.shape)[undefined][0].item()
        raise CircuitError(
            f"the function of an expectation is NaN at {where:.6g}, which is possible: give it a value there, as in "
            "lambda x: torch.where(x > 0, x, 1.0).log()"
        )
    return value


def integrate(
    f: ElementwiseFunction,
    loc: Tensor,
    scale: Tensor,
    log_standard: Standard,
    core: Sequence[float],
    outer: Sequence[Sequence[float]] = (),
    log_density: Callable[[Tensor, Tensor], Tensor] | None = None,
    warp: Standard | None = None,
) -> Tensor:
    """∫ p(z) f(loc + scale z) dz for each of n units, (n,) in float64.

    Each panel is integrated by two rules, and halved until they agree: jumps and kinks are closed in on, and fast
    oscillations resolved. What happens only between
    the nodes of the first panels, a tenth of their width apart at most, is missed.

    **Arguments**

    - `loc`, `scale`: (n,).
    - `log_standard`: log p(z) of the standard density, of points (m, 17) and of the units (m,) that they belong to.
    - `core`: the edges of the first panels.
    - `outer`: edges beyond either end of the core, looked at only where f grows so fast that the ends of the core matter.
    - `log_density`: log p(x) of the units (m,) at points (m, 17), where gradients are wanted. The gradient is
      E[f ∂ log p], which asks nothing of f: neither that torch can differentiate it, nor that it has no jumps.
    - `warp`: a map of loc + scale z, and of units, to what f is given, such as an exponential for positive variables.

    **Raises** `CircuitError` where f is not finite, where it is too rough, and where it grows too fast.

    >>> zero, one = torch.zeros(1).double(), torch.ones(1).double()
    >>> edges = [float(z) for z in range(-12, 13)]
    >>> round(integrate(lambda x: x**2, zero, one, lambda z, unit: -0.5 * z**2 - 0.9189385332046727, edges).item(), 12)
    1.0
    """
    blocks = []
    for start in range(0, len(loc), BLOCK):
        of = slice(start, start + BLOCK)
        inside = None if log_density is None else _shifted(log_density, start)
        standard = _shifted(log_standard, start)
        warped = None if warp is None else _shifted(warp, start)
        blocks.append(_Integral(f, loc[of].detach(), scale[of].detach(), standard, inside, warped).over(core, outer))
    return torch.cat(blocks) if blocks else loc.new_zeros(0)


def _shifted(log_density: Callable[[Tensor, Tensor], Tensor], start: int) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, unit: log_density(x, unit + start)


@dataclass
class _Panels:
    """Panels [lower, upper] of some units, each (m,)."""

    unit: Tensor
    lower: Tensor
    upper: Tensor

    def take(self, which: Tensor | slice) -> _Panels:
        return _Panels(self.unit[which], self.lower[which], self.upper[which])

    def halved(self) -> _Panels:
        middle = 0.5 * (self.lower + self.upper)
        return _Panels(
            torch.cat([self.unit, self.unit]), torch.cat([self.lower, middle]), torch.cat([middle, self.upper])
        )


class _Integral:
    """The integrals of one block of units, and how large |f| is under them."""

    def __init__(
        self,
        f: ElementwiseFunction,
        loc: Tensor,
        scale: Tensor,
        log_standard: Standard,
        log_density: Callable[[Tensor, Tensor], Tensor] | None,
        warp: Standard | None,
    ) -> None:
        self.f, self.loc, self.scale, self.warp = f, loc, scale, warp
        self.log_standard, self.log_density = log_standard, log_density
        self.total, self.size = torch.zeros_like(loc), torch.zeros_like(loc)
        self.panels = torch.zeros_like(loc, dtype=torch.int64)
        self.nodes, self.fine, self.coarse = (t.to(loc.device) for t in (NODES, FINE, COARSE))

    def over(self, core: Sequence[float], outer: Sequence[Sequence[float]]) -> Tensor:
        units = torch.arange(len(self.loc), device=self.loc.device)
        ends = self._refined(units, core)
        for edges in outer:
            beside = ends[0] if edges[-1] <= core[0] else ends[1]
            grows = (beside > 1e-3 * SHARE * self.size).nonzero().squeeze(1)
            if not len(grows):
                continue
            last = self._refined(grows, edges)[0 if edges[-1] <= core[0] else 1]
            if bool((last[grows] > TOLERANCE * self.size[grows]).any()):
                raise CircuitError(
                    "the function of an expectation grows too fast: its values 38 standard deviations away still count, and "
                    "the expectation may be infinite"
                )
        return self.total

    def _refined(self, units: Tensor, edges: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Add the panels between the edges; returns what |f| is under the first and the last of them, (n,)."""
        edge = torch.tensor(list(edges), dtype=torch.float64, device=self.loc.device)
        count = len(edge) - 1
        panels = _Panels(units.repeat_interleave(count), edge[:-1].repeat(len(units)), edge[1:].repeat(len(units)))
        with torch.no_grad():
            value, error, size = self._sums(panels)
            self.size = self.size.index_add(0, panels.unit, size)
        by_unit = size.view(len(units), count)
        first, last = torch.zeros_like(self.size), torch.zeros_like(self.size)
        first[units], last[units] = by_unit[:, 0], by_unit[:, -1]
        while True:
            done = (error <= SHARE * self.size[panels.unit]) | self._as_narrow_as_can_be(panels)
            self._add(panels.take(done), value[done])
            if bool(done.all()):
                return first, last
            self.panels = self.panels.index_add(0, panels.unit, torch.ones_like(panels.unit))
            if bool((self.panels > PANELS).any()):
                raise CircuitError(
                    "the function of an expectation is too rough to integrate: it oscillates or jumps too often within a "
                    "standard deviation. For the probability of intervals ask model.probability(lower, upper); else give a "
                    "smoother function, or average it over model.sample(n)"
                )
            panels = panels.take(~done).halved()
            value, error, _ = self._sums(panels)

    def _as_narrow_as_can_be(self, panels: _Panels) -> Tensor:
        """Whether the ends of a panel are neighbouring numbers, or nearly so."""
        largest = torch.maximum(panels.lower.abs(), panels.upper.abs()) + (self.loc / self.scale).abs()[panels.unit]
        return panels.upper - panels.lower <= 64 * torch.finfo(torch.float64).eps * largest

    def _points(self, panels: _Panels) -> tuple[Tensor, Tensor]:
        """x (m, 17), and p(z) dz (m, 17) without the weights of a rule."""
        half = 0.5 * (panels.upper - panels.lower).unsqueeze(-1)
        z = panels.lower.unsqueeze(-1) + half * (1 + self.nodes)
        x = self.loc[panels.unit].unsqueeze(-1) + self.scale[panels.unit].unsqueeze(-1) * z
        x = x if self.warp is None else self.warp(x, panels.unit)
        return x, half * self.log_standard(z, panels.unit).exp()

    def _sums(self, panels: _Panels) -> tuple[Tensor, Tensor, Tensor]:
        """The integral of each panel, its error, and the integral of the absolute value, (m,)."""
        parts = []
        with torch.no_grad():
            for start in range(0, max(1, len(panels.unit)), SLICE):
                x, weight = self._points(panels.take(slice(start, start + SLICE)))
                value = self.f(x)
                self._check_finite(value, x, weight)
                value = torch.where(weight > 0, value * weight, 0.0)
                fine, coarse = value @ self.fine, value @ self.coarse
                parts.append((fine, (fine - coarse).abs(), value.abs() @ self.fine))
        one, two, three = zip(*parts, strict=True)
        return torch.cat(one), torch.cat(two), torch.cat(three)

    def _check_finite(self, value: Tensor, x: Tensor, weight: Tensor) -> None:
        defined(value, x, weight > 0)
        infinite = torch.isinf(value) & (weight > 0)
        if bool(infinite.any()):
            raise CircuitError(
                f"the function of an expectation is infinite at {x[infinite][0].item():.6g}, which is possible: it cannot be "
                "integrated there"
            )

    def _add(self, panels: _Panels, value: Tensor) -> None:
        if self.log_density is None:
            self.total = self.total.index_add(0, panels.unit, value)
            return
        x, weight = self._points(panels)
        at = torch.where(weight > 0, self.f(x).detach() * weight, 0.0) * self.fine
        log = self.log_density(x, panels.unit)
        self.total = self.total.index_add(0, panels.unit, (at * (log - log.detach()).exp()).sum(-1))
