import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src.core.errors import ConfigurationError
from src.training.networks import INITIALISATIONS, MLP, require_outputs


def linears(network: nn.Module) -> list[nn.Linear]:
    return [module for module in network if isinstance(module, nn.Linear)]


def activated(activation: Any, points: list[float]) -> list[float]:
    """What the activation of a hidden layer makes of points."""
    module = MLP(1, 1, [len(points)], activation).eval()[1]
    return module(torch.tensor([points]))[0].tolist()


def test_the_forward_pass_of_two_hidden_layers_by_hand() -> None:
    network = MLP(2, 2, [3, 2], activation="sigmoid")
    weights = [
        [[0.1, 0.3, 0.5], [0.2, 0.4, 0.6]],
        [[0.1, 0.4], [0.2, 0.5], [0.3, 0.6]],
        [[0.1, 0.3], [0.2, 0.4]],
    ]
    biases = [[0.1, 0.2, 0.3], [0.1, 0.2], [0.1, 0.2]]
    with torch.no_grad():
        for linear, weight, bias in zip(linears(network), weights, biases, strict=True):
            # written as rows of inputs; torch keeps rows of outputs
            linear.weight.copy_(torch.tensor(weight).T)
            linear.bias.copy_(torch.tensor(bias))
        output = network(torch.tensor([[1.0, 0.5]]))
    assert output[0].tolist() == pytest.approx([0.31682708, 0.69627909], abs=1e-7)


def test_two_hidden_layers_of_4_have_46_parameters() -> None:
    network = MLP(3, 2, [4, 4])
    counts = [sum(parameter.numel() for parameter in linear.parameters()) for linear in linears(network)]
    assert counts == [16, 20, 10]
    assert sum(parameter.numel() for parameter in network.parameters()) == 46


def test_without_hidden_layers_the_network_is_linear() -> None:
    network = MLP(3, 2, [])
    assert [type(module) for module in network] == [nn.Linear]
    assert network[0].weight.shape == (2, 3)


@pytest.mark.parametrize(("norm", "kind"), [("batch", nn.BatchNorm1d), ("layer", nn.LayerNorm)])
def test_a_hidden_layer_is_linear_then_norm_then_activation_then_dropout(norm: str, kind: type) -> None:
    network = MLP(3, 2, [4, 5], activation=["tanh", "elu"], norm=norm, dropout=0.25)
    first = [nn.Linear, kind, nn.Tanh, nn.Dropout]
    second = [nn.Linear, kind, nn.ELU, nn.Dropout]
    assert [type(module) for module in network] == [*first, *second, nn.Linear]
    assert [tuple(linear.weight.shape) for linear in linears(network)] == [(4, 3), (5, 4), (2, 5)]
    assert network[1].weight.shape == (4,)
    assert network[3].p == 0.25


def test_norm_and_dropout_may_be_left_out() -> None:
    assert [type(module) for module in MLP(3, 2, [4])] == [nn.Linear, nn.ReLU, nn.Linear]


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_dropout_that_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(ConfigurationError, match="dropout"):
        MLP(3, 2, [4], dropout=share)


def test_softmax_of_literal_scores() -> None:
    expected = [1.22458e-4, 9.04848e-4, 6.685975e-3, 0.9922867]
    assert activated("softmax", [1.0, 3.0, 5.0, 10.0]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ({"leaky_relu": {"negative_slope": 0.1}}, [-0.2, 3]),
        ({"prelu": {"init": 0.5}}, [-1, 3]),
        ({"rrelu": {"lower": 0.2, "upper": 0.4}}, [-0.6, 3]),
        ({"elu": {"alpha": 2}}, [2 * (math.exp(-2) - 1), 3]),
        ({"softplus": {"beta": 2}}, [math.log(1 + math.exp(-4)) / 2, math.log(1 + math.exp(6)) / 2]),
        ({"relu": None}, [0, 3]),
    ],
)
def test_an_activation_takes_arguments(activation: Any, expected: list[float]) -> None:
    assert activated(activation, [-2.0, 3.0]) == pytest.approx(expected, abs=1e-6)


def test_a_step_passes_no_gradient_on() -> None:
    network = MLP(2, 1, [3], activation="step")
    network(torch.ones(4, 2)).sum().backward()
    assert network[0].weight.grad is None or not network[0].weight.grad.any()
    assert network[2].bias.grad.item() == 4


def test_each_hidden_layer_may_have_its_own_activation() -> None:
    network = MLP(2, 1, [3, 3], activation=["silu", {"leaky_relu": {"negative_slope": 0.3}}])
    assert isinstance(network[1], nn.SiLU)
    assert network[3].negative_slope == 0.3


@pytest.mark.parametrize(
    "activation",
    ["swish", {"swish": {}}, {}, {"relu": {}, "tanh": {}}, {"leaky_relu": {"slope": 0.1}}, ["relu", "swish"]],
)
def test_an_activation_that_is_not_known_is_refused_by_key(activation: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^activation: .*(swish|\{\}|relu|slope)"):
        MLP(2, 1, [3, 3], activation=activation)


@pytest.mark.parametrize(
    ("choices", "complaint"),
    [
        ({"activation": ["relu"]}, "activation: 1 values for 2 layers"),
        ({"activation": ["relu"] * 3}, "activation: 3 values for 2 layers"),
        ({"initialisation": ["zeros"] * 2}, "initialisation: 2 values for 3 layers"),
    ],
)
def test_a_list_of_another_length_than_the_layers_is_refused(choices: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{complaint}$"):
        MLP(2, 1, [3, 3], **choices)


WIDE = 400


def first_weight(initialisation: Any, outputs: int = WIDE) -> Tensor:
    torch.manual_seed(0)
    return linears(MLP(WIDE, 1, [outputs], initialisation=initialisation))[0].weight.detach()


@pytest.mark.parametrize(
    ("initialisation", "value"),
    [("zeros", 0), ("ones", 1), ({"constant": {"k": 0.25}}, 0.25), ({"constant": {"val": -2}}, -2)],
)
def test_constant_initialisations_fill_the_weights(initialisation: Any, value: float) -> None:
    assert (first_weight(initialisation) == value).all()


def test_eye_passes_the_inputs_on() -> None:
    assert torch.equal(first_weight("eye", outputs=3), torch.eye(3, WIDE))


@pytest.mark.parametrize(
    ("initialisation", "mean", "deviation"),
    [
        ({"normal": {"sigma": 0.01}}, 0, 0.01),
        ({"normal": {"std": 0.3, "mean": 2}}, 2, 0.3),
        ("normal", 0, 1),
        # 400 inputs and 600 outputs: 2 / (400 + 600) and 2 / 400 are the variances of Glorot and He
        ("xavier_normal", 0, math.sqrt(2 / 1000)),
        ("kaiming_normal", 0, math.sqrt(2 / 400)),
        ({"kaiming_normal": {"mode": "fan_out"}}, 0, math.sqrt(2 / 600)),
    ],
)
def test_normal_initialisations_have_their_spread(initialisation: Any, mean: float, deviation: float) -> None:
    weight = first_weight(initialisation, outputs=600)
    assert weight.mean().item() == pytest.approx(mean, abs=0.02 * deviation)
    assert weight.std().item() == pytest.approx(deviation, rel=0.02)
    # a normal distribution has values beyond what a uniform one of this deviation can have
    assert (weight - mean).abs().max().item() > 2 * deviation


@pytest.mark.parametrize(
    ("initialisation", "low", "high"),
    [
        ({"uniform": {"a": -0.1, "b": 0.3}}, -0.1, 0.3),
        ("uniform", 0, 1),
        ("xavier_uniform", -math.sqrt(6 / 1000), math.sqrt(6 / 1000)),
        ("kaiming_uniform", -math.sqrt(6 / 400), math.sqrt(6 / 400)),
        # what torch does by itself
        ("default", -1 / math.sqrt(400), 1 / math.sqrt(400)),
    ],
)
def test_uniform_initialisations_have_their_bounds(initialisation: Any, low: float, high: float) -> None:
    weight = first_weight(initialisation, outputs=600)
    margin = 0.001 * (high - low)
    assert low - 1e-6 <= weight.min().item() < low + margin
    assert high - margin < weight.max().item() <= high + 1e-6
    assert weight.mean().item() == pytest.approx((low + high) / 2, abs=10 * margin)


@pytest.mark.parametrize("name", sorted(set(INITIALISATIONS) - {"constant"}))
def test_biases_start_at_0_and_every_layer_is_initialised(name: str) -> None:
    torch.manual_seed(0)
    defaults = linears(MLP(4, 4, [4, 4]))
    torch.manual_seed(0)
    found = linears(MLP(4, 4, [4, 4], initialisation=name))
    for default, linear in zip(defaults, found, strict=True):
        assert not linear.bias.any()
        assert not torch.equal(linear.weight, default.weight)


def test_each_linear_layer_may_have_its_own_initialisation() -> None:
    network = MLP(2, 1, [3, 3], initialisation=["zeros", {"constant": {"k": 5}}, "ones"])
    assert [linear.weight.unique().tolist() for linear in linears(network)] == [[0], [5], [1]]


@pytest.mark.parametrize(
    "initialisation", ["random", {"normal": {"variance": 1}}, "constant", {"normal": {"std": "wide"}}]
)
def test_an_initialisation_that_is_not_known_is_refused_by_key(initialisation: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^initialisation: "):
        MLP(2, 1, [3], initialisation=initialisation)


def test_shared_hidden_layers_are_one_object() -> None:
    network = MLP(2, 1, [3, 3, 3, 3], share_hidden=True)
    layers = linears(network)
    assert layers[1] is layers[2] is layers[3]
    assert layers[0] is not layers[1]
    # 2*3+3, 3*3+3 once, 3*1+1
    assert sum(parameter.numel() for parameter in network.parameters()) == 9 + 12 + 4


def test_a_gradient_step_keeps_shared_layers_tied() -> None:
    torch.manual_seed(0)
    network = MLP(2, 1, [3, 3, 3], activation="tanh", share_hidden=True)
    apart = copy.deepcopy(network)
    apart[4] = copy.deepcopy(apart[2])
    start = network[2].weight.detach().clone()
    for module in (network, apart):
        module(torch.tensor([[1.0, -0.5], [0.2, 0.3]])).square().sum().backward()
    # the shared layer collects the gradients of all its uses
    torch.testing.assert_close(network[2].weight.grad, apart[2].weight.grad + apart[4].weight.grad)
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    assert network[2] is network[4]
    torch.testing.assert_close(network[4].weight, start - 0.1 * network[2].weight.grad)


@pytest.mark.parametrize("sizes", [[3, 4], [3, 3, 2]])
def test_layers_of_different_sizes_cannot_be_shared(sizes: list[int]) -> None:
    with pytest.raises(ConfigurationError, match=r"share_hidden needs equal hidden_sizes"):
        MLP(2, 1, sizes, share_hidden=True)


class Outputs(nn.Module):
    """A network with a fixed output, whose parts are in different modes."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output
        self.kept = nn.Dropout().eval()
        self.trained = nn.Dropout()

    def forward(self, input: Tensor) -> Any:
        assert not self.trained.training
        torch.rand(1)
        return self.output


@pytest.mark.parametrize(
    ("output", "found"), [(torch.zeros(2, 4), r"\(2, 4\)"), (torch.zeros(2), r"\(2,\)"), ((1, 2), "tuple")]
)
def test_outputs_of_another_shape_are_refused(output: Any, found: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"gives {found} for two examples, expected \(2, 3\)"):
        require_outputs(Outputs(output), torch.zeros(2, 5), 3)


def test_a_network_that_fails_is_named_before_the_training() -> None:
    with pytest.raises(ConfigurationError, match=r"Linear fails for inputs of shape \(2, 5\): mat1 .*=1\)"):
        require_outputs(nn.Linear(4, 3), torch.zeros(2, 5), 3)


def test_a_network_that_is_tried_keeps_its_modes_and_the_random_numbers() -> None:
    network = Outputs(torch.zeros(2, 3))
    torch.manual_seed(0)
    require_outputs(network, torch.zeros(2, 5), 3)
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.rand(1) == after
    assert [module.training for module in network.modules()] == [True, False, True]
