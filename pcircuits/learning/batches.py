"""Batches of rows of tensors in memory, in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar, cast

import torch
from torch import Tensor

from pcircuits.learning.errors import TrainingError
from pcircuits.learning.randomness import derive_seed

__all__ = ["DataT", "check_data", "count_rows", "map_tensors", "ordered_batches", "shuffled_batches"]

DataT = TypeVar("DataT", Tensor, tuple[Tensor, ...])
"""Data and batches of it: a tensor, or a tuple of tensors, whose first axis is the rows."""


def tensors_of(data: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (data,) if isinstance(data, Tensor) else data


def map_tensors(function: Callable[[Tensor], Tensor], data: DataT) -> DataT:
    """`function` of each tensor, in the form of `data`."""
    if isinstance(data, Tensor):
        return function(data)
    return cast(DataT, tuple(function(tensor) for tensor in data))


def count_rows(data: Tensor | tuple[Tensor, ...]) -> int:
    """The number of rows.

    **Example**

    >>> count_rows((torch.zeros(5, 2), torch.zeros(5)))
    5
    """
    return len(tensors_of(data)[0])


def check_data(data: Tensor | tuple[Tensor, ...], name: str) -> None:
    """Raise `TrainingError` unless `data` holds tensors of one positive number of rows; `name` names it."""
    if not isinstance(data, Tensor | tuple) or not all(isinstance(tensor, Tensor) for tensor in tensors_of(data)):
        raise TrainingError(f"The {name} data must be a tensor or a tuple of tensors, not {type(data).__name__}.")
    lengths = [len(tensor) if tensor.ndim else 0 for tensor in tensors_of(data)]
    if not lengths or min(lengths) == 0:
        raise TrainingError(f"The {name} data has no rows (lengths {lengths}); give at least one.")
    if len(set(lengths)) > 1:
        raise TrainingError(f"The {name} tensors have different numbers of rows: {lengths}; they must agree.")


def shuffled_batches(
    data: DataT, batch_size: int, *, seed: int, first_epoch: int, device: torch.device
) -> Iterator[DataT]:
    """Batches for ever, epoch after epoch from `first_epoch`, each epoch in an order of its own.

    **Example**

    >>> batches = shuffled_batches(torch.arange(4), 3, seed=0, first_epoch=1, device=torch.device("cpu"))
    >>> sorted(torch.cat([next(batches), next(batches)]).tolist())
    [0, 1, 2, 3]
    """
    epoch = first_epoch
    while True:
        generator = torch.Generator().manual_seed(derive_seed(seed, "batches", epoch))
        order = torch.randperm(count_rows(data), generator=generator)
        for start in range(0, len(order), batch_size):
            index = order[start : start + batch_size]
            yield map_tensors(partial(_select_rows, index=index, device=device), data)
        epoch += 1


def ordered_batches(data: DataT, batch_size: int, *, device: torch.device) -> Iterator[DataT]:
    """Batches in the order of the rows, once.

    **Example**

    >>> [batch.tolist() for batch in ordered_batches(torch.arange(5), 3, device=torch.device("cpu"))]
    [[0, 1, 2], [3, 4]]
    """
    for start in range(0, count_rows(data), batch_size):
        index = torch.arange(start, min(start + batch_size, count_rows(data)))
        yield map_tensors(partial(_select_rows, index=index, device=device), data)


def _select_rows(tensor: Tensor, index: Tensor, device: torch.device) -> Tensor:
    return tensor.index_select(0, index.to(tensor.device)).to(device)
