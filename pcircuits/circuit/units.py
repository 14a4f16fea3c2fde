"""The symbolic units of a circuit: immutable arrays of regions × width, joined by a small algebra."""

from pcircuits.circuit.kinds import (
    AbstractProduct,
    AbstractSum,
    Constant,
    Index,
    Input,
    Mix,
    Outer,
    Product,
    Sum,
    Unit,
    Units,
    Wiring,
)
from pcircuits.circuit.weights import as_weights

__all__ = [
    "AbstractProduct",
    "AbstractSum",
    "Constant",
    "Index",
    "Input",
    "Mix",
    "Outer",
    "Product",
    "Sum",
    "Unit",
    "Units",
    "Wiring",
    "as_weights",
]
