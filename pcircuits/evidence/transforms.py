"""Tensors inside of the transforms of `torch.func`, such as vmap: what can still be asked of their numbers."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["everywhere", "is_transformed"]

_functorch = torch._C._functorch


def is_transformed(x: Tensor) -> bool:
    """Whether x belongs to a transform of `torch.func`, under which numbers cannot be taken out of it one by one."""
    return _functorch.is_functorch_wrapped_tensor(x)


def everywhere(flags: Tensor) -> bool:
    """Whether all flags are true; within `torch.vmap` and `torch.func.grad`, those of all samples of the batch.

    >>> everywhere(torch.tensor([True, False]))
    False
    """
    if not is_transformed(flags):
        return bool(flags.all())
    flag = flags.all()
    while is_transformed(flag):
        flag = _functorch.get_unwrapped(flag)
    return bool(flag.all())
