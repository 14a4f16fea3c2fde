"""The codes of a data set's images, with the labels of those images."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Int64
from torch import Tensor

from vq_sources.errors import DataError
from vq_sources.plain_numbers import pair
from vq_sources.protocols import check_codes, check_labels

__all__ = ["EncodedDataset", "EncodedSplit"]


@dataclass(frozen=True, eq=False)
class EncodedSplit:
    """Codes (n, P), row-major over the grid, and labels (n,), both int64."""

    codes: Int64[Tensor, "n P"]
    labels: Int64[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def batch(self) -> tuple[Tensor, Tensor]:
        """What a prior is fitted to: codes and labels."""
        return self.codes, self.labels


@dataclass(frozen=True, eq=False)
class EncodedDataset:
    """The codes of the three splits of a data set.

    **Arguments**

    - `name`: of the data set.
    - `grid`: (h, w), P = h·w.
    - `cardinalities`: the number of codes at each of the P positions.
    - `num_classes`: C, of the labels.
    - `train`, `validation`, `test`: codes and labels, in the order of the images.

    **Raises** `DataError` for codes or labels of another shape, type or range.
    """

    name: str
    grid: tuple[int, int]
    cardinalities: tuple[int, ...]
    num_classes: int
    train: EncodedSplit
    validation: EncodedSplit
    test: EncodedSplit

    def __post_init__(self) -> None:
        height, width = pair(self.grid, "grid")
        object.__setattr__(self, "grid", (height, width))
        object.__setattr__(self, "cardinalities", tuple(self.cardinalities))
        if len(self.cardinalities) != height * width:
            raise DataError(
                f"a grid {height} by {width} has {height * width} positions, but there are {len(self.cardinalities)} "
                "cardinalities"
            )
        for split in (self.train, self.validation, self.test):
            check_codes(split.codes, self.cardinalities)
            check_labels(split.labels, len(split.codes), self.num_classes)
