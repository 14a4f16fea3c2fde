"""Seeds derived from one seed, and a scope in which torch's global generators may be used without disturbing them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["derive_seed", "forked_generators", "seed_generators"]


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A seed of 63 bits for one purpose; other purposes and other seeds have unrelated ones.

    **Example**

    >>> derive_seed(0, "batches", 1) == derive_seed(0, "batches", 1)
    True
    >>> derive_seed(0, "batches", 1) == derive_seed(0, "batches", 2)
    False
    """
    digest = hashlib.blake2b(repr((seed, *purpose)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def forked_generators(device: torch.device) -> Iterator[None]:
    """Give torch's global generators of the CPU and of `device` back as they were found."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the global generators of the CPU and of `device`; only for use inside `forked_generators`.

    `torch.manual_seed` would also seed every other accelerator of the machine.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
