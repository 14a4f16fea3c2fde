"""A `VectorQuantize` of vector-quantize-pytorch behind our interface, checked when it is wrapped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor, nn

from vq_sources.errors import QuantizerError
from vq_sources.quantizers.check import check_quantizer, decode
from vq_sources.quantizers.interface import AbstractQuantizer, Quantized
from vq_sources.quantizers.seeding import seeded

__all__ = ["WrappedQuantizer"]


class WrappedQuantizer(AbstractQuantizer):
    """Any `vector_quantize_pytorch.VectorQuantize` whose codes decode to what its forward pass gives.

    decode(codes) = project_out(codebook[codes]).

    The package initialises its codebook by k-means on the first batch that it sees, also in eval mode, and moves it in
    training mode also without gradients. Here the first happens in `initialise` alone, and the second only where
    gradients are recorded.

    **Arguments**

    - `module`: the quantiser, channels last, one head.

    **Raises** `QuantizerError` naming the option at fault where `module` does not keep the laws of `AbstractQuantizer`.

    **Example**

    >>> from vector_quantize_pytorch import VectorQuantize
    >>> quantizer = WrappedQuantizer(VectorQuantize(dim=4, codebook_size=8, rotation_trick=False))
    >>> vectors = torch.zeros(2, 6, 4)
    >>> quantizer.encode(vectors).shape
    torch.Size([2, 6])
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        check_quantizer(module)
        self.module = module
        self.num_codes = int(module.codebook_size)  # type: ignore[arg-type]
        self.dim = int(module.dim)  # type: ignore[arg-type]

    @property
    def initialised(self) -> bool:
        return all(bool(flag) for name, flag in self.module.named_buffers() if name.endswith("initted"))

    def initialise(self, vectors: Float[Tensor, "n d"], generator: torch.Generator | None = None) -> None:
        if self.initialised:
            return
        if len(vectors) < self.num_codes:
            raise QuantizerError(
                f"cannot make a codebook of {self.num_codes} codes from {len(vectors)} training vectors: "
                f"give more images, or lower num_codes to at most {len(vectors)}"
            )
        # On a copy on the CPU, so that a seed gives one codebook on every device.
        copy = deepcopy(self.module).cpu().eval()
        with torch.no_grad(), seeded(generator):
            copy(vectors.detach().cpu()[None])
        self.module.load_state_dict(copy.state_dict())

    def forward(self, vectors: Float[Tensor, "B P d"]) -> Quantized:
        self._require_codebook()
        moves = self.training and torch.is_grad_enabled()
        frozen = bool(getattr(self.module, "freeze_codebook", False)) or not moves
        quantized, codes, loss = self.module(vectors, freeze_codebook=frozen)
        return Quantized(quantized, codes.to(torch.int64), loss.sum())

    def encode(self, vectors: Float[Tensor, "B P d"]) -> Int64[Tensor, "B P"]:
        self._require_codebook()
        with torch.no_grad(), _evaluating(self.module):
            codes: Tensor = self.module(vectors)[1]
        return codes.to(torch.int64)

    def decode(self, codes: Integer[Tensor, "B P"]) -> Float[Tensor, "B P d"]:
        self._require_codebook()
        return decode(self.module, codes)

    def _require_codebook(self) -> None:
        if not self.initialised:
            raise QuantizerError(
                "the codebook is still empty: train the model (vq_sources.fit), load trained weights, "
                "or call prepare((images,)) with the training images"
            )


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
