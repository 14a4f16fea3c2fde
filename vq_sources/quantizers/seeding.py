"""Run library code that draws from torch's global generator under a seed of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["seeded"]


@contextmanager
def seeded(generator: torch.Generator | None = None) -> Iterator[None]:
    """Inside, torch's global CPU generator starts from one draw of `generator`; afterwards it is as it was before.

    **Arguments**

    - `generator`: where the seed comes from; None draws it from the global generator (which moves by that draw).

    **Example**

    >>> import torch
    >>> with seeded(torch.Generator().manual_seed(0)):
    ...     a = torch.rand(2)
    >>> with seeded(torch.Generator().manual_seed(0)):
    ...     b = torch.rand(2)
    >>> bool((a == b).all())
    True
    """
    device = "cpu" if generator is None else generator.device
    seed = int(torch.randint(2**62, (), generator=generator, device=device))
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)
