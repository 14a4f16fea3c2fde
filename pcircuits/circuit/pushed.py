"""Weights after the values of a sum's inputs were pushed into them: w_i · v_i / Σ_j w_j · v_j, on the simplex."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcircuits.circuit.mass import log_weights
from pcircuits.parameters import Parameter, simplex

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
        flat = weights.value.reshape(-1, weights.shape[-1])
        return self._like(old, flat[0]) if weights is not old and bool((flat == flat[:1]).all()) else weights

    def dense(self, old: Parameter, values: Tensor, live: NDArray[np.int64], regions: int) -> Parameter:
        """Weights (K,), (O, K) or (R, O, K) of a `Sum` over R regions, with log values (R', K) of its inputs."""
        values = values.unsqueeze(1)
        if old.value.ndim == 3:
            return self._pushed(old, values, self._restricted(old, live))
        weights = self._pushed(old, values, old)
        if weights.value.ndim == 3 and bool((weights.value == weights.value[:1]).all()):
            return self._like(old, weights.value[0].reshape(old.shape))
        return weights

    def some(self, weights: Parameter, inputs: Sequence[int]) -> Parameter:
        """The weights of some inputs; the others have weight zero."""
        return self._like(weights, weights.value[..., list(inputs)])

    def _restricted(self, old: Parameter, live: NDArray[np.int64]) -> Parameter:
        if len(live) == old.shape[0]:
            return old
        return self._like(old, old.value[torch.as_tensor(live)], on_simplex=old.constraint is simplex)

    def _pushed(self, tied_to: Parameter, values: Tensor, weights: Parameter) -> Parameter:
        if bool(((values - values[..., :1]).abs() <= ROUNDING).all()):
            if weights.constraint is simplex:
                return weights
            if bool(simplex.admits(weights.value).all()):
                return self._like(tied_to, weights.value)
            return self._like(tied_to, _softmax(log_weights(weights)))
        return self._like(tied_to, _softmax(log_weights(weights) + values))

    def _like(self, old: Parameter, value: Tensor, on_simplex: bool = True) -> Parameter:
        """A parameter named and trained like `old`: the same one whenever `old` is given the same value."""
        value = value.detach().contiguous()
        digest = hashlib.sha256(value.to("cpu", torch.float64).numpy().tobytes()).digest()
        key = (id(old), digest + repr((tuple(value.shape), value.dtype, on_simplex)).encode())
        if key not in self._made:
            constraint = simplex if on_simplex else old.constraint
            self._made[key] = old, Parameter(value, constraint, old.trainable, old.name)
        return self._made[key][1]


def _softmax(log: Tensor) -> Tensor:
    """exp(log) normalised over the last axis; where all is zero, the first gets it all (nothing weighs that sum)."""
    nothing = (log == -torch.inf).all(-1, keepdim=True)
    first = torch.zeros_like(log)
    first[..., 0] = 1.0
    return torch.where(nothing, first, torch.softmax(torch.where(nothing, 0.0, log), -1))
