"""What the training loop asks of a module: a loss of a batch, or else a log-probability."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from pcircuits.learning.batches import DataT, map_tensors
from pcircuits.learning.errors import TrainingError
from pcircuits.learning.randomness import derive_seed, seed_generators

__all__ = ["Learner", "Metrics", "Objective", "Preparable", "negative_log_likelihood", "objective_of", "prepare"]

Metrics = Mapping[str, float | Tensor]
"""What is reported beside the loss: name to a number or a tensor of one element, a mean over the batch."""

Objective = Callable[[DataT], tuple[Tensor, Metrics]]
"""From a batch to its loss, a mean over the rows, and its metrics."""

ModuleT = TypeVar("ModuleT", bound=nn.Module)
BatchT = TypeVar("BatchT", contravariant=True)


@runtime_checkable
class Learner(Protocol[BatchT]):
    """A module that knows its own loss.

    It may draw from torch's global generators while in training mode: the loop seeds them, and gives them back.
    Its whole memory is its `state_dict`: what is not in there is neither restored nor resumed.
    """

    def loss(self, batch: BatchT, /) -> tuple[Tensor, Metrics]:
        """The loss to be minimised, (), a mean over the rows of `batch`, and metrics to report."""


@runtime_checkable
class Preparable(Protocol[BatchT]):
    """A learner that initialises itself from the training data, such as a codebook by k-means."""

    def prepare(self, train: BatchT, /) -> None:
        """Called once, before the first step of a fresh run, without gradients, with all of the training data.

        The data is on the module's device and the global generators are seeded. A module without trainable
        parameters learns all it can learn here.
        """


def prepare(module: nn.Module, train: DataT, seed: int, device: torch.device) -> None:
    """Let the module initialise itself from the training data, where it wants to; inside `forked_generators`."""
    if isinstance(module, Preparable):
        seed_generators(derive_seed(seed, "prepare"), device)
        with torch.no_grad():
            module.prepare(map_tensors(lambda tensor: tensor.to(device), train))


def negative_log_likelihood(module: nn.Module, batch: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, Metrics]:
    """The loss of maximum likelihood, -(1/B) Σ_b log p(x_b), of a module with `log_prob`.

    **Raises** `TrainingError`: the log-probabilities are not (B,), as for a circuit of several roots.
    """
    log_prob: Tensor = module.log_prob(batch)  # type: ignore[operator]
    if log_prob.ndim != 1:
        raise TrainingError(
            f"log_prob has shape {tuple(log_prob.shape)}, and one value per row is needed; for a circuit with several "
            "roots pass loss=, a function of (module, batch) that says which root each row belongs to."
        )
    return -log_prob.mean(), {}


def objective_of(module: ModuleT, loss: Callable[[ModuleT, DataT], tuple[Tensor, Metrics]] | None) -> Objective[DataT]:
    """The loss to minimise: `loss` where given, else the module's own, else its negative log-likelihood.

    **Raises** `TrainingError`: there is none of the three.
    """
    if loss is not None:
        return partial(loss, module)
    if isinstance(module, Learner):
        return module.loss
    if callable(getattr(module, "log_prob", None)):
        return partial(negative_log_likelihood, module)
    raise TrainingError(
        f"{type(module).__name__} has neither loss(batch) nor log_prob(x); pass loss=, a function of (module, batch) "
        "that returns the loss and a dict of metrics."
    )
