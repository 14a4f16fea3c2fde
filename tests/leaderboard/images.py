"""Circuits on MNIST and Fashion-MNIST: integers 0..255, discrete bits per dimension."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

import pcircuits as pc
from pcircuits.learning import AbstractAveraging, EMSettings, Stepwise, em
from pcircuits.structures import (
    categorical_leaves,
    chow_liu_tree,
    cluster_states,
    counted_start,
    hidden_tree,
    windows,
)
from tests.leaderboard.rows import Measured, Row, clock, discrete_bits, parameters_of, shown

__all__ = ["HiddenTree", "images"]

HELD_OUT = 5_000
"""Training images that are kept for validation, the last ones."""


def images(data: Path, name: str, smoke: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Training, validation and test images (B, 784), uint8."""
    from torchvision.datasets import MNIST, FashionMNIST

    kind = {"mnist": MNIST, "fashion": FashionMNIST}[name]
    train, test = (kind(str(data), train=part).data.flatten(1) for part in (True, False))
    if smoke:
        return train[:400], train[400:500], test[:100]
    return train[:-HELD_OUT], train[-HELD_OUT:], test


@dataclass(frozen=True)
class HiddenTree(Row):
    """A hidden Chow-Liu tree, started by counting clusters of windows, trained by stepwise EM."""

    name: str
    images: str
    width: int
    epochs: int
    averaging: AbstractAveraging = field(default_factory=Stepwise)
    pseudocount: float = 0.01
    seed: int = 0

    def run(self, data: Path, work: Path, smoke: bool) -> Measured:
        train, validation, test = images(data, self.images, smoke)
        width, epochs = (4, 2) if smoke else (self.width, self.epochs)
        circuit = self.circuit(train, width, work)
        model = circuit.compile()
        start = discrete_bits(model, test[:2000].float())
        print(f"start: {start:.4f} on the first 2,000 test images", flush=True)
        settings = EMSettings(
            epochs=epochs,
            batch_size=100 if smoke else 500,
            averaging=self.averaging,
            pseudocount=self.pseudocount,
            patience=2,
            seed=self.seed,
        )
        bits = 1 / (784 * math.log(2))
        history = em(model, train.float(), validation.float(), settings=settings, folder=work, on_epoch=shown(bits))
        return Measured(
            {
                "test bits per dimension": discrete_bits(model, test.float()),
                "validation bits per dimension": history.best.validation_loss * bits,
                "training bits per dimension": history.best.train_loss * bits,
                "start, first 2,000 test images": start,
                "epochs": len(history.epochs),
                "best epoch": history.best.epoch,
                "seconds of EM": round(clock(history)),
                "parameters": parameters_of(model),
            },
            "discrete bits per dimension",
        )

    def circuit(self, train: Tensor, width: int, work: Path) -> pc.Circuit:
        """The circuit with its start; kept, since counting takes minutes."""
        path = work / "start.pc"
        if path.exists():
            return pc.load(path)
        work.mkdir(parents=True, exist_ok=True)
        g = torch.Generator().manual_seed(self.seed)
        tree = chow_liu_tree(train // 32)
        latents = cluster_states(train, windows(28, 28), width, generator=g)
        start = counted_start(train, latents, pseudocount=0.05)
        circuit = hidden_tree(tree, categorical_leaves(256), width, start=start, generator=g)
        pc.save(circuit, path)
        return circuit
