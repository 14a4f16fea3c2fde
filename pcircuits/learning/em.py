"""Expectation-maximisation: parameters from expected counts, without gradients or learning rates."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcircuits.learning.averaging import Memory
from pcircuits.learning.distributed import add_up, share_of
from pcircuits.learning.errors import TrainingError
from pcircuits.learning.history import EpochRecord, History
from pcircuits.learning.learner import Metrics
from pcircuits.learning.loop import carried_out
from pcircuits.learning.m_step import maximise, require_updates
from pcircuits.learning.rows import Rows
from pcircuits.learning.run import AbstractRun
from pcircuits.learning.settings import EMSettings
from pcircuits.memory import naming_the_bound
from pcircuits.program.counts import Counts, Tally, expected_counts, prior_counts
from pcircuits.queries.compiled import CompiledCircuit

__all__ = ["EMRun", "em"]

Batch = tuple[Tensor, ...]
"""Data (B, D), NaN where missing, and weights, roots, and numbers of rows, (B,) each."""

NAMED = 10
"""How many impossible rows are named."""


def em(
    model: CompiledCircuit,
    train: Any,
    validation: Any = None,
    *,
    settings: EMSettings | None = None,
    folder: str | Path | None = None,
    progress: bool = False,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> History:
    """Train a circuit by expectation-maximisation and give it the weights of its best validation loss.

    The E-step reads expected counts off one upward and one reverse pass: for the weight w_oi of a sum

    n_oi = Σ_b ∂ log p(x_b) / ∂ log w_oi,

    and for an input unit u with sufficient statistics T, Σ_b flow_u(x_b) T(x_b) over the rows that observe it. The
    M-step gives each parameter its most likely value for these counts, in closed form (for discretised families, and
    where units share some of their parameters, by a search over the counts alone). On all rows at once this never lowers
    the likelihood; on batches, `settings.averaging` mixes counts.

    Folders, checkpoints, going on, early stopping, progress and seeds are those of `fit`. Under `torchrun`, each process
    takes its share of the rows of every batch.

    **Arguments**

    - `model`: a compiled circuit whose sums have weights that add up to 1. Parameters without `requires_grad` keep their
      values.
    - `train`: data (B, D) in any form that evidence has, missing values included; or `Rows`, with weights of rows, or
      roots for a circuit that has a root for each class. Rows of probability zero are named in a warning and count
      nothing.
    - `validation`: likewise; it decides which weights are kept and when to stop. Without it the weights of the last epoch
      are kept.
    - `settings`: `EMSettings`, with defaults for all.
    - `folder`, `progress`, `on_epoch`: as in `fit`.

    **Raises** `TrainingError` for data that does not fit, and for what EM has no update for, by name: parameters made by
    a source, weights that do not add up to 1. `EvidenceError` for values outside every support. `CheckpointError` where
    the folder's checkpoint is broken or belongs to another run.

    **Source**: Peharz, Gens, Pernkopf and Domingos 2017, *On the Latent Variable Interpretation in Sum-Product Networks*,
    section 5; Darwiche 2003, *A differential approach to inference in Bayesian networks*.

    **Example**

    Two coins, thrown three times each; the circuit is told neither which coin was thrown nor how they are loaded.

    >>> import pcircuits as pc
    >>> from pcircuits.learning import EMSettings, em
    >>> start = torch.tensor([[0.4, 0.6]]).double()
    >>> coins = pc.Bernoulli("a", start) * pc.Bernoulli("b", start) * pc.Bernoulli("c", start)
    >>> model = pc.normalise(pc.Circuit(coins.sum([[0.5, 0.5]]))).compile(dtype=torch.float64)
    >>> throws = torch.tensor([[1.0, 1, 1]] * 3 + [[0.0, 0, 0]] * 1)
    >>> history = em(model, throws, settings=EMSettings(epochs=50, pseudocount=0.0))
    >>> round(model.log_prob(throws).exp()[0].item(), 3)
    0.75
    """
    settings = EMSettings() if settings is None else settings
    if not isinstance(settings, EMSettings):
        raise TrainingError(
            f"settings are an EMSettings, not {type(settings).__name__}: EMSettings(epochs=...) makes them."
        )
    if not isinstance(model, CompiledCircuit):
        raise TrainingError(
            f"em trains a compiled circuit, not {type(model).__name__}: circuit.compile() makes one; "
            "pcircuits.learning.fit trains any module."
        )
    device = settings.torch_device()
    model.to(device)
    rows = Rows.tensors(model, train, "training")
    checked = None if validation is None else Rows.tensors(model, validation, "validation")
    if not any(p.requires_grad for p in model.parameters()):
        model.eval()
        return History((), stopped_early=False)
    run = EMRun(model, rows, checked, settings, device)
    return carried_out(run, folder, progress, on_epoch)


class EMRun(AbstractRun[Batch]):
    """Training by expected counts."""

    settings: EMSettings
    module: CompiledCircuit

    def __init__(
        self,
        module: CompiledCircuit,
        train: Batch,
        validation: Batch | None,
        settings: EMSettings,
        device: torch.device,
    ) -> None:
        super().__init__(module, self._loss, train, validation, settings, device)
        self.kept = Memory()
        x, weights, roots, _ = train
        self.tally = Tally(module.program, _means(x))
        require_updates(module.program, self.tally)
        self.whole = float(weights.sum())
        self.shares = torch.bincount(roots, weights.double(), minlength=module.circuit.num_roots) / max(
            self.whole, 1e-300
        )
        self.named: set[int] = set()

    def rate(self, step: int) -> float:
        return 1.0 if self._all_at_once else self.settings.averaging.rate(step, self.steps)

    def memory(self) -> Mapping[str, Any]:
        return self.kept.state()

    def restore(self, memory: Mapping[str, Any]) -> None:
        self.kept.load(memory)

    @property
    def _all_at_once(self) -> bool:
        return self.steps_per_epoch == 1

    def step(self, batch: Batch, step: int) -> float:
        """One E-step on a batch, and one M-step; the mean of -log p(x) before it."""
        with torch.no_grad(), naming_the_bound("em", self.module.program.memory):
            counts, total = self._counted(share_of(batch))
            add_up([*counts.tensors.values(), total])
            rows, loss = total.tolist()
            if rows > 0:
                counts.times(1 / rows)
                if not self._all_at_once:
                    counts = self.settings.averaging.next(self.kept, counts, step, self.steps, self._prior).copy()
                maximise(self.tally, counts.times(self.whole), self.settings.pseudocount, self.settings.minimum_scale)
        mean = self.finite(torch.tensor(loss / rows if rows else torch.nan), "training loss", step)
        self._means.add(mean, {}, max(1, round(rows)))
        return mean

    def _counted(self, batch: Batch) -> tuple[Counts, Tensor]:
        """The counts of rows, and Σ w and -Σ w log p over those that are possible."""
        x, weights, roots, numbers = batch
        observed = ~x.isnan()
        counts, logs = expected_counts(self.tally, x.nan_to_num(0.0), observed, weights, roots)
        possible = logs > -torch.inf
        if not bool(possible.all()):
            self._name(numbers[~possible].tolist())
        wide = torch.where(possible, weights.double(), 0.0)
        return counts, torch.stack([wide.sum(), -(wide * torch.where(possible, logs, 0.0)).sum()])

    def _name(self, rows: list[int]) -> None:
        """Warn of rows that are impossible, once each."""
        new = sorted(set(rows) - self.named)
        self.named.update(new)
        if new:
            shown = ", ".join(map(str, new[:NAMED])) + (", ..." if len(new) > NAMED else "")
            warnings.warn(
                f"em: row{'s' if len(new) > 1 else ''} {shown} of the training data ({len(new)} in all) "
                f"{'have' if len(new) > 1 else 'has'} probability zero and {'count' if len(new) > 1 else 'counts'} nothing: "
                "a pseudocount keeps what was not seen possible",
                UserWarning,
                stacklevel=2,
            )

    def _prior(self) -> Counts:
        return prior_counts(self.tally, self.shares)

    def _loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """The mean of -log p of validation rows: infinite where one of them is impossible."""
        x, weights, roots, _ = batch
        model = self.module if self.module.circuit.num_roots == 1 else self.module.root(roots)
        losses = torch.where(weights > 0, -model.log_prob(x).double() * weights, 0.0)
        return losses.sum() / weights.double().sum(), {}

    def finite(self, value: Tensor, what: str, step: int) -> float:
        """As for all runs; a validation loss may be infinite, where a row of it is impossible as yet."""
        if what == "validation loss" and bool(value == torch.inf):
            return math.inf
        return super().finite(value, what, step)


def _means(x: Tensor) -> Tensor:
    """The mean of what is observed of each column, (D,); 0 where nothing is."""
    return x.double().nanmean(0).nan_to_num(0.0)
