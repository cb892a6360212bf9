"""Whether a model is better than another one, or than the trivial answer, beyond the noise of the test rows.

N test rows
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

LEVEL = 0.05
# with a larger share of one class, accuracy hardly differs from that of always answering this class
UNBALANCED = 0.8
CONFIDENCE = 0.95
LOSSES = "test_losses.npy"  # in the tables of a report
P_VALUE = "not_better_than_trivial/p_value"

Floats = NDArray[np.floating]
Codes = NDArray[np.integer]


def noise_of(gains: Floats) -> dict[str, float]:
    """Test whether the mean gain is above 0, by Student's paired t-test.

    Args:
        gains: (N,) by test row, the score of the model minus that of the trivial answer.

    Returns:
        The p-value as the metric P_VALUE, if it is not below LEVEL; else nothing.
    """
    gains = np.asarray(gains, dtype=np.float64)
    if len(gains) > 1 and gains.std() > 0:
        from scipy.stats import ttest_1samp  # it takes a second to load

        p = float(ttest_1samp(gains, 0, alternative="greater").pvalue)
    else:
        p = 0.0 if len(gains) and gains[0] > 0 else 1.0
    return {} if p < LEVEL or math.isnan(p) else {P_VALUE: p}


def write_losses(losses: ArrayLike, folder: Path) -> None:
    """Write the loss of each test row, by which the models of a task are compared.

    Args:
        losses: (N,) such as the squared error, or 1 for a wrong class; lower is better.
        folder: the tables of the report.
    """
    np.save(folder / LOSSES, np.asarray(losses, dtype=np.float64), allow_pickle=False)


def mean_difference(losses: Floats, others: Floats) -> tuple[float, float]:
    """The mean difference of two models' losses on the same test rows, with its confidence interval.

    Args:
        losses: (N,) of a model.
        others: (N,) of another one.

    Returns:
        The mean of `losses` - `others`, and half the width of its interval of CONFIDENCE by Student's t.
    """
    differences = losses - others
    return float(differences.mean()), interval(differences) if len(differences) > 1 else math.inf


def interval(values: Floats) -> float:
    """Half the width of the confidence interval of a mean (Student's t, CONFIDENCE); NaN below two values."""
    if len(values) < 2:
        return math.nan
    quantile = stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)
    return float(quantile * values.std(ddof=1) / math.sqrt(len(values)))


def gains_of_classes(model: Codes, trivial: Codes, target: Codes) -> Floats:
    """The gain in accuracy of each test row; in balanced accuracy if a class has more than UNBALANCED.

    Args:
        model: (N,) the answers of the model.
        trivial: (N,) the trivial answers.
        target: (N,) the right answers.
    """
    gains = (model == target).astype(np.float64) - (trivial == target)
    counts = np.bincount(target)
    if counts.max() > UNBALANCED * len(target):
        gains *= len(target) / np.count_nonzero(counts) / counts[target]
    return gains


def usual_metric(metrics: Mapping[str, float], usual: tuple[str, ...]) -> str | None:
    """The metric that stands for a task: the first of `usual`, or balanced accuracy of unbalanced classes.

    Args:
        metrics: by name, such as test/accuracy and baseline/trivial/accuracy.
        usual: names without `test/`.
    """
    if metrics.get("baseline/trivial/accuracy", 0) > UNBALANCED and "test/recall" in metrics:
        return "recall"  # the mean over the classes
    return next((name for name in usual if f"test/{name}" in metrics), None)
