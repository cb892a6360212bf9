"""Predicted quantities in their unit, and their metrics.

B rows
"""

from torch import Tensor
from torchmetrics.functional import mean_absolute_error, mean_squared_error, r2_score

from src.tabular.losses import log_rmse
from src.tabular.preprocessing import Target


def in_unit(values: Tensor, target: Target) -> Tensor:
    """Values (B,) of a prepared target in its unit."""
    values = values * target.scale + target.center
    return values.exp() if target.log else values


def quantity_metrics(answers: Tensor, actual: Tensor, at_least_one: bool) -> dict[str, Tensor]:
    """The metrics of answers (B,) to a quantity (B,), both in its unit.

    Args:
        answers: predicted.
        actual: the quantity.
        at_least_one: whether all its values are 1 or above: then log_rmse is one of the metrics.
    """
    metrics = {
        "rmse": mean_squared_error(answers, actual, squared=False),
        "mae": mean_absolute_error(answers, actual),
        # float32 would lose the spread of a quantity with a large mean
        "r2": r2_score(answers.double(), actual.double()).float(),
    }
    return metrics | ({"log_rmse": log_rmse(answers, actual)} if at_least_one else {})
