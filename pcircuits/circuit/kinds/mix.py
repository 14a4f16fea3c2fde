"""Elementwise sums."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
    Units,
    common_shape,
    only_parameter,
    only_sourced,
    sourced_integers,
)
from pcircuits.circuit.support import Support, side_by_side
from pcircuits.circuit.weights import log_weights, rebuilt_weights
from pcircuits.computed import SourcedWeights
from pcircuits.errors import ParameterError
from pcircuits.parameters import Parameter, Sourced

__all__ = ["Mix"]


class Mix(AbstractSum):
    """Elementwise weighted sums of children of one shape: Σ_a w_a · child_a.

    Weights are (A,), one for each child, or (R, K, A); or from a source, `Sourced(source, 1, 1)` or `Sourced(source, R, K)`.
    """

    __slots__ = ()

    codes = (6, 11)

    def __init__(self, children: Sequence[Units], weights: Parameter | Sourced) -> None:
        shape = common_shape(children, "a sum")
        arity = len(children)
        if isinstance(weights, Sourced):
            made = (weights.regions, weights.width)
            if made not in (shape, (1, 1)):
                raise ParameterError(f"the source makes weights for {made} sums, and these are {shape}")
            weights = SourcedWeights(weights, (*shape, arity) if made == shape else (arity,))
        if tuple(weights.shape) not in ((arity,), (*shape, arity)):
            raise ParameterError(
                f"the weights of a sum of {arity} arrays of shape {shape} have shape {tuple(weights.shape)}; "
                f"they need ({arity},) or {(*shape, arity)}"
            )
        self.weights = weights
        super().__init__(shape, tuple(children))

    def unalike(self, regions: Iterable[int], children: list[list[int]]) -> tuple[int, list[int], str] | None:
        for region in regions:
            scopes = [c[region] if len(c) > 1 else c[0] for c in children]
            if len(set(scopes)) > 1:
                return region, scopes, "its inputs have different scopes"
        return None

    def log_values(self, children: list[Tensor], leaves: Callable[[Input], Tensor]) -> Tensor:
        stacked = torch.stack([child.expand(self.shape) for child in children], -1)
        return torch.logsumexp(stacked + log_weights(self.weights), -1)

    def weights_of(self, weights: Any, region: int, column: int) -> Any:
        return weights[region, column] if weights.ndim == 3 else weights

    def input_supports(self, children: list[list[Support]], region: int, column: int, inputs: Index) -> Support:
        parts = [children[a][region if len(children[a]) > 1 else 0] for a in inputs.tolist()]
        return side_by_side([part if part.width == 1 else part.take([column]) for part in parts])

    def rebuilt(
        self,
        children: Sequence[Units],
        parameter: Callable[[Parameter], Parameter],
        sourced: Callable[[Sourced], Sourced],
    ) -> Mix:
        return Mix(children, rebuilt_weights(self.weights, parameter, sourced))

    def to_integers(self, numbering: Numbering) -> tuple[int, Ints]:
        """Its weights; or their source, and for how many regions and units it makes them."""
        if isinstance(self.weights, SourcedWeights):
            return 11, sourced_integers(self.weights, numbering)
        return 6, [numbering.parameter(self.weights)]

    @classmethod
    def from_integers(cls, code: int, children: list[Units], ints: Index, contents: Contents) -> Mix:
        return cls(children, only_sourced(ints, contents) if code == 11 else only_parameter(ints, contents))
