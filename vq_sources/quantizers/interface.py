"""What a model asks of a quantiser."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor, nn

__all__ = ["AbstractQuantizer", "Quantized"]


class Quantized(NamedTuple):
    """What a forward pass gives: quantised vectors (B, P, d), codes (B, P) int64, and a scalar auxiliary loss."""

    vectors: Tensor
    codes: Tensor
    loss: Tensor


class AbstractQuantizer(nn.Module, ABC):
    """Maps vectors (B, P, d), channels last, P = grid height · grid width row-major, to codes below `num_codes`.

    The vectors that codes decode to may have another size than those that are quantised (`dim`), where an encoder says more
    of a vector than the vector.

    Laws: `decode(encode(v))` equals `forward(v).vectors` in eval mode; `encode` and `decode` change no state and do
    not depend on the mode; the codebook moves only in training mode while gradients are recorded.
    """

    num_codes: int
    dim: int

    @property
    @abstractmethod
    def initialised(self) -> bool:
        """Whether there is a codebook to encode with."""

    @abstractmethod
    def initialise(self, vectors: Float[Tensor, "n d"], generator: torch.Generator | None = None) -> None:
        """Make the codebook from training vectors, once; nothing happens where there is one already."""

    @abstractmethod
    def forward(self, vectors: Float[Tensor, "B P d"]) -> Quantized:
        """Quantise, with gradients passed straight through to `vectors`."""

    @abstractmethod
    def encode(self, vectors: Float[Tensor, "B P d"]) -> Int64[Tensor, "B P"]:
        """The codes of vectors, int64."""

    @abstractmethod
    def decode(self, codes: Integer[Tensor, "B P"]) -> Float[Tensor, "B P d"]:
        """The quantised vectors of codes."""
