"""Orders of rows to cut splits from: fixed by a constant seed, the same on every machine."""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor

__all__ = ["fixed_order", "stratified_order"]

SEED = 20250901
"""Of every split; changing it changes what was trained on and tested on, so it never changes."""


def fixed_order(rows: int) -> Int64[Tensor, " rows"]:
    """A fixed random permutation of 0..rows−1."""
    return torch.randperm(rows, generator=torch.Generator().manual_seed(SEED))


def stratified_order(labels: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """A fixed random permutation any prefix of which has each class in its share, to within one row.

    The i-th of the n_c rows of class c goes where the fraction (i + 1/2) / n_c of the rows is reached.

    **Example**

    >>> labels = torch.tensor([0, 0, 0, 0, 1, 1])
    >>> labels[stratified_order(labels)].tolist()
    [0, 1, 0, 0, 1, 0]
    """
    order = fixed_order(len(labels))
    shuffled = labels[order]
    position = torch.empty(len(labels), dtype=torch.float64)
    for label in torch.unique(shuffled):
        rows = (shuffled == label).nonzero()[:, 0]
        position[rows] = (torch.arange(len(rows), dtype=torch.float64) + 0.5) / len(rows)
    return order[position.argsort(stable=True)]
