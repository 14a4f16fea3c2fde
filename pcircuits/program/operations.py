"""The operations a circuit is lowered to: rows of units, and which rows they read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from pcircuits.families.interface import AbstractFamily
from pcircuits.parameters import Parameter, Sourced

__all__ = [
    "Columns",
    "ConstantOp",
    "FusedOp",
    "InputOp",
    "Lowered",
    "MixOp",
    "MixtureOp",
    "Operation",
    "OuterOp",
    "ParameterRows",
    "ProductOp",
    "Reads",
    "RowWise",
    "SourceRows",
    "SumOp",
    "pool_key",
]

Index = NDArray[np.int64]
Op = TypeVar("Op", bound="Operation")


class RowWise(ABC):
    """Something that an operation has for each of its rows."""

    @abstractmethod
    def take(self, order: Index) -> Self:
        """That of some of the rows, in a given order."""

    @abstractmethod
    def joined(self, others: Sequence[Any]) -> Self:
        """This one's rows, followed by those of others of its kind."""

    @abstractmethod
    def kind(self) -> Hashable:
        """What two of them must agree in to be joined."""


@dataclass(frozen=True)
class Reads(RowWise):
    """Which units an operation reads: whole rows `rows` (R, A); or, with `columns`, single units, both (R, A, K).

    Rows are numbered through the whole program: row i of operation o is `o.first + i`.
    """

    rows: Index
    columns: Index | None = None

    def renumbered(self, new: Index) -> Reads:
        """The same units after rows moved: old row i is now row new[i]."""
        return Reads(new[self.rows], self.columns)

    def take(self, order: Index) -> Reads:
        return Reads(self.rows[order], None if self.columns is None else self.columns[order])

    def joined(self, others: Sequence[Reads]) -> Reads:
        parts = [self, *others]
        columns = [p.columns for p in parts if p.columns is not None]
        return Reads(np.concatenate([p.rows for p in parts]), np.concatenate(columns) if columns else None)

    def kind(self) -> Hashable:
        return self.rows.shape[1:], self.columns is None


@dataclass(frozen=True)
class ParameterRows(RowWise):
    """A tensor of parameters, row by row: row i is row `rows[i]` of `owners[i]`; each row has shape `block`."""

    owners: tuple[Parameter, ...]
    rows: Index
    block: tuple[int, ...]

    def take(self, order: Index) -> ParameterRows:
        return ParameterRows(tuple(self.owners[i] for i in order.tolist()), self.rows[order], self.block)

    def joined(self, others: Sequence[ParameterRows]) -> ParameterRows:
        parts = [self, *others]
        owners = tuple(owner for part in parts for owner in part.owners)
        return ParameterRows(owners, np.concatenate([p.rows for p in parts]), self.block)

    def kind(self) -> Hashable:
        return pool_key(self.owners[0]), self.block


@dataclass(frozen=True)
class Columns(RowWise):
    """The columns of data that input units are over, (R, size)."""

    index: Index

    def take(self, order: Index) -> Columns:
        return Columns(self.index[order])

    def joined(self, others: Sequence[Columns]) -> Columns:
        return Columns(np.concatenate([self.index, *(o.index for o in others)]))

    def kind(self) -> Hashable:
        return self.index.shape[1:]


@dataclass(frozen=True)
class SourceRows(RowWise):
    """Which regions of what a source makes the rows are, (R,)."""

    sourced: Sourced
    rows: Index

    def take(self, order: Index) -> SourceRows:
        return SourceRows(self.sourced, self.rows[order])

    def joined(self, others: Sequence[SourceRows]) -> SourceRows:
        return SourceRows(self.sourced, np.concatenate([self.rows, *(o.rows for o in others)]))

    def kind(self) -> Hashable:
        return id(self.sourced)


def pool_key(parameter: Parameter) -> str:
    """The pool that a parameter lives in: parameters of one constraint, event and trainability share one."""
    event = f"_{parameter.shape[-1]}" if parameter.constraint.event_ndim else ""
    return f"{parameter.constraint.name}{event}{'' if parameter.trainable else '_frozen'}"


@dataclass(frozen=True, kw_only=True)
class Operation(ABC):
    """One step to be: `count` rows of `width` units, the first of which is row `first` of the program."""

    first: int
    count: int
    width: int
    depth: int

    @abstractmethod
    def by_row(self) -> Mapping[str, RowWise]:
        """Its fields that have something for each row."""

    @abstractmethod
    def with_rows(self: Op, count: int, by_row: Mapping[str, Any]) -> Op:
        """The same operation with other rows."""

    def reads(self) -> tuple[Reads, ...]:
        """What it reads."""
        return tuple(value for value in self.by_row().values() if isinstance(value, Reads))

    def parameter_rows(self) -> list[ParameterRows]:
        """The stored parameters that it computes with."""
        return [value for value in self.by_row().values() if isinstance(value, ParameterRows)]

    def signature(self) -> Hashable:
        """What operations must agree in to be stacked."""
        return type(self).__name__, self.width, tuple((n, value.kind()) for n, value in self.by_row().items())

    def take(self: Op, order: Index) -> Op:
        """The operation on some of its rows, in a given order."""
        return self.with_rows(len(order), {name: value.take(order) for name, value in self.by_row().items()})

    def stacked(self: Op, others: Sequence[Op]) -> Op:
        """The operation on its rows, followed by those of others of the same signature."""
        if not others:
            return self
        theirs = [other.by_row() for other in others]
        joined = {name: value.joined([t[name] for t in theirs]) for name, value in self.by_row().items()}
        return self.with_rows(self.count + sum(other.count for other in others), joined)

    def reading(self: Op, turned: Callable[[Reads], Reads]) -> Op:
        """The operation with its reads replaced."""
        by_row = {n: turned(v) if isinstance(v, Reads) else v for n, v in self.by_row().items()}
        return self.with_rows(self.count, by_row)

    def moved(self: Op, first: int, new: Index) -> Op:
        """The operation at row `first`, after the rows it reads moved: old row i is now row new[i]."""
        return replace(self.reading(lambda reads: reads.renumbered(new)), first=first)


@dataclass(frozen=True, kw_only=True)
class InputOp(Operation):
    """Input units: row r is over the columns `columns[r]`."""

    family: AbstractFamily
    columns: Columns
    parameters: Mapping[str, ParameterRows] | SourceRows

    def by_row(self) -> Mapping[str, RowWise]:
        if isinstance(self.parameters, SourceRows):
            return {"columns": self.columns, "source": self.parameters}
        return {"columns": self.columns, **{f"parameter {n}": rows for n, rows in self.parameters.items()}}

    def with_rows(self, count: int, by_row: Mapping[str, Any]) -> InputOp:
        source = by_row.get("source")
        named = {n.removeprefix("parameter "): v for n, v in by_row.items() if n.startswith("parameter ")}
        return replace(self, count=count, columns=by_row["columns"], parameters=named if source is None else source)

    def reads(self) -> tuple[Reads, ...]:
        return ()

    def parameter_rows(self) -> list[ParameterRows]:
        return [] if isinstance(self.parameters, SourceRows) else list(self.parameters.values())

    def signature(self) -> Hashable:
        own = self.first if isinstance(self.parameters, SourceRows) else None
        return super().signature(), self.family, own


@dataclass(frozen=True, kw_only=True)
class ConstantOp(Operation):
    """Units of empty scope."""

    value: ParameterRows

    def by_row(self) -> Mapping[str, RowWise]:
        return {"value": self.value}

    def with_rows(self, count: int, by_row: Mapping[str, Any]) -> ConstantOp:
        return replace(self, count=count, **by_row)


@dataclass(frozen=True, kw_only=True)
class ProductOp(Operation):
    """Products of the A units that each unit reads."""

    edges: Reads

    def by_row(self) -> Mapping[str, RowWise]:
        return {"edges": self.edges}

    def with_rows(self, count: int, by_row: Mapping[str, Any]) -> ProductOp:
        return replace(self, count=count, **by_row)


@dataclass(frozen=True, kw_only=True)
class OuterOp(Operation):
    """Kronecker products of rows of differing widths, one `Reads` (R, 1) for each factor."""

    factors: tuple[Reads, ...]
    widths: tuple[int, ...]

    def by_row(self) -> Mapping[str, RowWise]:
        return {f"factor {number}": reads for number, reads in enumerate(self.factors)}

    def with_rows(self, count: int, by_row: Mapping[str, Any]) -> OuterOp:
        return replace(self, count=count, factors=tuple(by_row.values()))

    def signature(self) -> Hashable:
        return super().signature(), self.widths


@dataclass(frozen=True, kw_only=True)
class MixOp(Operation):
    """Elementwise weighted sums of the A units that each unit reads; weight rows are (1 or K, A)."""

    edges: Reads
    weights: ParameterRows

    def by_row(self) -> Mapping[str, RowWise]:
        return {"edges": self.edges, "weights": self.weights}

    def with_rows(self, count: int, by_row: Mapping[str, Any]) -> MixOp:
        return replace(self, count=count, **by_row)


@dataclass(frozen=True, kw_only=True)
class SumOp(Operation):
    """Dense sums over the width of the row that each row reads, (R, 1); weight rows are (O, K)."""

    edges: Reads
    weights: ParameterRows
    inputs: int

    def by_row(self) -> Mapping[str, RowWise]:
        return {"edges": self.edges, "weights": self.weights}

    def with_rows(self, count: int, by_row: Mapping[str, Any]) -> SumOp:
        return replace(self, count=count, **by_row)


@dataclass(frozen=True, kw_only=True)
class FusedOp(Operation):
    """Products over A input units of one family: row r, factor a is row r·A + a of `leaves`."""

    leaves: InputOp
    arity: int

    def by_row(self) -> Mapping[str, RowWise]:
        return {}

    def with_rows(self, count: int, by_row: Mapping[str, Any]) -> FusedOp:
        assert count == self.count
        return self

    def take(self, order: Index) -> FusedOp:
        leaves = (order[:, None] * self.arity + np.arange(self.arity)).ravel()
        return replace(self, count=len(order), leaves=self.leaves.take(leaves))

    def parameter_rows(self) -> list[ParameterRows]:
        return self.leaves.parameter_rows()

    def signature(self) -> Hashable:
        return type(self).__name__, self.first


@dataclass(frozen=True, kw_only=True)
class MixtureOp(Operation):
    """Dense sums over the width of a fused product that nothing else reads; `sums` weight rows of (O, K) to each row."""

    product: FusedOp
    weights: ParameterRows
    inputs: int
    sums: int

    def by_row(self) -> Mapping[str, RowWise]:
        return {"weights": self.weights}

    def with_rows(self, count: int, by_row: Mapping[str, Any]) -> MixtureOp:
        assert count == self.count
        return replace(self, **by_row)

    def take(self, order: Index) -> MixtureOp:
        weights = (order[:, None] * self.sums + np.arange(self.sums)).ravel()
        return replace(self, count=len(order), product=self.product.take(order), weights=self.weights.take(weights))

    def parameter_rows(self) -> list[ParameterRows]:
        return [*self.product.parameter_rows(), self.weights]

    def signature(self) -> Hashable:
        return type(self).__name__, self.first


@dataclass
class Lowered:
    """A program before it is made of tensors: operations in topological order, and where arrays ended up.

    `places` are the reads that fetch each symbolic array (by id) from the rows as they were lowered; row i of those is
    now row `now[i]`, from column `shift[i]` on, or gone where that is -1.
    """

    operations: list[Operation]
    root: Reads
    places: Mapping[int, Reads]
    now: Index
    shift: Index

    @property
    def total_rows(self) -> int:
        return sum(op.count for op in self.operations)

    def owners(self) -> Index:
        """For each row, the operation that computes it."""
        return np.repeat(np.arange(len(self.operations)), [op.count for op in self.operations])
