"""One run of training: its steps, its validation, and the state that a checkpoint holds."""

from __future__ import annotations

import copy
import math
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Generic

import torch
from torch import Tensor, nn

from pcircuits.learning.batches import DataT, count_rows, ordered_batches
from pcircuits.learning.checkpoint import Checkpoint, Identity
from pcircuits.learning.errors import CheckpointError, DivergenceError, TrainingError
from pcircuits.learning.history import EpochRecord, History, best_epoch
from pcircuits.learning.learner import Metrics, Objective
from pcircuits.learning.randomness import derive_seed, seed_generators
from pcircuits.learning.schedule import learning_rate_at
from pcircuits.learning.settings import FitSettings

__all__ = ["Run"]


class RowMean:
    """Means over rows of values that are means over batches."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._rows: dict[str, int] = defaultdict(int)

    def add(self, loss: float, metrics: Metrics, rows: int) -> None:
        for name, value in {**metrics, "loss": loss}.items():
            self._sums[name] += _number(value) * rows
            self._rows[name] += rows

    def loss_and_metrics(self) -> tuple[float, dict[str, float]]:
        means = {name: total / self._rows[name] for name, total in self._sums.items()}
        return means.pop("loss"), means


def _number(value: float | Tensor) -> float:
    return float(value.detach() if isinstance(value, Tensor) else value)


class Run(Generic[DataT]):
    """A module under training.

    Everything random in epoch e follows from the seed and e: the global generators are seeded anew for each epoch, and
    alike for every validation, so that validation losses differ by the weights alone. To be used inside
    `forked_generators`.
    """

    def __init__(
        self,
        module: nn.Module,
        objective: Objective[DataT],
        train: DataT,
        validation: DataT | None,
        settings: FitSettings,
        device: torch.device,
    ) -> None:
        self.module = module
        self.objective: Objective[DataT] = objective
        self.train: DataT = train
        self.validation: DataT | None = validation
        self.settings = settings
        self.device = device
        self.records: list[EpochRecord] = []
        self.best: Mapping[str, Any] = {}
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(count_rows(self.train) / self.settings.batch_size)

    @property
    def stopped_early(self) -> bool:
        patience = self.settings.patience
        return (
            patience is not None
            and 0 < len(self.records) < self.settings.epochs
            and len(self.records) - best_epoch(self.records) >= patience
        )

    @property
    def finished(self) -> bool:
        return len(self.records) >= self.settings.epochs or self.stopped_early

    def start_epoch(self, epoch: int) -> None:
        """Seed the epoch and set the module to training; `epoch` counts from 1."""
        self.module.train()
        self._means, self._started = RowMean(), time.perf_counter()
        seed_generators(derive_seed(self.settings.seed, "epoch", epoch), self.device)

    def step(self, batch: DataT, step: int) -> float:
        """One step of the optimiser, `step` counting from 0 over the whole run; the loss before it.

        **Raises** `DivergenceError` where the loss or the norm of its gradient is NaN or infinite; the weights are as
        they were.
        """
        self._set_learning_rate(learning_rate_at(step, self.settings.epochs * self.steps_per_epoch, self.settings))
        loss, metrics = self.objective(batch)
        value = self._finite(loss, "training loss", step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.settings.clip is not None:
            norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
            self._finite(norm, "norm of the gradient", step)
        self.optimizer.step()
        self._means.add(value, metrics, count_rows(batch))
        return value

    def end_epoch(self) -> EpochRecord:
        """Validate, remember the weights if they are the best so far, and record the epoch."""
        loss, metrics = self._means.loss_and_metrics()
        validation_loss, validation_metrics = self._validate()
        record = EpochRecord(
            epoch=len(self.records) + 1,
            train_loss=loss,
            validation_loss=validation_loss,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            seconds=time.perf_counter() - self._started,
            train_metrics=metrics,
            validation_metrics=validation_metrics,
        )
        self.records.append(record)
        if self.validation is not None and best_epoch(self.records) == record.epoch:
            self.best = copy.deepcopy(self.module.state_dict())
        return record

    def checkpoint(self, identity: Identity) -> Checkpoint:
        """The state after the last whole epoch."""
        return Checkpoint(
            identity=identity,
            module=self.module.state_dict(),
            optimizer=self.optimizer.state_dict(),
            best=self.best,
            records=tuple(self.records),
        )

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go back to the state of `checkpoint`.

        **Raises** `CheckpointError` where the module or the optimiser does not take it.
        """
        try:
            self.module.load_state_dict(checkpoint.module, strict=True)
            self.optimizer.load_state_dict(dict(checkpoint.optimizer))
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{type(self.module).__name__} cannot take the state of the checkpoint ({' '.join(str(error).split())}): "
                "choose another folder, or delete the checkpoint to start again."
            ) from error
        self.best, self.records = checkpoint.best, list(checkpoint.records)

    def finish(self) -> History:
        """Give the module its best weights, ready for use: in evaluation mode and without gradients."""
        if self.validation is not None:
            self.module.load_state_dict(self.best)
        self.module.eval()
        self.optimizer.zero_grad(set_to_none=True)
        return History(tuple(self.records), self.stopped_early)

    @torch.no_grad()
    def _validate(self) -> tuple[float, dict[str, float]]:
        if self.validation is None:
            return math.nan, {}
        self.module.eval()
        seed_generators(derive_seed(self.settings.seed, "validation"), self.device)
        means = RowMean()
        for batch in ordered_batches(self.validation, self.settings.batch_size, device=self.device):
            loss, metrics = self.objective(batch)
            last_step = (len(self.records) + 1) * self.steps_per_epoch - 1
            means.add(self._finite(loss, "validation loss", last_step), metrics, count_rows(batch))
        return means.loss_and_metrics()

    def _set_learning_rate(self, learning_rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate

    def _finite(self, value: Tensor, what: str, step: int) -> float:
        if value.numel() != 1:
            raise TrainingError(f"The {what} has shape {tuple(value.shape)}; it must be one number, a mean over rows.")
        number = _number(value)
        if not math.isfinite(number):
            epoch, within = divmod(step, self.steps_per_epoch)
            clip = "set clip" if self.settings.clip is None else f"lower clip (now {self.settings.clip:g})"
            raise DivergenceError(
                f"The {what} is {number} in epoch {epoch + 1}, step {within + 1} of {self.steps_per_epoch}: lower "
                f"learning_rate (now {self.settings.learning_rate:g}) or {clip}, or check that the data holds no NaN "
                "and no row that the module gives probability zero."
            )
        return number
