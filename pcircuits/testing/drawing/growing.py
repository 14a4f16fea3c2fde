"""Random smooth, decomposable circuits of scalars and arrays, deep and shared."""

from __future__ import annotations

import torch

from pcircuits.circuit.algebra import concat, mixture
from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.units import Constant, Mix, Product, Sum, Units
from pcircuits.parameters import simplex
from pcircuits.scope import Variable
from pcircuits.testing.drawing.choices import Choices
from pcircuits.testing.drawing.ingredients import Ingredients, draw_variables

__all__ = ["Builder", "draw_circuit"]

MAX_WIDTH = 3
MAX_FRESH = 14
"""How many regions are built anew before only shared ones and plain leaves are used."""


class Builder(Ingredients):
    """Grows regions: arrays of one region, (1, K), of a given scope; what was grown before may be used again."""

    def __init__(self, choices: Choices, kinds: dict[Variable, int | None]) -> None:
        super().__init__(choices, kinds)
        self._grown: dict[frozenset[Variable], list[Units]] = {}
        self._fresh_left = MAX_FRESH

    def region(self, scope: tuple[Variable, ...], depth: int) -> Units:
        """A region of the scope, at most about `depth` sums and products above its leaves."""
        known = self._grown.setdefault(frozenset(scope), [])
        if known and (self._fresh_left <= 0 or self.integer(0, 2) == 2):
            return self.one_of(known)
        self._fresh_left -= 1
        made = self._factorised(scope) if depth <= 0 or self._fresh_left <= 0 else self._grow(scope, depth - 1)
        known.append(made)
        return made

    def _grow(self, scope: tuple[Variable, ...], depth: int) -> Units:
        grow = [self._dense, self._mixed, self._combined, self._rewired, self._scaled]
        if len(scope) > 1:
            grow += [self._split_product, self._layer, self._split_product, self._layer]
        return self.one_of(grow)(scope, depth)

    def _factorised(self, scope: tuple[Variable, ...]) -> Units:
        """Leaves, multiplied: variables of one kind as the regions of one array."""
        width = self.integer(1, MAX_WIDTH)
        kinds = dict.fromkeys(self.kinds[label] for label in scope)
        groups = [[label for label in scope if self.kinds[label] == kind] for kind in kinds]
        factors: list[Units] = [self.leaves(group, width) for group in groups]
        factors = [self._matched(f.prod() if f.regions > 1 else f, width) for f in factors]
        return Product(factors) if len(factors) > 1 else factors[0]

    def _dense(self, scope: tuple[Variable, ...], depth: int) -> Units:
        child = self.region(scope, depth)
        if self.flag():
            child = concat([child, self.region(scope, depth)], axis="width")
        shape = self.one_of([(child.width,), (2, child.width), (3, child.width), (1, 2, child.width)])
        return child.sum(self.weights(shape))

    def _mixed(self, scope: tuple[Variable, ...], depth: int) -> Units:
        children = [self.region(scope, depth) for _ in range(self.integer(2, 3))]
        width = max(child.width for child in children)
        children = [child if child.shape == (1, 1) else self._matched(child, width) for child in children]
        shape = self.one_of([(len(children),), (1, width, len(children))])
        weights = self.weights(shape)
        return mixture(weights, children) if weights.constraint is simplex else Mix(children, weights)

    def _combined(self, scope: tuple[Variable, ...], depth: int) -> Units:
        one, other = self.region(scope, depth), self.region(scope, depth)
        width = max(one.width, other.width)
        one, other = self._matched(one, width), self._matched(other, width)
        if self.flag():
            by_unit = torch.as_tensor(self.numbers.uniform(0.1, 2.0, (1, width)))
            return (one * by_unit + other * self.number()).units
        return (0.5 * one + self.number() * other + 0.25 * one).units

    def _rewired(self, scope: tuple[Variable, ...], depth: int) -> Units:
        child = self.region(scope, depth)
        return child[0, self.columns(child.width, self.integer(1, MAX_WIDTH))]

    def _scaled(self, scope: tuple[Variable, ...], depth: int) -> Units:
        return Constant(self.one_of([1.0, 0.25, 1e-30, 7.0])) * self.region(scope, depth)  # type: ignore[return-value]

    def _split_product(self, scope: tuple[Variable, ...], depth: int) -> Units:
        parts = self.split(scope, self.integer(2, min(3, len(scope))))
        children = [self.region(part, depth) for part in parts]
        if len(children) == 2 and children[0].width * children[1].width <= 2 * MAX_WIDTH and self.flag():
            return children[0].outer(children[1])
        width = max(child.width for child in children)
        children = [child if child.shape == (1, 1) else self._matched(child, width) for child in children]
        if self.flag():
            return concat([self._matched(child, width) for child in children], axis="regions").prod()
        return Product(children)

    def _layer(self, scope: tuple[Variable, ...], depth: int) -> Units:
        """Regions of two splits of the scope in one array, summed, shuffled, multiplied by groups, and mixed."""
        splits = [self.split(scope, 2), self.split(scope, 2)]
        children = [self.region(part, depth) for parts in splits for part in parts]
        width = max(child.width for child in children)
        array: Units = concat([self._matched(child, width) for child in children], axis="regions")
        shape = self.one_of([(width,), (2, width), (len(children), 2, width)])
        if self.flag():
            array = array.sum(self.weights(shape))
        order = [int(i) for i in self.numbers.permutation(len(children))]
        groups = [[order.index(0), order.index(1)], [order.index(2), order.index(3)]]
        pair = array[order].prod(groups)
        if self.flag():
            return Mix((pair[0], pair[1]), self.weights((2,)))
        return concat([pair[0], pair[1]], axis="width")

    def _matched(self, units: Units, width: int) -> Units:
        """The units as (1, width): columns dropped or repeated, or summed."""
        if units.width == width:
            return units
        if self.flag():
            return Sum(units, self.weights((width, units.width)))
        return units[0, self.columns(units.width, width)]


def draw_circuit(
    choices: Choices,
    densities: bool = True,
    max_variables: int = 5,
    max_states: int = 4,
    max_depth: int = 5,
    max_roots: int = 1,
) -> Circuit:
    """A random smooth, decomposable, homogeneous circuit; see `pcircuits.testing.strategies.circuits`.

    >>> from pcircuits.testing.drawing.choices import Seeded
    >>> bool(draw_circuit(Seeded(3)).check().decomposable)
    True
    """
    kinds = draw_variables(choices, max_variables, max_states, densities)
    builder = Builder(choices, kinds)
    scope = tuple(kinds)
    roots = builder.integer(1, max_roots)
    top = builder.region(scope, min(builder.integer(0, max_depth + 3), max_depth))  # deep ones are the more likely
    root = _rooted(builder, top, scope, roots)
    return Circuit(root, builder.one_of([None, [scope[i] for i in builder.numbers.permutation(len(scope))]]))


def _rooted(builder: Builder, top: Units, scope: tuple[Variable, ...], roots: int) -> Units | list[Units]:
    if builder.flag():
        return top.sum(builder.weights((roots, top.width)))
    if roots > 1 and builder.flag():
        return [top[0, builder.integer(0, top.width - 1)], *(builder.region(scope, 1)[0, 0] for _ in range(roots - 1))]
    return top[0, builder.columns(top.width, roots)]
