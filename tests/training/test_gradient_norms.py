from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import LightningModule
from torch import Tensor, nn

from src.training.gradient_norms import GradientNorms


class Two(LightningModule):
    """y = relu(w x + b) summed; unit 0 lives, unit 1 is dead for positive x."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 2)
        self.active = nn.ReLU()
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor([[2.0], [-1.0]]))
            self.linear.bias.zero_()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.active(self.linear(inputs)).sum()


def test_norms_are_means_over_the_steps_and_dead_units_are_of_the_whole_epoch() -> None:
    model, record = Two(), GradientNorms()
    strategy = SimpleNamespace(reduce=lambda alive, reduce_op: alive)  # of a single process
    trainer: Any = SimpleNamespace(callback_metrics={}, strategy=strategy)
    record.setup(trainer, model, "fit")
    for inputs, norm in [([[3.0]], 3.0), ([[1.0], [4.0]], 5.0)]:
        model.zero_grad()
        model(torch.tensor(inputs)).backward()
        assert isinstance(model.linear.weight.grad, Tensor)
        assert model.linear.weight.grad.norm() == norm
        record.on_before_optimizer_step(trainer, model, None)
    model.eval()
    model(torch.tensor([[-1.0]]))  # of a validation: not counted
    model.train()
    record.on_train_epoch_end(trainer, model)
    assert trainer.callback_metrics == {"gradient_norm/linear": 4.0, "dead/active": 0.5}

    model(torch.tensor([[-1.0]])).backward()  # the other unit
    model(torch.tensor([[1.0]])).backward()
    record.on_before_optimizer_step(trainer, model, None)
    record.on_train_epoch_end(trainer, model)
    assert trainer.callback_metrics["dead/active"] == 0
    record.teardown(trainer, model, "fit")
    model(torch.tensor([[1.0]]))
    assert record.alive == {}


def test_other_activations_are_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    model, record = Two(), GradientNorms()
    model.active = nn.Sigmoid()  # type: ignore[assignment]
    record.setup(SimpleNamespace(), model, "fit")  # type: ignore[arg-type]
    assert record.hooks == []


class Reused(LightningModule):
    """One ReLU after two layers of different widths, and one of sequences of different lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Linear(1, 3), nn.Linear(3, 1)
        self.active, self.of_tokens = nn.ReLU(), nn.ReLU()
        with torch.no_grad():
            self.wide.weight.copy_(torch.tensor([[1.0], [1.0], [-1.0]]))
            self.narrow.weight.fill_(-1)
            self.wide.bias.zero_()
            self.narrow.bias.zero_()

    def forward(self, inputs: Tensor) -> Tensor:
        self.of_tokens(torch.zeros(2, int(inputs.sum()), 4))
        return self.active(self.narrow(self.active(self.wide(inputs))))


def test_a_relu_has_the_units_of_all_layers_before_it() -> None:
    model, record = Reused(), GradientNorms()
    strategy = SimpleNamespace(reduce=lambda alive, reduce_op: alive)
    trainer: Any = SimpleNamespace(callback_metrics={}, strategy=strategy)
    record.setup(trainer, model, "fit")
    model(torch.tensor([[1.0]]))
    model(torch.tensor([[2.0]]))
    record.on_train_epoch_end(trainer, model)
    assert trainer.callback_metrics == {"dead/active": 0.5}  # one of three, and the one of the other layer
