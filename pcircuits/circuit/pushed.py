"""Weights after the values of a sum's inputs were pushed into them: w_i · v_i / Σ_j w_j · v_j, on the simplex."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcircuits.circuit.weights import log_weights
from pcircuits.parameters import Constraint, Parameter, simplex

__all__ = ["PushedWeights"]

ROUNDING = 1e-12
"""Log values of a sum's inputs that differ by less than this are equal but for the rounding of their computation."""


class PushedWeights:
    """Makes the new weights of sums; weights that were tied stay tied where their new values agree."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, bytes], tuple[Parameter, Parameter]] = {}

    def mix(self, old: Parameter, values: Tensor, live: NDArray[np.int64]) -> Parameter:
        """Weights (A,) or (R, K, A) of a `Mix`, with log values (R', K, A) of its inputs in its live regions."""
        if old.value.ndim == 3:
            return self._pushed(old, values, self._restricted(old, live))
        weights = self._pushed(old, values, old)
        flat = _kept(weights).reshape(-1, weights.shape[-1])
        same = weights is not old and bool((flat == flat[:1]).all())
        return self._selected(old, weights, lambda kept: kept.reshape(flat.shape)[0]) if same else weights

    def dense(self, old: Parameter, values: Tensor, live: NDArray[np.int64], regions: int) -> Parameter:
        """Weights (K,), (O, K) or (R, O, K) of a `Sum` over R regions, with log values (R', K) of its inputs."""
        values = values.unsqueeze(1)
        if old.value.ndim == 3:
            return self._pushed(old, values, self._restricted(old, live))
        weights = self._pushed(old, values, old)
        kept = _kept(weights)
        if kept.ndim == 3 and bool((kept == kept[:1]).all()):
            return self._selected(old, weights, lambda kept: kept[0].reshape(old.shape))
        return weights

    def some(self, weights: Parameter, inputs: Sequence[int]) -> Parameter:
        """The weights of some inputs; the others have weight zero."""
        return self._selected(weights, weights, lambda kept: kept[..., list(inputs)])

    def _restricted(self, old: Parameter, live: NDArray[np.int64]) -> Parameter:
        if len(live) == old.shape[0]:
            return old
        return self._selected(old, old, lambda kept: kept[torch.as_tensor(live)])

    def _pushed(self, tied_to: Parameter, values: Tensor, weights: Parameter) -> Parameter:
        if bool(((values - values[..., :1]).abs() <= ROUNDING).all()):
            if weights.constraint is simplex:
                return weights
            if weights.log_value is None and bool(simplex.admits(weights.value).all()):
                return self._like(tied_to, weights.value, simplex)
            return self._normalised(tied_to, log_weights(weights))
        return self._normalised(tied_to, log_weights(weights) + values)

    def _normalised(self, old: Parameter, log: Tensor) -> Parameter:
        """exp(log) on the simplex; as logarithms where one of them is below the smallest float.

        Where all is zero, the first gets it all: nothing weighs that sum.
        """
        nothing = (log == -torch.inf).all(-1, keepdim=True)
        first = torch.full_like(log, -torch.inf)
        first[..., 0] = 0.0
        log = torch.where(nothing, first, log)
        value = torch.softmax(log, -1)
        if bool(((value == 0) & (log > -torch.inf)).any()):
            return self._like(old, torch.log_softmax(log, -1), simplex, logarithm=True)
        return self._like(old, value, simplex)

    def _selected(self, old: Parameter, weights: Parameter, select: Callable[[Tensor], Tensor]) -> Parameter:
        logarithm = weights.log_value is not None
        return self._like(old, select(_kept(weights)), weights.constraint, logarithm)

    def _like(self, old: Parameter, value: Tensor, constraint: Constraint, logarithm: bool = False) -> Parameter:
        """A parameter named and trained like `old`: the same one whenever `old` is given the same value."""
        value = value.detach().contiguous()
        digest = hashlib.sha256(value.to("cpu", torch.float64).numpy().tobytes()).digest()
        key = (id(old), digest + repr((tuple(value.shape), value.dtype, constraint.name, logarithm)).encode())
        if key not in self._made:
            make = Parameter.from_log if logarithm else Parameter
            self._made[key] = old, make(value, constraint, old.trainable, old.name)
        return self._made[key][1]


def _kept(weights: Parameter) -> Tensor:
    """What a parameter is kept as: its logarithm where it was made of one."""
    return weights.value if weights.log_value is None else weights.log_value
