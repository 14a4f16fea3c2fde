"""Data parallel training: each process takes its share of every batch, and sums over rows are added up.

Nothing here starts processes: `torchrun` does, and `torch.distributed.init_process_group` joins them. All give the same
module, data and settings. Without a process group, one process has all rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor

from pcircuits.learning.batches import DataT, count_rows, map_tensors

__all__ = ["add_up", "is_first", "share_of", "wait_for_all"]


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def is_first() -> bool:
    """Whether this process is the one that writes files and shows progress."""
    return not _joined() or dist.get_rank() == 0


def share_of(batch: DataT) -> DataT:
    """This process's rows of a batch: every so many of them, possibly none.

    >>> share_of(torch.arange(3)).tolist()
    [0, 1, 2]
    """
    if not _joined():
        return batch
    rows = torch.arange(dist.get_rank(), count_rows(batch), dist.get_world_size())
    return map_tensors(partial(_rows, rows=rows), batch)


def _rows(tensor: Tensor, rows: Tensor) -> Tensor:
    return tensor.index_select(0, rows.to(tensor.device))


def add_up(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor, in place, by the sum of those that all processes have in its place."""
    if _joined():
        for tensor in tensors:
            dist.all_reduce(tensor)


def wait_for_all() -> None:
    """Go on once every process has come here."""
    if _joined():
        dist.barrier()
