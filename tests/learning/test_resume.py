"""A run that was killed and started again ends like one that was not; foreign and broken checkpoints are refused."""

import csv
import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import pcircuits
from pcircuits.learning import CheckpointError, EpochRecord, FitSettings, History, fit

SCRIPT = Path(__file__).with_name("killed_training.py")


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("killed_training", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


killed = load_script()


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "training.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def assert_same_state(left: nn.Module, right: nn.Module) -> None:
    ours, theirs = left.state_dict(), right.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def run_and_be_killed(folder: Path, moment: str, number: int) -> None:
    root = str(Path(pcircuits.__file__).parents[1])
    command = [sys.executable, str(SCRIPT), str(folder), moment, str(number)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": root}, timeout=120, check=False)
    assert done.returncode == -9


@pytest.mark.parametrize(
    ("moment", "number", "epochs_kept"),
    [("step", 3, 0), ("step", 3 * killed.STEPS + 2, 3), ("save", 3, 2)],
    ids=["before the first checkpoint", "in the middle of an epoch", "in the middle of a checkpoint"],
)
def test_a_killed_run_ends_bit_by_bit_like_an_uninterrupted_one(
    tmp_path: Path, moment: str, number: int, epochs_kept: int
) -> None:
    run_and_be_killed(tmp_path / "killed", moment, number)
    kept = table(tmp_path / "killed") if epochs_kept else []
    assert len(kept) == epochs_kept

    torch.manual_seed(99)  # the state of the global generator at the restart must not matter
    resumed, whole = killed.Noisy(), killed.Noisy()
    history = killed.train(tmp_path / "killed", resumed)
    expected = killed.train(tmp_path / "whole", whole)

    assert resumed.steps == (killed.SETTINGS.epochs - epochs_kept) * killed.STEPS
    assert_same_state(resumed, whole)
    assert table(tmp_path / "killed") == table(tmp_path / "whole")
    assert [record.validation_loss for record in history.epochs] == [r.validation_loss for r in expected.epochs]
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == ["checkpoint.pt", "training.csv"]


def checkpoint_of(folder: Path) -> dict[str, object]:
    content: dict[str, object] = torch.load(folder / "checkpoint.pt", weights_only=True)
    return content


def test_optimizer_and_last_weights_are_resumed_exactly(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def stop(record: EpochRecord) -> None:
        if record.epoch == 2:
            raise Enough

    with pytest.raises(Enough):
        fit(killed.Noisy(), *killed.data(), settings=killed.SETTINGS, folder=tmp_path / "a", on_epoch=stop)
    killed.train(tmp_path / "a", killed.Noisy())
    killed.train(tmp_path / "b", killed.Noisy())
    ours, theirs = checkpoint_of(tmp_path / "a"), checkpoint_of(tmp_path / "b")
    for part in ("module", "optimizer", "best"):
        torch.testing.assert_close(ours[part], theirs[part], rtol=0, atol=0)


class Worsening(nn.Module):
    """Each epoch is worse than the one before; a buffer counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float | Tensor]]:
        self.epochs += self.training
        return self.weight * 0 + self.epochs, {}


def test_the_best_weights_survive_a_resumption(tmp_path: Path) -> None:
    def stop(record: EpochRecord) -> None:
        if record.epoch == 3:
            raise KeyboardInterrupt

    x, asked = torch.zeros(2, 1), FitSettings(epochs=5, batch_size=2)
    with pytest.raises(KeyboardInterrupt):
        fit(Worsening(), x, x, settings=asked, folder=tmp_path, on_epoch=stop)
    module = Worsening()
    history = fit(module, x, x, settings=asked, folder=tmp_path)
    assert [record.validation_loss for record in history.epochs] == [1, 2, 3, 4, 5]
    assert int(module.epochs) == 1


def test_ctrl_c_leaves_the_last_checkpoint_whole_and_propagates(tmp_path: Path) -> None:
    class Interrupted(killed.Noisy):  # type: ignore[misc, name-defined]
        def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float | Tensor]]:
            if self.steps == 2 * killed.STEPS + 1:
                raise KeyboardInterrupt
            return super().loss(batch)

    Interrupted.__qualname__ = "Noisy"
    before = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        killed.train(tmp_path / "a", Interrupted())
    assert torch.equal(torch.get_rng_state(), before)
    resumed, whole = killed.Noisy(), killed.Noisy()
    killed.train(tmp_path / "a", resumed)
    killed.train(tmp_path / "b", whole)
    assert resumed.steps == 3 * killed.STEPS
    assert_same_state(resumed, whole)


def test_a_finished_run_is_loaded_not_repeated(tmp_path: Path) -> None:
    first, second = killed.Noisy(), killed.Noisy()
    expected = killed.train(tmp_path, first)
    (tmp_path / "training.csv").unlink()
    found: History = killed.train(tmp_path, second)
    assert second.steps == 0
    assert found == expected
    assert len(table(tmp_path)) == killed.SETTINGS.epochs
    assert_same_state(first, second)


def test_a_run_that_stopped_early_is_not_continued(tmp_path: Path) -> None:
    asked = replace(killed.SETTINGS, patience=1, learning_rate=2.0, epochs=30)
    first = fit(killed.Noisy(), *killed.data(), settings=asked, folder=tmp_path)
    second = fit(killed.Noisy(), *killed.data(), settings=asked, folder=tmp_path)
    assert first == second
    assert first.stopped_early


def test_checkpoints_of_other_runs_are_refused_with_the_difference(tmp_path: Path) -> None:
    train, validation = killed.data()
    killed.train(tmp_path, killed.Noisy())
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def resume(module: nn.Module, x: Tensor, settings: FitSettings) -> None:
        fit(module, x, validation, settings=settings, folder=tmp_path)

    with pytest.raises(CheckpointError, match=r"other settings.*learning_rate: 0\.02 there, 0\.5 here"):
        resume(killed.Noisy(), train, replace(killed.SETTINGS, learning_rate=0.5))
    with pytest.raises(CheckpointError, match="other training data"):
        resume(killed.Noisy(), train + 1, killed.SETTINGS)
    wider = killed.Noisy()
    wider.layers[0], wider.layers[1], wider.layers[3] = nn.Linear(4, 9), nn.BatchNorm1d(9), nn.Linear(9, 4)
    with pytest.raises(CheckpointError, match=r"other architecture.*\(8, 4\) there, .*\(9, 4\) here"):
        resume(wider, train, killed.SETTINGS)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


class Code:
    """What a pickle could run on loading."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("exit 1",)


@pytest.mark.parametrize("fault", ["truncated", "empty", "noise", "flipped", "code", "newer", "other content"])
def test_broken_checkpoints_are_refused(tmp_path: Path, fault: str) -> None:
    killed.train(tmp_path, killed.Noisy())
    path = tmp_path / "checkpoint.pt"
    whole = path.read_bytes()
    if fault == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif fault == "empty":
        path.write_bytes(b"")
    elif fault == "noise":
        path.write_bytes(bytes(range(256)) * 20)
    elif fault == "flipped":
        tensor = checkpoint_of(tmp_path)["module"]["table"]  # type: ignore[index]
        at = whole.index(tensor.numpy().tobytes())
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    elif fault == "code":
        torch.save({"format": Code()}, path)
    elif fault == "newer":
        torch.save({**checkpoint_of(tmp_path), "format": 2}, path)
    else:
        torch.save({"format": 1, "identity": {}}, path)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt (is not a whole checkpoint|has format 2)"):
        killed.train(tmp_path, killed.Noisy())


def test_a_failed_write_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, count = torch.save, 0

    def full_disk(content: object, path: Path) -> None:
        nonlocal count
        count += 1
        save(content, path)
        if count == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        killed.train(tmp_path, killed.Noisy())
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "training.csv"]
    resumed, whole = killed.Noisy(), killed.Noisy()
    killed.train(tmp_path, resumed)
    killed.train(tmp_path / "whole", whole)
    assert resumed.steps == 3 * killed.STEPS
    assert_same_state(resumed, whole)


def test_other_frozen_parameters_are_another_run(tmp_path: Path) -> None:
    x = torch.linspace(0, 1, 20)[:, None]

    def squares(module: nn.Module, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        return (module(batch) - 3 * batch).square().mean(), {}

    for frozen in (False, True):
        line = nn.Linear(1, 1)
        line.bias.requires_grad_(not frozen)
        if not frozen:
            fit(line, x, x, loss=squares, settings=FitSettings(epochs=1), folder=tmp_path)
        else:
            with pytest.raises(CheckpointError, match="bias is frozen"):
                fit(line, x, x, loss=squares, settings=FitSettings(epochs=1), folder=tmp_path)
