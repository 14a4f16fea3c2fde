"""A short training that depends on everything a checkpoint must keep, and that can kill itself at a given moment."""

import os
import signal
import sys
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from pcircuits.learning import FitSettings, History, fit

SETTINGS = FitSettings(epochs=5, batch_size=7, learning_rate=0.02, clip=1.0, warmup=0.1, final_fraction=0.1, seed=3)
STEPS = 5


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Noisy(nn.Module):
    """Dropout, batch statistics, and a table whose rows are revived at random while training."""

    def __init__(self, die_at_step: int | None = None) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4))
        self.register_buffer("table", torch.zeros(3, 4))
        self.die_at_step, self.steps = die_at_step, 0

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float | Tensor]]:
        if self.training:
            self.steps += 1
            if self.steps == self.die_at_step:
                die()
            self.table[torch.randint(3, ())] += torch.randn(4)
        error = self.layers(batch + 0.01 * torch.randn_like(batch)) - batch + 0.1 * self.table.mean(0)
        return error.square().mean(), {"spread": self.table.std()}


def data() -> tuple[Tensor, Tensor]:
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(5))
    return x[:33], x[33:]


def train(folder: Path, module: Noisy) -> History:
    return fit(module, *data(), settings=SETTINGS, folder=folder)


def die_while_saving(number: int) -> None:
    """Kill the process when half of checkpoint `number` is in its file."""
    save, count = torch.save, 0

    def half(content: object, file: BinaryIO) -> None:
        nonlocal count
        count += 1
        save(content, file)
        if count == number:
            file.truncate(file.tell() // 2)
            die()

    torch.save = half


if __name__ == "__main__":
    where, moment, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    if moment == "save":
        die_while_saving(number)
    train(where, Noisy(die_at_step=number if moment == "step" else None))
