"""Images with their labels, in three disjoint splits. Pixels stay integers."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Int64
from torch import Tensor

from vq_sources.errors import DataError
from vq_sources.protocols import check_images

__all__ = ["Dataset", "Split", "check_labels"]


@dataclass(frozen=True, eq=False)
class Split:
    """Images (n, H, W) and labels (n,), both int64.

    **Example**

    >>> import torch
    >>> split = Split(torch.zeros(3, 8, 8, dtype=torch.int64), torch.tensor([0, 1, 1]))
    >>> len(split), len(split.batch)
    (3, 1)
    """

    images: Int64[Tensor, "n H W"]
    labels: Int64[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def batch(self) -> tuple[Tensor]:
        """What a VQ model is fitted to: the images alone."""
        return (self.images,)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Integer images in 0..levels−1 with labels in 0..num_classes−1.

    **Arguments**

    - `name`: what reports call it.
    - `levels`: L, the number of values of a pixel.
    - `shape`: (H, W).
    - `num_classes`: C.
    - `train`, `validation`, `test`: disjoint splits.

    **Raises** `DataError` for images or labels of another shape, type or range.
    """

    name: str
    levels: int
    shape: tuple[int, int]
    num_classes: int
    train: Split
    validation: Split
    test: Split

    def __post_init__(self) -> None:
        for split in (self.train, self.validation, self.test):
            check_images(split.images, self.shape, self.levels)
            check_labels(split.labels, len(split.images), self.num_classes)


def check_labels(labels: Tensor, rows: int, num_classes: int) -> None:
    """Raise `DataError` unless `labels` are integers (rows,) in 0..num_classes−1."""
    if not isinstance(labels, Tensor):
        raise DataError(
            f"labels must be a tensor of integers, not {type(labels).__name__}: torch.as_tensor(labels) makes it"
        )
    if labels.shape != (rows,) or labels.is_floating_point():
        raise DataError(f"labels must be integers of shape ({rows},), not {labels.dtype} {tuple(labels.shape)}")
    outside = (labels < 0) | (labels >= num_classes)
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        raise DataError(f"label {row} is {int(labels[row])}: labels must be in 0..{num_classes - 1}")
