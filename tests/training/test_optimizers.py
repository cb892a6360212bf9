import copy
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.cli import ReduceLROnPlateau
from torch import nn
from torch.optim import SGD, lr_scheduler

from src.core.errors import ConfigurationError
from src.training.optimizers import MuonWithAdamW, OneCycle, grouped, optimizer_and_schedule

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


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        (partial(lr_scheduler.OneCycleLR, max_lr=0.1), False),
        (partial(lr_scheduler.OneCycleLR, max_lr=0.01), True),
        (OneCycle, False),
        (partial(lr_scheduler.StepLR, step_size=2), False),
    ],
)
def test_a_rate_that_does_nothing_is_told(
    schedule: Any, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    steps = {} if getattr(schedule, "func", None) is lr_scheduler.StepLR else {"total_steps": 10}
    configured(partial(schedule, **steps))  # of an optimizer with lr=0.1
    message = "model.optimizer.lr: 0.1 does nothing, since max_lr: 0.01 of OneCycleLR replaces it"
    assert (message in caplog.text) == told
    assert bool(caplog.text) == told


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))


def test_the_first_pattern_has_a_parameter() -> None:
    groups = grouped(network(), [{"pattern": "bias|Norm", "weight_decay": 0}, {"pattern": "^3", "lr": 0.1}])
    assert [[tuple(p.shape) for p in group["params"]] for group in groups] == [
        [(4, 3)],
        [(4,), (4,), (4,), (2,)],
        [(2, 4)],
    ]
    assert [{k: v for k, v in group.items() if k != "params"} for group in groups] == [
        {},
        {"weight_decay": 0},
        {"lr": 0.1},
    ]


def with_groups(*groups: dict[str, Any], **changes: Any) -> dict[str, Any]:
    module: Any = network()
    module.trainer = SimpleNamespace(estimated_stepping_batches=STEPS, max_epochs=EPOCHS)
    options = {"optimizer": partial(SGD, lr=0.1), "schedule": None} | changes
    return optimizer_and_schedule(module, options["optimizer"], options["schedule"], "step", list(groups))


def test_a_group_has_its_settings_and_the_schedule_moves_its_rate() -> None:
    chosen = partial(OneCycle, total_steps=None)
    settings = with_groups({"pattern": "bias", "lr": 0.01, "weight_decay": 0.5}, schedule=chosen)
    optimizer = settings["optimizer"]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0, 0.5]
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates[0] == pytest.approx(10 * rates[1])


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"pattern": "embedding", "lr": 1}, "parameter_groups[0].pattern: embedding matches none"),
        (
            {"pattern": "bias", "decay": 0},
            "parameter_groups[0]: SGD has no setting decay; it has lr, momentum",
        ),
        ({"pattern": "bias", "lr": "fast"}, "parameter_groups[0].lr: expected a number, found 'fast'"),
        ({"pattern": "(", "lr": 1}, "parameter_groups[0].pattern: (: missing )"),
        ({"lr": 1}, "parameter_groups[0]: expected a `pattern`"),
    ],
)
def test_groups_that_cannot_be_are_refused(group: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        with_groups(group)
    assert message in str(error.value)


def test_a_schedule_of_one_rate_is_refused_beside_rates_of_groups() -> None:
    with pytest.raises(ConfigurationError, match="OneCycleLR sets one lr for all groups"):
        with_groups(
            {"pattern": "bias", "lr": 0.01},
            schedule=partial(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=10),
        )


def stepped(net: nn.Module, optimizer: Any, number: int) -> None:
    for step in range(number):
        optimizer.zero_grad()
        x = torch.arange(15.0).reshape(5, 3).sin() + step
        optimizer.step(lambda x=x: net(x).square().sum().backward())


def test_muon_has_the_matrices_and_adamw_the_rest() -> None:
    net, other = network(), network()
    stepped(net, MuonWithAdamW(net.parameters(), lr=0.01), 3)
    parts = [
        torch.optim.Muon(
            [p for p in other.parameters() if p.ndim == 2], lr=0.01, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(
            [p for p in other.parameters() if p.ndim != 2], lr=0.01, betas=(0.9, 0.95), weight_decay=0.1
        ),
    ]
    for step in range(3):
        other.zero_grad()
        x = torch.arange(15.0).reshape(5, 3).sin() + step
        other(x).square().sum().backward()
        for part in parts:
            part.step()
    for found, expected in zip(net.parameters(), other.parameters(), strict=True):
        assert found.equal(expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_muon_takes_the_weight_of_a_convolution_as_a_matrix(layout: torch.memory_format) -> None:
    values, gradient = torch.randn(2, 4, 2, 3, 2, generator=torch.Generator().manual_seed(0))
    expected = nn.Parameter(values.flatten(1).clone())
    expected.grad = gradient.flatten(1)
    torch.optim.Muon([expected], lr=0.01, adjust_lr_fn="match_rms_adamw").step()
    weight = nn.Parameter(values.clone(memory_format=layout))
    weight.grad = gradient.to(memory_format=layout)
    optimizer = MuonWithAdamW([weight], lr=0.01)
    optimizer.step()
    assert weight.shape == (4, 2, 3, 2)
    # the columns of channels_last are in another order, and sums are of bfloat16
    torch.testing.assert_close(weight.flatten(1), expected, rtol=0, atol=1e-4)
    assert (weight - values).abs().mean() > 1e-3
    assert weight.is_contiguous(memory_format=layout)
    assert optimizer.param_groups[0]["params"] == [weight]


def test_muon_leaves_the_matrices_of_a_group_to_adamw() -> None:
    net = network()
    groups = grouped(net, [{"pattern": "^3", "muon": False, "weight_decay": 0.0}])
    optimizer = MuonWithAdamW(groups, lr=0.01)
    assert [(g["muon"], [tuple(p.shape) for p in g["params"]]) for g in optimizer.param_groups] == [
        (True, [(4, 3)]),
        (False, [(4,), (4,), (4,)]),
        (False, [(2, 4), (2,)]),
    ]
    assert optimizer.param_groups[2]["weight_decay"] == 0


def convolutions() -> nn.Sequential:
    """A network that takes the rows (B, 3) of `stepped` as images of one pixel."""
    torch.manual_seed(0)
    layers = (nn.Unflatten(1, (3, 1, 1)), nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4, 2))
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("network_of", [network, convolutions])
def test_muon_goes_on_from_its_state_as_if_it_had_not_stopped(network_of: Callable[[], nn.Module]) -> None:
    net = network_of()
    optimizer = MuonWithAdamW(net.parameters(), lr=0.01)
    stepped(net, optimizer, 2)
    again = copy.deepcopy(net)
    state = copy.deepcopy(optimizer.state_dict())
    stepped(net, optimizer, 2)
    resumed = MuonWithAdamW(again.parameters(), lr=0.5)
    resumed.load_state_dict(state)
    stepped(again, resumed, 2)
    for found, expected in zip(again.parameters(), net.parameters(), strict=True):
        assert found.equal(expected)
