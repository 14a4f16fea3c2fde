"""Rows of the leaderboard run on small files, keep their results, and go on from their checkpoints."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.leaderboard.page import page

ROOT = Path(__file__).parents[2]


def run(*arguments: object) -> str:
    command = [sys.executable, "-W", "ignore", "-m", "tests.leaderboard", *map(str, arguments), "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    """A file of the form of `debd.npz`."""
    numbers = np.random.default_rng(0)
    base = numbers.random((300, 1)) < 0.5
    rows = np.where(numbers.random((300, 6)) < 0.1, ~base, base)
    parts = {"train": rows[:200], "valid": rows[200:250], "test": rows[250:]}
    np.savez(
        tmp_path / "debd.npz",
        nltcs_columns=6,
        **{f"nltcs_{name}": np.packbits(part, axis=1) for name, part in parts.items()},
    )
    return tmp_path


def test_a_row_is_recorded_and_not_trained_twice(binary: Path) -> None:
    out = binary / "results.json"
    common = ["nltcs hidden tree, 16 states", "--data", binary, "--work", binary / "work", "--out", out, "--smoke"]
    assert "epoch 2" in run(*common)
    first = json.loads(out.read_text())["nltcs hidden tree, 16 states"]
    assert -6 * np.log(2) < first["test nats"] < 0
    assert first["processor"]
    assert "epoch" not in run(*common)  # the folder holds the finished run
    again = json.loads(out.read_text())["nltcs hidden tree, 16 states"]
    assert again["test nats"] == first["test nats"]


def test_a_row_on_images(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 600), ("t10k", 100)):
        pixels = torch.randint(0, 256, (count, 28, 28), generator=generator, dtype=torch.uint8)
        header = np.array([0x803, count, 28, 28], ">i4").tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.numpy().tobytes())
        labels = np.array([0x801, count], ">i4").tobytes() + bytes(count)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    name = "mnist hidden tree, 64 states, 48 shared components"
    said = run(name, "--data", tmp_path, "--work", tmp_path / "work", "--out", tmp_path / "results.json", "--smoke")
    assert "test bits per dimension" in said
    found = json.loads((tmp_path / "results.json").read_text())[name]
    assert 7.9 < found["test bits per dimension"] < 10  # even noise has eight bits


def test_the_page_is_what_the_results_say() -> None:
    results = json.loads((ROOT / "docs" / "leaderboard.json").read_text())
    assert (ROOT / "docs" / "results.md").read_text() == page(results)
