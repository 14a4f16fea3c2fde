"""Steps without children: input units and constants."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pcircuits.families.interface import AbstractFamily, Parameters
from pcircuits.parameters import Source
from pcircuits.program.fetch import Visits
from pcircuits.program.operations import ConstantOp, InputOp
from pcircuits.program.pools import ParameterView, Pools
from pcircuits.program.steps.step import Choice, Reader, State, Step

__all__ = ["ConstantStep", "InputStep", "LeafParameters"]


class LeafParameters(nn.Module):
    """The parameters of rows of leaf units, stored or made by a source, as (R, n, *event) for a range of columns."""

    def __init__(self, op: InputOp, pools: Pools, source: nn.Module | None, device: torch.device | None) -> None:
        super().__init__()
        self.count, self.width = op.count, op.width
        self._source = (source,)
        self.views = nn.ModuleDict()
        if isinstance(op.parameters, dict):
            for name, rows in op.parameters.items():
                self.views[name] = pools.view(rows)
        chosen = np.arange(op.count) if op.source_rows is None else op.source_rows
        self.register_buffer("source_rows", torch.as_tensor(chosen, device=device), persistent=False)

    source_rows: Tensor

    @property
    def source(self) -> nn.Module | None:
        """The module that makes the parameters, if one does."""
        return self._source[0]

    def columns(self, begin: int, end: int) -> dict[str, Tensor]:
        """Parameters (R, n or 1, *event) of the columns begin..end-1."""
        if self.source is not None:
            made = self._made(torch.arange(begin, end, device=self.source_rows.device))
            return {name: value[self.source_rows] for name, value in made.items()}
        whole = {name: self._values(name) for name in self.views}
        return {name: v if v.shape[1] == 1 else v[:, begin:end] for name, v in whole.items()}

    def units(self, row: Tensor, column: Tensor) -> dict[str, Tensor]:
        """Parameters (V, *event) of chosen units."""
        if self.source is not None:
            distinct, place = torch.unique(column, return_inverse=True)
            made = self._made(distinct)
            return {name: value[self.source_rows[row], place] for name, value in made.items()}
        whole = {name: self._values(name) for name in self.views}
        return {name: v[row, 0 if v.shape[1] == 1 else column] for name, v in whole.items()}

    def version(self) -> tuple[object, ...]:
        """A key that changes when stored parameters may have changed."""
        return tuple(view.version() for view in self.views.values() if isinstance(view, ParameterView))

    def trainable(self) -> bool:
        """Whether a gradient can flow into these parameters."""
        if self.source is not None:
            return True
        return any(view.trainable() for view in self.views.values() if isinstance(view, ParameterView))

    def _values(self, name: str) -> Tensor:
        view = self.views[name]
        assert isinstance(view, ParameterView)
        return view.values()

    def _made(self, columns: Tensor) -> dict[str, Tensor]:
        assert isinstance(self.source, Source)
        return self.source.parameters_for(columns)


class InputStep(Step):
    """Input units: row r is over the columns `columns[r]`."""

    columns: Tensor

    def __init__(
        self, index: int, op: InputOp, pools: Pools, source: nn.Module | None, device: torch.device | None
    ) -> None:
        super().__init__(index, op.count, op.width)
        self.family: AbstractFamily = op.family
        self.parameters_of = LeafParameters(op, pools, source, device)
        self.register_buffer("columns", torch.as_tensor(op.columns, device=device), persistent=False)

    def up(self, state: State) -> Tensor:
        evidence = tuple(t[:, self.columns].transpose(0, 1).unsqueeze(2) for t in state.report.tensors())
        values = state.report.answer(evidence, self.family, self._spread())
        return values.to(evidence[0].dtype).expand(self.count, state.report.rows, self.width)

    def _spread(self) -> Parameters:
        """Parameters (R, 1, K, *event), for rows of data in the second axis."""
        return {name: value.unsqueeze(1) for name, value in self.parameters_of.columns(0, self.width).items()}

    def down(self, state: State, flow: Tensor, flows: list[Tensor | None], reader: Reader) -> None:
        reader.leaves(self.family, self.columns.unsqueeze(1), self._spread(), flow)

    def choose(self, state: State, visits: Visits, choice: Choice) -> None:
        parameters = self.parameters_of.units(visits.row, visits.column)
        choice.write(self.family, visits.sample, self.columns[visits.row], parameters)


class ConstantStep(Step):
    """Units of empty scope."""

    def __init__(self, index: int, op: ConstantOp, pools: Pools) -> None:
        super().__init__(index, op.count, op.width)
        self.value = pools.view(op.value)

    def up(self, state: State) -> Tensor:
        return self.value.logs().unsqueeze(1).expand(self.count, state.report.rows, self.width)

    def down(self, state: State, flow: Tensor, flows: list[Tensor | None], reader: Reader) -> None:
        """A constant has nothing below it."""

    def choose(self, state: State, visits: Visits, choice: Choice) -> None:
        """A constant has no variables to settle."""
