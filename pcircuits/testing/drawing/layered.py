"""Random layered circuits of the library's structures, gentle or with weights and leaves far apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pcircuits.circuit.circuit import Circuit, fold
from pcircuits.circuit.units import Input, Mix, Outer, Product, Sum, Units, Wiring
from pcircuits.families import Categorical
from pcircuits.parameters import Parameter, nonnegative, simplex
from pcircuits.scope import OPEN_ENDED, Variable
from pcircuits.structures import (
    CP,
    AbstractLayer,
    Leaves,
    RegionGraph,
    Tucker,
    Weights,
    binary_quad_tree,
    chain,
    layered,
    quad_graph,
    quad_tree,
    random_binary_tree,
)
from pcircuits.testing.drawing.choices import Choices
from pcircuits.testing.drawing.ingredients import Ingredients

__all__ = ["draw_layered"]

SPREAD = 8.0
"""Extreme weights are the softmax of so many standard normal numbers: mostly within e^±30 of each other."""

LEAF_SPREAD = 150.0
"""Extreme leaves have log-probabilities down to about minus four times this."""


class _Stacked(AbstractLayer):
    """CP with two dense sums, one above the other, for every use of a region."""

    def read(self, units: Units, width: int, weights: Weights) -> Units:
        inner = units.sum(weights(units.regions, width, units.width))
        return inner.sum(weights(units.regions, width, width))

    def join(self, parts: Sequence[Units], width: int, weights: Weights) -> Units:
        return Product(parts)


class _Layers(Ingredients):
    """Draws graphs, leaves and weights."""

    def __init__(self, choices: Choices, extreme: bool) -> None:
        super().__init__(choices, {})
        self.extreme = extreme

    def graph(self) -> RegionGraph:
        """Any structure over a few variables."""
        which = self.integer(0, 4)
        if which == 0:
            return chain([f"x{i}" for i in range(self.integer(2, 8))])
        if which == 1:
            size = self.integer(2, 7)
            depth = self.integer(1, int(np.log2(size)))
            return random_binary_tree(range(size), depth, self.integer(1, 3), self.generator())
        grids = [(1, 3), (2, 2), (2, 3), (3, 2)]
        return self.one_of([quad_graph, quad_tree, binary_quad_tree])(*self.one_of(grids))

    def leaves_of(self, states: int | None) -> Leaves:
        """A maker of leaves of one kind: of a density, of open-ended counts, or of so many states."""

        def make(variables: Sequence[Variable], width: int, generator: torch.Generator) -> Units:
            self.kinds = dict.fromkeys(variables, states)
            if states and self.extreme and self.flag():
                units: Units = self._far_apart_leaves(variables, width, states)
            else:
                units = self.leaves(variables, width)
            return units if units.width == width else units[:, [0] * width]  # one value for all units

        return make

    def _far_apart_leaves(self, variables: Sequence[Variable], width: int, states: int) -> Input:
        """Categorical units; what is below e^-745 is an exact zero."""
        logs = LEAF_SPREAD * self.numbers.normal(size=(len(variables), width, states))
        return self._inputs(Categorical(states), variables, probs=torch.softmax(torch.as_tensor(logs), -1).numpy())

    def far_apart(self, shape: tuple[int, ...]) -> Parameter:
        """Weights whose ratios are enormous, with or without exact zeros, on the simplex or not."""
        weights = np.exp(SPREAD * self.numbers.normal(size=shape))
        if self.flag():
            weights = weights * self._some_zeros(shape)
        if self.integer(0, 3) == 3:
            return Parameter(weights, nonnegative)
        return Parameter(weights / weights.sum(-1, keepdims=True), simplex)


def draw_layered(choices: Choices) -> Circuit:
    """A random layered circuit with CP or Tucker layers, half of them with extreme weights and leaves.

    >>> from pcircuits.testing.drawing.choices import Seeded
    >>> bool(draw_layered(Seeded(3)).check().decomposable)
    True
    """
    draw = _Layers(choices, extreme=choices.flag())
    layer = draw.one_of([CP(), Tucker(), _Stacked()])
    graph, leaves = draw.graph(), draw.leaves_of(draw.one_of([2, 3, None, OPEN_ENDED]))
    circuit = layered(graph, leaves, draw.integer(1, 4), layer, draw.integer(1, 2), generator=draw.generator())
    return _reweighted(circuit, draw) if draw.extreme else circuit


def _reweighted(circuit: Circuit, draw: _Layers) -> Circuit:
    """The same circuit with other weights at every sum."""

    def again(array: Units, children: list[Units]) -> Units:
        if isinstance(array, Sum):
            return Sum(children[0], draw.far_apart(array.weights.shape))
        if isinstance(array, Mix):
            return Mix(children, draw.far_apart(array.weights.shape))
        if isinstance(array, Product):
            return Product(children, array.groups)
        if isinstance(array, Outer):
            return Outer(children)
        if isinstance(array, Wiring):
            return Wiring(children, array.child, array.region, array.column)
        assert isinstance(array, Input)
        return array

    units = fold(circuit.arrays, again)
    return Circuit(units[id(circuit.root)], circuit.variables)
