"""Kinds of units: the interface, and one file for each."""

from pcircuits.circuit.kinds.constant import Constant
from pcircuits.circuit.kinds.input import Input
from pcircuits.circuit.kinds.interface import AbstractProduct, AbstractSum, Index, Regions, Unit, Units
from pcircuits.circuit.kinds.mix import Mix
from pcircuits.circuit.kinds.outer import Outer
from pcircuits.circuit.kinds.product import Product
from pcircuits.circuit.kinds.sum import Sum
from pcircuits.circuit.kinds.wiring import Wiring

__all__ = [
    "KINDS",
    "AbstractProduct",
    "AbstractSum",
    "Constant",
    "Index",
    "Input",
    "Mix",
    "Outer",
    "Product",
    "Regions",
    "Sum",
    "Unit",
    "Units",
    "Wiring",
]

KINDS: tuple[type[Units], ...] = (Input, Constant, Product, Outer, Mix, Sum, Wiring)
"""The kinds that files know."""
