"""Dense sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pcircuits.circuit.kinds.input import Input
from pcircuits.circuit.kinds.interface import (
    AbstractSum,
    Contents,
    Index,
    Ints,
    Numbering,
    Unit,
    Units,
    only_child,
    only_parameter,
    only_sourced,
    sourced_integers,
)
from pcircuits.circuit.support import Support
from pcircuits.circuit.weights import log_weights, rebuilt_weights
from pcircuits.computed import SourcedWeights
from pcircuits.errors import ParameterError
from pcircuits.parameters import Parameter, Sourced

__all__ = ["Sum"]


class Sum(AbstractSum):
    """Dense sums over the width of a child: (R, K) to (R, O) by weights (R, O, K), shared (O, K), or (K,).

    Weights may come from a source: `Sourced(source, R, O)`, or `Sourced(source, 1, O)` for weights that regions share.
    """

    __slots__ = ()

    codes = (7, 10)
    dense = True

    def __init__(self, child: Units, weights: Parameter | Sourced) -> None:
        regions, width = child.shape
        if isinstance(weights, Sourced):
            lead = (regions,) if weights.regions == regions else ()
            if not lead and weights.regions != 1:
                raise ParameterError(
                    f"the source makes weights for {weights.regions} regions, and {child!r} has {regions}"
                )
            weights = SourcedWeights(weights, (*lead, weights.width, width))
        shape = tuple(weights.shape)
        if len(shape) not in (1, 2, 3) or shape[-1] != width or (len(shape) == 3 and shape[0] != regions):
            raise ParameterError(
                f"the weights of a sum over {child!r} have shape {shape}; they need ({regions}, O, {width}), "
                f"(O, {width}) shared by the regions, or ({width},) for one output"
            )
        self.weights = weights
        super().__init__((regions, 1 if len(shape) == 1 else shape[-2]), (child,))

    def inputs_of(self, region: int, column: int) -> list[Unit]:
        return [Unit(self.children[0], region, k) for k in range(self.children[0].width)]

    def num_edges(self) -> int:
        return self.regions * self.width * self.children[0].width

    def log_values(self, children: list[Tensor], leaves: Callable[[Input], Tensor]) -> Tensor:
        log = log_weights(self.weights)
        log = log.reshape(1, 1, -1) if log.ndim == 1 else log
        return torch.logsumexp(children[0].unsqueeze(1) + log, -1)

    def weights_of(self, weights: Any, region: int, column: int) -> Any:
        if weights.ndim == 3:
            return weights[region, column]
        return weights[column] if weights.ndim == 2 else weights

    def input_supports(self, children: list[list[Support]], region: int, column: int, inputs: Index) -> Support:
        return children[0][region].take(inputs)

    def rebuilt(
        self,
        children: Sequence[Units],
        parameter: Callable[[Parameter], Parameter],
        sourced: Callable[[Sourced], Sourced],
    ) -> Sum:
        (child,) = children
        return Sum(child, rebuilt_weights(self.weights, parameter, sourced))

    def to_integers(self, numbering: Numbering) -> tuple[int, Ints]:
        """Its weights; or their source, and for how many regions and units it makes them."""
        if isinstance(self.weights, SourcedWeights):
            return 10, sourced_integers(self.weights, numbering)
        return 7, [numbering.parameter(self.weights)]

    @classmethod
    def from_integers(cls, code: int, children: list[Units], ints: Index, contents: Contents) -> Sum:
        weights = only_sourced(ints, contents) if code == 10 else only_parameter(ints, contents)
        return cls(only_child(children), weights)
