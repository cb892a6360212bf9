import math

import pytest
import torch
from lightning import LightningModule
from torch import Tensor, nn

from src.training.calibration import fit_temperature, outputs_of


def test_a_temperature_makes_the_confidence_that_of_the_hits() -> None:
    # 3 of 4 are right: at the best temperature the probability is 3 / 4, so 6 / temperature = log 3
    logits = torch.tensor([[6.0, 0], [6, 0], [6, 0], [6, 0]])
    assert fit_temperature(logits, torch.tensor([0, 0, 0, 1])) == pytest.approx(6 / math.log(3), rel=1e-3)
    assert fit_temperature(logits / 60, torch.tensor([0, 0, 0, 1])) == pytest.approx(0.1)  # the coldest
    assert fit_temperature(logits, torch.tensor([1, 1, 1, 1])) == pytest.approx(10)  # the warmest


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("given", "found"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
)
def test_outputs_are_those_of_evaluation_in_the_order_of_the_examples(
    training: bool, given: torch.dtype, found: torch.dtype
) -> None:
    module = LightningModule()
    module.noise = nn.Dropout(0.5)
    module.train(training)
    sizes: list[int] = []

    def both(features: Tensor, weights: Tensor) -> Tensor:
        sizes.append(len(features))
        return module.noise(features) * weights

    features = torch.arange(5, dtype=given)[:, None]
    outputs = outputs_of(module, both, (features, 2 * torch.ones_like(features)), 2)
    assert outputs.dtype == found
    assert outputs[:, 0].tolist() == [0, 2, 4, 6, 8]
    assert sizes == [2, 2, 1]
    assert module.training == module.noise.training == training
