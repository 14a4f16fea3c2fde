"""What everything downstream asks of a vector-quantised model, and nothing more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int64, Integer
from torch import Tensor

from pcircuits.arguments import whole_number
from pcircuits.errors import ParameterError
from pcircuits.families.interface import AbstractUnivariate
from pcircuits.scope import Variable
from vq_sources.errors import ConfigError, DataError

__all__ = [
    "ImageVQDecoder",
    "LeafGroup",
    "LocalVQDecoder",
    "VQDecoder",
    "VQSource",
    "check_codes",
    "check_images",
    "check_integers",
    "check_labels",
    "check_tensor",
    "grid_of",
    "leaf_groups",
    "likelihood_by_group",
]


@runtime_checkable
class VQDecoder(Protocol):
    """p(x | z) of D variables given P discrete latents z: what a circuit is distilled from.

    p(x | z) = Π_v family_v(x_v; likelihood(z)_v).

    Which variables there are is said in one of two ways. A source of tables, series or anything else has `variables`, a
    mapping from each label to its family, in the order of the data's columns. A source of images is an `ImageVQDecoder`, and
    has `family` and `data_shape` instead. `leaf_groups` reads both.

    Where all variables have one family, `likelihood` returns its parameters by name, each (N, D, *event). Where there are
    several, it returns such a mapping for each family, by the family, over that family's variables in their order.

    A source may have a `grid`, (h, w), where its codes have a place in one, row-major; without it they are a sequence. Two
    grids, or several codes for one position, are one sequence too.

    Laws: `likelihood` does not depend on the mode (train or eval) nor, beyond rounding, on how codes are chunked; it is
    differentiable in the source's weights.

    A circuit takes a copy of the decoder. A module that holds more than its `likelihood` needs, such as an encoder, may
    offer a method `decoder_alone() -> nn.Module`, which returns a module with the same answers and without the rest; it
    may share its weights with the model, because the circuit copies it.
    """

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """The number of codes at each of the P positions."""
        ...

    def likelihood(self, codes: Integer[Tensor, "N P"]) -> Mapping[Any, Any]:
        """The parameters of every variable given codes: of one family by name, of several by family and name."""
        ...


@runtime_checkable
class VQSource(VQDecoder, Protocol):
    """A vector-quantised model: a decoder p(x | z), and the codes z of data."""

    def encode(self, x: Any, /) -> Int64[Tensor, "B P"]:
        """The codes of rows of data, or of images, int64."""
        ...


@runtime_checkable
class ImageVQDecoder(VQDecoder, Protocol):
    """p(x | z) of images of D = H·W pixels: the adapter of images to `VQDecoder`.

    Codes and pixels are row-major, and the variables are the pixels 0..D−1. Values are in units where the pixel range is
    [0, 1]: a density (`family.base == "lebesgue"`) is over x = (pixel + u) / levels with u in [0, 1); a mass over integers
    ("counting") is of the pixel itself, with loc and scale of the bin [v, v + 1) / levels.
    """

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w), the shape of the codes."""
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


@dataclass(frozen=True)
class LeafGroup:
    """The variables of one family: their labels, and their columns in the data."""

    family: AbstractUnivariate
    labels: tuple[Variable, ...]
    columns: tuple[int, ...]


def leaf_groups(source: VQDecoder) -> list[LeafGroup]:
    """The variables of a source by family, in the order in which the families first appear.

    **Raises** `ParameterError` for a source that says neither `variables` nor `family` and `data_shape`.

    >>> from pcircuits.families import Bernoulli, Normal
    >>> class Table:
    ...     variables = {"age": Normal(), "ill": Bernoulli(), "weight": Normal()}
    ...     cardinalities = (2,)
    ...     def likelihood(self, codes): ...
    >>> [(group.family.name, group.labels, group.columns) for group in leaf_groups(Table())]
    [('Normal', ('age', 'weight'), (0, 2)), ('Bernoulli', ('ill',), (1,))]
    """
    variables: Mapping[Variable, AbstractUnivariate] | None = getattr(source, "variables", None)
    if variables is None:
        if not hasattr(source, "family") or not hasattr(source, "data_shape"):
            raise ParameterError(
                f"{type(source).__name__} does not say what its variables are: give it `variables`, a mapping from labels to "
                "families, or, for images, `family` and `data_shape` (see vq_sources.protocols.VQDecoder)"
            )
        pixels = tuple(range(source.data_shape[0] * source.data_shape[1]))
        return [LeafGroup(source.family, pixels, pixels)]
    found: dict[AbstractUnivariate, list[tuple[int, Variable]]] = {}
    for column, (label, family) in enumerate(variables.items()):
        found.setdefault(family, []).append((column, label))
    return [
        LeafGroup(family, tuple(label for _, label in of_family), tuple(column for column, _ in of_family))
        for family, of_family in found.items()
    ]


def likelihood_by_group(source: VQDecoder, codes: Integer[Tensor, "N P"]) -> list[Mapping[str, Tensor]]:
    """What `likelihood` gives for each of `leaf_groups`, each parameter (N, D of the group, *event)."""
    groups, made = leaf_groups(source), source.likelihood(codes)
    return [made] if len(groups) == 1 and groups[0].family not in made else [made[group.family] for group in groups]


def grid_of(source: VQDecoder) -> tuple[int, int]:
    """The shape of a source's codes: its grid, or (1, P) for a sequence."""
    grid: tuple[int, int] = getattr(source, "grid", (1, len(source.cardinalities)))
    return tuple(grid)  # type: ignore[return-value]


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
