"""What is derived from parameters and not from data: computed once, and kept while the parameters stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

import torch

__all__ = ["Held"]

T = TypeVar("T")


class Held:
    """The parameters of one state of a program, in the forms in which its steps compute with them.

    A pass that gradients flow through has one of its own, shared by all its chunks of data, so that each parameter is
    constrained once and has one backward. Otherwise one is kept from query to query until a parameter changes.
    """

    def __init__(self, kept: bool) -> None:
        self.kept = kept
        self._made: dict[Hashable, object] = {}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` makes; made on the first call with this key."""
        if key not in self._made:
            if self.kept:
                with torch.inference_mode(False), torch.no_grad():  # of use to autograd later, wherever it was made
                    self._made[key] = make()
            else:
                self._made[key] = make()
        return self._made[key]  # type: ignore[return-value]
