"""Input units that start from data, for any structure: rows are shared out among the units of a variable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from pcircuits.arguments import as_generator
from pcircuits.circuit.units import Units
from pcircuits.errors import EvidenceError, ScopeError
from pcircuits.families.draws import uniform
from pcircuits.scope import Variable
from pcircuits.structures.clusters import k_means, nearest
from pcircuits.structures.estimates import Smoothing, estimated
from pcircuits.structures.leaves import Leaves
from pcircuits.structures.tables import as_table

__all__ = ["Sharing", "by_chance", "by_clusters", "by_quantiles", "by_states", "fitted_leaves"]


class Sharing(Protocol):
    """Which unit of a variable each row is given to."""

    def __call__(self, column: int, values: Tensor, width: int, generator: torch.Generator, /) -> Tensor:
        """Integers 0..width-1, (B,), for the values of a column, (B,) in float64 with NaN where they are missing."""


def fitted_leaves(
    leaves: Leaves,
    data: object,
    sharing: Sharing | None = None,
    *,
    variables: Sequence[Variable] | None = None,
    pseudocount: float = 0.01,
    rows: float = 1.0,
) -> Leaves:
    """Input units that `leaves` makes, with the parameters of largest likelihood on a share of the data's rows each.

    A circuit whose leaves start from N(0, 1), or from random probabilities, first has to learn where its data lie. Here
    each unit of a variable gets some of the rows, and its family's M-step the parameters. Frozen parameters stay as they
    are. A scale is never smaller than what the rounding of the data explains: numbers that are g apart were rounded by a
    standard deviation of g / √12.

    **Arguments**

    - `leaves`: which families the variables have; see `Leaves`.
    - `data`: (B, D); NaN is missing.
    - `sharing`: which rows a unit gets: `by_quantiles` unless given, `by_clusters`, `by_chance`, or `by_states(states)`.
    - `variables`: the labels of the data's columns; by default the names of a frame's columns, else 0..D-1.
    - `pseudocount`: so many rows are added to those of a unit for each state of a discrete variable.
    - `rows`: so many more, spread as the whole column is.

    **Raises** `EvidenceError` for data that are no table or that a family does not admit; where units are made, `ScopeError`
    for variables that have no column, `CircuitError` for leaves that are no input units, and `ParameterError` for a family
    without an M-step.

    >>> from pcircuits.structures import normal_leaves
    >>> data = [[1.0], [8.0], [2.0], [9.0]]
    >>> leaves = fitted_leaves(normal_leaves(), data, rows=0.0)
    >>> leaves([0], 2, torch.Generator().manual_seed(0)).parameters["loc"].value
    tensor([[1.5000, 8.5000]], dtype=torch.float64)
    """
    table = as_table(data, variables).cpu()
    share = by_quantiles if sharing is None else sharing
    place = {label: number for number, label in enumerate(table.variables)}
    smoothing = Smoothing(rows, pseudocount)

    def make(labels: Sequence[Variable], width: int, generator: torch.Generator) -> Units:
        if unknown := [label for label in labels if label not in place]:
            raise ScopeError(f"the data have no column for {unknown[0]!r}: their columns are {list(place)}")
        columns = [place[label] for label in labels]

        def states(region: int) -> Tensor:
            values, rows_of = table.column(columns[region])
            whole = torch.full((len(table.values),), torch.nan, dtype=torch.float64, device=values.device)
            whole[rows_of] = values.double()
            return share(columns[region], whole, width, generator)

        return estimated(leaves(labels, width, generator), table, columns, states, smoothing)

    return make


def by_quantiles(column: int, values: Tensor, width: int, generator: torch.Generator, /) -> Tensor:
    """The k-th of equally many rows, in the order of their values; rows of equal values are shared out at random.

    >>> by_quantiles(0, torch.tensor([5.0, 1.0, 9.0, 2.0]), 2, torch.Generator()).tolist()
    [1, 0, 1, 0]
    """
    shuffled = uniform((len(values),), values, generator).argsort()
    order = shuffled[values[shuffled].argsort(stable=True)]
    known = int((~values.isnan()).sum())  # missing values are the last
    ranks = torch.arange(len(values), device=values.device) * width // max(1, known)
    return torch.empty_like(order).index_copy_(0, order, ranks.clamp(max=width - 1))


def by_clusters(column: int, values: Tensor, width: int, generator: torch.Generator, /) -> Tensor:
    """The nearest of `width` centres that k-means finds on the column alone; missing values belong to the first.

    >>> states = by_clusters(0, torch.tensor([0.0, 0.1, 9.0, 9.1, 0.2]), 2, torch.Generator().manual_seed(0))
    >>> (states == states[0]).tolist()
    [True, True, False, False, True]
    """
    known = ~values.isnan()
    if not bool(known.any()):
        return torch.zeros(len(values), dtype=torch.int64, device=values.device)
    points = values.unsqueeze(1)
    centres = k_means(points[known], width, generator=generator)
    return nearest(points.masked_fill(~known.unsqueeze(1), 0.0), centres)


def by_chance(column: int, values: Tensor, width: int, generator: torch.Generator, /) -> Tensor:
    """A unit drawn for each row: all units of a variable start near its distribution, apart by the chance of the draw.

    >>> by_chance(0, torch.zeros(3), 1, torch.Generator().manual_seed(0)).tolist()
    [0, 0, 0]
    """
    return (uniform((len(values),), values, as_generator(generator)) * width).long()


def by_states(states: Tensor) -> Sharing:
    """Rows go where a model of them puts them, such as `cluster_states`: (B,) for all columns, or (B, D).

    In a mixture of products a unit of one variable belongs with the same unit of all others, so that rows have to be
    shared out as a whole: states of one group of all columns.

    **Raises** `EvidenceError` for other shapes, and where units are made for states out of range.

    >>> by_states(torch.tensor([1, 0]))(0, torch.zeros(2), 2, torch.Generator()).tolist()
    [1, 0]
    """
    if states.ndim not in (1, 2) or states.is_floating_point():
        raise EvidenceError(f"states are integers (B,) or (B, D), not {tuple(states.shape)} of {states.dtype}")
    table = states.cpu().unsqueeze(1) if states.ndim == 1 else states.cpu()

    def share(column: int, values: Tensor, width: int, generator: torch.Generator, /) -> Tensor:
        if len(table) != len(values) or (table.shape[1] > 1 and column >= table.shape[1]):
            raise EvidenceError(f"states have shape {tuple(states.shape)}, and column {column} has {len(values)} rows")
        found = table[:, column if table.shape[1] > 1 else 0].long()
        if int(found.min()) < 0 or int(found.max()) >= width:
            raise EvidenceError(f"states are {int(found.min())} to {int(found.max())}: a variable has {width} units")
        return found

    return share
