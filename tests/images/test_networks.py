import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.nn import functional

from src.core.errors import ConfigurationError
from src.images.networks import (
    MLP,
    Affine,
    ConvNet,
    LeNet,
    ReLU,
    Sigmoid,
    SoftmaxWithLoss,
    TorchvisionNetwork,
    central_differences,
    feature_maps,
    numerical_gradients,
)

WAYS = ("autograd", "manual", "numerical")


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_convolution_of_the_course() -> None:
    image, kernel = torch.arange(9.0).view(1, 1, 3, 3), torch.arange(4.0).view(1, 1, 2, 2)
    assert functional.conv2d(image, kernel)[0, 0].tolist() == [[19, 25], [37, 43]]


def test_the_size_of_a_map_is_told_with_its_formula() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, stride=3), nn.ReLU(), nn.MaxPool2d(2))
    (conv, maps), (pool, pooled) = feature_maps(network, torch.zeros(1, 1, 4, 4))
    assert conv == "Conv2d: 2 x 2 x 2; (4 + 2*1 - 3) / 3 + 1 = 2"
    assert pool == "MaxPool2d: 2 x 1 x 1; (2 + 2*0 - 2) / 2 + 1 = 1"
    assert (maps.shape, pooled.shape) == ((2, 2, 2), (2, 1, 1))


def test_the_gradient_of_the_course_by_differences() -> None:
    point = doubles(1, 1)
    found = central_differences(lambda: point[0] ** 2 + point[0] * point[1] + point[1] ** 2, point, range(2))
    assert found.tolist() == pytest.approx([3, 3], abs=1e-9)
    assert point.tolist() == [1, 1]


def test_the_loss_of_the_course_has_gradient_8() -> None:
    x = doubles(2).requires_grad_()
    loss = 2 * (x**2 + 3)
    loss.backward()
    assert (loss.item(), x.grad) == (14, doubles(8))
    plain = doubles(2)
    slope = central_differences(lambda: 2 * (plain[0] ** 2 + 3), plain, [0])
    assert slope.item() == pytest.approx(8, abs=1e-9)


def test_lenet_has_the_shapes_of_the_course() -> None:
    network = LeNet((1, 28, 28), 10)
    shapes, x = [], torch.zeros(1, 1, 28, 28)
    for layer in network:
        x = layer(x)
        if not isinstance(layer, nn.Sigmoid):
            shapes.append(tuple(x.shape[1:]))
    assert shapes == [(6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (400,), (120,), (84,), (10,)]
    assert parameters_of(network) == 61_706


def test_lenet_takes_its_sizes_from_the_data() -> None:
    assert LeNet((3, 32, 40), 7)(torch.zeros(2, 3, 32, 40)).shape == (2, 7)


def test_lenet_has_keys_for_activation_and_pooling() -> None:
    kinds = {type(layer) for layer in LeNet((1, 28, 28), 10, "relu", "max")}
    assert {nn.ReLU, nn.MaxPool2d} < kinds
    assert not {nn.Sigmoid, nn.AvgPool2d} & kinds


@pytest.mark.parametrize(
    "build",
    [
        lambda: LeNet((1, 11, 28), 10),
        lambda: ConvNet((1, 28, 3), 10),
        lambda: TorchvisionNetwork((1, 8, 8), 10, "alexnet"),
    ],
    ids=["LeNet", "ConvNet", "alexnet"],
)
def test_pictures_that_are_too_small_are_refused(build: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"set prepare\.resize or take another network") as caught:
        build()
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 20), (1, 4, 4)])
def test_convnet_answers_for_any_size(shape: tuple[int, int, int]) -> None:
    network = ConvNet(shape, 10)
    assert network(torch.zeros(2, *shape)).shape == (2, 10)
    assert parameters_of(network) < 1_000_000


def test_torchvision_networks_go_by_name() -> None:
    network = TorchvisionNetwork((1, 32, 32), 5, "resnet18")
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 5)
    assert network.training
    with pytest.raises(ConfigurationError, match=r"torchvision has no lenet; it has .*resnet18"):
        TorchvisionNetwork((1, 32, 32), 5, "lenet")


def test_the_two_layer_net_of_the_course() -> None:
    torch.manual_seed(0)
    network = MLP((1, 28, 28), 10, [50])
    assert parameters_of(network) == 784 * 50 + 50 + 50 * 10 + 10
    first, last = network[1], network[3]
    assert first.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not first.bias.any()
    assert last.weight.shape == (10, 50)
    assert parameters_of(MLP((1, 28, 28), 10, [50, 100])) == 784 * 50 + 50 + 50 * 100 + 100 + 1010


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
    network = MLP((1, 3, 3), 3, [5], activation, standard_deviation=0.5, gradient=gradient).to(dtype)
    images, target = torch.rand(steps, 8, 1, 3, 3, dtype=dtype), torch.randint(0, 3, (steps, 8))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for inputs, classes in zip(images, target, strict=True):
        optimizer.zero_grad()
        network.loss(network(inputs), classes, 0.0).backward()
        optimizer.step()
    return [parameter.detach() for parameter in network.parameters()]


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_training_by_hand_is_training_by_autograd(activation: Any) -> None:
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
        network = MLP((1, 2, 2), 3, [4, 3], activation, 0.7, gradient=way).double()  # type: ignore[arg-type]
        network.loss(network(images), target, 0.0).backward()
        found[way] = {name: parameter.grad for name, parameter in network.named_parameters()}  # type: ignore[misc]
    for way in ("manual", "numerical"):
        for name, wanted in found["autograd"].items():
            torch.testing.assert_close(found[way][name], wanted, rtol=0, atol=1e-8)


def test_numerical_gradients_leave_parameters_and_generator_alone() -> None:
    network = MLP((1, 2, 2), 3, [4], gradient="numerical")
    images, before = torch.rand(2, 1, 2, 2), [p.detach().clone() for p in network.parameters()]
    state = torch.get_rng_state()
    gradients = numerical_gradients(network, images, torch.tensor([0, 2]))
    assert torch.equal(torch.get_rng_state(), state)
    assert list(gradients) == [name for name, _ in network.named_parameters()]
    assert all(torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True))


def test_the_numerical_loss_is_the_loss() -> None:
    network = MLP((1, 2, 2), 3, [4], gradient="numerical")
    images, target = torch.rand(2, 1, 2, 2), torch.tensor([0, 2])
    loss = network.loss(network(images), target, 0.1)
    logits = network.eval()(images)
    assert loss.item() == pytest.approx(functional.cross_entropy(logits, target, label_smoothing=0.1).item())
    assert math.isfinite(loss.item())


def test_label_smoothing_is_refused_where_the_loss_is_written_by_hand() -> None:
    network = MLP((1, 2, 2), 3, [4], gradient="manual")
    with pytest.raises(ConfigurationError, match="label_smoothing"):
        network.loss(network(torch.rand(2, 1, 2, 2)), torch.tensor([0, 2]), 0.1)
