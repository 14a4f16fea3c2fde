"""Folders of results: one set of settings, one process, stages that are whole or absent."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pcircuits.errors import FileFormatError
from vq_sources.cli.workspace import Workspace
from vq_sources.errors import ConfigError

SETTINGS = {"command": "demo", "seed": 0, "model": {"codes": 16}}


def test_the_same_settings_open_a_folder_again(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "down"
    for _ in range(2):
        with Workspace.open(folder, SETTINGS) as workspace:
            workspace.path("a/b.txt").write_text("x")
    assert (folder / "a" / "b.txt").is_file()


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    with Workspace.open(tmp_path / "w", SETTINGS):
        pass
    other = {"command": "demo", "seed": 1, "model": {"codes": 8}, "new": True}
    with pytest.raises(ConfigError) as raised, Workspace.open(tmp_path / "w", other):
        pass
    for part in ("seed: 0 there, 1 here", "model.codes: 16 there, 8 here", "new: none there, True here", "--out"):
        assert part in str(raised.value)


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    for name in ("thesis.tex", ".lock"):
        (tmp_path / name).write_text("precious")
        with pytest.raises(ConfigError, match=rf"{name}.*--out"), Workspace.open(tmp_path, SETTINGS):
            pass
        assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(name, "precious")]
        (tmp_path / name).unlink()


def test_what_an_early_kill_leaves_is_taken_over(tmp_path: Path) -> None:
    for name in (".lock", "settings.json.tmp"):
        (tmp_path / name).write_text("")
    with Workspace.open(tmp_path, SETTINGS) as workspace:
        assert workspace.folder == tmp_path


def test_what_a_late_kill_leaves_is_removed_and_nothing_else(tmp_path: Path) -> None:
    """The names of `pcircuits.files`, of either kind; a file of the user's own is none of our business."""
    with Workspace.open(tmp_path, SETTINGS) as workspace:
        for name in ("circuits/.c.pc.0123456789abcdef.tmp", "training/checkpoint.pt.tmp", "notes.tmp", "a.json"):
            workspace.path(name).write_text("x")
    with pytest.raises(ConfigError), Workspace.open(tmp_path, {**SETTINGS, "seed": 1}):
        pass
    assert len(list(tmp_path.rglob("*.tmp"))) == 3
    with Workspace.open(tmp_path, SETTINGS):
        pass
    assert [path.name for path in tmp_path.rglob("*.tmp")] == ["notes.tmp"]
    assert (tmp_path / "a.json").is_file()


def test_who_holds_a_folder_is_named(tmp_path: Path) -> None:
    with (
        Workspace.open(tmp_path, SETTINGS),
        pytest.raises(ConfigError, match=rf"in use by another vq-circuit \(process {os.getpid()}\): wait"),
        Workspace.open(tmp_path, SETTINGS),
    ):
        pass


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with (
        Workspace.open(tmp_path, SETTINGS),
        pytest.raises(ConfigError, match="in use"),
        Workspace.open(tmp_path, SETTINGS),
    ):
        pass
    with Workspace.open(tmp_path, SETTINGS):
        pass


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); "
        "print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / ".lock")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(ConfigError, match="in use"), Workspace.open(tmp_path, SETTINGS):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with Workspace.open(tmp_path, SETTINGS):
        pass


def test_a_stage_is_computed_once(tmp_path: Path) -> None:
    calls = []

    def compute() -> dict[str, int]:
        calls.append(1)
        time.sleep(0.01)
        return {"x": len(calls)}

    for _ in range(2):
        with Workspace.open(tmp_path, SETTINGS) as workspace:
            result, seconds = workspace.stage("rows/one", compute)
            assert result == {"x": 1}
            assert seconds >= 0.01
            assert workspace.done("rows/one")
            assert not workspace.done("rows/two")


def test_a_stage_whose_file_is_gone_is_computed_anew(tmp_path: Path) -> None:
    with Workspace.open(tmp_path, SETTINGS) as workspace:

        def compute() -> dict[str, int]:
            workspace.path("picture.png").write_text("x")
            return {}

        workspace.stage("picture", compute, ["picture.png"])
        (tmp_path / "picture.png").unlink()
        workspace.stage("picture", compute, ["picture.png"])
        assert (tmp_path / "picture.png").is_file()


def test_a_stage_that_fails_leaves_no_result(tmp_path: Path) -> None:
    def fail() -> dict[str, int]:
        raise KeyboardInterrupt

    with Workspace.open(tmp_path, SETTINGS) as workspace:
        with pytest.raises(KeyboardInterrupt):
            workspace.stage("one", fail)
        assert not workspace.done("one")


def test_a_damaged_stage_says_what_to_delete(tmp_path: Path) -> None:
    with Workspace.open(tmp_path, SETTINGS) as workspace:
        workspace.stage("one", lambda: {"x": 1})
        record = tmp_path / "stages" / "one.json"
        record.write_bytes(record.read_bytes()[:5])
        with pytest.raises(FileFormatError, match=r"one\.json.*delete it"):
            workspace.stage("one", lambda: {"x": 1})


@pytest.mark.errors
def test_a_folder_that_cannot_be_made_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file") as raised, Workspace.open(tmp_path / "file" / "below", SETTINGS):
        pass
    assert raised.value.filename is not None
    assert os.listdir(tmp_path) == ["file"]
