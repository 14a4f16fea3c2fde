"""How the units of a region are made from those of its parts: CP layers, with dense or structured sums, and Tucker layers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pcircuits.circuit.units import Outer, Product, Units, Wiring
from pcircuits.families.fields import integer
from pcircuits.structures.weights import Weights

__all__ = ["CP", "AbstractLayer", "LowRankCP", "MonarchCP", "SharedCP", "Tucker"]


class AbstractLayer(ABC):
    """A kind of layer. The parts of many partitions are joined at once, a region of the arrays for each partition."""

    @abstractmethod
    def read(self, units: Units, width: int, weights: Weights) -> Units:
        """What units (R, K) give to one of the partitions that their regions are parts of, (R, K').

        Called once for every use of a region, so that uses can have parameters of their own.
        """

    @abstractmethod
    def join(self, parts: Sequence[Units], width: int, weights: Weights) -> Units:
        """The units (P, width) of P partitions from their first parts, second parts, ..., (P, K') each."""


@dataclass(frozen=True)
class CP(AbstractLayer):
    """Dense sums over the units of every part, then elementwise products: u_k = Π_a Σ_j w_akj v_aj.

    Canonical polyadic (candecomp): A · K² weights for a partition into A parts.

    Loconte et al. (2025), *What is the Relationship between Tensor Factorizations and Circuits (and How Can We Exploit
    it)?*.

    >>> CP()
    CP()
    """

    def read(self, units: Units, width: int, weights: Weights) -> Units:
        return units.sum(weights(units.regions, width, units.width))

    def join(self, parts: Sequence[Units], width: int, weights: Weights) -> Units:
        return Product(parts)


@dataclass(frozen=True)
class SharedCP(CP):
    """CP with one matrix for all regions of an array and one of their uses, instead of one for each region.

    Regions share an array where they have the same height and partitions of the same arities: an image model has a matrix
    for each size of patch, and treats patches alike wherever they are. K² weights for an array.

    Loconte et al. (2025), *What is the Relationship between Tensor Factorizations and Circuits (and How Can We Exploit
    it)?*.

    >>> SharedCP()
    SharedCP()
    """

    def read(self, units: Units, width: int, weights: Weights) -> Units:
        return units.sum(weights(width, units.width))


@dataclass(frozen=True)
class LowRankCP(CP):
    """CP whose matrices have a rank: two dense sums, by way of Q units. 2 · K · Q weights for each part instead of K².

    **Arguments**

    - `rank`: Q, the number of units between.

    **Raises** `ParameterError` for a rank below 1.

    >>> LowRankCP(4)
    LowRankCP(rank=4)
    """

    rank: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "rank", integer(self.rank, "rank", least=1))

    def read(self, units: Units, width: int, weights: Weights) -> Units:
        between = units.sum(weights(units.regions, self.rank, units.width))
        return between.sum(weights(units.regions, width, self.rank))


@dataclass(frozen=True)
class MonarchCP(CP):
    """CP whose matrices are Monarch matrices: K = m · n units are summed in m blocks of n, then across the blocks.

    With unit k = i · n + j in row i and column j of a table: u'_ij = Σ_l v_ijl u_il within rows, then u''_ij = Σ_h w_jih
    u'_hj within columns. Every output depends on every input by K · (m + n) weights instead of K²; m is the largest divisor
    of K up to √K, so that a width with many divisors is best, and a prime one gives CP itself.

    Dao et al. (2022), *Monarch: Expressive Structured Matrices for Efficient and Accurate Training*; for circuits Zhang et
    al. (2025), *Scaling Probabilistic Circuits via Monarch Matrices*, arXiv 2506.12383.

    >>> MonarchCP()
    MonarchCP()
    """

    def read(self, units: Units, width: int, weights: Weights) -> Units:
        rows = max(m for m in range(1, math.isqrt(width) + 1) if width % m == 0)
        if units.width != width or rows == 1:
            return super().read(units, width, weights)
        columns = width // rows
        within = _regrouped(units, rows, columns)
        within = within.sum(weights(within.regions, columns, columns))
        across = _regrouped(_joined(within, rows), rows, columns, turned=True)
        across = across.sum(weights(across.regions, rows, rows))
        return _joined(across, columns, turned=True)


def _regrouped(units: Units, rows: int, columns: int, turned: bool = False) -> Units:
    """Units (R, m · n) as (R · m, n), a region for each row of their table; or as (R · n, m), one for each column."""
    table = np.arange(rows * columns).reshape(rows, columns)
    table = table.T if turned else table
    column = np.tile(table, (units.regions, 1))
    region = np.repeat(np.arange(units.regions), len(table))[:, None] + 0 * column
    return Wiring((units,), 0 * region, region, column)


def _joined(units: Units, blocks: int, turned: bool = False) -> Units:
    """The inverse of `_regrouped`: (R · blocks, size) as (R, blocks · size)."""
    block, place = np.divmod(np.arange(blocks * units.width), units.width)
    if turned:
        place, block = np.divmod(np.arange(blocks * units.width), blocks)
    regions = units.regions // blocks
    region = np.arange(regions)[:, None] * blocks + block
    return Wiring((units,), 0 * region, region, np.tile(place, (regions, 1)))


@dataclass(frozen=True)
class Tucker(AbstractLayer):
    """Dense sums over all products of the parts' units: u_k = Σ_ij w_kij v_i v'_j.

    K^(A + 1) weights for a partition into A parts.

    Loconte et al. (2025), *What is the Relationship between Tensor Factorizations and Circuits (and How Can We Exploit
    it)?*.

    >>> Tucker()
    Tucker()
    """

    def read(self, units: Units, width: int, weights: Weights) -> Units:
        return units

    def join(self, parts: Sequence[Units], width: int, weights: Weights) -> Units:
        products = Outer(parts)
        return products.sum(weights(products.regions, width, products.width))
