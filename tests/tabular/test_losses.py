import math

import pytest
import torch

from src.tabular.losses import log_rmse, perceptron_loss, weight_penalty
from src.training.networks import MLP


def test_log_rmse_is_the_root_of_the_mean_squared_difference_of_logarithms() -> None:
    prediction = torch.tensor([math.e, math.e**3])
    target = torch.tensor([math.e**2, math.e**5])
    assert log_rmse(prediction, target).item() == pytest.approx(math.sqrt((1 + 4) / 2), abs=1e-6)


def test_log_rmse_takes_everything_below_1_for_1() -> None:
    prediction = torch.tensor([-5.0, 0.5, math.e**3, 1.0])
    target = torch.tensor([0.0, math.e, 0.3, 1.0])
    assert log_rmse(prediction, target).item() == pytest.approx(math.sqrt((0 + 1 + 9 + 0) / 4), abs=1e-6)


def test_log_rmse_has_a_finite_gradient_where_every_prediction_is_right() -> None:
    prediction = torch.tensor([2.0, 3.0], requires_grad=True)
    log_rmse(prediction, torch.tensor([2.0, 3.0])).backward()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()


def small_network() -> MLP:
    network = MLP(2, 1, [2], norm="batch")
    with torch.no_grad():
        for linear, weight in zip(
            (network[0], network[3]), ([[1.0, -2.0], [0.5, 0.0]], [[3.0, -1.0]]), strict=True
        ):
            linear.weight.copy_(torch.tensor(weight))
            linear.bias.fill_(100)
    return network


@pytest.mark.parametrize(
    ("l1", "l2", "expected"),
    [(0, 0, 0), (0.1, 0, 0.1 * 7.5), (0, 0.2, 0.1 * 15.25), (0.1, 0.2, 0.75 + 1.525)],
)
def test_penalties_count_weights_but_no_biases_and_norms(l1: float, l2: float, expected: float) -> None:
    assert weight_penalty(small_network(), l1, l2).item() == pytest.approx(expected, abs=1e-6)


def test_a_shared_layer_is_penalised_once() -> None:
    network = MLP(1, 1, [1, 1, 1], share_hidden=True, initialisation="ones")
    assert weight_penalty(network, 1.0, 0.0).item() == 3


def test_the_l2_penalty_steps_like_weight_decay() -> None:
    network, decayed = small_network(), small_network()
    decayed.load_state_dict(network.state_dict())
    weight_penalty(network, 0.0, 0.3).backward()
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    weights = [decayed[0].weight, decayed[3].weight]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    torch.optim.SGD(weights, lr=0.1, weight_decay=0.3).step()
    for stepped, expected in zip(network.parameters(), decayed.parameters(), strict=True):
        torch.testing.assert_close(stepped, expected)
    assert network[0].weight[0, 1].item() == pytest.approx(-2 * (1 - 0.1 * 0.3))


def test_the_l1_penalty_steps_by_the_sign() -> None:
    network = small_network()
    weight_penalty(network, 0.3, 0.0).backward()
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    expected = [[1 - 0.03, -2 + 0.03], [0.5 - 0.03, 0]]
    torch.testing.assert_close(network[0].weight, torch.tensor(expected))


def test_the_perceptron_loss_is_of_misclassified_points() -> None:
    outputs = torch.tensor([[2.0], [-3.0], [0.5], [-1.0]])
    assert perceptron_loss(outputs, torch.tensor([1, 0, 0, 1])).item() == (0.5 + 1.0) / 4
    assert perceptron_loss(outputs, torch.tensor([1, 0, 1, 0])).item() == 0
