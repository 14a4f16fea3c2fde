"""What a training run is asked to do, apart from the module and the data."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, field, fields

import torch

from pcircuits.devices import available_device
from pcircuits.errors import CircuitError
from pcircuits.learning.averaging import AbstractAveraging, Stepwise
from pcircuits.learning.errors import TrainingError

__all__ = ["AbstractSettings", "EMSettings", "FitSettings"]


class AbstractSettings:
    """What all kinds of training are asked: how long, on how many rows at a time, from which seed and where."""

    epochs: int
    batch_size: int | None
    patience: int | None
    seed: int
    device: str

    def _check_run(self) -> None:
        """Raise `TrainingError` for a setting outside its range."""
        self._take_numbers()
        self._require(_whole(self.epochs), "epochs", "an integer, at least 1")
        self._require(_whole(self.seed, 0), "seed", "an integer, at least 0")
        self._require(isinstance(self.device, str), "device", '"cpu", "cuda" or "cuda:1"')
        self._require(self.patience is None or _whole(self.patience), "patience", "an integer, at least 1, or None")

    def _take_numbers(self) -> None:
        """NumPy's numbers become Python's: a checkpoint compares what settings look like."""
        for each in fields(self):  # type: ignore[arg-type]
            value = getattr(self, each.name)
            if not isinstance(value, int | float) and isinstance(value, numbers.Real):
                plain = int(value) if isinstance(value, numbers.Integral) else float(value)
                object.__setattr__(self, each.name, plain)
            elif isinstance(value, float) and type(value) is not float:  # numpy.float64
                object.__setattr__(self, each.name, float(value))

    def _require(self, holds: bool, name: str, range_: str) -> None:
        if not holds:
            raise TrainingError(f"{type(self).__name__}: {name} is {getattr(self, name)!r}; it must be {range_}.")

    def torch_device(self) -> torch.device:
        """The device, if it is there.

        **Raises** `TrainingError` where it is unknown, is not there, or is neither a CPU nor a CUDA device.
        """
        try:
            return available_device(self.device)
        except CircuitError as error:
            raise TrainingError(f"{type(self).__name__}: {error}") from error


@dataclass(frozen=True)
class FitSettings(AbstractSettings):
    """The settings of one run of `fit`; with the module and the data, they determine its result.

    At step t = 0..T−1, with W = `warmup` · T steps of warm-up, η = `learning_rate` and ρ = `final_fraction`,

    η_t = η · min(1, (t + 1) / W) · (ρ + (1 − ρ) (1 + cos π u_t) / 2),  u_t = max(0, t − W) / (T − W).

    **Arguments**

    - `epochs`: the most passes over the training data, at least 1; T counts their steps.
    - `batch_size`: rows per step; the last batch of an epoch may be smaller.
    - `learning_rate`: η, of AdamW.
    - `weight_decay`: AdamW's decoupled weight decay, of every parameter.
    - `patience`: stop after this many epochs without a lower validation loss; None never stops early.
    - `clip`: the largest norm of the gradient over all parameters; None leaves it as it is.
    - `warmup`: the share of all steps over which the learning rate rises linearly, in [0, 1).
    - `final_fraction`: ρ in [0, 1]; 1 keeps the learning rate constant, less lets it fall along half a cosine to ρ η.
    - `seed`: the order of the batches, and whatever the module draws from torch's global generators.
    - `device`: "cpu", "cuda" or "cuda:1".

    **Raises** `TrainingError` for a setting outside its range.

    **Source**: Loshchilov and Hutter 2017, *SGDR: Stochastic Gradient Descent with Warm Restarts*, equation (5) without
    restarts; AdamW: the same authors, 2019, *Decoupled Weight Decay Regularization*.

    **Example**

    >>> FitSettings(epochs=2, batch_size=50).epochs
    2
    """

    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    patience: int | None = None
    clip: float | None = None
    warmup: float = 0.0
    final_fraction: float = 1.0
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        self._check_run()
        self._require(_whole(self.batch_size), "batch_size", "an integer, at least 1")
        for name in ("learning_rate", "weight_decay", "warmup", "final_fraction"):
            self._require(_real(getattr(self, name)), name, "a number")
        self._require(self.clip is None or _real(self.clip), "clip", "a number, or None")
        self._require(0 < self.learning_rate < math.inf, "learning_rate", "positive and finite")
        self._require(0 <= self.weight_decay < math.inf, "weight_decay", "at least 0 and finite")
        self._require(self.clip is None or self.clip > 0, "clip", "positive, or None")
        self._require(0 <= self.warmup < 1, "warmup", "in [0, 1): a share of all steps")
        self._require(0 <= self.final_fraction <= 1, "final_fraction", "in [0, 1]: a share of learning_rate")


@dataclass(frozen=True)
class EMSettings(AbstractSettings):
    """The settings of one run of `em`; with the circuit and the data, they determine its result.

    **Arguments**

    - `epochs`: the most passes over the training data, at least 1.
    - `batch_size`: rows per step. None takes all rows in every step: then no step lowers the likelihood, but for the
      pseudocount's pull. Otherwise `averaging` says what becomes of the counts of one batch.
    - `averaging`: `Stepwise` or `Anemone`, with their step sizes; not used where a batch is all of the data.
    - `pseudocount`: added to the expected count of every input of a sum and of every state of a discrete unit, over the
      whole data set. With 0, what the data does not show becomes impossible.
    - `minimum_scale`: no standard deviation or scale gets smaller, in the units of the data; likelihoods of densities are
      unbounded without it.
    - `patience`: stop after this many epochs without a lower validation loss; None never stops early.
    - `seed`: the order of the batches.
    - `device`: "cpu", "cuda" or "cuda:1".

    **Raises** `TrainingError` for a setting outside its range.

    **Example**

    >>> EMSettings(epochs=3, batch_size=500).averaging
    Stepwise(step_size=PowerLaw(power=0.6, offset=2.0, least=0.02))
    """

    epochs: int = 20
    batch_size: int | None = None
    averaging: AbstractAveraging = field(default_factory=Stepwise)
    pseudocount: float = 0.01
    minimum_scale: float = 1e-3
    patience: int | None = None
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        self._check_run()
        self._require(
            self.batch_size is None or _whole(self.batch_size), "batch_size", "an integer, at least 1, or None"
        )
        self._require(isinstance(self.averaging, AbstractAveraging), "averaging", "Stepwise() or Anemone()")
        self._require(
            _real(self.pseudocount) and 0 <= self.pseudocount < math.inf, "pseudocount", "finite and at least 0"
        )
        self._require(
            _real(self.minimum_scale) and 0 < self.minimum_scale < math.inf, "minimum_scale", "finite and positive"
        )


def _whole(value: object, smallest: int = 1) -> bool:
    """Whether it is an integer of at least `smallest`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= smallest


def _real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
