"""A folder is gone on with by more epochs, and by the same circuit alone; training without validation data."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pcircuits as pc
from pcircuits.learning import CheckpointError, FitSettings, TrainingError, fit


class Line(nn.Module):
    """A line with dropout, so that epochs draw numbers."""

    def __init__(self, names: tuple[str, ...] = ("slope", "other")) -> None:
        super().__init__()
        for name in names:
            setattr(self, name, nn.Parameter(torch.full((2,), 0.5, dtype=torch.float64)))
        self.dropout = nn.Dropout(0.2)

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float | Tensor]]:
        x = self.dropout(batch)
        return ((x * self.slope + self.other) - 3 * batch).square().mean(), {}  # type: ignore[operator]


def data(n: int = 12, seed: int = 0) -> Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def settings(epochs: int, **changes: object) -> FitSettings:
    return FitSettings(**{"epochs": epochs, "batch_size": 5, "learning_rate": 0.05, "seed": 3, **changes})  # type: ignore[arg-type]


def state(module: nn.Module) -> dict[str, list[float]]:
    return {name: value.tolist() for name, value in module.state_dict().items()}


def test_more_epochs_end_like_a_longer_run(tmp_path: Path) -> None:
    longer, whole = Line(), Line()
    fit(Line(), data(), data(5, 1), settings=settings(2), folder=tmp_path / "a")
    epochs: list[int] = []
    found = fit(longer, data(), data(5, 1), settings=settings(5), folder=tmp_path / "a", on_epoch=lambda r: epochs.append(r.epoch))  # fmt: skip  # noqa: E501
    expected = fit(whole, data(), data(5, 1), settings=settings(5), folder=tmp_path / "b")
    assert epochs == [3, 4, 5]
    assert state(longer) == state(whole)
    assert [r.validation_loss for r in found.epochs] == [r.validation_loss for r in expected.epochs]
    with (tmp_path / "a" / "training.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3", "4", "5"]
    again = Line()
    fit(again, data(), data(5, 1), settings=settings(5), folder=tmp_path / "a", on_epoch=lambda r: pytest.fail("done"))
    assert state(again) == state(whole)


def test_the_learning_rate_of_more_epochs_is_that_of_the_longer_run(tmp_path: Path) -> None:
    falling = {"final_fraction": 0.1}
    fit(Line(), data(), data(5, 1), settings=settings(2, **falling), folder=tmp_path)
    found = fit(Line(), data(), data(5, 1), settings=settings(4, **falling), folder=tmp_path)
    whole = fit(Line(), data(), data(5, 1), settings=settings(4, **falling))
    assert [r.learning_rate for r in found.epochs[2:]] == [r.learning_rate for r in whole.epochs[2:]]


@pytest.mark.errors
def test_fewer_epochs_are_refused_plainly(tmp_path: Path) -> None:
    fit(Line(), data(), data(5, 1), settings=settings(3), folder=tmp_path)
    with pytest.raises(
        CheckpointError, match=r"is of a run of 3 epochs, and 2 are asked for, which are fewer: ask for at"
    ):
        fit(Line(), data(), data(5, 1), settings=settings(2), folder=tmp_path)
    fit(Line(), data(), data(5, 1), settings=settings(4), folder=tmp_path)
    with pytest.raises(CheckpointError, match="run of 4 epochs, and 3 are asked"):
        fit(Line(), data(), data(5, 1), settings=settings(3), folder=tmp_path)


def test_a_run_that_stopped_early_stays_so(tmp_path: Path) -> None:
    impatient = {"patience": 1, "learning_rate": 5.0}
    first = fit(Line(), data(), data(5, 1), settings=settings(20, **impatient), folder=tmp_path)
    second = fit(Line(), data(), data(5, 1), settings=settings(40, **impatient), folder=tmp_path)
    assert first.stopped_early
    assert first == second


@pytest.mark.errors
def test_parameters_in_another_order_are_another_run(tmp_path: Path) -> None:
    fit(Line(), data(), data(5, 1), settings=settings(1), folder=tmp_path)
    with pytest.raises(CheckpointError, match=r"come in another order \(slope there where other is here\)"):
        fit(Line(("other", "slope")), data(), data(5, 1), settings=settings(2), folder=tmp_path)


def mixture(first: str, second: str, *, regions: int = 2, loc: float = 0.0) -> pc.CompiledCircuit:
    leaves = pc.Normal([first, second][:regions], torch.linspace(loc, 1.0, 2 * regions).view(regions, 2), 1.0)
    return pc.Circuit(leaves.prod().sum(pc.Parameter([0.5, 0.5], pc.simplex)), variables=["a", "b"]).compile(
        dtype=torch.float64
    )


def tied(*, apart: bool) -> pc.CompiledCircuit:
    scale = [pc.Parameter(1.0, pc.positive) for _ in range(2)]
    leaves = [pc.Normal(name, 0.0, scale[apart * i]) for i, name in enumerate("ab")]
    return pc.Circuit(leaves[0] * leaves[1]).compile(dtype=torch.float64)


def two_normals(*, apart: bool) -> pc.CompiledCircuit:
    """One mixture, written in two ways."""
    weights = pc.Parameter([0.5, 0.5], pc.simplex)
    if apart:
        root: object = pc.mixture(weights, [pc.Normal("a", 0.0, 1.0), pc.Normal("a", 1.0, 1.0)])
    else:
        root = pc.Normal("a", [0.0, 1.0], 1.0).sum(weights)
    return pc.Circuit(root).compile(dtype=torch.float64)  # type: ignore[arg-type]


@pytest.mark.errors
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: mixture("a", "b"), lambda: mixture("b", "a")),
        (lambda: tied(apart=True), lambda: tied(apart=False)),
        (lambda: two_normals(apart=True), lambda: two_normals(apart=False)),
    ],
    ids=["variables swapped", "ties", "written in another way"],
)  # fmt: skip
def test_a_circuit_of_another_structure_is_another_run(one, other, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    x = data()[:, : len(one().variables)]
    fit(one(), x, x[:5], settings=settings(1), folder=tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(CheckpointError, match="other architecture"):
        fit(other(), x, x[:5], settings=settings(1), folder=tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_the_same_circuit_made_again_goes_on_whatever_it_starts_from(tmp_path: Path) -> None:
    first = mixture("a", "b")
    fit(first, data(), data(5, 1), settings=settings(3), folder=tmp_path)
    second = mixture("a", "b", loc=0.7)
    fit(second, data(), data(5, 1), settings=settings(3), folder=tmp_path)
    assert torch.equal(first.log_prob(data()), second.log_prob(data()))


@pytest.mark.errors
def test_a_state_that_the_module_refuses_is_an_error_of_the_checkpoint(tmp_path: Path) -> None:
    class Strict(Line):
        def _load_from_state_dict(self, *arguments: object) -> None:
            raise RuntimeError("size mismatch for slope")

    Strict.__qualname__ = "Line"
    fit(Line(), data(), data(5, 1), settings=settings(1), folder=tmp_path)
    with pytest.raises(
        CheckpointError, match=r"Strict cannot take the state .*size mismatch for slope.*another folder"
    ):
        fit(Strict(), data(), data(5, 1), settings=settings(2), folder=tmp_path)


def test_without_validation_the_last_weights_are_kept(tmp_path: Path) -> None:
    module, by_hand = Line(), Line()
    history = fit(module, data(), settings=settings(4), folder=tmp_path)
    validated = fit(by_hand, data(), data(5, 1), settings=settings(4))
    assert [r.train_loss for r in history.epochs] == [r.train_loss for r in validated.epochs]
    assert all(math.isnan(r.validation_loss) for r in history.epochs)
    assert history.best.epoch == 4
    assert not history.stopped_early
    assert not module.training
    again = Line()
    fit(again, data(), settings=settings(4), folder=tmp_path)
    assert state(again) == state(module)
    last = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["module"]
    assert {name: value.tolist() for name, value in last.items()} == state(module)


@pytest.mark.errors
def test_patience_needs_validation_data_and_a_folder_keeps_to_it(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="patience is 3, and without validation data"):
        fit(Line(), data(), settings=settings(4, patience=3))
    fit(Line(), data(), settings=settings(1), folder=tmp_path)
    with pytest.raises(CheckpointError, match="other validation data"):
        fit(Line(), data(), data(5, 1), settings=settings(2), folder=tmp_path)


@pytest.mark.errors
@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": "3"}, {"epochs": 3.0}, {"batch_size": None}, {"learning_rate": "1e-3"}, {"learning_rate": None},
        {"weight_decay": "0"}, {"warmup": "0.1"}, {"final_fraction": True}, {"clip": "1"}, {"patience": 1.0},
        {"seed": 0.5}, {"seed": -1}, {"seed": "0"}, {"device": 0}, {"learning_rate": torch.inf}, {"clip": math.nan},
    ],
    ids=str,
)  # fmt: skip
def test_settings_of_other_kinds_name_the_field(changes: dict[str, object]) -> None:
    (name,) = changes
    with pytest.raises(TrainingError, match=f"FitSettings: {name} is"):
        FitSettings(**changes)  # type: ignore[arg-type]


@pytest.mark.errors  # taken, though not announced
def test_numpy_numbers_are_settings_like_pythons(tmp_path: Path) -> None:
    plain = settings(2, learning_rate=0.25)
    numpy = settings(np.int64(2), learning_rate=np.float32(0.25), batch_size=np.int32(5), seed=np.uint8(3))  # type: ignore[arg-type]
    assert numpy == plain
    assert repr(numpy) == repr(plain)
    assert repr(settings(2, learning_rate=np.float64(0.25))) == repr(plain)
