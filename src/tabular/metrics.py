"""Metrics of probabilities, for tables whose classes are not equally frequent.

N rows, C classes
"""

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from src.training.metrics import calibration_error

SMALLEST = 1e-12  # probability in a logarithm


def probability_metrics(probabilities: Tensor, target: Tensor, rare: int | None = None) -> dict[str, float]:
    """Metrics of probabilities.

    Args:
        probabilities: (N, C).
        target: classes (N,).
        rare: of two classes, the one that is looked for.

    Returns:
        `log_loss`; `brier`, the mean squared difference to 0 and 1, summed over the classes and for two
        classes halved; `ece`, the expected calibration error (Guo et al. 2017) of 15 bins; `roc_auc` and
        `pr_auc`, the average precision: of the class `rare`, or means over the classes, each against all
        others. The last two are left out where the rows have one class only.
    """
    found, codes = probabilities.double().numpy(), target.numpy()
    right = found[np.arange(len(codes)), codes]
    differences = found - np.eye(found.shape[1])[codes]
    metrics = {
        "log_loss": float(-np.log(np.maximum(right, SMALLEST)).mean()),
        "brier": float((differences**2).sum(axis=1).mean()) / (2 if found.shape[1] == 2 else 1),
        "ece": calibration_error(probabilities, target),
    }
    present = np.unique(codes)
    if len(present) > 1:
        classes = present if rare is None else [rare]
        areas = {"roc_auc": roc_auc_score, "pr_auc": average_precision_score}
        for name, area in areas.items():
            metrics[name] = float(np.mean([area(codes == code, found[:, code]) for code in classes]))
    return metrics
