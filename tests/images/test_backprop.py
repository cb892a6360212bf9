import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.nn import functional

from src.core.errors import ConfigurationError
from src.images.backprop import (
    Affine,
    BackpropMLP,
    ReLU,
    Sigmoid,
    SoftmaxWithLoss,
    central_differences,
    numerical_gradients,
)

WAYS = ("autograd", "manual", "numerical")


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_central_differences_of_the_functions_of_the_course() -> None:
    point = doubles(1, 1)
    found = central_differences(lambda: point[0] ** 2 + point[0] * point[1] + point[1] ** 2, point, range(2))
    assert found.tolist() == pytest.approx([3, 3], abs=1e-9)
    assert point.tolist() == [1, 1]
    x = doubles(2)
    assert central_differences(lambda: 2 * (x[0] ** 2 + 3), x, [0]).item() == pytest.approx(8, abs=1e-9)


def test_the_two_layer_net_of_the_course() -> None:
    torch.manual_seed(0)
    network = BackpropMLP((1, 28, 28), 10, [50])
    assert parameters_of(network) == 784 * 50 + 50 + 50 * 10 + 10
    first, last = network[1], network[3]
    assert first.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not first.bias.any()
    assert last.weight.shape == (10, 50)
    assert parameters_of(BackpropMLP((1, 28, 28), 10, [50, 100])) == 784 * 50 + 50 + 50 * 100 + 100 + 1010


@pytest.mark.parametrize(
    ("function", "shapes"),
    [(Affine, [(4, 3), (2, 3), (2,)]), (ReLU, [(4, 3)]), (Sigmoid, [(4, 3)])],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_backward_written_by_hand(function: Any, shapes: list[tuple[int, ...]]) -> None:
    torch.manual_seed(1)
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert gradcheck(function.apply, inputs)


def test_backward_of_softmax_with_loss_written_by_hand() -> None:
    torch.manual_seed(1)
    logits = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 3, 1, 1, 2])
    assert gradcheck(lambda values: SoftmaxWithLoss.apply(values, target), [logits])
    assert SoftmaxWithLoss.apply(logits, target).item() == pytest.approx(
        functional.cross_entropy(logits, target).item()
    )


def test_softmax_with_loss_of_large_logits() -> None:
    logits = torch.tensor([[1000.0, 0.0]], requires_grad=True)
    loss = SoftmaxWithLoss.apply(logits, torch.tensor([1]))
    loss.backward()
    assert loss.item() == 1000
    assert logits.grad is not None
    assert logits.grad.tolist() == [[1, -1]]


def trained(gradient: Any, steps: int, activation: Any, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """The weights of a small net after some steps of SGD."""
    torch.manual_seed(3)
    network = BackpropMLP((1, 3, 3), 3, [5], activation, standard_deviation=0.5, gradient=gradient).to(dtype)
    images, target = torch.rand(steps, 8, 1, 3, 3, dtype=dtype), torch.randint(0, 3, (steps, 8))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for inputs, classes in zip(images, target, strict=True):
        optimizer.zero_grad()
        network.loss(network(inputs), classes, 0.0).backward()
        optimizer.step()
    return [parameter.detach() for parameter in network.parameters()]


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_training_with_manual_gradients_equals_autograd(activation: Any) -> None:
    start, expected = trained("autograd", 0, activation), trained("autograd", 50, activation)
    assert not torch.allclose(start[0], expected[0], atol=1e-3)
    for found, wanted in zip(trained("manual", 50, activation), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    differences = trained("numerical", 5, activation, torch.float64)
    for found, wanted in zip(differences, trained("autograd", 5, activation, torch.float64), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-7)


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_the_three_gradients_agree(activation: Any) -> None:
    found: dict[str, dict[str, Tensor]] = {}
    torch.manual_seed(5)
    images, target = torch.rand(6, 1, 2, 2, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 1, 0])
    for way in WAYS:
        torch.manual_seed(4)
        network = BackpropMLP((1, 2, 2), 3, [4, 3], activation, 0.7, way).double()  # type: ignore[arg-type]
        network.loss(network(images), target, 0.0).backward()
        found[way] = {name: parameter.grad for name, parameter in network.named_parameters()}  # type: ignore[misc]
    for way in ("manual", "numerical"):
        for name, wanted in found["autograd"].items():
            torch.testing.assert_close(found[way][name], wanted, rtol=0, atol=1e-8)


def test_numerical_gradients_change_neither_parameters_nor_generator() -> None:
    network = BackpropMLP((1, 2, 2), 3, [4], gradient="numerical")
    images, before = torch.rand(2, 1, 2, 2), [p.detach().clone() for p in network.parameters()]
    state = torch.get_rng_state()
    gradients = numerical_gradients(network, images, torch.tensor([0, 2]))
    assert torch.equal(torch.get_rng_state(), state)
    assert list(gradients) == [name for name, _ in network.named_parameters()]
    assert all(torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True))


def test_the_numerical_loss_is_the_loss() -> None:
    network = BackpropMLP((1, 2, 2), 3, [4], gradient="numerical")
    images, target = torch.rand(2, 1, 2, 2), torch.tensor([0, 2])
    loss = network.loss(network(images), target, 0.1)
    logits = network.eval()(images)
    assert loss.item() == pytest.approx(functional.cross_entropy(logits, target, label_smoothing=0.1).item())
    assert math.isfinite(loss.item())


def test_label_smoothing_is_rejected_with_manual_gradients() -> None:
    network = BackpropMLP((1, 2, 2), 3, [4], gradient="manual")
    with pytest.raises(ConfigurationError, match="label_smoothing"):
        network.loss(network(torch.rand(2, 1, 2, 2)), torch.tensor([0, 2]), 0.1)
