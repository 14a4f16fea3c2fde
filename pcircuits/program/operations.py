"""The operations a circuit is lowered to: rows of units, and which rows they read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pcircuits.families.interface import AbstractFamily
from pcircuits.parameters import Parameter, Sourced

__all__ = [
    "ConstantOp",
    "FusedOp",
    "InputOp",
    "MixOp",
    "MixtureOp",
    "Operation",
    "OuterOp",
    "ParameterRows",
    "ProductOp",
    "Reads",
    "SumOp",
]

Index = NDArray[np.int64]
Op = TypeVar("Op", bound="Operation")


@dataclass(frozen=True)
class Reads:
    """Which units an operation reads: whole rows `rows` (R, A); or, with `columns`, single units, both (R, A, K).

    Rows are numbered through the whole program: row i of operation o is `o.first + i`.
    """

    rows: Index
    columns: Index | None = None

    def renumbered(self, new: Index) -> Reads:
        """The same units after rows moved: old row i is now row new[i]."""
        return Reads(new[self.rows], self.columns)

    def take(self, order: Index) -> Reads:
        """The reads of some of the rows."""
        return Reads(self.rows[order], None if self.columns is None else self.columns[order])

    @staticmethod
    def stack(parts: Sequence[Reads]) -> Reads:
        """The reads of several operations, row after row."""
        if len(parts) == 1:
            return parts[0]
        rows = np.concatenate([p.rows for p in parts])
        if parts[0].columns is None:
            return Reads(rows)
        return Reads(rows, np.concatenate([p.columns for p in parts if p.columns is not None]))


@dataclass(frozen=True)
class ParameterRows:
    """A tensor of parameters, row by row: row i is row `rows[i]` of `owners[i]`; each row has shape `block`."""

    owners: tuple[Parameter, ...]
    rows: Index
    block: tuple[int, ...]

    def take(self, order: Index) -> ParameterRows:
        """Some of the rows."""
        return ParameterRows(tuple(self.owners[i] for i in order.tolist()), self.rows[order], self.block)

    @staticmethod
    def stack(parts: Sequence[ParameterRows]) -> ParameterRows:
        """The rows of several, one after the other."""
        if len(parts) == 1:
            return parts[0]
        owners = tuple(owner for part in parts for owner in part.owners)
        return ParameterRows(owners, np.concatenate([p.rows for p in parts]), parts[0].block)


@dataclass(frozen=True, kw_only=True)
class Operation(ABC):
    """One step to be: `count` rows of `width` units, the first of which is row `first` of the program."""

    first: int
    count: int
    width: int
    depth: int

    def reads(self) -> tuple[Reads, ...]:
        """What it reads."""
        return ()

    @abstractmethod
    def take(self: Op, order: Index) -> Op:
        """The operation on some of its rows, in a given order."""

    def moved(self: Op, first: int, new: Index) -> Op:
        """The operation at row `first`, after the rows it reads moved: old row i is now row new[i]."""
        return replace(self, first=first)


@dataclass(frozen=True, kw_only=True)
class InputOp(Operation):
    """Input units: row r is over the columns `columns[r]` (R, size)."""

    family: AbstractFamily
    columns: Index
    parameters: dict[str, ParameterRows] | Sourced
    source_rows: Index | None = None

    def take(self, order: Index) -> InputOp:
        columns = self.columns[order]
        if isinstance(self.parameters, Sourced):
            assert self.source_rows is not None
            return replace(self, count=len(order), columns=columns, source_rows=self.source_rows[order])
        parameters = {name: rows.take(order) for name, rows in self.parameters.items()}
        return replace(self, count=len(order), columns=columns, parameters=parameters)


@dataclass(frozen=True, kw_only=True)
class ConstantOp(Operation):
    """Units of empty scope."""

    value: ParameterRows

    def take(self, order: Index) -> ConstantOp:
        return replace(self, count=len(order), value=self.value.take(order))


@dataclass(frozen=True, kw_only=True)
class ProductOp(Operation):
    """Products of the A units that each unit reads."""

    edges: Reads

    def reads(self) -> tuple[Reads, ...]:
        return (self.edges,)

    def take(self, order: Index) -> ProductOp:
        return replace(self, count=len(order), edges=self.edges.take(order))

    def moved(self, first: int, new: Index) -> ProductOp:
        return replace(self, first=first, edges=self.edges.renumbered(new))


@dataclass(frozen=True, kw_only=True)
class OuterOp(Operation):
    """Kronecker products of rows of differing widths, one `Reads` (R, 1) for each factor."""

    factors: tuple[Reads, ...]
    widths: tuple[int, ...]

    def reads(self) -> tuple[Reads, ...]:
        return self.factors

    def take(self, order: Index) -> OuterOp:
        return replace(self, count=len(order), factors=tuple(f.take(order) for f in self.factors))

    def moved(self, first: int, new: Index) -> OuterOp:
        return replace(self, first=first, factors=tuple(f.renumbered(new) for f in self.factors))


@dataclass(frozen=True, kw_only=True)
class MixOp(Operation):
    """Elementwise weighted sums of the A units that each unit reads; weight rows are (1 or K, A)."""

    edges: Reads
    weights: ParameterRows

    def reads(self) -> tuple[Reads, ...]:
        return (self.edges,)

    def take(self, order: Index) -> MixOp:
        return replace(self, count=len(order), edges=self.edges.take(order), weights=self.weights.take(order))

    def moved(self, first: int, new: Index) -> MixOp:
        return replace(self, first=first, edges=self.edges.renumbered(new))


@dataclass(frozen=True, kw_only=True)
class SumOp(Operation):
    """Dense sums over the width of the row that each row reads, (R, 1); weight rows are (O, K)."""

    edges: Reads
    weights: ParameterRows
    inputs: int

    def reads(self) -> tuple[Reads, ...]:
        return (self.edges,)

    def take(self, order: Index) -> SumOp:
        return replace(self, count=len(order), edges=self.edges.take(order), weights=self.weights.take(order))

    def moved(self, first: int, new: Index) -> SumOp:
        return replace(self, first=first, edges=self.edges.renumbered(new))


@dataclass(frozen=True, kw_only=True)
class FusedOp(Operation):
    """Products over A input units of one family: row r, factor a is row r·A + a of `leaves`."""

    leaves: InputOp
    arity: int

    def take(self, order: Index) -> FusedOp:
        leaves = (order[:, None] * self.arity + np.arange(self.arity)).ravel()
        return replace(self, count=len(order), leaves=self.leaves.take(leaves))


@dataclass(frozen=True, kw_only=True)
class MixtureOp(Operation):
    """Dense sums over the width of a fused product that nothing else reads; weight rows are (O, K)."""

    product: FusedOp
    weights: ParameterRows
    inputs: int

    def take(self, order: Index) -> MixtureOp:
        return replace(self, count=len(order), product=self.product.take(order), weights=self.weights.take(order))


@dataclass
class Lowered:
    """A program before it is made of tensors: operations in topological order, and where arrays ended up."""

    operations: list[Operation]
    root: Reads
    places: dict[int, Reads] = field(default_factory=dict)
    """For each symbolic array (by id), the reads that fetch it: (R, 1), or (R, 1, K) with columns."""

    @property
    def total_rows(self) -> int:
        return sum(op.count for op in self.operations)
