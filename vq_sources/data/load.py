"""Data sets by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from vq_sources.data.dataset import Dataset
from vq_sources.data.digits import load_digits
from vq_sources.data.fashion import load_fashion
from vq_sources.data.mnist import load_mnist
from vq_sources.errors import DataError

__all__ = ["DATASETS", "load"]

DATASETS: Mapping[str, Callable[[Path, bool], Dataset]] = {
    "digits": load_digits,
    "mnist": load_mnist,
    "fashion": load_fashion,
}
"""Name to loader, a function of the root folder and whether to download."""


def load(name: str, *, root: str | Path | None = None, download: bool = False) -> Dataset:
    """A data set as integers, in fixed disjoint splits.

    **Arguments**

    - `name`: "digits" (bundled with scikit-learn), "mnist" or "fashion".
    - `root`: the folder of downloaded data sets; None is the environment's PCIRCUITS_DATA_ROOT, or else ".data".
    - `download`: whether to fetch files that are missing there.

    **Raises** `DataError` for an unknown name, and for files that are missing, corrupt or cannot be fetched;
    `ImportError` without the extra `vq`.

    **Example**

    >>> data = load("digits")
    >>> data.levels, data.shape, len(data.train), len(data.validation), len(data.test)
    (17, (8, 8), 1200, 237, 360)
    """
    if name not in DATASETS:
        raise DataError(f"There is no data set {name!r}; there are {', '.join(map(repr, DATASETS))}.")
    folder = Path(root if root is not None else os.environ.get("PCIRCUITS_DATA_ROOT", ".data"))
    return DATASETS[name](folder, download)
