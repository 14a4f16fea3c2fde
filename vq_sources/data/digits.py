"""scikit-learn's handwritten digits: 1,797 images of 8 × 8 pixels with 17 levels, bundled with the package."""

from __future__ import annotations

from pathlib import Path

import torch

from vq_sources.data.dataset import Dataset, Split
from vq_sources.data.splits import stratified_order

__all__ = ["load_digits"]

TRAIN, VALIDATION = 1200, 237


def load_digits(root: Path, download: bool) -> Dataset:
    """1,200 training, 237 validation and 360 test images, each with the classes in their shares.

    The data comes with scikit-learn, so there is nothing to find under `root` and nothing to download.

    **Raises** `ImportError` without scikit-learn.

    **Source**: Alpaydin and Kaynak 1998, *Optical Recognition of Handwritten Digits* (UCI), its test part.
    """
    try:
        from sklearn.datasets import load_digits as bundled
    except ImportError as error:
        raise ImportError('The digits come with scikit-learn: pip install "pcircuits[vq]".') from error
    pixels, targets = bundled(return_X_y=True)
    images = torch.from_numpy(pixels).to(torch.int64).view(-1, 8, 8)
    labels = torch.from_numpy(targets).to(torch.int64)
    train, validation, test = stratified_order(labels).tensor_split([TRAIN, TRAIN + VALIDATION])
    return Dataset(
        name="digits",
        levels=17,
        shape=(8, 8),
        num_classes=10,
        train=Split(images[train], labels[train]),
        validation=Split(images[validation], labels[validation]),
        test=Split(images[test], labels[test]),
    )
