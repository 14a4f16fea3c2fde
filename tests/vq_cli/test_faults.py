"""A demo that is killed or interrupted goes on where it was, and ends as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
KILLED = Path(__file__).with_name("killed_command.py")
SMALLEST = ["demo", "--smoke", "--epochs", "2", "--max-n", "4"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
KILLS = [(1, "before"), (3, "after"), (9, "before"), (12, "after")]
"""How many files each run puts in place before it dies; later runs have less to do."""


def command(*arguments: str | Path, script: tuple[str | Path, ...] = ("-m", "vq_sources.cli")) -> list[str]:
    return [sys.executable, *map(str, (*script, *arguments))]


def finish(*arguments: str | Path, script: tuple[str | Path, ...] = ("-m", "vq_sources.cli")) -> tuple[int, str]:
    done = subprocess.run(
        command(*arguments, script=script), env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=300
    )
    return done.returncode, done.stderr


def without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_seconds(item) for name, item in value.items() if name != "seconds"}
    return [without_seconds(item) for item in value] if isinstance(value, list) else value


def report(folder: Path) -> Any:
    return without_seconds(json.loads((folder / "report.json").read_text()))


def test_a_demo_killed_again_and_again_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    code, said = finish(*SMALLEST, "--out", whole)
    assert code == 0, said
    for number, moment in KILLS:
        code, said = finish(number, moment, *SMALLEST, "--out", broken, script=(KILLED,))
        assert code == -signal.SIGKILL, said
        assert not (broken / "report.json").exists()
    code, said = finish(*SMALLEST, "--out", broken)
    assert code == 0, said
    assert report(whole) == report(broken)
    for path in whole.rglob("*"):
        again = broken / path.relative_to(whole)
        if path.suffix in (".pc", ".png"):
            assert path.read_bytes() == again.read_bytes(), path.name
        if path.suffix == ".safetensors":  # the order of its header's entries is not fixed
            ours, theirs = load_file(path), load_file(again)
            assert all(torch.equal(ours[name], theirs[name]) for name in ours.keys() | theirs.keys()), path.name
    assert not list(broken.rglob("*.tmp"))


@pytest.mark.errors
def test_an_interrupted_training_says_so_and_holds_its_folder_until_then(tmp_path: Path) -> None:
    arguments = ["train", "--smoke", "--epochs", "500", "--out", str(tmp_path / "t")]
    running = subprocess.Popen(command(*arguments), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    try:
        _wait_for(tmp_path / "t" / "training" / "vqvae" / "checkpoint.pt", running)
        code, said = finish(*arguments)
        assert (code, "in use" in said) == (1, True), said
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 130, said
    assert "Run the same command again" in " ".join(said.split())
    assert "Traceback" not in said


def _wait_for(path: Path, running: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if path.exists():
            return
        assert running.poll() is None, running.stderr.read() if running.stderr else ""
        time.sleep(0.1)
    raise AssertionError(f"{path} did not come")
