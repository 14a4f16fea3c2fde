"""The one training loop: circuits, VQ models and priors are all fitted by it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor, nn

from pcircuits.files import make_folder
from pcircuits.learning.batches import DataT, check_data, shuffled_batches
from pcircuits.learning.checkpoint import Identity, identify, load_checkpoint, require_same_run, save_checkpoint
from pcircuits.learning.distributed import is_first, wait_for_all
from pcircuits.learning.errors import TrainingError
from pcircuits.learning.history import EpochRecord, History, write_csv
from pcircuits.learning.learner import Metrics, Preparable, objective_of, prepare
from pcircuits.learning.randomness import forked_generators
from pcircuits.learning.run import AbstractRun, Run
from pcircuits.learning.settings import FitSettings

if TYPE_CHECKING:
    from ignite.engine import Engine
    from ignite.handlers import ProgressBar

__all__ = ["CHECKPOINT_NAME", "LOG_NAME", "carried_out", "fit"]

CHECKPOINT_NAME = "checkpoint.pt"
LOG_NAME = "training.csv"

ModuleT = TypeVar("ModuleT", bound=nn.Module)

_logger = logging.getLogger("pcircuits.learning")
_logger.addHandler(logging.NullHandler())


def fit(
    module: ModuleT,
    train: DataT,
    validation: DataT | None = None,
    *,
    settings: FitSettings | None = None,
    loss: Callable[[ModuleT, DataT], tuple[Tensor, Metrics]] | None = None,
    folder: str | Path | None = None,
    progress: bool = False,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> History:
    """Train a module by AdamW on shuffled batches and give it the weights of its best validation loss.

    The loss is `loss(module, batch)`, or the module's own `loss(batch)` (a `Learner`), or the mean of -log p(x_b) over
    the batch for a module with `log_prob`, such as a compiled circuit. The result depends on the module, the data and
    the settings alone (bit by bit on a CPU); torch's global generators are left as they were. The module ends on
    `settings.device`, in evaluation mode.

    With a `folder`, each epoch ends with a checkpoint there (`checkpoint.pt`) and a table of all epochs
    (`training.csv`), both whole at any time. The same call after a kill goes on from the checkpoint and ends as if
    nothing had happened; after a finished run it only loads the weights. The checkpoint's weights take the place of those
    that the module comes with. One process at a time trains in a folder.

    The same call with more epochs goes on from the checkpoint for as many as are missing. The learning rates of these
    are those of the longer run; where it is constant (no `warmup`, `final_fraction` 1), the result is that of a run of so
    many epochs from the start. Fewer epochs than before are refused.

    A `Preparable` module first initialises itself from the training data. One without trainable parameters, such as a
    table of counts, is then done: it has an empty history and no checkpoint.

    **Arguments**

    - `module`: what is trained; its memory is its `state_dict`.
    - `train`: a tensor, or a tuple of tensors with as many rows each; a batch has the same form.
    - `validation`: likewise; it decides which weights are kept and when to stop. Without it, nothing tells when the
      module begins to learn its training data by heart: the weights of the last epoch are kept, all epochs are run, and
      validation losses are NaN.
    - `settings`: `FitSettings`, with defaults for all.
    - `loss`: from the module and a batch to the loss and a dict of metrics, both means over rows.
    - `folder`: where the checkpoint and the table go, made if absent; None keeps nothing.
    - `progress`: show a bar for each epoch.
    - `on_epoch`: called with each epoch's record, once its checkpoint is written.

    **Raises** `TrainingError` where there is no loss, no data, nothing to train or no such device; `DivergenceError`
    where a loss turns NaN or infinite; `CheckpointError` where the folder's checkpoint is broken or belongs to another
    run; `ImportError` without the extra `learn`.

    **Example**

    >>> import torch
    >>> x = torch.linspace(0, 1, 20)[:, None]
    >>> line = nn.Linear(1, 1, bias=False)
    >>> def squares(module, batch):
    ...     return (module(batch) - 3 * batch).square().mean(), {}
    >>> history = fit(line, x, x, loss=squares, settings=FitSettings(epochs=100, batch_size=5, learning_rate=0.05))
    >>> round(line(torch.ones(1, 1)).item(), 1)
    3.0
    """
    settings = FitSettings() if settings is None else settings
    if not isinstance(settings, FitSettings):
        raise TrainingError(
            f"settings are a FitSettings, not {type(settings).__name__}: FitSettings(epochs=...) makes them."
        )
    objective = objective_of(module, loss)
    check_data(train, "training")
    if validation is not None:
        check_data(validation, "validation")
    elif settings.patience is not None:
        raise TrainingError(
            f"FitSettings: patience is {settings.patience}, and without validation data nothing says when to stop: give "
            "some, or leave patience out."
        )
    device = settings.torch_device()
    module.to(device)
    if not _trainable(module):
        with forked_generators(device):
            prepare(module, train, settings.seed, device)
        module.eval()
        return History((), stopped_early=False)
    return carried_out(Run(module, objective, train, validation, settings, device), folder, progress, on_epoch)


def carried_out(
    run: AbstractRun[Any],
    folder: str | Path | None,
    progress: bool,
    on_epoch: Callable[[EpochRecord], None] | None,
) -> History:
    """Begin a run, or go on with the one in the folder, and bring it to its end."""
    _require_ignite()
    with forked_generators(run.device):
        identity = {} if folder is None else identify(run.settings, run.module, run.train, run.validation)
        if not _resumed(run, folder, identity):
            prepare(run.module, run.train, run.settings.seed, run.device)
        if not run.finished:
            _train(run, folder=folder, identity=identity, progress=progress and is_first(), on_epoch=on_epoch)
        return run.finish()


def _trainable(module: nn.Module) -> bool:
    """Whether there are parameters to train; raise if there is nothing that could learn."""
    if any(parameter.requires_grad for parameter in module.parameters()):
        return True
    if not isinstance(module, Preparable):
        raise TrainingError(
            f"{type(module).__name__} has no parameter that requires a gradient, so there is nothing to train: "
            "make some trainable (requires_grad_()), or use the module as it is."
        )
    return False


def _require_ignite() -> None:
    try:
        import ignite.engine
        import ignite.handlers  # noqa: F401
        import tqdm  # noqa: F401
    except ImportError as error:
        raise ImportError('Training needs pytorch-ignite and tqdm: pip install "pcircuits[learn]".') from error


def _resumed(run: AbstractRun[Any], folder: str | Path | None, identity: Identity) -> bool:
    """Make the folder, and resume `run` from the checkpoint in it; False where there is none."""
    if folder is None:
        return False
    make_folder(Path(folder))
    path = Path(folder) / CHECKPOINT_NAME
    if not path.exists():
        return False
    checkpoint = load_checkpoint(path)
    require_same_run(path, checkpoint, identity)
    run.resume(checkpoint)
    if is_first():  # the kill may have come between the checkpoint and the table
        write_csv(Path(folder) / LOG_NAME, run.records)
    return True


def _train(
    run: AbstractRun[Any],
    *,
    folder: str | Path | None,
    identity: Identity,
    progress: bool,
    on_epoch: Callable[[EpochRecord], None] | None,
) -> None:
    """Run the epochs that are left."""
    from ignite.engine import Engine, Events

    trainer = Engine(lambda engine, batch: run.step(batch, engine.state.iteration - 1))
    trainer.logger = _logger

    @trainer.on(Events.EPOCH_STARTED)
    def start(engine: Engine) -> None:
        run.start_epoch(engine.state.epoch)

    @trainer.on(Events.EPOCH_COMPLETED)
    def end(engine: Engine) -> None:
        record = run.end_epoch()
        if folder is not None and is_first():
            save_checkpoint(Path(folder) / CHECKPOINT_NAME, run.checkpoint(identity))
            write_csv(Path(folder) / LOG_NAME, run.records)
        wait_for_all()
        if on_epoch is not None:
            on_epoch(record)
        if run.finished:
            engine.terminate()

    bar = _attach_bar(trainer, run) if progress else None
    try:
        _run_engine(trainer, run)
    finally:
        if bar is not None and bar.pbar is not None:
            bar.pbar.close()


def _attach_bar(trainer: Engine, run: AbstractRun[Any]) -> ProgressBar:
    from ignite.handlers import ProgressBar

    def shown(loss: float) -> dict[str, float]:
        validated = run.records and run.validation is not None
        return {"loss": loss} | ({"validation": run.records[-1].validation_loss} if validated else {})

    bar = ProgressBar()
    bar.attach(trainer, output_transform=shown)
    return bar


def _run_engine(trainer: Engine, run: AbstractRun[Any]) -> None:
    settings, done = run.settings, len(run.records)
    batches = shuffled_batches(run.train, run.batch_size, seed=settings.seed, first_epoch=done + 1, device=run.device)
    if done:
        position = {"epoch": done, "epoch_length": run.steps_per_epoch, "max_epochs": settings.epochs}
        trainer.load_state_dict(position)
    trainer.run(batches, max_epochs=settings.epochs, epoch_length=run.steps_per_epoch)
