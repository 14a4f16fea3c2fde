"""`vq-circuit` killed, interrupted, out of space, run twice: it says so, and ends as if nothing had happened."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.errors
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
DEMO = ("demo", "--smoke", "--epochs", "2", "--max-n", "4")
TRAIN = ("train", "--smoke", "--epochs", "4")
ACTIVE = 3.0
"""Seconds for which these commands work, about, once they have their folder."""


def start(*arguments: str | Path, file_size: int | None = None) -> subprocess.Popen[str]:
    """A command; with `file_size`, no file of it can become larger, as on a disk that is nearly full."""

    def limit() -> None:
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    command = [sys.executable, "-m", "vq_sources.cli", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True, preexec_fn=limit)


def ended(running: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit status, and what was said, on one line."""
    try:
        _, said = running.communicate(timeout=300)
    finally:
        running.kill()
        running.wait()
    assert "Traceback" not in said, said
    return running.returncode, " ".join(said.split())


def holds(running: subprocess.Popen[str], out: Path) -> None:
    """Wait until a command has its folder."""
    for _ in range(3000):
        if (out / ".lock").exists() and (out / ".lock").read_text() == str(running.pid):
            return
        assert running.poll() is None, ended(running)[1]
        time.sleep(0.02)
    raise AssertionError("the command did not take its folder")


def killed(moment: float, out: Path, *arguments: str) -> int:
    """The exit status of a command killed so many seconds after it has its folder."""
    running = start(*arguments, "--out", out)
    holds(running, out)
    time.sleep(moment)
    running.kill()
    return ended(running)[0]


def temporary(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.name.endswith(".tmp")]


def without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_seconds(item) for name, item in value.items() if name != "seconds"}
    return [without_seconds(item) for item in value] if isinstance(value, list) else value


def same(whole: Path, broken: Path) -> None:
    """Both folders hold the same: reports but for their seconds, circuits and pictures byte for byte."""
    reports = [json.loads((folder / "report.json").read_text()) for folder in (whole, broken)]
    assert without_seconds(reports[0]) == without_seconds(reports[1])
    names = {path.relative_to(whole) for path in whole.rglob("*")}
    assert names == {path.relative_to(broken) for path in broken.rglob("*")}
    for name in names:
        if name.suffix in (".pc", ".png"):
            assert (whole / name).read_bytes() == (broken / name).read_bytes(), name
        if name.suffix == ".safetensors":  # the order of its header's entries is not fixed
            ours, theirs = load_file(whole / name), load_file(broken / name)
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[key], theirs[key]) for key in ours), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a demo that nothing happened to."""
    out = tmp_path_factory.mktemp("whole") / "demo"
    code, said = ended(start(*DEMO, "--out", out))
    assert code == 0, said
    return out


def test_a_demo_to_which_everything_happens(whole: Path, tmp_path: Path) -> None:
    """At seeded random moments, one after the other: kill -9 twice, Ctrl-C, a second process, a full disk."""
    out, moments = tmp_path / "demo", random.Random(3)
    for _ in range(2):
        assert killed(moments.uniform(0, ACTIVE / 2), out, *DEMO) == -signal.SIGKILL

    running = start(*DEMO, "--out", out)
    holds(running, out)
    second = start(*DEMO, "--out", out)  # the first is stopped, not ended, until the second has looked
    running.send_signal(signal.SIGSTOP)
    code, said = ended(second)
    assert (code, f"is in use by another vq-circuit (process {running.pid})" in said) == (1, True), said
    assert "choose another folder with --out" in said
    running.send_signal(signal.SIGCONT)
    time.sleep(moments.uniform(0, ACTIVE / 4))
    running.send_signal(signal.SIGINT)
    code, said = ended(running)
    assert (code, "stopped by Ctrl-C" in said) == (130, True), said
    assert "Run the same command again" in said
    assert not temporary(out)

    code, said = ended(start(*DEMO, "--out", out, file_size=300_000))
    assert (code, "the file was not written: File too large" in said) == (1, True), said
    assert f": {out}" in said
    assert "free some space, or choose another folder with --out, and run the same command again" in said
    assert not temporary(out)
    assert not (out / "report.json").exists()

    code, said = ended(start(*DEMO, "--out", out))
    assert code == 0, said
    assert not temporary(out)
    same(whole, out)


def test_other_settings_are_refused_and_nothing_is_mixed(whole: Path) -> None:
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file() and path.name != ".lock"}
    code, said = ended(start(*DEMO, "--seed", "1", "--out", whole))
    assert (code, "was made with other settings (seed: 0 there, 1 here)" in said) == (1, True), said
    after = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file() and path.name != ".lock"}
    assert before == after


def protected(folder: Path, on: bool) -> None:
    """Make a folder read-only, also for root (chattr), or for everyone else (chmod); or undo that."""
    if os.geteuid() == 0:
        done = subprocess.run(["chattr", "+i" if on else "-i", folder], capture_output=True, check=False)
        if done.returncode == 0:
            return
        done = subprocess.run(["mount", "--bind", folder, folder] if on else ["umount", folder], check=True)
        if on:
            subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        return
    folder.chmod(0o555 if on else 0o755)


def test_a_read_only_folder(tmp_path: Path) -> None:
    """As the place for a new folder, and as the folder itself."""
    (tmp_path / "kept").mkdir()
    protected(tmp_path / "kept", on=True)
    try:
        both = [start(*TRAIN, "--out", tmp_path / "kept" / "new"), start(*TRAIN, "--out", tmp_path / "kept")]
        ends = [ended(running) for running in both]
    finally:
        protected(tmp_path / "kept", on=False)
    for (code, said), name in zip(ends, ("new", ".lock"), strict=True):
        assert (code, str(tmp_path / "kept" / name) in said) == (1, True), said
        assert "choose a folder that you may write with --out" in said
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("arguments", [DEMO, TRAIN], ids=lambda arguments: arguments[0])
def test_kills_at_many_random_moments(arguments: tuple[str, ...], seed: int, tmp_path: Path) -> None:
    moments = random.Random(seed)
    code, said = ended(start(*arguments, "--out", tmp_path / "whole"))
    assert code == 0, said
    codes = [killed(moments.uniform(0, ACTIVE), tmp_path / "broken", *arguments) for _ in range(6)]
    assert codes.count(-signal.SIGKILL) >= 2  # the others had nothing left to do
    code, said = ended(start(*arguments, "--out", tmp_path / "broken"))
    assert code == 0, said
    assert not temporary(tmp_path / "broken")
    same(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.slow
def test_full_disks_of_every_size(whole: Path, tmp_path: Path) -> None:
    """A disk of its own, which grows each time that it is full; where none can be mounted, files that may grow."""
    out = tmp_path / "disk" / "demo"
    out.parent.mkdir()
    mounted = _mount(out.parent, 1, new=True)
    full = 0
    try:
        for megabytes in range(2, 30, 3):
            code, said = ended(start(*DEMO, "--out", out, file_size=None if mounted else megabytes * 100_000))
            if code == 0:
                break
            full += 1
            assert (code, "free some space" in said, str(out) in said) == (1, True, True), said
            assert not temporary(out)
            if mounted:
                _mount(out.parent, megabytes, new=False)
        assert full >= 2
        same(whole, out)
    finally:
        if mounted:
            subprocess.run(["umount", out.parent], check=True)


def _mount(folder: Path, megabytes: int, new: bool) -> bool:
    options = f"size={megabytes}m" if new else f"remount,size={megabytes}m"
    what = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return os.geteuid() == 0 and subprocess.run(what, capture_output=True, check=False).returncode == 0
