"""What a pass carries: the parameters in the forms that layers compute with, and the values computed so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from pcircuits.program.leaf_functions import LeafFunction
from pcircuits.program.rows import Rows
from pcircuits.program.stores import Derived

if TYPE_CHECKING:
    from pcircuits.program.layers.layer import Layer

__all__ = ["Maximise", "Prepared", "State"]

T = TypeVar("T")
Maximise = bool | Tensor
"""Whether sums take the maximum: all of a layer's, none, or a mask (R, O), or (R, B, O) where rows of data differ."""


class Prepared:
    """The parameters of all layers for passes of one kind: in logarithms and float64, or scaled.

    `of(layer)` are tensors that autograd may follow; `ready(layer, make)` is what is derived from them without gradients,
    such as tables, and shared by all rows of data. `kept` says that it will serve later passes, too; `pure`, that torch
    traces or transforms the pass: then nothing may depend on the numbers, nor be written into a tensor.
    """

    def __init__(self, logs: bool, wide: bool, memory: int, kept: bool = False) -> None:
        self.logs, self.wide, self.memory, self.kept = logs, wide, memory, kept
        self.pure = False
        self.derived = Derived()
        self._tensors: dict[int, Mapping[str, Tensor]] = {}
        self._ready: dict[int, Derived] = {}

    def of(self, layer: Layer) -> Mapping[str, Tensor]:
        """A layer's parameters by name."""
        if layer.index not in self._tensors:
            self._tensors[layer.index] = layer.parameters_in(self)
        return self._tensors[layer.index]

    def ready(self, layer: Layer, name: str, make: Callable[[], T]) -> T:
        """What a layer derives from its parameters, made once and without gradients."""
        with torch.no_grad():
            return self._ready.setdefault(layer.index, Derived()).once(name, make)

    def forget(self, layer: Layer) -> None:
        """Drop what a layer derived: it is made again where it is asked for."""
        self._ready.pop(layer.index, None)

    def replaced(self, tensors: Mapping[int, Mapping[str, Tensor]]) -> Prepared:
        """The same with other tensors for the layers."""
        twin = Prepared(self.logs, self.wide, self.memory, self.kept)
        twin._tensors, twin.pure = dict(tensors), self.pure
        return twin


@dataclass
class State:
    """One pass over some rows of data.

    `numbers[i]` are layer i's units, rows of (B, K); `exponent` (rows of the program, B) and `slack` (rows of the program,
    2, B), bounds on the relative and on the absolute error of the numbers of a row, belong to all layers. `keep` says that
    a pass back, or down, follows. `rows` says which rows of the evidence these are.
    """

    leaf: LeafFunction
    prepared: Prepared
    memory: int
    chunked: bool
    exponent: Tensor
    slack: Tensor
    numbers: list[Rows | None]
    maximise: list[Maximise]
    keep: bool
    rows: Any = field(default_factory=lambda: slice(None))
    saved: dict[object, Any] = field(default_factory=dict)

    @property
    def logs(self) -> bool:
        """Whether numbers are logarithms."""
        return self.prepared.logs

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the numbers."""
        return self.slack.dtype

    def rows_of(self, layer: Layer) -> Rows:
        """The numbers of a layer, to be read a block at a time."""
        rows = self.numbers[layer.index]
        assert rows is not None
        return rows

    def of(self, layer: Layer) -> Tensor:
        """The numbers of a layer, (R, B, K)."""
        return self.rows_of(layer).whole()

    def bounds(self, layer: Layer) -> tuple[Tensor, Tensor]:
        """The exponents (R, B) of a layer, and its bounds (R, 2, B), to be written into."""
        own = slice(layer.first, layer.first + layer.count)
        return self.exponent[own], self.slack[own]

    def put(self, layer: Layer, numbers: Tensor | Rows, exponent: Tensor | float, slack: Tensor | float = 0.0) -> None:
        """Set what a layer computed."""
        own = slice(layer.first, layer.first + layer.count)
        self.numbers[layer.index] = numbers if isinstance(numbers, Rows) else Rows(numbers)
        if self.prepared.pure:  # layers come in the order of their rows
            wide = torch.as_tensor(exponent, dtype=torch.float64, device=self.slack.device)
            self.exponent = torch.cat([self.exponent, wide.expand(layer.count, self.leaf.rows)])
            return
        self.exponent[own] = exponent
        if not self.logs:
            self.slack[own] = slack

    def part(self, rows: slice | Tensor) -> State:
        """The same pass over some of its rows of data, for a layer that reads no other."""
        own: slice | Tensor
        if not isinstance(self.rows, slice):
            own = self.rows[rows]
        elif isinstance(rows, slice):
            begin = self.rows.start or 0
            own = slice(begin + rows.start, begin + rows.stop)
        else:
            own = rows + (self.rows.start or 0)
        flags = [m[:, rows] if isinstance(m, Tensor) and m.ndim == 3 else m for m in self.maximise]
        return replace(self, leaf=self.leaf.take(rows), rows=own, maximise=flags, saved={})
