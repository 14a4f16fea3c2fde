"""Leaf functions: what input units evaluate to in a pass: a density or 1, the mass of an interval, a mode, or a mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from pcircuits.families.interface import AbstractFamily, Parameters

__all__ = ["Box", "Density", "LeafFunction", "Mode", "PartialMode", "Tilted"]


class LeafFunction(ABC):
    """What leaves evaluate to, for B rows: the tensors (B, D) it depends on, and the answer for gathered entries."""

    wide: ClassVar[bool] = True
    """Whether answers need probabilities in float64, since it is not their logs that leaves compute with."""

    @abstractmethod
    def tensors(self) -> tuple[Tensor, ...]:
        """The evidence, each (B, D)."""

    @abstractmethod
    def answer(self, evidence: tuple[Tensor, ...], family: AbstractFamily, parameters: Parameters) -> Tensor:
        """log values (...), from the gathered evidence, each (..., size), and parameters (..., *event)."""

    @abstractmethod
    def take(self, rows: slice | Tensor) -> LeafFunction:
        """The same question for some of the rows."""

    def about(self, x: Tensor) -> Self:
        """The same question about other values."""
        return replace(self, **{_names(self)[0]: x})  # type: ignore[type-var]

    def to(self, dtype: torch.dtype) -> Self:
        """The same question with its numbers in another dtype."""
        moved = [t.to(dtype) if t.dtype.is_floating_point else t for t in self.tensors()]
        return replace(self, **dict(zip(_names(self), moved, strict=True)))  # type: ignore[type-var]

    @abstractmethod
    def blank(self) -> LeafFunction:
        """The question about one row of which nothing is known."""

    @property
    def rows(self) -> int:
        """B."""
        return len(self.tensors()[0])


@dataclass(frozen=True)
class Density(LeafFunction):
    """log p(x) where x is observed, 0 where it is missing."""

    wide: ClassVar[bool] = False

    x: Tensor
    observed: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        return self.x, self.observed

    def answer(self, evidence: tuple[Tensor, ...], family: AbstractFamily, parameters: Parameters) -> Tensor:
        return family.log_prob(evidence[0], evidence[1], parameters)

    def blank(self) -> Density:
        zeros = self.x.new_zeros((1, self.x.shape[1]))
        return Density(zeros, zeros > 0)

    def take(self, rows: slice | Tensor) -> Density:
        return Density(self.x[rows], self.observed[rows])


@dataclass(frozen=True)
class Mode(LeafFunction):
    """log p(x) where x is observed, the largest log p elsewhere."""

    x: Tensor
    observed: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        return self.x, self.observed

    def answer(self, evidence: tuple[Tensor, ...], family: AbstractFamily, parameters: Parameters) -> Tensor:
        return family.log_mode(evidence[0], evidence[1], parameters)

    def blank(self) -> Mode:
        zeros = self.x.new_zeros((1, self.x.shape[1]))
        return Mode(zeros, zeros > 0)

    def take(self, rows: slice | Tensor) -> Mode:
        return Mode(self.x[rows], self.observed[rows])


@dataclass(frozen=True)
class PartialMode(LeafFunction):
    """log p(x) where x is observed, the largest log p where a value is wanted, 0 elsewhere.

    Of the missing variables of a unit, all are wanted or none.
    """

    x: Tensor
    observed: Tensor
    wanted: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        return self.x, self.observed, self.wanted

    def answer(self, evidence: tuple[Tensor, ...], family: AbstractFamily, parameters: Parameters) -> Tensor:
        x, observed, wanted = evidence
        known = family.log_prob(x, observed, parameters)
        chosen = wanted.any(-1)
        if not bool(chosen.any()):
            return known
        return torch.where(chosen, family.log_mode(x, observed, parameters), known)

    def blank(self) -> PartialMode:
        zeros = self.x.new_zeros((1, self.x.shape[1]))
        return PartialMode(zeros, zeros > 0, zeros > 0)

    def take(self, rows: slice | Tensor) -> PartialMode:
        return PartialMode(self.x[rows], self.observed[rows], self.wanted[rows])


@dataclass(frozen=True)
class Box(LeafFunction):
    """log p(x) where x is observed, the log mass of [lower, upper] elsewhere; bounds are ignored where x is observed."""

    x: Tensor
    observed: Tensor
    lower: Tensor
    upper: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        return self.x, self.observed, self.lower, self.upper

    def answer(self, evidence: tuple[Tensor, ...], family: AbstractFamily, parameters: Parameters) -> Tensor:
        x, observed, lower, upper = evidence
        return family.log_mass(lower, upper, x, observed, parameters)

    def blank(self) -> Box:
        zeros = self.x.new_zeros((1, self.x.shape[1]))
        return Box(zeros, zeros > 0, zeros, zeros)

    def take(self, rows: slice | Tensor) -> Box:
        return Box(self.x[rows], self.observed[rows], self.lower[rows], self.upper[rows])


@dataclass(frozen=True)
class Tilted(LeafFunction):
    """log p(x) where x is observed, and log (E[X_v | x] − shift_v) of units over a tilted variable v; 0 elsewhere.

    The values of a circuit are then E[X_v − shift_v, x]. A shift is below the mean of every unit of its variable.
    """

    x: Tensor
    observed: Tensor
    tilted: Tensor
    shift: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        return self.x, self.observed, self.tilted, self.shift

    def answer(self, evidence: tuple[Tensor, ...], family: AbstractFamily, parameters: Parameters) -> Tensor:
        x, observed, tilted, shift = evidence
        value = family.log_prob(x, observed, parameters)
        if not bool(tilted.any()):
            return value
        wide = {name: parameter.double() for name, parameter in parameters.items()}
        mean = family.moment(1, torch.where(observed, x, 0.0).double(), observed, wide)
        factor = torch.where(tilted, mean - shift.double(), 1.0).log().sum(-1)
        return value + factor.to(value.dtype)

    def blank(self) -> Tilted:
        zeros = self.x.new_zeros((1, self.x.shape[1]))
        return Tilted(zeros, zeros > 0, zeros > 0, zeros)

    def take(self, rows: slice | Tensor) -> Tilted:
        return Tilted(self.x[rows], self.observed[rows], self.tilted[rows], self.shift[rows])


def _names(leaf: LeafFunction) -> list[str]:
    return [field.name for field in fields(leaf)]  # type: ignore[arg-type]
