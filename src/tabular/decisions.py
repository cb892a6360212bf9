"""What a model of tables learns for its decisions: class weights, and from validation rows the threshold of
two classes and the margin of prediction intervals. The temperature is in src.training.calibration.

N rows, C classes
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from src.core.errors import ConfigurationError
from src.tabular.preprocessing import Target

ThresholdMetric = Literal["accuracy", "balanced_accuracy", "f1"]


def require_decisions(
    targets: Sequence[Target], loss: str, interval: float | None, **of_classes: Any
) -> None:
    """Refuse decisions that do not fit the target.

    Args:
        targets: of the model.
        loss: its name.
        interval: the key of the model.
        **of_classes: likewise class_weights, calibrate and threshold.

    Raises:
        ConfigurationError: a decision does not fit.
    """
    classes = targets[0].classes
    asked = [name for name, value in of_classes.items() if value not in (None, False)]
    if asked and (classes is None or loss == "perceptron"):
        reason = "a target of regression" if classes is None else "the loss perceptron"
        raise ConfigurationError(f"{asked[0]} does not fit {reason}")
    if asked and len(targets) > 1:
        raise ConfigurationError(f"{asked[0]} is for one target; there are {len(targets)}")
    if interval is not None and classes is not None:
        raise ConfigurationError("interval does not fit a target of classification")
    threshold = of_classes["threshold"]
    if threshold is not None and classes is not None and len(classes) != 2:
        raise ConfigurationError(f"threshold needs two classes, the target has {len(classes)}")
    if isinstance(threshold, dict) and len(threshold) != 1:
        raise ConfigurationError(f"threshold: expected one class, found {len(threshold)}")


def by_class(given: dict[str, float], classes: Sequence[str], key: str) -> dict[int, float]:
    """The values of a key by the code of the class.

    Raises:
        ConfigurationError: a class is unknown.
    """
    for name in given:
        if str(name) not in classes:
            known = ", ".join(map(repr, classes[:6]))
            raise ConfigurationError(f"{key}: found the class {name!r}, expected of {known} (in quotes)")
    return {classes.index(str(name)): value for name, value in given.items()}


def balanced_weights(counts: Tensor) -> Tensor:
    """Weights with which every class counts alike and the mean over the rows is 1.

    Args:
        counts: the training rows of each class (C,).

    Returns:
        (C,) float32: rows / (classes * rows of the class).
    """
    return (counts.sum() / (len(counts) * counts.double())).float()


def best_threshold(probability: Tensor, target: Tensor, metric: ThresholdMetric) -> float:
    """The threshold of two classes with the highest metric.

    Args:
        probability: of class 1, (N,) float32.
        target: classes 0 and 1, (N,).
        metric: f1 is the mean of both classes' F1, as in the metrics of a model.

    Returns:
        Halfway between two neighbouring probabilities; of equally good ones that next to 0.5. 0.5 if the
        rows have one class only.
    """
    found, order = probability.sort(descending=True, stable=True)
    positive = (target[order] == 1).double()
    positives, rows = positive.sum(), len(positive)
    if positives in (0, rows):
        return 0.5
    last = torch.cat([found[1:] < found[:-1], found.new_ones(1, dtype=torch.bool)])  # of equal ones
    # the first threshold is above all probabilities
    upper = torch.cat([found.new_ones(1), found[last]])
    lower = torch.cat([found[last], found.new_zeros(1)])
    middle = (upper + lower) / 2
    thresholds = torch.where(middle > lower, middle, upper)  # float32 may have nothing in between
    none = positive.new_zeros(1)
    above = torch.cat([none, last.nonzero()[:, 0] + 1.0])  # the rows that are answered by class 1
    hits = torch.cat([none, positive.cumsum(0)[last]])  # those of them that are right
    rejected = rows - positives - (above - hits)  # the right ones of the other rows
    values = {
        "accuracy": (hits + rejected) / rows,
        "balanced_accuracy": (hits / positives + rejected / (rows - positives)) / 2,
        "f1": hits / (above + positives) + rejected / ((rows - above) + (rows - positives)),
    }[metric]
    start = int(found[0] == 1)  # nothing is above
    values, thresholds = values[start:], thresholds[start:]
    best = thresholds[values == values.max()]
    return float(best[(best - 0.5).abs().argmin()])


def fit_margin(residuals: Tensor, coverage: float) -> float:
    """Half the width of prediction intervals, by split conformal prediction (Lei et al. 2018).

    If the rows are exchangeable with a new one, prediction ± margin has the value of the new row with at
    least the probability `coverage`, whatever the model.

    Args:
        residuals: actual minus predicted, (N,), of rows that were not trained on.
        coverage: between 0 and 1.

    Returns:
        The ceil((N + 1) * coverage)-th smallest absolute residual.

    Raises:
        ConfigurationError: there are too few rows for the coverage.
    """
    number = require_rows(len(residuals), coverage)
    return float(residuals.abs().sort().values[number - 1])


def require_rows(rows: int, coverage: float) -> int:
    """The number, from 1, of the absolute residual that is the margin.

    Raises:
        ConfigurationError: there are too few rows for the coverage.
    """
    number = math.ceil(round((rows + 1) * coverage, 9))
    if number > rows:
        needed = math.ceil(round(coverage / (1 - coverage), 9))
        raise ConfigurationError(
            f"model.interval: {coverage:g} needs at least {needed} validation rows, found {rows}"
        )
    return number
