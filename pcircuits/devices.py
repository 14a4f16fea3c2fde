"""Devices, checked before anything is put on them."""

from __future__ import annotations

import torch

from pcircuits.errors import CircuitError

__all__ = ["available_device"]


def available_device(device: torch.device | str) -> torch.device:
    """The device of this name.

    **Raises** `CircuitError` where it is unknown, is not there, or is neither a CPU nor a CUDA device.

    >>> available_device("cpu")
    device(type='cpu')
    """
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise CircuitError(f"{device!r} is no device: {_there_are()}") from error
    if found.type not in ("cpu", "cuda"):
        raise CircuitError(f"a device of the type {found.type!r} is not supported: {_there_are()}")
    try:
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:  # the latter from a torch that was built without CUDA
        raise CircuitError(f"there is no device {str(found)!r} here: {_there_are()}") from error
    return found


def _there_are() -> str:
    return "take " + " or ".join(["'cpu'", *(f"'cuda:{i}'" for i in range(torch.cuda.device_count()))])
