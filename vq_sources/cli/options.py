"""The options that all commands share, and what they mean."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer

from pcircuits.devices import available_device
from pcircuits.errors import CircuitError
from vq_sources.errors import ConfigError

__all__ = [
    "DataRoot",
    "DatasetName",
    "Device",
    "Download",
    "Out",
    "Root",
    "Seed",
    "Split",
    "check_device",
]


class DatasetName(StrEnum):
    """The data sets there are."""

    digits = "digits"
    mnist = "mnist"
    fashion = "fashion"


class Split(StrEnum):
    """The parts of a data set."""

    train = "train"
    validation = "validation"
    test = "test"


Seed = Annotated[int, typer.Option(help="Decides everything random: the same seed, the same results.", min=0)]
Device = Annotated[str, typer.Option(help="Where to compute: [bold]cpu[/], [bold]cuda[/] or [bold]cuda:1[/].")]
Out = Annotated[
    Path | None,
    typer.Option(
        help="The folder of results. One that was made with other settings, or is in use, is refused.",
        file_okay=False,
        show_default=False,
    ),
]
Root = Annotated[
    int | None,
    typer.Option(
        help="Which root, where the circuit has several, such as one for each class.", min=0, show_default=False
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        help="Where MNIST and Fashion-MNIST are, or go.  [dim]default: $PCIRCUITS_DATA_ROOT, or .data[/]",
        file_okay=False,
        show_default=False,
    ),
]
Download = Annotated[bool, typer.Option("--download", help="Fetch files that are missing under --data-root.")]


def check_device(device: str) -> torch.device:
    """The device of this name.

    **Raises** `ConfigError` where it is unknown or not there.

    >>> check_device("cpu")
    device(type='cpu')
    """
    try:
        return available_device(device)
    except CircuitError as error:
        raise ConfigError(f"--device {device}: {error}") from error
