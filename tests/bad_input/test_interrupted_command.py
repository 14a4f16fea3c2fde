"""Ctrl-C in a training that runs for real: a line that says what to do, and doing it goes on where it was."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.errors
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
EPOCHS = 5


def test_ctrl_c_and_again(tmp_path: Path) -> None:
    out = tmp_path / "t"
    asked = [sys.executable, "-m", "vq_sources.cli", "train", "--smoke", "--epochs", str(EPOCHS), "--out", str(out)]
    first = subprocess.Popen(asked, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        _wait_for_an_epoch(out / "training" / "vqvae", first)
        first.send_signal(signal.SIGINT)
        _, said = first.communicate(timeout=60)
    finally:
        first.kill()
        first.wait()
    assert first.returncode == 130, said
    assert "stopped by Ctrl-C" in said
    assert "Run the same command again" in " ".join(said.split())
    assert "Traceback" not in said
    assert not [path.name for path in out.rglob("*") if path.name.endswith(".tmp")]
    assert not (out / "vqvae.safetensors").exists()
    before = _epochs(out)

    again = subprocess.run(asked, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=120)
    assert again.returncode == 0, again.stderr
    after = _epochs(out)
    assert 1 <= len(before) < EPOCHS
    assert after[: len(before)] == before  # also the seconds: those epochs were not run again
    assert [row["epoch"] for row in after] == [str(epoch) for epoch in range(1, EPOCHS + 1)]
    assert (out / "vqvae.safetensors").is_file()


def _epochs(out: Path) -> list[dict[str, str]]:
    (table,) = (out / "training" / "vqvae").glob("*.csv")
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _wait_for_an_epoch(folder: Path, running: subprocess.Popen[str]) -> None:
    """Until there are a checkpoint and a table: which of them is written first is not ours to know."""
    for _ in range(1200):
        if (folder / "checkpoint.pt").exists() and any(folder.glob("*.csv")):
            return
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.02)
    raise AssertionError(f"no epoch ended in {folder}")
