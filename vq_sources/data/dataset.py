"""Images with their labels, in three disjoint splits. Pixels stay integers."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Int64
from torch import Tensor

from pcircuits.arguments import whole_number
from vq_sources.errors import ConfigError
from vq_sources.plain_numbers import pair
from vq_sources.protocols import check_images, check_labels

__all__ = ["Dataset", "Split"]


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

    **Raises** `DataError` for images or labels of another shape, type or range; `ConfigError` for a shape or a number
    that is none.
    """

    name: str
    levels: int
    shape: tuple[int, int]
    num_classes: int
    train: Split
    validation: Split
    test: Split

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", pair(self.shape, f"the shape of {self.name!r}"))
        for name, smallest in (("levels", 2), ("num_classes", 1)):
            number = whole_number(getattr(self, name), f"{name} of {self.name!r}", smallest, ConfigError)
            object.__setattr__(self, name, number)
        for split in (self.train, self.validation, self.test):
            check_images(split.images, self.shape, self.levels)
            check_labels(split.labels, len(split.images), self.num_classes)
