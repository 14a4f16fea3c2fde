"""A plan: what each layer of a program computes and reads, as arrays of numbers, before anything is made of tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pcircuits.parameters import Parameter, Sourced

__all__ = ["Columns", "Edges", "Index", "Node", "Owned", "Plan", "RowWise", "SourceRows"]

Index = NDArray[np.int64]


class RowWise(ABC):
    """Something that a node has for each of its rows."""

    @abstractmethod
    def take(self, order: Index) -> Self:
        """That of some of the rows, in a given order."""

    @abstractmethod
    def joined(self, others: Sequence[Any]) -> Self:
        """This one's rows, followed by those of others of its kind."""

    @abstractmethod
    def kind(self) -> Hashable:
        """What two of them must agree in to be joined."""

    def grouped(self, arity: int) -> Self:
        """(R·A, ...) as (R, A, ...): that of rows that each stand for A of these."""
        raise AssertionError(f"{type(self).__name__} of products of input units")


@dataclass(frozen=True)
class Edges(RowWise):
    """Which units a node reads: whole rows `rows` (R, A); or, with `columns`, single units, both (R, A, K).

    Rows are numbered through the whole plan: row i of a node is `node.first + i`.
    """

    rows: Index
    columns: Index | None = None

    def transposed(self) -> Edges:
        """The first unit that each row reads, of all rows, then the second: rows are laid out as they are read so."""
        return Edges(self.rows.swapaxes(0, 1), None if self.columns is None else self.columns.swapaxes(0, 1))

    def renumbered(self, new: Index) -> Edges:
        """The same units after rows moved: old row i is now row new[i]."""
        return Edges(new[self.rows], self.columns)

    def take(self, order: Index) -> Edges:
        return Edges(self.rows[order], None if self.columns is None else self.columns[order])

    def joined(self, others: Sequence[Edges]) -> Edges:
        parts = [self, *others]
        columns = [p.columns for p in parts if p.columns is not None]
        return Edges(np.concatenate([p.rows for p in parts]), np.concatenate(columns) if columns else None)

    def kind(self) -> Hashable:
        return self.rows.shape[1:], self.columns is None


@dataclass(frozen=True)
class Owned(RowWise):
    """Rows of parameters: entry i is row `row[i]` of the plan's parameter `owner[i]`, of shape `block`.

    `owner` and `row` are (R,), or (R, A) for nodes that have A of them to a row. `key` names what rows that are stored
    together must agree in: the constraint, the size of its vectors, and whether they are trained.
    """

    owner: Index
    row: Index
    block: tuple[int, ...]
    key: str

    @staticmethod
    def key_of(parameter: Parameter) -> str:
        """The `key` of a parameter's rows."""
        event = f"_{parameter.shape[-1]}" if parameter.constraint.event_ndim else ""
        return f"{parameter.constraint.name}{event}{'' if parameter.trainable else '_frozen'}"

    def take(self, order: Index) -> Owned:
        return replace(self, owner=self.owner[order], row=self.row[order])

    def joined(self, others: Sequence[Owned]) -> Owned:
        parts = [self, *others]
        return replace(self, owner=np.concatenate([p.owner for p in parts]), row=np.concatenate([p.row for p in parts]))

    def grouped(self, arity: int) -> Owned:
        return replace(self, owner=self.owner.reshape(-1, arity), row=self.row.reshape(-1, arity))

    def kind(self) -> Hashable:
        return self.key, self.block, self.owner.shape[1:]


@dataclass(frozen=True)
class Columns(RowWise):
    """The columns of data that input units are over: (R, size), or (R, A, size)."""

    index: Index

    def take(self, order: Index) -> Columns:
        return Columns(self.index[order])

    def joined(self, others: Sequence[Columns]) -> Columns:
        return Columns(np.concatenate([self.index, *(o.index for o in others)]))

    def grouped(self, arity: int) -> Columns:
        return Columns(self.index.reshape(-1, arity, self.index.shape[1]))

    def kind(self) -> Hashable:
        return self.index.shape[1:]


@dataclass(frozen=True)
class SourceRows(RowWise):
    """Which regions of what a source makes the rows are, (R,) or (R, A)."""

    sourced: Sourced
    index: Index

    def take(self, order: Index) -> SourceRows:
        return SourceRows(self.sourced, self.index[order])

    def joined(self, others: Sequence[SourceRows]) -> SourceRows:
        return SourceRows(self.sourced, np.concatenate([self.index, *(o.index for o in others)]))

    def grouped(self, arity: int) -> SourceRows:
        return SourceRows(self.sourced, self.index.reshape(-1, arity))

    def kind(self) -> Hashable:
        return id(self.sourced), self.index.shape[1:]


@dataclass(frozen=True)
class Node:
    """A layer to be: `count` rows of `width` units of one kind, the first of which is row `first` of the plan.

    `rows` holds what each row has; `facts` what all rows share, such as the family of input units.
    """

    kind: str
    first: int
    count: int
    width: int
    rows: Mapping[str, RowWise]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def edges(self) -> list[Edges]:
        """What it reads."""
        return [value for value in self.rows.values() if isinstance(value, Edges)]

    def owned(self) -> list[Owned]:
        """The stored parameters that it computes with."""
        return [value for value in self.rows.values() if isinstance(value, Owned)]

    def signature(self) -> Hashable:
        """What nodes must agree in to be stacked."""
        return (
            self.kind,
            self.width,
            tuple(self.facts.items()),
            tuple((name, value.kind()) for name, value in self.rows.items()),
        )

    def take(self, order: Index) -> Node:
        """The node on some of its rows, in a given order."""
        return replace(self, count=len(order), rows={name: value.take(order) for name, value in self.rows.items()})

    def stacked(self, others: Sequence[Node]) -> Node:
        """The node on its rows, followed by those of others of the same signature."""
        if not others:
            return self
        joined = {name: value.joined([o.rows[name] for o in others]) for name, value in self.rows.items()}
        return replace(self, count=self.count + sum(o.count for o in others), rows=joined)

    def reading(self, turned: Callable[[Edges], Edges]) -> Node:
        """The node with its edges replaced."""
        rows = {name: turned(value) if isinstance(value, Edges) else value for name, value in self.rows.items()}
        return replace(self, rows=rows)


@dataclass(frozen=True)
class Plan:
    """Nodes in topological order, and where the units of each array of the circuit ended up.

    `places[i]` are the edges that read array i of the circuit from the rows as they were lowered; row j of those is now
    row `now[j]`, from column `shift[j]` on, or gone where that is -1. `parameters` are what `Owned` rows count.
    """

    nodes: list[Node]
    root: Edges
    parameters: Sequence[Parameter]
    places: Sequence[Edges]
    now: Index
    shift: Index

    @property
    def total_rows(self) -> int:
        return sum(node.count for node in self.nodes)

    def owners(self) -> Index:
        """For each row, the node that computes it."""
        return np.repeat(np.arange(len(self.nodes)), [node.count for node in self.nodes])

    def readers(self) -> Index:
        """How often each row is read; the root counts."""
        count = np.zeros(self.total_rows, np.int64)
        for edges in (self.root, *(edges for node in self.nodes for edges in node.edges())):
            np.add.at(count, edges.rows.ravel(), 1)
        return count

    def depths(self) -> list[int]:
        """For each node, how many layers are below it at most."""
        of_row = np.zeros(self.total_rows, np.int64)
        depths = []
        for node in self.nodes:
            depth = max((1 + int(of_row[edges.rows].max()) for edges in node.edges()), default=0)
            of_row[node.first : node.first + node.count] = depth
            depths.append(depth)
        return depths

    def reordered(self, nodes: Sequence[Node], moved: Sequence[Index]) -> Plan:
        """The plan with these nodes, where row i of node n was row `moved[n][i]` before.

        Rows that no node has any more are numbered -1: nothing may compute with them.
        """
        new = np.full(self.total_rows, -1, np.int64)
        starts = np.cumsum([0, *(len(old) for old in moved)])
        for start, old in zip(starts, moved, strict=False):
            new[old] = np.arange(start, start + len(old))
        kept = [
            replace(node.reading(lambda edges: edges.renumbered(new)), first=int(start))
            for node, start in zip(nodes, starts, strict=False)
        ]
        now = np.where(self.now < 0, -1, new[self.now])
        return replace(self, nodes=kept, root=self.root.renumbered(new), now=now)
