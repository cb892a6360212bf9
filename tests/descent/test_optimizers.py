from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from src.descent.evaluate import OPTIMIZERS, Setting, descend
from src.descent.optimizers import AdaGrad, Adam, GradientDescent, Momentum, RMSprop
from src.descent.surfaces import SURFACES

BOWL = SURFACES["bowl"]
START = [-7.0, 2.0]
# torch's defaults, but for the eps of the course where it matters
TWINS: dict[str, Any] = {
    "sgd": partial(torch.optim.SGD, lr=0.01),
    "momentum": partial(torch.optim.SGD, lr=0.01, momentum=0.9),
    "adagrad": partial(torch.optim.Adagrad, lr=0.9, eps=1e-7),  # torch's own eps is 1e-10
    "rmsprop": partial(torch.optim.RMSprop, lr=0.1, alpha=0.99),
    "adam": partial(torch.optim.Adam, lr=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_paths_equal_those_of_torch(name: str) -> None:
    ours, _ = descend(BOWL, START, OPTIMIZERS[name])
    theirs, _ = descend(BOWL, START, OPTIMIZERS[name]._replace(optimizer=TWINS[name]))
    assert len(ours) == OPTIMIZERS[name].steps + 1
    assert np.abs(ours - theirs).max() < 1e-6
    assert np.abs(ours[0] - ours[-1]).max() > 1


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        # the gradient at (-7, 2) is (-0.7, 4)
        (partial(GradientDescent, lr=0.5), [-6.65, 0]),
        (partial(Momentum, lr=0.5), [-6.65, 0]),
        (partial(AdaGrad, lr=0.9, eps=0.0), [-6.1, 1.1]),
        (partial(AdaGrad, lr=0.9, eps=0.3), [-7 + 0.9 * 0.7, 2 - 0.9 * 4 / 4.3]),
        (partial(RMSprop, lr=0.1, alpha=0.75, eps=0.0), [-6.8, 1.8]),
        (partial(Adam, lr=0.1, eps=0.0), [-6.9, 1.9]),
    ],
)
def test_a_first_step_by_hand(optimizer: Any, expected: list[float]) -> None:
    path, _ = descend(BOWL, START, Setting(optimizer, 1))
    assert path[1].tolist() == pytest.approx(expected)


def test_adagrad_differs_from_torch_in_its_eps_only() -> None:
    ours, _ = descend(BOWL, START, OPTIMIZERS["adagrad"])
    default, _ = descend(BOWL, START, Setting(partial(torch.optim.Adagrad, lr=0.9), 500))
    alike, _ = descend(BOWL, START, Setting(partial(AdaGrad, lr=0.9, eps=1e-10), 500))
    assert np.abs(alike - default).max() < 1e-12 < np.abs(ours - default).max() < 1e-6


def test_momentum_differs_from_torch_under_a_schedule() -> None:
    halved = partial(lr_scheduler.MultiStepLR, milestones=[1], gamma=0.5)
    ours, _ = descend(BOWL, START, Setting(partial(Momentum, lr=0.1), 2, halved))
    theirs, _ = descend(BOWL, START, Setting(partial(torch.optim.SGD, lr=0.1, momentum=0.9), 2, halved))
    # both: v = 0.1 g, so x1 = -7 + 0.07; then g = -0.693 with the rate 0.05
    assert ours[1, 0] == theirs[1, 0] == pytest.approx(-6.93)
    assert ours[2, 0] == pytest.approx(-6.93 + 0.9 * 0.07 + 0.05 * 0.693)
    assert theirs[2, 0] == pytest.approx(-6.93 + 0.05 * (0.9 * 0.7 + 0.693))


def test_a_closure_is_called_once_with_gradients() -> None:
    x = torch.tensor([2.0], requires_grad=True)
    optimizer = GradientDescent([x], lr=0.25)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (x**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 4
    assert x.item() == 1
