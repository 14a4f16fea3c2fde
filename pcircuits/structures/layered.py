"""From a region graph to a circuit of layers: few arrays, each of many regions."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import torch

from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.units import Mix, Units, Wiring
from pcircuits.families.fields import integer
from pcircuits.structures.arrangement import Shelf, arrange
from pcircuits.structures.layers import CP, AbstractLayer
from pcircuits.structures.leaves import Leaves, check_leaves
from pcircuits.structures.region_graph import RegionGraph
from pcircuits.structures.weights import RandomSimplices, Weights

__all__ = ["layered"]

_CP = CP()


def layered(
    graph: RegionGraph,
    leaves: Leaves,
    width: int,
    layer: AbstractLayer = _CP,
    roots: int = 1,
    *,
    weights: Weights | None = None,
    generator: torch.Generator,
) -> Circuit:
    """The circuit with `width` units in every region of a graph; smooth, decomposable and normalised.

    A leaf region has input units; over several variables, products of input units of each. The units of an inner
    region come from its partitions by `layer`, and are mixed elementwise, with trainable weights, where there are
    several. Every root is a sum over the units of the root region. All regions of one height, with equally many
    partitions of equally many parts, are one array.

    **Arguments**

    - `graph`: the regions and partitions; the circuit has its variables, in its order.
    - `leaves`: makes the input units, such as `categorical_leaves(256)`; see `Leaves`.
    - `width`: K, the units of a region.
    - `layer`: `CP()` or `Tucker()`, or another `AbstractLayer`.
    - `roots`: C, the roots of the circuit, such as one for each class.
    - `weights`: makes the weights of all sums; by default `RandomSimplices(generator)`, each number trained by itself.
      With `NetworkSimplices(generator)` networks make them.
    - `generator`: what leaves and weights are drawn from.

    **Raises** `CircuitError` and `ScopeError` where `leaves` makes other units than those it is asked for, and
    `ParameterError` for a width or a number of roots below 1.

    Peharz et al. (2020), *Einsum Networks: Fast and Scalable Learning of Tractable Probabilistic Circuits*.

    >>> from pcircuits.structures import categorical_leaves, quad_graph
    >>> circuit = layered(quad_graph(4, 4), categorical_leaves(3), 8, generator=torch.Generator().manual_seed(0))
    >>> circuit, bool(circuit.check().normalised)
    (Circuit(16 variables, 26 arrays, 1 root), True)
    """
    width, roots = integer(width, "width", least=1), integer(roots, "roots", least=1)
    weights = RandomSimplices(generator) if weights is None else weights
    uses = _Uses(layer, width, weights)
    units: Units | None = None
    for shelf in arrange(graph):
        if shelf.arities:
            units = _inner_units(graph, shelf, uses, layer, width, weights)
        else:
            units = _leaf_units(graph, shelf.regions, leaves, width, generator)
        uses.offer(shelf, units)
    assert units is not None  # a graph has a root, which comes last
    return Circuit(units.sum(weights(1, roots, width)), graph.variables)


def _inner_units(
    graph: RegionGraph, shelf: Shelf, uses: _Uses, layer: AbstractLayer, width: int, weights: Weights
) -> Units:
    """The units (R, K) of the regions of a shelf, from those of their parts."""
    rows = len(shelf.regions)
    of_partition: dict[int, Units] = {}
    for arity in dict.fromkeys(shelf.arities):
        joined = layer.join([uses.take(regions) for regions in shelf.parts(graph, arity)], width, weights)
        numbers = [number for number, parts in enumerate(shelf.arities) if parts == arity]
        for place, number in enumerate(numbers):
            of_partition[number] = joined[place * rows : (place + 1) * rows] if len(numbers) > 1 else joined
    if len(of_partition) == 1:
        return of_partition[0]
    several = [of_partition[number] for number in range(len(of_partition))]
    return Mix(several, weights(rows, width, len(several)))


def _leaf_units(
    graph: RegionGraph, regions: Sequence[Hashable], leaves: Leaves, width: int, generator: torch.Generator
) -> Units:
    """The units (R, K) of leaf regions: input units, or products of those of their variables."""
    place = {label: i for i, label in enumerate(graph.variables)}
    scopes = [sorted(graph.scopes[region], key=place.__getitem__) for region in regions]
    labels = [label for scope in scopes for label in scope]
    units = leaves(labels, width, generator)
    check_leaves(units, labels, width)
    if len(labels) == len(regions):
        return units
    ends = np.cumsum([len(scope) for scope in scopes]).tolist()
    return units.prod([range(end - len(scope), end) for end, scope in zip(ends, scopes, strict=True)])


class _Uses:
    """The units that regions give to the partitions they are parts of, each use with units of its own."""

    def __init__(self, layer: AbstractLayer, width: int, weights: Weights) -> None:
        self._layer, self._width, self._weights = layer, width, weights
        self._left: dict[Hashable, list[tuple[Units, int]]] = {}

    def offer(self, shelf: Shelf, units: Units) -> None:
        """Add a shelf. Regions of more uses come first in it, so that the rows of every further use are a slice."""
        for region in shelf.regions:
            self._left[region] = []
        for use in range(max(shelf.uses)):
            count = sum(uses > use for uses in shelf.uses)
            read = self._layer.read(units if count == units.regions else units[:count], self._width, self._weights)
            for row, region in enumerate(shelf.regions[:count]):
                self._left[region].append((read, row))

    def take(self, regions: Sequence[Hashable]) -> Units:
        """The units of one more use of regions, (len(regions), K'): an array as it is, or wired together from some."""
        places = [self._left[region].pop(0) for region in regions]
        arrays = list({id(units): units for units, _ in places}.values())
        rows = [row for _, row in places]
        if len(arrays) == 1 and rows == list(range(arrays[0].regions)):
            return arrays[0]
        number = {id(units): i for i, units in enumerate(arrays)}
        child = np.array([number[id(units)] for units, _ in places], dtype=np.int64)
        return Wiring(arrays, child, np.array(rows, dtype=np.int64))
