"""One run of training: its steps, its validation, and the state that a checkpoint holds."""

from __future__ import annotations

import copy
import math
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Generic

import torch
from torch import Tensor, nn

from pcircuits.learning.batches import DataT, count_rows, ordered_batches
from pcircuits.learning.checkpoint import Checkpoint, Identity
from pcircuits.learning.distributed import add_up, share_of
from pcircuits.learning.errors import CheckpointError, DivergenceError, TrainingError
from pcircuits.learning.history import EpochRecord, History, best_epoch
from pcircuits.learning.learner import Metrics, Objective
from pcircuits.learning.randomness import derive_seed, seed_generators
from pcircuits.learning.schedule import learning_rate_at
from pcircuits.learning.settings import AbstractSettings, FitSettings

__all__ = ["AbstractRun", "RowMean", "Run"]


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


class AbstractRun(ABC, Generic[DataT]):
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
        settings: AbstractSettings,
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

    @abstractmethod
    def step(self, batch: DataT, step: int) -> float:
        """One step of training, `step` counting from 0 over the whole run; the loss before it."""

    @abstractmethod
    def rate(self, step: int) -> float:
        """How large step `step` is: a learning rate, or the share that new counts have."""

    @abstractmethod
    def memory(self) -> Mapping[str, Any]:
        """What the method remembers beside the module's weights."""

    @abstractmethod
    def restore(self, memory: Mapping[str, Any]) -> None:
        """Go back to a `memory`; `RuntimeError`, `ValueError`, `KeyError` or `TypeError` where it is of something else."""

    @property
    def batch_size(self) -> int:
        """Rows of data in a step."""
        size = self.settings.batch_size
        return count_rows(self.train) if size is None else size

    @property
    def steps(self) -> int:
        """The steps of the whole run."""
        return self.settings.epochs * self.steps_per_epoch

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(count_rows(self.train) / self.batch_size)

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

    def end_epoch(self) -> EpochRecord:
        """Validate, remember the weights if they are the best so far, and record the epoch."""
        loss, metrics = self._means.loss_and_metrics()
        validation_loss, validation_metrics = self._validate()
        record = EpochRecord(
            epoch=len(self.records) + 1,
            train_loss=loss,
            validation_loss=validation_loss,
            learning_rate=self.rate((len(self.records) + 1) * self.steps_per_epoch - 1),
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
            optimizer=self.memory(),
            best=self.best,
            records=tuple(self.records),
        )

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go back to the state of `checkpoint`.

        **Raises** `CheckpointError` where the module or the optimiser does not take it.
        """
        try:
            self.module.load_state_dict(checkpoint.module, strict=True)
            self.restore(checkpoint.optimizer)
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
        self.module.zero_grad(set_to_none=True)
        return History(tuple(self.records), self.stopped_early)

    @torch.no_grad()
    def _validate(self) -> tuple[float, dict[str, float]]:
        if self.validation is None:
            return math.nan, {}
        self.module.eval()
        seed_generators(derive_seed(self.settings.seed, "validation"), self.device)
        means = RowMean()
        for batch in ordered_batches(self.validation, self.batch_size, device=self.device):
            loss, metrics = self.objective(batch)
            last_step = (len(self.records) + 1) * self.steps_per_epoch - 1
            means.add(self.finite(loss, "validation loss", last_step), metrics, count_rows(batch))
        return means.loss_and_metrics()

    def finite(self, value: Tensor, what: str, step: int) -> float:
        """A number that a loss must be.

        **Raises** `TrainingError` where it is several, `DivergenceError` where it is NaN or infinite.
        """
        if value.numel() != 1:
            raise TrainingError(f"The {what} has shape {tuple(value.shape)}; it must be one number, a mean over rows.")
        number = _number(value)
        if not math.isfinite(number):
            epoch, within = divmod(step, self.steps_per_epoch)
            raise DivergenceError(
                f"The {what} is {number} in epoch {epoch + 1}, step {within + 1} of {self.steps_per_epoch}: "
                f"{self.remedy}, or check that the data holds no NaN and no row that the module gives probability zero."
            )
        return number

    @property
    def remedy(self) -> str:
        """What to do where a loss is no number."""
        return "lower the step size"


class Run(AbstractRun[DataT]):
    """Training by AdamW."""

    settings: FitSettings

    def __init__(
        self,
        module: nn.Module,
        objective: Objective[DataT],
        train: DataT,
        validation: DataT | None,
        settings: FitSettings,
        device: torch.device,
    ) -> None:
        # mypy checks this body once for each form of data, and the call below for none of them
        super().__init__(module, objective, train, validation, settings, device)  # type: ignore[arg-type]
        self.names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

    def rate(self, step: int) -> float:
        return learning_rate_at(step, self.steps, self.settings)

    def memory(self) -> Mapping[str, Any]:
        return self.optimizer.state_dict()

    def restore(self, memory: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(dict(memory))

    def step(self, batch: DataT, step: int) -> float:
        """One step of the optimiser; the loss before it.

        **Raises** `DivergenceError` where the loss or a gradient is NaN or infinite; the weights are as they were.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step)
        self.optimizer.zero_grad(set_to_none=True)
        value, metrics = self._loss_and_gradients(batch, step)
        norm = self._clipped_norm()
        if not math.isfinite(float(norm)):
            self.finite(norm, f"norm of the gradient{self._at_fault()}", step)
        self.optimizer.step()
        self._means.add(value, metrics, count_rows(batch))
        return value

    def _loss_and_gradients(self, batch: DataT, step: int) -> tuple[float, Metrics]:
        """The loss of a batch; gradients are left in the parameters. Processes take their share of the rows each."""
        own = share_of(batch)
        part = count_rows(own) / count_rows(batch)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        metrics: Metrics = {}
        if part:
            loss, metrics = self.objective(own)
            self.finite(loss, "training loss", step)
            (loss if part == 1 else part * loss).backward()  # type: ignore[no-untyped-call]
            total = total + part * loss.detach().double()
        if part < 1:
            for parameter in self.parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            add_up([total, *(p.grad for p in self.parameters if p.grad is not None)])
        return self.finite(total, "training loss", step), metrics

    def _clipped_norm(self) -> Tensor:
        """The norm of the gradient over all parameters, before it is clipped where it is to be."""
        if self.settings.clip is not None:
            return nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        return nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])

    def _at_fault(self) -> str:
        """The names of the parameters whose gradient is no number."""
        named = zip(self.names, self.parameters, strict=True)
        bad = [name for name, p in named if p.grad is not None and not bool(p.grad.isfinite().all())]
        return f" (of {', '.join(bad[:3])}{', ...' if len(bad) > 3 else ''})" if bad else ""

    @property
    def remedy(self) -> str:
        clip = "set clip" if self.settings.clip is None else f"lower clip (now {self.settings.clip:g})"
        return f"lower learning_rate (now {self.settings.learning_rate:g}) or {clip}"
