"""The layers of a program: one file for each kind. What computes them is chosen by the kind of their node."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pcircuits.program.layers.chain import ChainLayer
from pcircuits.program.layers.inputs import ConstantLayer, InputLayer
from pcircuits.program.layers.layer import Build, Layer
from pcircuits.program.layers.leaves import LeavesLayer
from pcircuits.program.layers.mixture import MixtureLayer
from pcircuits.program.layers.products import OuterLayer, ProductLayer
from pcircuits.program.layers.sums import MixLayer, SumLayer
from pcircuits.program.plan import Node

__all__ = ["LAYERS", "Build", "Layer"]

LAYERS: Mapping[str, Callable[[int, Node, Build], Layer]] = {
    "input": InputLayer,
    "constant": ConstantLayer,
    "product": ProductLayer,
    "outer": OuterLayer,
    "mix": MixLayer,
    "sum": SumLayer,
    "leaves": LeavesLayer,
    "mixture": MixtureLayer,
    "chain": ChainLayer,
}
