from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.cli import ReduceLROnPlateau
from torch import nn
from torch.optim import SGD, lr_scheduler

from src.training.optimizers import OneCycle, optimizer_and_schedule

EPOCHS, STEPS = 4, 20


def configured(schedule_of: Any, interval: str = "epoch") -> dict[str, Any]:
    """What Lightning gets for a network of one number, under a training of 4 epochs and 20 steps."""
    module: Any = SimpleNamespace(
        parameters=lambda: [nn.Parameter(torch.ones(1))],
        trainer=SimpleNamespace(estimated_stepping_batches=STEPS, max_epochs=EPOCHS),
    )
    return optimizer_and_schedule(module, partial(SGD, lr=0.1, momentum=0.9), schedule_of, interval)


def rates(schedule_of: Any, steps: int) -> list[float]:
    """The learning rates of so many steps, the first one before the schedule has moved."""
    settings = configured(schedule_of)
    found = []
    for _ in range(steps):
        found.append(settings["optimizer"].param_groups[0]["lr"])
        settings["optimizer"].step()
        settings["lr_scheduler"]["scheduler"].step()
    return found


def test_without_a_schedule_there_is_only_the_optimizer() -> None:
    settings = configured(None)
    assert list(settings) == ["optimizer"]
    assert settings["optimizer"].param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize(
    ("schedule_of", "expected"),
    [
        (partial(lr_scheduler.StepLR, step_size=2, gamma=0.5), [0.1, 0.1, 0.05, 0.05, 0.025]),
        (partial(lr_scheduler.MultiStepLR, milestones=[1, 3], gamma=0.1), [0.1, 0.01, 0.01, 0.001, 0.001]),
        (partial(lr_scheduler.ExponentialLR, gamma=0.8), [0.1, 0.08, 0.064, 0.0512, 0.04096]),
        (partial(lr_scheduler.LinearLR, start_factor=0.25, total_iters=3), [0.025, 0.05, 0.075, 0.1, 0.1]),
        (
            partial(lr_scheduler.CyclicLR, base_lr=0.01, max_lr=0.03, step_size_up=2),
            [0.01, 0.02, 0.03, 0.02, 0.01],
        ),
    ],
    ids=["StepLR", "MultiStepLR", "ExponentialLR", "LinearLR", "CyclicLR"],
)
def test_a_schedule_moves_the_learning_rate(schedule_of: Any, expected: list[float]) -> None:
    assert rates(schedule_of, 5) == pytest.approx(expected)


@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_lightning_is_told_when_the_schedule_moves(interval: str) -> None:
    settings = configured(partial(lr_scheduler.ExponentialLR, gamma=0.8), interval)["lr_scheduler"]
    assert settings["interval"] == interval
    assert "monitor" not in settings


def test_lightning_is_told_what_a_plateau_is_of() -> None:
    settings = configured(partial(ReduceLROnPlateau, monitor="validation/loss", patience=0, factor=0.5))
    assert settings["lr_scheduler"]["monitor"] == "validation/loss"
    scheduler = settings["lr_scheduler"]["scheduler"]
    for value in (1.0, 2.0):
        scheduler.step(value)
    assert settings["optimizer"].param_groups[0]["lr"] == pytest.approx(0.05)


def test_the_highest_rate_of_the_own_one_cycle_schedule_is_that_of_the_optimizer() -> None:
    found = rates(partial(OneCycle, total_steps=10), 10)
    assert max(found) == pytest.approx(0.1)
    assert found == rates(partial(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=10), 10)
    settings = configured(partial(OneCycle, total_steps=None), "step")
    assert settings["lr_scheduler"]["scheduler"].total_steps == STEPS
