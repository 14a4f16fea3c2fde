"""Whether torch traces or transforms what is computed: then nothing may depend on the numbers."""

from __future__ import annotations

import torch

__all__ = ["plain"]


def plain() -> bool:
    """Whether torch neither traces nor transforms what is computed."""
    return torch._C._functorch.peek_interpreter_stack() is None and not torch.compiler.is_compiling()
