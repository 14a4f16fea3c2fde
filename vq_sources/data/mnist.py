"""MNIST: 70,000 handwritten digits of 28 × 28 pixels."""

from __future__ import annotations

from pathlib import Path

from vq_sources.data.dataset import Dataset
from vq_sources.data.idx import load_idx

__all__ = ["load_mnist"]


def load_mnist(root: Path, download: bool) -> Dataset:
    """50,000 training, 10,000 validation and the 10,000 published test images; see `load_idx`.

    **Source**: LeCun, Bottou, Bengio, Haffner 1998, *Gradient-based learning applied to document recognition*.
    """
    return load_idx("mnist", "MNIST", root, download)
