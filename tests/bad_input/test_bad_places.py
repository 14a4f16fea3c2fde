"""Devices that are not there, and folders that cannot be written: nothing is computed, and nothing is left."""

import re
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import pcircuits as pc
from pcircuits.devices import available_device
from pcircuits.learning import FitSettings, TrainingError, fit
from vq_sources.cli.app import app

pytestmark = pytest.mark.errors
CIRCUIT = pc.Circuit(pc.Normal("x", 0.0, 1.0))
NOWHERE = [("nonsense", "'nonsense' is no device"), ("meta", "of the type 'meta' is not supported")]
NOWHERE += [(f"cuda:{torch.cuda.device_count()}", f"no device 'cuda:{torch.cuda.device_count()}' here")]


@pytest.mark.parametrize(("device", "says"), NOWHERE)
def test_devices_that_are_not_there(device: str, says: str) -> None:
    remedy = says + ".*: take 'cpu'"
    with pytest.raises(pc.CircuitError, match=remedy):
        CIRCUIT.compile(device=device)
    model, x = CIRCUIT.compile(), torch.zeros(4, 1)
    with pytest.raises(TrainingError, match=f"FitSettings: .*{remedy}"):
        fit(model, x, x, settings=FitSettings(epochs=1, device=device))
    assert {p.device.type for p in model.parameters()} == {"cpu"}


def test_devices_may_come_as_objects() -> None:
    assert available_device(torch.device("cpu")) == torch.device("cpu")
    with pytest.raises(pc.CircuitError, match="is not supported"):
        available_device(torch.device("meta"))


def test_a_command_on_a_device_that_is_not_there(tmp_path: Path) -> None:
    done = _run("train", "--smoke", "--device", "cuda:99", "--out", tmp_path / "t")
    assert done == (1, "error: --device cuda:99: there is no device 'cuda:99' here: take 'cpu'" + _other_devices())
    assert not list(tmp_path.iterdir())


def test_results_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    x = torch.zeros(4, 1)
    for folder, says in (
        (tmp_path / "file", r"\(a file has its name\), choose another: .*file'"),
        (tmp_path / "file" / "below", r"\(Not a directory\), choose another: .*file/below'"),
        (Path("/proc/results"), r"the folder cannot be made .*, choose another: '/proc/results'"),
    ):
        model = CIRCUIT.compile()
        before = [p.clone() for p in model.parameters()]
        with pytest.raises(OSError, match=says):
            fit(model, x, x, settings=FitSettings(epochs=1), folder=folder)
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    with pytest.raises(NotADirectoryError, match=r"the file was not written: Not a directory: .*file/c\.pc'"):
        pc.save(CIRCUIT, tmp_path / "file" / "c.pc")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "mine")]


@pytest.mark.parametrize("out", ["file", "file/below", "/proc/results"])
def test_a_command_that_cannot_write(out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    code, said = _run("train", "--smoke", "--out", out)
    assert code in (1, 2)
    assert Path(out).name in said
    assert "Traceback" not in said
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "mine")]


def _other_devices() -> str:
    return "".join(f" or 'cuda:{i}'" for i in range(torch.cuda.device_count()))


def _run(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    return done.exit_code, " ".join(re.sub(r"\x1b\[[0-9;]*m", "", done.output).split())
