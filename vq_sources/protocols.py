"""What everything downstream asks of a vector-quantised model, and nothing more."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor

from pcircuits.arguments import whole_number
from pcircuits.families.interface import AbstractUnivariate
from vq_sources.errors import ConfigError, DataError

__all__ = [
    "LocalVQDecoder",
    "VQDecoder",
    "VQSource",
    "check_codes",
    "check_images",
    "check_integers",
    "check_labels",
    "check_tensor",
]


@runtime_checkable
class VQDecoder(Protocol):
    """p(x | z) of images of D = H·W pixels given P = h·w discrete latents z: what a circuit is distilled from.

    p(x | z) = Π_v family(x_v; likelihood(z)_v).

    Codes and pixels are row-major. Values are in units where the pixel range is [0, 1]: a density (`family.base ==
    "lebesgue"`) is over x = (pixel + u) / levels with u in [0, 1); a mass over integers ("counting") is of the pixel
    itself, with loc and scale of the bin [v, v + 1) / levels.

    Laws: `likelihood` does not depend on the mode (train or eval) nor, beyond rounding, on how codes are chunked; it is
    differentiable in the source's weights.

    A circuit takes a copy of the decoder. A module that holds more than its `likelihood` needs, such as an encoder, may
    offer a method `decoder_alone() -> nn.Module`, which returns a module with the same answers and without the rest; it
    may share its weights with the model, because the circuit copies it.
    """

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w), the shape of the codes."""
        ...

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """The number of codes at each of the P positions."""
        ...

    @property
    def family(self) -> AbstractUnivariate:
        """The family of every pixel."""
        ...

    @property
    def data_shape(self) -> tuple[int, int]:
        """(H, W), the shape of the images."""
        ...

    @property
    def levels(self) -> int:
        """L: pixels are integers 0..L−1."""
        ...

    def likelihood(self, codes: Integer[Tensor, "N P"]) -> dict[str, Float[Tensor, "N D"]]:
        """The family's parameters of every pixel given codes."""
        ...


@runtime_checkable
class VQSource(VQDecoder, Protocol):
    """A vector-quantised model: a decoder p(x | z), and the codes z of images."""

    def encode(self, images: Integer[Tensor, "B H W"]) -> Int64[Tensor, "B P"]:
        """The codes of images, int64."""
        ...


@runtime_checkable
class LocalVQDecoder(VQDecoder, Protocol):
    """A decoder in which each code decides a patch of the variables, and no code has a say in the patch of another.

    p(x | z) = Π_i p(x_i | z_i), x_i the variables of position i: what `vq_sources.compose` needs. It checks that this is
    so, on a few codes.
    """

    @property
    def patches(self) -> tuple[tuple[int, ...], ...]:
        """For each of the P positions the columns, 0..D−1, of its variables; every column is in one patch."""
        ...


def check_tensor(values: object, name: str) -> None:
    """Raise `DataError` unless `values` are a tensor; `name` says what they are."""
    if not isinstance(values, Tensor):
        raise DataError(
            f"{name} must be a tensor of integers, not {type(values).__name__}: torch.as_tensor(...) makes one"
        )
    if values.layout is not torch.strided:
        raise DataError(f"{name} must be a dense tensor, not one of layout {values.layout}: convert it with to_dense()")


def check_integers(values: Tensor, name: str, remedy: str) -> None:
    """Raise `DataError` unless `values` are a tensor of integers; `remedy` says what to do else."""
    check_tensor(values, name)
    if values.is_floating_point() or values.is_complex() or values.dtype is torch.bool:
        raise DataError(f"{name} must be integers, not {values.dtype}: {remedy}")


def check_images(images: Tensor, data_shape: tuple[int, int], levels: int) -> None:
    """Raise `DataError` unless `images` are integers (B, H, W) in 0..levels−1."""
    check_tensor(images, "images")
    levels = whole_number(levels, "levels", 1, ConfigError)
    height, width = data_shape
    if images.ndim != 3 or tuple(images.shape[1:]) != tuple(data_shape):
        raise DataError(f"images must have shape (B, {height}, {width}), not {tuple(images.shape)}")
    check_integers(images, "images", "pixels stay integers: dequantisation is the model's own business")
    wide = images.long()  # of uint8, 256 would be 0
    outside = (wide < 0) | (wide >= levels)
    if bool(outside.any()):
        b, row, column = outside.nonzero()[0].tolist()
        raise DataError(
            f"image {b} has the value {int(images[b, row, column])} at row {row}, column {column}: "
            f"pixels must be in 0..{levels - 1}"
        )


def check_codes(codes: Tensor, cardinalities: tuple[int, ...]) -> None:
    """Raise `DataError` unless `codes` are integers (N, P), each below its position's cardinality."""
    check_tensor(codes, "codes")
    positions = len(cardinalities)
    if codes.ndim != 2 or codes.shape[1] != positions:
        raise DataError(f"codes must have shape (N, {positions}), one column per position, not {tuple(codes.shape)}")
    check_integers(codes, "codes", "convert them with codes.long()")
    wide = codes.long()
    outside = (wide < 0) | (wide >= wide.new_tensor(cardinalities))
    if bool(outside.any()):
        n, position = outside.nonzero()[0].tolist()
        raise DataError(
            f"row {n} has the code {int(codes[n, position])} at position {position}: "
            f"codes there must be in 0..{cardinalities[position] - 1}"
        )


def check_labels(labels: Tensor, rows: int, num_classes: int) -> None:
    """Raise `DataError` unless `labels` are integers (rows,) in 0..num_classes−1."""
    check_tensor(labels, "labels")
    if labels.shape != (rows,):
        raise DataError(
            f"labels must be int64 of shape ({rows},), one for each row, not {labels.dtype} {tuple(labels.shape)}"
        )
    check_integers(labels, "labels", "convert them with labels.long()")
    outside = (labels.long() < 0) | (labels.long() >= num_classes)
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        found = int(labels[row])
        raise DataError(
            f"label {row} is {found}: labels must be in 0..{num_classes - 1}, and label {found} is not one of the classes"
        )
