"""Circuits on the binary data sets of `debd.npz`: nats, means over the rows of the test set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

import pcircuits as pc
from pcircuits.learning import FitSettings, fit
from pcircuits.structures import (
    AbstractDecoder,
    FactorisedDecoder,
    TreeDecoder,
    chow_liu_tree,
    continuous_mixture,
    decoder_of,
    free_points,
    shifted_lattice,
)
from tests.leaderboard.rows import Measured, Row, clock, parameters_of, shown

__all__ = ["ContinuousMixture", "binary", "nats"]


def binary(data: Path, name: str, smoke: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Training, validation and test rows (B, D) of a set."""
    found = np.load(data / "debd.npz")
    columns = int(found[f"{name}_columns"])
    packed = (found[f"{name}_{split}"] for split in ("train", "valid", "test"))
    rows = [torch.from_numpy(np.unpackbits(split, axis=1, count=columns)).float() for split in packed]
    train, validation, test = (split[:200] if smoke else split for split in rows)
    return train, validation, test


def nats(model: pc.CompiledCircuit, x: Tensor, batch: int = 1000) -> float:
    """The mean of log p(x)."""
    with torch.no_grad():
        return sum(float(model.log_prob(part).double().sum()) for part in x.split(batch)) / len(x)


@dataclass(frozen=True)
class ContinuousMixture(Row):
    """A continuous mixture: trained on lattices that are shifted anew, judged on several, and with points that are trained."""

    name: str
    data: str
    components: Literal["factorised", "trees"]
    points: int
    latents: int
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int = 250
    learning_rate: float = 0.003
    seed: int = 0

    def run(self, data: Path, work: Path, smoke: bool) -> Measured:
        train, validation, test = binary(data, self.data, smoke)
        points, epochs = (16, 2) if smoke else (self.points, self.epochs)
        model = continuous_mixture(self.decoder(train), points).compile()
        settings = FitSettings(
            epochs=epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            warmup=0.02,
            final_fraction=0.02,
            seed=self.seed,
        )
        history = fit(
            model,
            train,
            validation,
            settings=settings,
            loss=shifted_lattice,
            folder=work / "lattice",
            on_epoch=shown(-1),
        )
        numbers = {f"test nats, {points} points": nats(model, test), "validation nats": -history.best.validation_loss}
        for more in (32,) if smoke else (1024, 8192):
            larger = continuous_mixture(decoder_of(model), more).compile()
            numbers[f"test nats, {more} points"] = nats(larger, test)
        free = free_points(model).compile()
        fewer = replace(settings, epochs=max(1, epochs // 4), learning_rate=0.01, warmup=0.0, final_fraction=0.05)
        fit(free, train, validation, settings=fewer, folder=work / "points")
        numbers[f"test nats, {points} trained points"] = nats(free, test)
        numbers |= {"parameters": parameters_of(model), "seconds of training on lattices": round(clock(history))}
        return Measured(numbers, "natural logarithms")

    def decoder(self, train: Tensor) -> AbstractDecoder:
        """The decoder before training."""
        generator = torch.Generator().manual_seed(self.seed)
        if self.components == "trees":
            return TreeDecoder(chow_liu_tree(train), 2, self.latents, self.hidden, generator)
        variables = range(train.shape[1])
        return FactorisedDecoder(variables, pc.families.Bernoulli(), self.latents, self.hidden, generator)
