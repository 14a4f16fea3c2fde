"""What a row of the leaderboard is, and where its result goes."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import pcircuits as pc
from pcircuits.files import write_whole
from pcircuits.learning import EpochRecord, History

__all__ = ["Measured", "Row", "clock", "discrete_bits", "parameters_of", "processor", "record"]


@dataclass(frozen=True)
class Measured:
    """What a row found: numbers by name, such as bits per dimension."""

    numbers: Mapping[str, float]
    notes: str = ""


class Row(ABC):
    """One model on one data set."""

    name: str

    @abstractmethod
    def run(self, data: Path, work: Path, smoke: bool) -> Measured:
        """Train and judge. Checkpoints go to `work`; with `smoke`, on so little data that it takes seconds."""


def record(out: Path, row: Row, measured: Measured, seconds: float) -> None:
    """Write a row's result into a table of results, in place of an older one."""
    found = json.loads(out.read_text()) if out.exists() else {}
    found[row.name] = {
        **{name: _rounded(value) for name, value in measured.numbers.items()},
        "seconds": round(seconds),
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "torch": torch.__version__,
        "notes": measured.notes,
    }
    text = json.dumps(dict(sorted(found.items())), indent=1) + "\n"
    write_whole(out, lambda file: file.write(text.encode()))


def _rounded(value: float) -> float:
    return value if isinstance(value, int) or not math.isfinite(value) else round(value, 5)


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def discrete_bits(model: pc.CompiledCircuit, x: Tensor, batch: int = 500) -> float:
    """Discrete bits per dimension: the mean of -log2 of the mass of rows of integers, over their number of columns."""
    with torch.no_grad():
        total = sum(float(model.log_prob(part).double().sum()) for part in x.split(batch))
    return -total / (len(x) * x.shape[1] * math.log(2))


def parameters_of(model: pc.CompiledCircuit) -> int:
    """The numbers a circuit's parameters are."""
    return sum(p.numel() for p in model.parameters())


def clock(history: History) -> float:
    """The seconds that the epochs of a run took, also those before it was stopped and gone on with."""
    return sum(epoch.seconds for epoch in history.epochs)


def shown(scale: float) -> object:
    """Prints each epoch, its losses times a number."""

    def print_epoch(epoch: EpochRecord) -> None:
        losses = f"{scale * epoch.train_loss:.4f} {scale * epoch.validation_loss:.4f}"
        print(f"{time.strftime('%H:%M:%S')} epoch {epoch.epoch}: {losses} in {epoch.seconds:.0f} s", flush=True)

    return print_epoch


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))
