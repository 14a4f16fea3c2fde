"""What a layer is, and what passes hand to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from pcircuits.families.interface import AbstractFamily, Parameters
from pcircuits.parameters import Sourced
from pcircuits.program.edges import Flow, Gather, Locations, Visits
from pcircuits.program.plan import Edges, Node, Owned
from pcircuits.program.rows import Spans
from pcircuits.program.state import Prepared, State
from pcircuits.program.stores import Stores, View

__all__ = ["Build", "Flows", "Gradients", "Layer", "LeafUnits", "Selector", "Trace"]


@dataclass(frozen=True)
class Build:
    """What layers are made from."""

    stores: Stores
    locations: Locations
    source_of: Callable[[Sourced], nn.Module]
    device: torch.device | None
    memory: int | None
    """The bound on memory; None where nothing is cut to it."""

    @property
    def chunked(self) -> bool:
        """Whether rows and columns are cut to the bound."""
        return self.memory is not None

    def gather(self, edges: Edges) -> Gather:
        """The run-time form of edges."""
        return Gather(edges, self.locations, self.device)

    def view(self, name: str, node: Node) -> View:
        """The stored rows of a parameter of a node."""
        rows = node.rows[name]
        assert isinstance(rows, Owned)
        return self.stores.view(f"{node.kind}{len(self.locations.logs)}_{name}", rows, self.source_of)


@runtime_checkable
class LeafUnits(Protocol):
    """The leaf units of a layer, by which it is known to what a reverse pass tells of them."""

    @property
    def family(self) -> AbstractFamily:
        """Their family."""


class Gradients:
    """Sums of gradients of layers' parameters over rows of data, and the gradient of data, made where they are asked for."""

    def __init__(self, wanted: Mapping[int, frozenset[str]], x: Tensor | None) -> None:
        self.wanted = wanted
        self.x = x
        self.of_x: Tensor | None = None
        self.made: dict[tuple[int, str], Tensor] = {}
        self._tables: dict[tuple[int, str], tuple[Tensor, Callable[[Tensor], Tensor]]] = {}

    def wants(self, layer: Layer, name: str) -> bool:
        """Whether a gradient is asked for."""
        return name in self.wanted.get(layer.index, ())

    def add(self, layer: Layer, name: str, gradient: Tensor) -> None:
        """Add to the gradient of a layer's parameter."""
        key = (layer.index, name)
        self.made[key] = self.made[key].add_(gradient) if key in self.made else gradient

    def add_rows(
        self,
        layer: Layer,
        name: str,
        shape: tuple[int, int],
        rows: Tensor,
        values: Tensor,
        done: Callable[[Tensor], Tensor],
    ) -> None:
        """Add values (n, K) to rows (n,) of a table of this shape, which `done` turns into the gradient in the end."""
        key = (layer.index, name)
        if key not in self._tables:
            self._tables[key] = values.new_zeros(shape), done
        self._tables[key][0].index_add_(0, rows, values)

    def all(self) -> Mapping[tuple[int, str], Tensor]:
        """The gradients by layer and name."""
        return {**self.made, **{key: done(table) for key, (table, done) in self._tables.items()}}

    def rows_of_x(self, rows: slice | Tensor) -> Tensor | None:
        """Some rows of the data whose gradient is asked for."""
        if self.x is None:
            return None
        with torch.enable_grad():
            return self.x[rows]

    def add_x(self, gradient: Tensor) -> None:
        """Add to the gradient of data, (B, D)."""
        self.of_x = gradient if self.of_x is None else self.of_x.add_(gradient)


class Flows:
    """What a reverse pass hands flows to: the flow of a unit is ∂ log p / ∂ log(unit), (R, B, K) for a layer's units."""

    gradients: Gradients | None = None
    hears_leaves: bool = True
    """Whether it is told of leaf units, rather than given the gradients of their parameters."""

    def leaves(
        self, state: State, own: LeafUnits, begin: int, columns: Tensor, parameters: Parameters, flow: Tensor
    ) -> None:
        """Leaf units `begin`, `begin + 1`, ... of each row r and factor a of a layer's.

        Their columns are (R, A, size), their parameters (R, A, K, *event), and their flow (R, B, K).
        """

    def tables(self, columns: Tensor, table: Callable[[], Tensor], place: Tensor | None, flow: Tensor) -> bool:
        """The same of units over the columns (R,) that look log-probabilities up in a table (U, K, S), row r in `place[r]`.

        False where it is of no use: then `leaves` is called.
        """
        return False

    def edges(self, state: State, layer: Layer, begin: int, flows: Callable[[int], Tensor], rows: slice) -> None:
        """Flows into the inputs `begin`, `begin + 1`, ... of a layer's sums, (B, O, n), made when called for one of its rows.

        `rows` says which of the pass's rows of data these are.
        """


class Selector(ABC):
    """How a top-down pass decides: by drawing, or by the largest."""

    @abstractmethod
    def pick_within(self, scores: Tensor, group: Tensor | None) -> Tensor:
        """For base-2 log scores (G, K) and the group of each visit (V,), one index each, (V,); never one of score -inf.

        Without groups, each visit has scores of its own.
        """

    def pick(self, scores: Tensor) -> Tensor:
        """For base-2 log scores (V, K), one index each, (V,)."""
        return self.pick_within(scores, None)

    def pick_state(self, cumulative: Callable[[], Tensor], unit: Tensor) -> Tensor | None:
        """For visits (V,) of units whose states have cumulative probabilities (U, S), a state each; or None: settle them."""
        return None

    def pick_mode(self, modes: Callable[[], Tensor], unit: Tensor) -> Tensor | None:
        """Likewise for units whose most probable states are known, (U,)."""
        return None

    def pick_grouped(self, scores: Callable[[Tensor], Tensor], groups: int, group: Tensor, at_once: int) -> Tensor:
        """As `pick_within`, with the scores of some groups made when they are needed, at most `at_once` together."""
        if groups <= at_once:
            return self.pick_within(scores(torch.arange(groups, device=group.device)), group)
        picked = torch.empty_like(group)
        for begin in range(0, groups, at_once):
            some = torch.arange(begin, min(begin + at_once, groups), device=group.device)
            here = ((group >= begin) & (group < begin + len(some))).nonzero().squeeze(1)
            picked[here] = self.pick_within(scores(some), group[here] - begin)
        return picked

    @abstractmethod
    def settle(self, family: AbstractFamily, x: Tensor, observed: Tensor, parameters: Parameters) -> Tensor:
        """Values of chosen leaf units, (V, size), with those that were observed in place."""


@dataclass
class Trace:
    """What a top-down pass carries: for each sample its row of data, and its assignment (S, D) so far."""

    row_of: Tensor
    assignment: Tensor
    observed: Tensor
    selector: Selector
    visits: list[list[Visits]]

    def write(self, family: AbstractFamily, sample: Tensor, columns: Tensor, parameters: Parameters) -> None:
        """Settle leaf units (V,) over columns (V, size), and write down what was missing."""
        index = sample.unsqueeze(-1)
        x, observed = self.assignment[index, columns], self.observed[index, columns]
        values = self.selector.settle(family, x, observed, parameters)
        self.assignment[index, columns] = torch.where(observed, x, values.to(x.dtype))

    def write_states(self, sample: Tensor, columns: Tensor, states: Tensor) -> None:
        """Write down the states (V,) of univariate leaf units over columns (V,), where nothing was observed."""
        x, observed = self.assignment[sample, columns], self.observed[sample, columns]
        self.assignment[sample, columns] = torch.where(observed, x, states.to(x.dtype))


class Layer(nn.Module, ABC):
    """A node made of tensors. `index` is its place in the program; its values are (R, B, K)."""

    in_logs: bool = False
    normal: ClassVar[bool] = True
    all_rows: bool = False
    """Whether it is best evaluated for many rows of data together: where rows share its work, or a source is asked."""
    needs_own: ClassVar[bool] = False
    needs_children: ClassVar[bool] = False
    """Whether the way back and the way down use the layer's own numbers, and those of what it reads."""

    def __init__(self, index: int, node: Node, build: Build) -> None:
        super().__init__()
        self.index, self.first, self.count, self.width = index, node.first, node.count, node.width

    def parameters_in(self, prepared: Prepared) -> Mapping[str, Tensor]:
        """The parameters by name, in the form in which passes of this kind compute with them; autograd may follow."""
        return {}

    def in_logs_of(self, found: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Parameters of scaled passes in the form in which passes in logarithms compute with them."""
        return {name: tensor.double() for name, tensor in found.items()}

    @abstractmethod
    def up(self, state: State) -> None:
        """Compute the layer's values, in scaled numbers or in logarithms, and put them into the state."""

    @abstractmethod
    def down(self, state: State, flow: Tensor, flows: list[Flow | None], to: Flows) -> None:
        """Hand the flow (R, B, K) on to what the layer reads, and say it to `to`; `flow` itself is not changed."""

    def down_spans(self, state: State, flow: Spans, flows: list[Flow | None], to: Flows) -> None:
        """The same for a flow that came by spans of rows."""
        self.down(state, flow.whole(), flows, to)

    @abstractmethod
    def choose(self, state: State, visits: Visits, trace: Trace) -> None:
        """Hand visits on to what the layer reads, or settle them."""

    def gathers(self) -> list[Gather]:
        """What it reads; nothing, for leaves."""
        return []

    def sources(self) -> tuple[int, ...]:
        """The layers that it reads."""
        return tuple({source for gather in self.gathers() for source in gather.sources})

    def held(self, memory: int) -> int:
        """Numbers that its values take for each row of data where a way back follows; `memory` is the bound in bytes."""
        return self.count * self.width

    def derived(self, memory: int) -> int:
        """Numbers that it derives from its parameters and holds for all rows of data."""
        return 0

    def live(self) -> int:
        """Numbers held for each row of data while the layer runs, beside its values."""
        return 0

    def live_down(self, memory: int) -> int:
        """Likewise on the way down, or kept for it; `memory` is the bound in bytes."""
        return 0
