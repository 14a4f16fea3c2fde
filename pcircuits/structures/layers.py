"""How the units of a region are made from those of its parts: CP and Tucker layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from pcircuits.circuit.units import Outer, Product, Units
from pcircuits.structures.weights import Weights

__all__ = ["CP", "AbstractLayer", "Tucker"]


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
