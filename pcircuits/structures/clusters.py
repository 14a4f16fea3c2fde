"""States of latents from data: clusters of the columns around each node, by k-means."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import exp

import networkx as nx
import torch
from torch import Tensor

from pcircuits.arguments import as_generator
from pcircuits.errors import EvidenceError, ParameterError, ScopeError
from pcircuits.families.draws import uniform
from pcircuits.families.fields import integer
from pcircuits.structures.tables import Table, as_table

__all__ = ["cluster_states", "k_means", "nearest", "neighbourhoods", "windows"]

SWEEPS = 20
"""How often centres are moved, unless none moves before."""


Group = Mapping[int, float]
"""Numbers of columns, and what their values are multiplied with before they are compared."""


def windows(height: int, width: int, size: int = 5, spread: float = 1.0) -> list[Group]:
    """For each cell of a grid, the cells in the square of `size` cells a side around it, cut off at the border.

    A cell at the distance d from the one in the centre has the weight exp(-½ (d / spread)²): a latent has to say most about
    its own cell. The cell at row r and column c is the number r · width + c.

    **Arguments**

    - `size`: an odd number of cells, at least 1.
    - `spread`: in cells, > 0.

    **Raises** `ParameterError` for sizes below 1 and a spread that is not positive.

    >>> windows(2, 2, 3)[0] == {0: 1.0, 1: exp(-0.5), 2: exp(-0.5), 3: exp(-1.0)}
    True
    """
    height, width = integer(height, "height", least=1), integer(width, "width", least=1)
    reach, spread = integer(size, "size", least=1) // 2, _positive(spread)
    rows = [range(max(0, r - reach), min(height, r + reach + 1)) for r in range(height)]
    columns = [range(max(0, c - reach), min(width, c + reach + 1)) for c in range(width)]
    return [
        {r * width + c: _fallen((r - row) ** 2 + (c - column) ** 2, spread) for r in rows[row] for c in columns[column]}
        for row in range(height)
        for column in range(width)
    ]


def neighbourhoods(tree: nx.Graph, steps: int = 18, spread: float = 6.0) -> list[Group]:
    """For each node of a tree over columns, the columns at most so many edges away, weighted as those of `windows`.

    A column of a table says less by itself than a pixel of an image, so that many of them are taken together.

    **Arguments**

    - `tree`: such as `chow_liu_tree(data)`; columns are numbered in the order of its nodes.
    - `steps`: how many edges, at least 0.
    - `spread`: in edges, > 0.

    **Raises** `ParameterError` for fewer steps than none and a spread that is not positive.

    >>> neighbourhoods(nx.path_graph("abcd"), steps=1, spread=1.0)[0] == {0: 1.0, 1: exp(-0.5)}
    True
    """
    steps, spread = integer(steps, "steps", least=0), _positive(spread)
    number: dict[Hashable, int] = {node: i for i, node in enumerate(tree)}
    near = (nx.single_source_shortest_path_length(tree, node, cutoff=steps) for node in tree)
    return [{number[node]: _fallen(d**2, spread) for node, d in found.items()} for found in near]


def _fallen(square: int, spread: float) -> float:
    return exp(-0.5 * square / spread**2)


def _positive(spread: float) -> float:
    if not spread > 0:
        raise ParameterError(f"spread is {spread!r}: it must be a number > 0")
    return float(spread)


def cluster_states(
    data: object,
    groups: Sequence[Group | Sequence[int]],
    states: int,
    *,
    generator: torch.Generator,
    rows: int = 10_000,
) -> Tensor:
    """For each row and each group of columns the nearest of `states` centres, (B, N) integers: states for latents.

    Centres are found by `k_means` on some of the rows, for one group after the other. Missing values count as the mean of
    their column. The result is what `counted_start` takes, with a group for each node of a tree.

    **Arguments**

    - `data`: (B, D); NaN is missing.
    - `groups`: N groups of numbers of columns, such as `windows(28, 28)` or `neighbourhoods(tree)`, with weights that
      values are multiplied with; 1 where a group has none. Bring columns of different units to one scale before.
    - `states`: K, how many centres a group has.
    - `generator`: what rows and first centres are drawn from.
    - `rows`: how many rows, drawn at random, centres are found on; all rows get a state.

    **Raises** `EvidenceError` for data that are no table, `ScopeError` for groups that are empty or name columns that are
    not there, `ParameterError` for fewer than one state or row.

    >>> data = torch.tensor([[0.0, 0.1], [0.1, 0.0], [5.0, 9.0], [5.1, 9.0]])
    >>> states = cluster_states(data, [[0, 1], [1]], 2, generator=torch.Generator().manual_seed(0))
    >>> (states[0] == states[1]).all().item(), (states[2] == states[3]).all().item(), (states[0] != states[2]).all().item()
    (True, True, True)
    """
    table = as_table(data)
    count, size = table.values.shape
    states, rows = integer(states, "states", least=1), integer(rows, "rows", least=1)
    for number, group in enumerate(groups):
        if not len(group) or min(group) < 0 or max(group) >= size:
            raise ScopeError(f"group {number} is {list(group)}: it needs one or more of the columns 0..{size - 1}")
    values = _filled(table)
    draws = as_generator(generator)
    device = None if draws is None else draws.device
    chosen = torch.randperm(count, generator=draws, device=device)[:rows].to(values.device)
    sample = values[chosen]
    kept = torch.uint8 if states <= 256 else torch.int32
    found = torch.empty(count, len(groups), dtype=kept, device=values.device)
    for number, group in enumerate(groups):
        weights = dict(group) if isinstance(group, Mapping) else dict.fromkeys(group, 1.0)
        columns, weight = torch.tensor(list(weights)), torch.tensor(list(weights.values()))
        columns, weight = columns.to(values.device), weight.to(values.device, torch.float32)
        centres = k_means(sample[:, columns] * weight, states, generator=generator)
        found[:, number] = nearest(values[:, columns] * weight, centres).to(kept)
    return found


def _filled(table: Table) -> Tensor:
    """The values, with the mean of their column in place of what is missing."""
    if table.known is None:
        return table.values
    values = table.values.double()
    means = values.sum(0) / table.known.sum(0).clamp(min=1)
    return torch.where(table.known, values, means)


def k_means(points: Tensor, count: int, *, generator: torch.Generator) -> Tensor:
    """Centres (count, n) that are means of the points which are nearest to them, where moving them on brings no more.

    First centres are points, each drawn with a probability in proportion to the squared distance from those before it
    (k-means++; Arthur and Vassilvitskii, 2007), then Lloyd's iterations. Where there are fewer different points than
    centres, some centres are equal.

    **Arguments**

    - `points`: (P, n) floats.

    **Raises** `EvidenceError` without points.

    >>> k_means(torch.tensor([[0.0], [1.0], [9.0], [11.0]]), 2, generator=torch.Generator().manual_seed(0)).sort(0).values
    tensor([[ 0.5000],
            [10.0000]])
    """
    if points.ndim != 2 or not len(points):
        raise EvidenceError(f"points have shape {tuple(points.shape)}: k-means needs (P, n) with at least one point")
    centres = _first_centres(points, count, generator)
    before: Tensor | None = None
    for _ in range(SWEEPS):
        states = nearest(points, centres)
        if before is not None and torch.equal(states, before):
            break
        before = states
        sums = torch.zeros_like(centres).index_add_(0, states, points)
        sizes = torch.bincount(states, minlength=count).unsqueeze(1)
        centres = torch.where(sizes > 0, sums / sizes.clamp(min=1), centres)
    return centres


def nearest(points: Tensor, centres: Tensor) -> Tensor:
    """For each point the number of the nearest centre, (P,), the first of several: arg min ½ |c|² - p·c.

    >>> nearest(torch.tensor([[0.0], [3.0]]), torch.tensor([[1.0], [4.0]])).tolist()
    [0, 1]
    """
    return torch.addmm(0.5 * centres.square().sum(-1), points, centres.T, alpha=-1).argmin(-1)


def _first_centres(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    levels = uniform((count,), points, generator)
    chosen = [int(levels[0] * len(points))]
    distance = (points - points[chosen[0]]).square().sum(-1)
    for level in levels[1:]:
        mass = distance.double().cumsum(0)
        chosen.append(min(int(torch.searchsorted(mass, level * mass[-1], right=True)), len(points) - 1))
        distance = torch.minimum(distance, (points - points[chosen[-1]]).square().sum(-1))
    return points[torch.tensor(chosen, device=points.device)].clone()
