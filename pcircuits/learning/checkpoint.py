"""Checkpoints: everything a run needs to go on as if it had never stopped, in one file without code in it."""

from __future__ import annotations

import io
import pickle
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pcircuits.files import write_whole
from pcircuits.learning.batches import tensors_of
from pcircuits.learning.errors import CheckpointError
from pcircuits.learning.history import EpochRecord
from pcircuits.learning.settings import AbstractSettings
from pcircuits.learning.structure import structures

__all__ = ["Checkpoint", "identify", "load_checkpoint", "require_same_run", "save_checkpoint"]

FORMAT = 1

Identity = Mapping[str, Mapping[str, str]]
"""What must agree for a run to be resumed: settings, architecture and data, each a name-to-text map."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after its last whole epoch.

    There is no state of generators and no scheduler: what is random in an epoch follows from the seed and the
    epoch's number, and the learning rate from the step's.
    """

    identity: Identity
    module: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    best: Mapping[str, Any]
    records: tuple[EpochRecord, ...]


def identify(
    settings: AbstractSettings,
    module: nn.Module,
    train: Tensor | tuple[Tensor, ...],
    validation: Tensor | tuple[Tensor, ...] | None,
) -> Identity:
    """What tells this run from others.

    These are the settings; the module's type, shapes, frozen parameters and the structures of the circuits in it; and
    checksums of the data.
    """
    return {
        "settings": {name: repr(value) for name, value in _fields(settings).items()},
        "architecture": {"type": type(module).__qualname__}
        | {name: _describe(value) for name, value in module.state_dict().items()}
        | {f"{name} is frozen": "" for name, value in module.named_parameters() if not value.requires_grad}
        | structures(module),
        "training data": {str(i): _checksum(tensor) for i, tensor in enumerate(tensors_of(train))},
        "validation data": {}
        if validation is None
        else {str(i): _checksum(tensor) for i, tensor in enumerate(tensors_of(validation))},
    }


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `path`, whole or not at all."""
    content = {
        "format": FORMAT,
        "identity": {name: dict(part) for name, part in checkpoint.identity.items()},
        "module": checkpoint.module,
        "optimizer": checkpoint.optimizer,
        "best": checkpoint.best,
        "records": [asdict(record) for record in checkpoint.records],
    }
    whole = io.BytesIO()
    torch.save(content, whole)  # not into the file: of a full disk torch only says that a position is unexpected
    write_whole(path, lambda file: file.write(whole.getbuffer()))


def _fields(settings: AbstractSettings) -> Mapping[str, object]:
    return {field.name: getattr(settings, field.name) for field in fields(settings)}  # type: ignore[arg-type]


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; only tensors and plain values are accepted, never code.

    **Raises** `CheckpointError`: the file is not a whole checkpoint of this version.
    """
    file = io.BytesIO(path.read_bytes())
    try:
        _check_sums(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
        version = content["format"]
    except _READING_ERRORS as error:
        raise _broken(path, error) from error
    if version != FORMAT:
        raise CheckpointError(
            f"{path} has format {version!r}, and this version reads {FORMAT}; "
            "train in another folder, or resume with the version that wrote it."
        )
    try:
        return Checkpoint(
            identity=content["identity"],
            module=content["module"],
            optimizer=content["optimizer"],
            best=content["best"],
            records=tuple(EpochRecord(**record) for record in content["records"]),
        )
    except _READING_ERRORS as error:
        raise _broken(path, error) from error


# What torch.load meets a broken file with.
_READING_ERRORS = (
    *(RuntimeError, OSError, ValueError, LookupError, TypeError, AttributeError, EOFError),
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


def _check_sums(file: io.BytesIO) -> None:
    """Raise unless every part agrees with its checksum; `torch.save` writes them, but `torch.load` does not look."""
    altered = zipfile.ZipFile(file).testzip()
    if altered is not None:
        raise zipfile.BadZipFile(f"{altered} was altered")
    file.seek(0)


def _broken(path: Path, error: Exception) -> CheckpointError:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return CheckpointError(f"{path} is not a whole checkpoint ({reason}); delete it to start the training again.")


def require_same_run(path: Path, checkpoint: Checkpoint, identity: Identity) -> None:
    """Raise `CheckpointError` with the first differences if the checkpoint belongs to another run.

    A run of more epochs is the same one, gone on with. One of fewer is not: its learning rates would have been others,
    and the weights after its last epoch may be gone.
    """
    for part, ours in identity.items():
        theirs = checkpoint.identity[part]
        if part == "settings":
            ours, theirs = _without_epochs(path, ours, theirs)
        names = [name for name in dict.fromkeys([*ours, *theirs]) if ours.get(name) != theirs.get(name)]
        if not names and part == "architecture" and list(ours) != list(theirs):
            # The state of the optimiser is by position.
            first = next((there, here) for there, here in zip(theirs, ours, strict=True) if there != here)
            raise CheckpointError(
                f"The checkpoint {path} was made by a module whose parameters come in another order ({first[0]} there where "
                f"{first[1]} is here); choose another folder, or delete it to start again."
            )
        if names:
            differences = "; ".join(
                f"{name}: {theirs.get(name, 'absent')} there, {ours.get(name, 'absent')} here" for name in names[:3]
            )
            raise CheckpointError(
                f"The checkpoint {path} was made with other {part} ({differences}); "
                "choose another folder, or delete it to start again."
            )


def _without_epochs(
    path: Path, ours: Mapping[str, str], theirs: Mapping[str, str]
) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Both settings apart from the number of epochs, of which there must be as many as before, or more."""
    before, now = theirs.get("epochs", ""), ours["epochs"]
    if before.isdecimal() and int(now) < int(before):
        raise CheckpointError(
            f"The checkpoint {path} is of a run of {before} epochs, and {now} are asked for, which are fewer: ask for at "
            f"least {before}, or choose another folder."
        )
    return tuple({n: v for n, v in settings.items() if n != "epochs"} for settings in (ours, theirs))  # type: ignore[return-value]


def _describe(value: object) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _checksum(tensor: Tensor) -> str:
    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return f"{_describe(tensor)} crc32 {zlib.crc32(content.data):08x}"
