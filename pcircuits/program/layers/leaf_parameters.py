"""The parameters of input units, stored or made by a source, as tensors for a range of columns.

What a source makes is asked for once, and is then a parameter like any other: for each pass in training, and once until
something changes otherwise. Only where all of it is too much for the bound on memory is it streamed: asked for again in
ranges of columns, whenever a layer comes to them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from pcircuits.computed import columns_of
from pcircuits.families.finite import AbstractFinite
from pcircuits.families.interface import AbstractFamily
from pcircuits.parameters import Source
from pcircuits.program.layers.layer import Build, Gradients, Layer
from pcircuits.program.plan import Node, SourceRows
from pcircuits.program.state import Prepared
from pcircuits.program.stores import Store, View
from pcircuits.program.tracing import plain

__all__ = ["PARAMETER_BYTES", "LeafParameters"]

SHARE = 4
"""What a source makes is kept whole where it takes no more than this part of the bound on memory."""

PARAMETER_BYTES = 64
"""What a number of a leaf unit's parameters takes, with what is derived from it."""


class _Made(nn.Module):
    """A source called as a module, so that its parameters can be replaced for a call."""

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.source = source

    def forward(self, columns: Tensor) -> dict[str, Tensor]:
        assert isinstance(self.source, Source)
        return self.source.parameters_for(columns)


class LeafParameters(nn.Module):
    """The parameters of rows of leaf units: (R, n or 1, *event) each, for n of their columns."""

    source_rows: Tensor | None

    def __init__(self, node: Node, build: Build, count: int) -> None:
        super().__init__()
        self.count = count
        self.width: int = node.facts.get("inputs", node.width)
        family = node.facts["family"]
        assert isinstance(family, AbstractFamily)
        self.family = family
        self.views = nn.ModuleDict()
        self._source: tuple[nn.Module | None] = (None,)
        rows: Tensor | None = None
        self.streamed = False
        made = node.rows.get("source")
        if isinstance(made, SourceRows):
            self._source = (build.source_of(made.sourced),)
            of_unit = sum(self.event if spec.event_ndim else 1 for spec in family.parameters.values())
            of_column = made.sourced.regions * of_unit
            self.streamed = build.memory is not None and SHARE * 8 * of_column * self.width > build.memory
            self._most = None if build.memory is None else max(1, build.memory // (2 * PARAMETER_BYTES * of_column))
            index = made.index.ravel()
            if not np.array_equal(index, np.arange(made.sourced.regions)):
                rows = torch.as_tensor(index, device=build.device)
        else:
            for name in family.parameters:
                self.views[name] = build.view(name, node)
        self.register_buffer("source_rows", rows, persistent=False)

    @property
    def source(self) -> nn.Module | None:
        """The module that makes the parameters, if one does."""
        return self._source[0]

    @property
    def trainable(self) -> bool:
        """Whether some of the parameters are stored, and can be trained."""
        return any(isinstance(store.raw, nn.Parameter) for name in self.views for store in self.view_of(name).stores)

    def view_of(self, name: str) -> View:
        """Where a stored parameter is."""
        view = self.views[name]
        assert isinstance(view, View)
        return view

    @property
    def event(self) -> int:
        """How many numbers the parameters of one unit are, at most."""
        return getattr(self.family, "states", None) or 1

    def stored(self, prepared: Prepared) -> Mapping[str, Tensor]:
        """The parameters (U, K or 1, *event); or, where they are streamed, those of the source under their own names."""
        if self.source is None:
            return {name: self._of(prepared, name) for name in self.views}
        if self.streamed:
            return dict(self.source.named_parameters())
        made = prepared.derived.once((self.source, self.width), self._whole)
        return {name: value.double() for name, value in made.items()} if prepared.wide or prepared.logs else made

    def _whole(self) -> dict[str, Tensor]:
        """What the source makes for all columns; in training, what it computes on the way is not kept where it is much."""
        source = self.source
        assert isinstance(source, Source)
        columns = columns_of(source, self.width)
        if self._most is None or self._most >= self.width:
            made = source.parameters_for(columns)
        else:
            again = torch.is_grad_enabled() and plain()
            parts = [
                checkpoint(source.parameters_for, some, use_reentrant=False) if again else source.parameters_for(some)
                for some in torch.split(columns, self._most)
            ]
            made = {name: torch.cat([part[name] for part in parts], 1) for name in parts[0]}
        return {name: made[name] for name in self.family.parameters}

    def names(self) -> list[str]:
        """The names under which `stored` has them."""
        if self.source is not None and self.streamed:
            return [name for name, _ in self.source.named_parameters()]
        return list(self.family.parameters)

    def tabulated(self) -> bool:
        """Whether the family makes the log-probabilities of all its states at once."""
        return isinstance(self.family, AbstractFinite) and self.family.tabulated and not self.streamed

    def log_table(self, prepared: Prepared) -> Tensor:
        """The log-probabilities of all states, (U, K, S), autograd following."""
        assert isinstance(self.family, AbstractFinite)
        name = self.family.table_of
        if self.source is not None:
            table = self.family.log_table(self.stored(prepared))
            return table.expand(table.shape[0], self.width, table.shape[-1])
        if name is not None:
            view = self.views[name]
            assert isinstance(view, View)
            logs = view.of(prepared.derived, Store.wide_logs if prepared.logs else Store.logs)
            return logs.expand(len(logs), self.width, logs.shape[-1])
        places = [getattr(view, "place") for view in self.views.values()]  # noqa: B009
        stored = self.stored(prepared)
        if len(stored) > 1 and any(place is not None for place in places):
            stored = self.columns(prepared, stored, 0, self.width)
        table = self.family.log_table(stored)
        return table.expand(table.shape[0], self.width, table.shape[-1])

    @property
    def place(self) -> Tensor | None:
        """The row of the table for each row of units; None where they are in order."""
        if self.source is not None:
            return self.source_rows
        if len(self.views) != 1:
            return None
        view = next(iter(self.views.values()))
        assert isinstance(view, View)
        return view.place

    def _of(self, prepared: Prepared, name: str) -> Tensor:
        view = self.views[name]
        assert isinstance(view, View)
        wide = (
            prepared.wide or prepared.logs or getattr(self.family, "table_of", None) == name
        )  # for logs of small ones
        return view.of(prepared.derived, Store.wide_values if wide else Store.values)

    def columns(self, prepared: Prepared, stored: Mapping[str, Tensor], begin: int, end: int) -> dict[str, Tensor]:
        """Parameters (R, n or 1, *event) of the columns begin..end-1."""
        if self.streamed:
            device = next((t.device for t in stored.values()), None)
            return self.at_columns(prepared, stored, torch.arange(begin, end, device=device))
        whole = {name: self._rows(name, value) for name, value in stored.items()}
        if (begin, end) == (0, self.width):
            return whole
        return {name: v if v.shape[1] == 1 else v[:, begin:end] for name, v in whole.items()}

    def at_columns(self, prepared: Prepared, stored: Mapping[str, Tensor], columns: Tensor) -> dict[str, Tensor]:
        """Parameters (R, n or 1, *event) of chosen columns (n,)."""
        if self.streamed:
            made = self._made(stored, columns)
            if prepared.logs:
                made = {name: value.double() for name, value in made.items()}
            return made if self.source_rows is None else {name: v[self.source_rows] for name, v in made.items()}
        whole = {name: self._rows(name, value) for name, value in stored.items()}
        return {name: v if v.shape[1] == 1 else v.index_select(1, columns) for name, v in whole.items()}

    def units(self, prepared: Prepared, row: Tensor, column: Tensor) -> dict[str, Tensor]:
        """Parameters (V, *event) of chosen units."""
        stored = self.stored(prepared)
        if self.streamed:
            distinct, place = torch.unique(column, return_inverse=True)
            return {name: v[row, place] for name, v in self.at_columns(prepared, stored, distinct).items()}
        found = {}
        for name, value in stored.items():
            place = self._place(name)
            at = row if place is None else place[row]
            found[name] = value[at, 0 if value.shape[1] == 1 else column]
        return found

    def ranges(self, most: int | None) -> list[tuple[int, int]]:
        """Ranges of at most so many columns."""
        step = self.width if most is None else max(1, min(self.width, most))
        return [(begin, min(begin + step, self.width)) for begin in range(0, self.width, step)]

    def gradient(
        self,
        layer: Layer,
        prepared: Prepared,
        gradients: Gradients,
        span: tuple[int, int],
        values: Callable[[dict[str, Tensor]], Tensor],
        flow: Tensor,
    ) -> None:
        """Add the gradient of Σ flow · values(parameters of the columns of a range), and of data that `values` uses."""
        found = prepared.of(layer)
        stored = {name: found[name] if name in found else found[f"leaf {name}"] for name in self.names()}
        wanted = {
            name: t
            for name, t in stored.items()
            if gradients.wants(layer, name) or gradients.wants(layer, f"leaf {name}")
        }
        of_x = gradients.x if self.family.base == "lebesgue" else None  # a probability has no gradient in its state
        if not wanted and of_x is None:
            return
        with torch.enable_grad():
            own = {name: t.detach().requires_grad_() if name in wanted else t for name, t in stored.items()}
            made = values(self.columns(prepared, own, *span))
            if not made.requires_grad:
                return
            inputs = [own[name] for name in wanted] + ([] if of_x is None else [of_x])
            of_inputs = torch.autograd.grad(made, inputs, flow.to(made.dtype).expand_as(made), allow_unused=True)
        for name, gradient in zip(wanted, of_inputs, strict=False):
            if gradient is not None:
                gradients.add(layer, name if name in found else f"leaf {name}", gradient)
        if of_x is not None and of_inputs[-1] is not None:
            gradients.add_x(of_inputs[-1])

    def _place(self, name: str) -> Tensor | None:
        """For each row of units, the row of a parameter; None where they are in order."""
        if self.source is not None:
            return self.source_rows
        view = self.views[name]
        assert isinstance(view, View)
        return view.place

    def _rows(self, name: str, value: Tensor) -> Tensor:
        place = self._place(name)
        if place is None:
            return value
        return value.expand(self.count, *value.shape[1:]) if len(value) == 1 else value.index_select(0, place)

    def _made(self, stored: Mapping[str, Tensor], columns: Tensor) -> dict[str, Tensor]:
        assert self.source is not None
        now = dict(self.source.named_parameters())
        if all(stored[name] is now[name] for name in now):
            assert isinstance(self.source, Source)
            return self.source.parameters_for(columns)
        replaced = {f"source.{name}": tensor for name, tensor in stored.items()}
        return functional_call(_Made(self.source), replaced, (columns,))  # type: ignore[no-any-return]
