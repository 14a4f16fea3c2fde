"""Fashion-MNIST: 70,000 pieces of clothing of 28 × 28 pixels."""

from __future__ import annotations

from pathlib import Path

from vq_sources.data.dataset import Dataset
from vq_sources.data.idx import load_idx

__all__ = ["load_fashion"]


def load_fashion(root: Path, download: bool) -> Dataset:
    """50,000 training, 10,000 validation and the 10,000 published test images; see `load_idx`.

    **Source**: Xiao, Rasul, Vollgraf 2017, *Fashion-MNIST: a novel image dataset for benchmarking machine learning
    algorithms*.
    """
    return load_idx("fashion", "FashionMNIST", root, download)
