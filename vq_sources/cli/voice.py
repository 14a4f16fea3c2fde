"""What a command says while it works: one line for each stage, and a spinner in a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from pcircuits.learning import EpochRecord

__all__ = ["Voice"]


class Voice:
    """Says how far the work is, on stderr, so that results alone are on stdout."""

    def __init__(self) -> None:
        self.out = Console()
        self._err = Console(stderr=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """Say that something is being done, then that it was; what is yielded takes the state of affairs."""
        start = time.perf_counter()
        with self._err.status(f"{title} …") as status:
            yield lambda state: status.update(f"{title} …  [dim]{state}[/]")
        self._err.print(f"[green]✓[/] {title}  [dim]{time.perf_counter() - start:.1f} s[/]", highlight=False)

    def note(self, text: str) -> None:
        """Say something in passing."""
        self._err.print(f"[dim]· {text}[/]", highlight=False)

    @staticmethod
    def epochs(total: int, say: Callable[[str], None]) -> Callable[[EpochRecord], None]:
        """What training calls after each epoch."""
        return lambda record: say(f"epoch {record.epoch} of {total}, validation loss {record.validation_loss:.2f}")
