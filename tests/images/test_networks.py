import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from src.core.errors import ConfigurationError
from src.images.networks import (
    MLP,
    ConvNet,
    LeNet,
    ResidualBlock,
    ResidualNet,
    TimmNetwork,
    TorchvisionNetwork,
)
from src.images.pretrained import load_pretrained


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_lenet_has_the_shapes_of_the_course() -> None:
    network = LeNet((1, 28, 28), 10)
    shapes, x = [], torch.zeros(1, 1, 28, 28)
    for layer in network:
        x = layer(x)
        if not isinstance(layer, nn.Sigmoid):
            shapes.append(tuple(x.shape[1:]))
    assert shapes == [(6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (400,), (120,), (84,), (10,)]
    assert parameters_of(network) == 61_706


def test_lenet_adapts_to_the_image_size() -> None:
    assert LeNet((3, 32, 40), 7)(torch.zeros(2, 3, 32, 40)).shape == (2, 7)


def test_activation_and_pooling_of_lenet() -> None:
    kinds = {type(layer) for layer in LeNet((1, 28, 28), 10, "relu", "max")}
    assert {nn.ReLU, nn.MaxPool2d} < kinds
    assert not {nn.Sigmoid, nn.AvgPool2d} & kinds


@pytest.mark.parametrize(
    "build",
    [
        lambda: LeNet((1, 11, 28), 10),
        lambda: ConvNet((1, 28, 3), 10),
        lambda: ConvNet((1, 28, 7), 10, stages=[1, 1, 1, 1]),
        lambda: TorchvisionNetwork((1, 8, 8), 10, "squeezenet1_0"),
    ],
    ids=["LeNet", "ConvNet", "ConvNet of four stages", "squeezenet"],
)
def test_images_that_are_too_small_are_rejected(build: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"set prepare\.resize or choose another network") as caught:
        build()
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 20), (1, 4, 4)])
@pytest.mark.parametrize("kind", [ConvNet, ResidualNet])
def test_convolutions_accept_images_of_any_size(kind: Any, shape: tuple[int, int, int]) -> None:
    network = kind(shape, 10)
    assert network(torch.zeros(2, *shape)).shape == (2, 10)
    assert parameters_of(network) < 1_000_000


def test_a_residual_block_adds_a_change_to_its_input() -> None:
    block = ResidualBlock(3, 3)
    input = torch.rand(2, 3, 4, 4)
    assert not torch.equal(block(input), input)
    nn.init.zeros_(block.change[-1].weight)  # of the last batch norm
    assert torch.equal(block(input), input)
    assert torch.equal(block(-input), torch.zeros(2, 3, 4, 4))


def test_the_stages_of_a_residual_network_halve_the_sides() -> None:
    network, x = ResidualNet((3, 28, 28), 10, widths=[16, 48, 96], blocks=2), torch.zeros(2, 3, 28, 28)
    shapes = []
    for layer in network:
        x = layer(x)
        if isinstance(layer, ResidualBlock):
            shapes.append(tuple(x.shape[1:]))
    assert shapes == [*[(16, 28, 28)] * 2, *[(48, 14, 14)] * 2, *[(96, 7, 7)] * 2]
    assert parameters_of(ResidualNet((3, 32, 32), 10, blocks=3)) == 272_474


@pytest.mark.parametrize("widths", [[], [4, 8], [16, 7]])
def test_a_residual_network_has_eight_channels_at_least(widths: list[int]) -> None:
    with pytest.raises(ConfigurationError, match="expected at least 8 channels in each stage"):
        ResidualNet((1, 28, 28), 10, widths)


def test_torchvision_networks_are_built_by_name() -> None:
    network = TorchvisionNetwork((1, 32, 32), 5, "resnet18")
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 5)
    assert network.training
    with pytest.raises(ConfigurationError, match=r"model\.network\.name: lenet, expected one of .*resnet18"):
        TorchvisionNetwork((1, 32, 32), 5, "lenet")


def test_networks_with_auxiliary_classifiers_are_trained_without_them() -> None:
    network = TorchvisionNetwork((3, 32, 32), 5, "googlenet")
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 5)  # in training
    published = {
        name.removeprefix("network."): torch.ones_like(value) for name, value in network.state_dict().items()
    }
    load_pretrained(network, published | {"aux1.fc1.weight": torch.ones(1), "aux2.fc1.weight": torch.ones(1)})
    assert network.state_dict()["network.conv1.conv.weight"].min() == 1
    with pytest.raises(ConfigurationError, match=r"network\.fc1\.weight is not in the network"):
        load_pretrained(network, published | {"fc1.weight": torch.ones(1)})


def test_the_mlp_takes_pixels_and_the_arguments_of_the_common_mlp() -> None:
    network = MLP((3, 2, 2), 5, hidden_sizes=[4], activation="tanh", norm="batch", dropout=0.5)
    assert [type(layer) for layer in network] == [
        nn.Flatten,
        nn.Linear,
        nn.BatchNorm1d,
        nn.Tanh,
        nn.Dropout,
        nn.Linear,
    ]
    assert network(torch.zeros(2, 3, 2, 2)).shape == (2, 5)


# whose gradients torch refuses on a GPU (torch.use_deterministic_algorithms)
NOT_DETERMINISTIC = ("AdaptiveAvgPool", "AdaptiveMaxPool", "FractionalMaxPool", "ReflectionPad", "Upsample")


@pytest.mark.parametrize(
    "build",
    [
        lambda: LeNet((1, 28, 28), 10),
        lambda: LeNet((1, 28, 28), 10, pooling="max"),
        lambda: ConvNet((1, 28, 28), 10),
        lambda: ResidualNet((1, 28, 28), 10),
        lambda: MLP((1, 28, 28), 10, hidden_sizes=[4]),
        lambda: TorchvisionNetwork((1, 28, 28), 10, "resnet18"),
    ],
)
def test_gradients_are_deterministic_on_a_gpu(build: Callable[[], nn.Module]) -> None:
    todo, names = [build()(torch.zeros(2, 1, 28, 28)).grad_fn], set()
    while todo:
        names.add((node := todo.pop()).name())
        todo += [after for after, _ in node.next_functions if after is not None]
    assert len(names) > 1
    assert not [name for name in names if name.startswith(NOT_DETERMINISTIC)]


def test_convnet_takes_the_largest_value_of_the_whole_image() -> None:
    network = ConvNet((1, 22, 45), 3).eval()
    x = torch.rand(2, 1, 22, 45, generator=torch.Generator().manual_seed(0))
    *layers, pool, flatten, _, _ = network
    maps = nn.Sequential(*layers)(x)
    assert maps.shape == (2, 128, 5, 11)
    assert torch.equal(flatten(pool(maps)), maps.amax(dim=(2, 3)))


def test_channels_of_convnet_double_with_each_stage() -> None:
    network = ConvNet((3, 24, 16), 5, width=4, stages=[1, 2, 1, 2])
    shapes, x = [], torch.zeros(2, 3, 24, 16)
    for layer in network:
        x = layer(x)
        if isinstance(layer, nn.Conv2d):
            shapes.append(tuple(x.shape[1:]))
    assert shapes == [(4, 24, 16), (8, 12, 8), (8, 12, 8), (16, 6, 4), (32, 3, 2), (32, 3, 2)]
    assert x.shape == (2, 5)


@pytest.mark.parametrize("stages", [[], [1, 0, 2]])
def test_convnet_has_a_convolution_in_each_stage(stages: list[int]) -> None:
    with pytest.raises(ConfigurationError, match="at least one convolution in each stage"):
        ConvNet((1, 28, 28), 10, stages=stages)


def test_without_timm_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigurationError, match="the package timm is not installed; run: make setup EXTRAS"):
        TimmNetwork((3, 32, 32), 2, "resnet18")
