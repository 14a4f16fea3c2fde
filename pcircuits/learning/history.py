"""What a run of training has seen, epoch by epoch, and its table in a CSV file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pcircuits.files import write_whole
from pcircuits.learning.errors import TrainingError

__all__ = ["EpochRecord", "History", "best_epoch", "write_csv"]


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: losses and metrics are means over rows, `learning_rate` is that of its last step.

    `epoch` counts from 1. The training loss is the mean while the weights move; the validation loss follows it, and is
    NaN where there is no validation data.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    learning_rate: float
    seconds: float
    train_metrics: Mapping[str, float] = field(default_factory=dict)
    validation_metrics: Mapping[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """The columns of the CSV file: metrics bear the prefix `train_` or `validation_`."""
        row = asdict(self)
        train, validation = row.pop("train_metrics"), row.pop("validation_metrics")
        return (
            row
            | {f"train_{name}": value for name, value in train.items()}
            | {f"validation_{name}": value for name, value in validation.items()}
        )


@dataclass(frozen=True)
class History:
    """The epochs of a run and whether it stopped before the last one.

    **Example**

    >>> losses = [3.0, 1.0, 2.0]
    >>> history = History(tuple(EpochRecord(i + 1, x, x, 0.1, 0.0) for i, x in enumerate(losses)), False)
    >>> history.best.epoch, history.best.validation_loss
    (2, 1.0)
    """

    epochs: tuple[EpochRecord, ...]
    stopped_early: bool

    @property
    def best(self) -> EpochRecord:
        """The epoch whose weights the module has: the first with the lowest validation loss, or the last without any.

        **Raises** `TrainingError` where there were none, because there was nothing to train.
        """
        if not self.epochs:
            raise TrainingError("there is no best epoch: nothing was trained")
        return self.epochs[best_epoch(self.epochs) - 1]


def best_epoch(records: Sequence[EpochRecord]) -> int:
    """The number of the first epoch with the lowest validation loss; of the last one where there are none."""
    if math.isnan(records[-1].validation_loss):
        return records[-1].epoch
    return min(records, key=lambda record: record.validation_loss).epoch


def write_csv(path: Path, records: Sequence[EpochRecord]) -> None:
    """Write one row per epoch, whole or not at all; numbers keep all of their digits."""
    rows = [record.row() for record in records]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, lambda file: file.write(text.getvalue().encode()))
