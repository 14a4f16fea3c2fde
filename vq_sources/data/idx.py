"""Data sets in the files of MNIST, read (and fetched) by torchvision."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from vq_sources.data.dataset import Dataset, Split
from vq_sources.data.splits import fixed_order
from vq_sources.errors import DataError

__all__ = ["load_idx"]


def load_idx(name: str, torchvision_name: str, root: Path, download: bool) -> Dataset:
    """A data set of 28 × 28 pixels with 256 levels and ten classes.

    The published training images are permuted by a fixed seed; the last sixth of them (10,000 of 60,000) is the
    validation split. The published test images are the test split.

    **Arguments**

    - `name`: of the result.
    - `torchvision_name`: of torchvision's class, and of the folder under `root`.
    - `root`: the files are `root / torchvision_name / "raw" / "train-images-idx3-ubyte"` and so on.
    - `download`: whether to fetch them where they are missing.

    **Raises** `DataError` where files are missing or corrupt, or cannot be fetched; `ImportError` without torchvision.
    """
    reader = getattr(_torchvision_datasets(), torchvision_name)
    images, labels = _read(reader, name, root, train=True, download=download)
    test_images, test_labels = _read(reader, name, root, train=False, download=download)
    rows = len(images)
    train, validation = fixed_order(rows).tensor_split([rows - rows // 6])
    return Dataset(
        name=name,
        levels=256,
        shape=(28, 28),
        num_classes=10,
        train=Split(images[train], labels[train]),
        validation=Split(images[validation], labels[validation]),
        test=Split(test_images, test_labels),
    )


def _torchvision_datasets() -> ModuleType:
    try:
        import torchvision.datasets
    except ImportError as error:
        raise ImportError('These images are read by torchvision: pip install "pcircuits[vq]".') from error
    except RuntimeError as error:  # operators that its compiled part does not find in this torch
        raise ImportError(
            f"torchvision does not fit this torch {torch.__version__} ({error}): install both from one package index."
        ) from error
    datasets: ModuleType = torchvision.datasets
    return datasets


def _read(reader: Any, name: str, root: Path, *, train: bool, download: bool) -> tuple[Tensor, Tensor]:
    """Images (n, 28, 28) and labels (n,), int64."""
    try:
        split = reader(root, train=train, download=download)
        images, labels = split.data, split.targets
        if images.dtype != torch.uint8 or images.shape[1:] != (28, 28) or len(images) == 0:
            raise ValueError(f"the images are {images.dtype} {tuple(images.shape)}")
        if labels.shape != (len(images),) or int(labels.max()) > 9:
            raise ValueError(f"{len(images)} images have labels {tuple(labels.shape)} up to {int(labels.max())}")
    # torchvision's reader meets a broken file with whatever its parsing stumbles over.
    except (RuntimeError, OSError, ValueError, TypeError, KeyError, IndexError, AssertionError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        part = "training" if train else "test"
        folder = Path(root) / reader.__name__ / "raw"
        raise DataError(
            f"The {part} files of {name!r} in {folder} are missing or corrupt ({reason}). Fetch them with "
            f"download=True (--download), or say which folder holds {reader.__name__}/raw with root= (--data-root); "
            "delete a corrupt file before it is fetched again."
        ) from error
    return images.to(torch.int64), labels.to(torch.int64)
