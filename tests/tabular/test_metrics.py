"""Metrics of probabilities, by hand."""

import math

import pytest
import torch

from src.tabular.metrics import probability_metrics
from src.tabular.quantities import quantity_metrics


def test_metrics_of_two_classes() -> None:
    positive = torch.tensor([0.9, 0.4, 0.6, 0.2])
    probabilities = torch.stack([1 - positive, positive], dim=1)
    found = probability_metrics(probabilities, torch.tensor([1, 1, 0, 0]), rare=1)
    right = [0.9, 0.4, 0.4, 0.8]
    assert found == pytest.approx(
        {
            "log_loss": -sum(map(math.log, right)) / 4,
            "brier": (0.01 + 0.36 + 0.36 + 0.04) / 4,
            # each row has a bin of its own: 0.9 and 0.8 are right, 0.6 twice in one bin is wrong
            "ece": (0.1 + 0.2 + 1.2) / 4,
            "roc_auc": 3 / 4,  # of the pairs of a positive and a negative row, one is out of order
            "pr_auc": (1 + 2 / 3) / 2,
        },
        rel=1e-6,
    )
    other = probability_metrics(probabilities, torch.tensor([1, 1, 0, 0]), rare=0)
    # from above: 0.8 right, 0.6 wrong, 0.4 right, 0.1 wrong
    assert other["pr_auc"] == pytest.approx((1 + 2 / 3) / 2)


def test_metrics_of_three_classes_are_means_over_those_with_rows() -> None:
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1]])
    found = probability_metrics(probabilities, torch.tensor([0, 1, 1]))
    # class 0: all in order; class 1: 0.8 and 0.3 before 0.2
    assert (found["roc_auc"], found["pr_auc"]) == (1, 1)
    squares = [0.3**2 + 0.2**2 + 0.1**2, 0.1**2 + 0.2**2 + 0.1**2, 0.6**2 + 0.7**2 + 0.1**2]
    assert found["brier"] == pytest.approx(sum(squares) / 3)


def test_one_class_has_no_curve() -> None:
    found = probability_metrics(torch.tensor([[0.5, 0.5]]), torch.tensor([0]), rare=1)
    assert set(found) == {"log_loss", "brier", "ece"}


@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (1013.0, 0.5), (1.0e5, 10.0)])
def test_r2_does_not_depend_on_the_mean(mean: float, spread: float) -> None:
    generator = torch.Generator().manual_seed(0)
    actual = (mean + spread * torch.randn(20_000, generator=generator)).float()
    answers = (actual + spread / 2 * torch.randn(20_000, generator=generator)).float()
    residuals, deviations = (answers - actual).double(), actual.double() - actual.double().mean()
    expected = 1 - float(residuals.square().sum() / deviations.square().sum())
    assert float(quantity_metrics(answers, actual, False)["r2"]) == pytest.approx(expected, abs=1e-4)
