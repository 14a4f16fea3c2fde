"""Runs rows of the leaderboard by name."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from tests.leaderboard.binary import ContinuousMixture
from tests.leaderboard.images import HiddenTree
from tests.leaderboard.rows import Row, cores, record

ROWS: list[Row] = [
    HiddenTree("mnist hidden tree, 64 states", "mnist", 64, epochs=8),
    HiddenTree("mnist hidden tree, 128 states", "mnist", 128, epochs=8),
    HiddenTree("mnist hidden tree, 256 states", "mnist", 256, epochs=6),
    HiddenTree("fashion hidden tree, 64 states", "fashion", 64, epochs=8),
    ContinuousMixture(
        "nltcs continuous mixture", "nltcs", "factorised", 512, 4, (64, 128, 128), 40, learning_rate=0.004
    ),
    ContinuousMixture(
        "nltcs continuous mixture of trees", "nltcs", "trees", 256, 4, (64, 128), 20, learning_rate=0.004
    ),
    ContinuousMixture("plants continuous mixture", "plants", "factorised", 512, 8, (128, 256, 256), 30),
    ContinuousMixture("baudio continuous mixture", "baudio", "factorised", 512, 8, (128, 256), 20),
    ContinuousMixture("dna continuous mixture of trees", "dna", "trees", 128, 4, (32, 64), 15, batch_size=100),
]


def main() -> None:
    """Run the rows that were asked for."""
    by_name = {row.name: row for row in ROWS}
    parser = argparse.ArgumentParser(prog="python -m tests.leaderboard", description=__doc__)
    parser.add_argument("rows", nargs="+", choices=list(by_name), metavar="ROW", help=f"one of: {'; '.join(by_name)}")
    parser.add_argument("--data", type=Path, required=True, help="where the data sets are")
    parser.add_argument("--work", type=Path, required=True, help="where rows keep their checkpoints")
    parser.add_argument("--out", type=Path, help="the table of results")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--smoke", action="store_true", help="on so little data that it takes seconds")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for name in given.rows:
        row, begun = by_name[name], time.perf_counter()
        folder = given.work / name.replace(" ", "-").replace(",", "")
        measured = row.run(given.data, folder, given.smoke)
        print(name, dict(measured.numbers))
        if given.out is not None:
            record(given.out, row, measured, time.perf_counter() - begun)


if __name__ == "__main__":
    main()
