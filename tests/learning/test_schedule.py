"""The learning rate against torch's own schedulers."""

import pytest
import torch

from pcircuits.learning import FitSettings, TrainingError
from pcircuits.learning.schedule import learning_rate_at


def rates(settings: FitSettings, steps: int) -> list[float]:
    return [learning_rate_at(step, steps, settings) for step in range(steps)]


def torch_rates(
    scheduler: torch.optim.lr_scheduler.LRScheduler, optimizer: torch.optim.Optimizer, n: int
) -> list[float]:
    result = []
    for _ in range(n):
        result.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return result


def test_is_constant_by_default() -> None:
    assert rates(FitSettings(learning_rate=0.3), 7) == [0.3] * 7


def test_cosine_agrees_with_torch() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=0.2)
    expected = torch_rates(torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20, eta_min=0.02), optimizer, 20)
    assert rates(FitSettings(learning_rate=0.2, final_fraction=0.1), 20) == pytest.approx(expected, rel=1e-12)


def test_warm_up_rises_linearly_to_the_full_rate() -> None:
    assert rates(FitSettings(learning_rate=1.0, warmup=0.4), 10) == pytest.approx([0.25, 0.5, 0.75, 1.0] + [1.0] * 6)


def test_cosine_starts_after_the_warm_up() -> None:
    found = rates(FitSettings(learning_rate=1.0, warmup=0.5, final_fraction=0.0), 10)
    assert found[4] == found[5] == 1.0
    assert found[5:] == sorted(found[5:], reverse=True)
    assert found[-1] > 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("learning_rate", -1.0),
        ("learning_rate", float("nan")),
        ("weight_decay", -0.1),
        ("patience", 0),
        ("clip", 0.0),
        ("warmup", 1.0),
        ("final_fraction", 1.5),
    ],
)
def test_settings_outside_their_range_are_named(name: str, value: float) -> None:
    with pytest.raises(TrainingError, match=name):
        FitSettings(**{name: value})


@pytest.mark.parametrize("device", ["cuda:77", "nowhere", "meta"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(TrainingError, match=device):
        FitSettings(device=device).torch_device()
