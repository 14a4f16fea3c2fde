"""The training loop against hand-written loops, closed forms and what it promises."""

import csv
import math
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pcircuits.learning import (
    DivergenceError,
    EpochRecord,
    FitSettings,
    Learner,
    Preparable,
    TrainingError,
    fit,
)
from pcircuits.learning.batches import ordered_batches, shuffled_batches
from pcircuits.learning.randomness import derive_seed

CPU = torch.device("cpu")


class Gaussian(nn.Module):
    """A Normal with unit variance: the simplest module with a log-probability."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * (x - self.loc).square().sum(-1) - 0.5 * math.log(2 * math.pi)


class Regression(nn.Module):
    """A line with dropout that reports the size of its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3, 1, dtype=torch.float64)
        nn.init.constant_(self.line.weight, 0.1)
        nn.init.zeros_(self.line.bias)
        self.dropout = nn.Dropout(0.3)

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, float | Tensor]]:
        x, y = batch
        error = self.line(self.dropout(x))[:, 0] - y
        return error.square().mean(), {"absolute": error.abs().mean(), "rows": float(len(x))}


def regression_data(rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    x = torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x, x @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def weights(module: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()])


def test_a_density_is_fitted_by_maximum_likelihood_in_two_lines() -> None:
    x = torch.randn(200, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 2
    model = Gaussian()
    history = fit(model, x, x, settings=FitSettings(epochs=200, batch_size=200, learning_rate=0.1))
    torch.testing.assert_close(model.loc.detach(), x.mean(), atol=1e-4, rtol=0)
    expected = -torch.distributions.Normal(x.mean(), 1.0).log_prob(x).mean()
    assert history.best.validation_loss == pytest.approx(float(expected), abs=1e-6)


def test_every_step_equals_a_hand_written_loop() -> None:
    train, validation = regression_data(23), regression_data(10, seed=1)
    asked = FitSettings(
        epochs=3, batch_size=5, learning_rate=0.05, weight_decay=0.1, clip=0.7, final_fraction=0.2, seed=4
    )
    module = Regression()
    history = fit(module, train, validation, settings=asked)

    oracle, trained, losses, states = Regression(), [], [], []
    optimizer = torch.optim.AdamW(oracle.parameters(), lr=0.05, weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 15, eta_min=0.01)
    before = torch.get_rng_state()
    for epoch in (1, 2, 3):
        oracle.train()
        torch.manual_seed(derive_seed(4, "epoch", epoch))
        order = torch.randperm(23, generator=torch.Generator().manual_seed(derive_seed(4, "batches", epoch)))
        total = 0.0
        for index in order.split(5):
            optimizer.zero_grad()
            loss, _ = oracle.loss((train[0][index], train[1][index]))
            loss.backward()
            nn.utils.clip_grad_norm_(oracle.parameters(), 0.7)
            optimizer.step()
            scheduler.step()
            total += float(loss.detach()) * len(index) / 23
        trained.append(total)
        oracle.eval()
        losses.append(float(oracle.loss(validation)[0].detach()))
        states.append(weights(oracle))
    torch.set_rng_state(before)

    assert [record.train_loss for record in history.epochs] == pytest.approx(trained, rel=1e-9)
    assert [record.validation_loss for record in history.epochs] == pytest.approx(losses, rel=1e-9)
    torch.testing.assert_close(weights(module), states[losses.index(min(losses))], rtol=1e-9, atol=0)


def test_metrics_are_means_over_rows() -> None:
    history = fit(Regression(), regression_data(7), regression_data(5), settings=FitSettings(epochs=1, batch_size=4))
    assert history.epochs[0].train_metrics["rows"] == pytest.approx((4 * 4 + 3 * 3) / 7)
    assert history.epochs[0].validation_metrics["rows"] == pytest.approx((4 * 4 + 1 * 1) / 5)


class Scripted(nn.Module):
    """Its validation losses are given beforehand; its weight counts the epochs."""

    def __init__(self, validation_losses: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))
        self.validation_losses = validation_losses

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float | Tensor]]:
        if self.training:
            self.epochs += 1
            return self.weight * 0, {}
        assert not torch.is_grad_enabled()
        return torch.tensor(self.validation_losses[int(self.epochs) - 1]), {}


def test_best_weights_are_restored_the_first_of_equals() -> None:
    module = Scripted([3.0, 1.0, 2.0, 1.0])
    history = fit(module, torch.zeros(2, 1), torch.zeros(2, 1), settings=FitSettings(epochs=4, batch_size=2))
    assert (history.best.epoch, int(module.epochs), history.stopped_early) == (2, 2, False)
    assert not module.training
    assert module.weight.grad is None


def test_patience_counts_epochs_without_a_lower_loss() -> None:
    module = Scripted([5.0, 4.0, 4.0, 3.0, 3.5, 3.5, 1.0])
    asked = FitSettings(epochs=7, batch_size=2, patience=2)
    history = fit(module, torch.zeros(2, 1), torch.zeros(2, 1), settings=asked)
    assert (len(history.epochs), history.best.epoch, history.stopped_early) == (6, 4, True)


def test_the_result_depends_on_the_seed_alone_and_disturbs_no_global_generator() -> None:
    found = []
    for state, seed in ((1, 0), (2, 0), (2, 1)):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        module = Regression()
        torch.set_rng_state(before)
        fit(module, regression_data(20), regression_data(5), settings=FitSettings(epochs=2, batch_size=6, seed=seed))
        assert torch.equal(torch.get_rng_state(), before)
        found.append(weights(module))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])


class NoisyValidation(Gaussian):
    """Draws from the global generator in evaluation mode."""

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float | Tensor]]:
        return (self.loc * 0 if self.training else torch.rand(())), {}


def test_every_validation_sees_the_same_draws() -> None:
    x = torch.zeros(4, 1)
    history = fit(NoisyValidation(), x, x, settings=FitSettings(epochs=3, batch_size=2))
    assert len({record.validation_loss for record in history.epochs}) == 1


def test_inputs_and_frozen_parameters_are_left_alone() -> None:
    train, module = regression_data(9), Regression()
    copies = [tensor.clone() for tensor in train]
    module.line.bias.requires_grad_(False)
    fit(module, train, regression_data(5), settings=FitSettings(epochs=2, batch_size=4, weight_decay=0.5))
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(train, copies, strict=True))
    assert float(module.line.bias) == 0.0


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 5))
def test_each_epoch_visits_every_row_once(rows: int, batch_size: int, seed: int) -> None:
    batches = shuffled_batches(torch.arange(rows), batch_size, seed=seed, first_epoch=1, device=CPU)
    steps = -(-rows // batch_size)
    epochs = [torch.cat([next(batches) for _ in range(steps)]).tolist() for _ in range(2)]
    later = shuffled_batches(torch.arange(rows), batch_size, seed=seed, first_epoch=2, device=CPU)
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(rows))
    assert torch.cat([next(later) for _ in range(steps)]).tolist() == epochs[1]
    assert torch.cat(list(ordered_batches(torch.arange(rows), batch_size, device=CPU))).tolist() == list(range(rows))


class Diverging(nn.Module):
    """The loss or its gradient fails at one step of training, or in the n-th validation."""

    def __init__(self, *, at: int, value: float, where: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.at, self.value, self.where = at, value, where
        self.steps = self.validations = 0

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float | Tensor]]:
        self.steps += self.training
        self.validations += not self.training
        if self.where == "loss" and self.training and self.steps == self.at:
            return self.weight * self.value, {}
        if self.where == "validation" and not self.training and self.validations == self.at:
            return self.weight * self.value, {}
        if self.where == "gradient" and self.training and self.steps == self.at:
            return (self.weight - self.weight.detach()).sqrt(), {}  # 0, with an infinite gradient
        return self.weight**2, {}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_loss_names_epoch_step_and_remedy(value: float) -> None:
    module = Diverging(at=5, value=value, where="loss")
    with pytest.raises(
        DivergenceError, match=r"training loss is (nan|inf) in epoch 2, step 2 of 3: lower learning_rate"
    ):
        fit(module, torch.zeros(9, 1), torch.zeros(3, 1), settings=FitSettings(epochs=3, batch_size=3))
    assert math.isfinite(float(module.weight.detach()))


@pytest.mark.parametrize(("clip", "remedy"), [(1.0, r"lower clip \(now 1\)"), (None, "set clip")])
def test_a_diverged_gradient_leaves_the_weights_finite(clip: float | None, remedy: str) -> None:
    module = Diverging(at=2, value=math.nan, where="gradient")
    with pytest.raises(
        DivergenceError, match=rf"norm of the gradient \(of weight\) is inf in epoch 1, step 2 of 3.*{remedy}"
    ):
        fit(module, torch.zeros(9, 1), torch.zeros(3, 1), settings=FitSettings(batch_size=3, clip=clip))
    assert math.isfinite(float(module.weight.detach()))


def test_a_diverged_validation_loss_stops_too() -> None:
    module = Diverging(at=2, value=math.inf, where="validation")
    with pytest.raises(DivergenceError, match="validation loss is inf in epoch 2"):
        fit(module, torch.zeros(3, 1), torch.zeros(3, 1), settings=FitSettings(epochs=3, batch_size=3))


class Prepared(nn.Module):
    """Takes its mean from the training data, with noise, and then trains nothing or a scale."""

    def __init__(self, trainable: bool) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(()))
        self.scale = nn.Parameter(torch.ones(()), requires_grad=trainable)
        self.calls = 0

    def prepare(self, train: Tensor) -> None:
        assert not torch.is_grad_enabled()
        self.calls += 1
        self.loc.copy_(train.mean() + torch.randn(()))

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float | Tensor]]:
        return (self.scale * self.loc - batch).square().mean(), {}


def test_a_module_prepares_itself_once_from_all_training_data(tmp_path: Path) -> None:
    x, found = torch.arange(8.0)[:, None], []
    for _ in range(2):
        module = Prepared(trainable=True)
        assert isinstance(module, Learner)
        assert isinstance(module, Preparable)
        fit(module, x, x, settings=FitSettings(epochs=1, batch_size=3), folder=tmp_path)
        found.append((module.calls, float(module.loc)))
    assert [calls for calls, _ in found] == [1, 0]
    assert found[0][1] == found[1][1] != 0.0


def test_without_trainable_parameters_a_module_is_only_prepared(tmp_path: Path) -> None:
    x, module = torch.arange(8.0)[:, None], Prepared(trainable=False)
    assert fit(module, x, x, folder=tmp_path / "run").epochs == ()
    assert module.calls == 1
    assert not module.training


def test_the_table_has_a_row_for_each_epoch_with_all_digits(tmp_path: Path) -> None:
    seen: list[EpochRecord] = []
    data = regression_data(12)
    history = fit(
        Regression(), data, data, settings=FitSettings(epochs=3), folder=tmp_path / "deep" / "run", on_epoch=seen.append
    )
    with (tmp_path / "deep" / "run" / "training.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(seen) == history.epochs
    assert list(rows[0]) == [
        *("epoch", "train_loss", "validation_loss", "learning_rate", "seconds"),
        *("train_absolute", "train_rows", "validation_absolute", "validation_rows"),
    ]
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert [float(row["validation_loss"]) for row in rows] == [record.validation_loss for record in history.epochs]


def test_progress_is_shown_on_request_only(capsys: pytest.CaptureFixture[str]) -> None:
    data = regression_data(12)
    fit(Regression(), data, data, settings=FitSettings(epochs=1))
    assert capsys.readouterr() == ("", "")
    fit(Regression(), data, data, settings=FitSettings(epochs=2, batch_size=4), progress=True)
    shown = capsys.readouterr().err
    assert "[2/2]" in shown
    assert "validation=" in shown


def test_errors_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(4, 1, dtype=torch.float64)
    with pytest.raises(TrainingError, match=r"neither loss.* nor log_prob"):
        fit(nn.Linear(1, 1), x, x)
    with pytest.raises(TrainingError, match="nothing to train"):
        fit(Gaussian().requires_grad_(False), x, x)
    with pytest.raises(TrainingError, match="validation data has no rows"):
        fit(Gaussian(), x, x[:0])
    with pytest.raises(TrainingError, match=r"training tensors have different numbers of rows: \[4, 3\]"):
        fit(Regression(), (x, x[:3]), (x, x))
    with pytest.raises(TrainingError, match="shape \\(4,\\); it must be one number"):
        fit(Gaussian(), x, x, loss=lambda module, batch: (module.loc * batch[:, 0], {}))
    monkeypatch.setattr(Gaussian, "log_prob", lambda self, x: self.loc * x.expand(-1, 2))
    with pytest.raises(TrainingError, match="several roots"):
        fit(Gaussian(), x, x)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ignite.engine", None)
    with pytest.raises(ImportError, match=r"pcircuits\[learn\]"):
        fit(Gaussian(), torch.zeros(2, 1), torch.zeros(2, 1))
