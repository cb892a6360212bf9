"""Metrics that several kinds of data share.

B batch, C classes
"""

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

CALIBRATION_BINS = 15


def classification_metrics(scores: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Accuracy, and precision, recall and F1 as means over the classes.

    Args:
        scores: (B, C), the largest says which class is meant.
        target: classes (B,) int64.
    """
    found, classes = scores.argmax(dim=1), scores.shape[1]
    return {
        "accuracy": multiclass_accuracy(found, target, classes, average="micro"),
        "precision": multiclass_precision(found, target, classes, average="macro"),
        "recall": multiclass_recall(found, target, classes, average="macro"),
        "f1": multiclass_f1_score(found, target, classes, average="macro"),
    }


def calibration_error(probabilities: Tensor, target: Tensor) -> float:
    """The expected calibration error (Guo et al. 2017), with `CALIBRATION_BINS` bins of equal width.

    Args:
        probabilities: (B, C).
        target: classes (B,).

    Returns:
        The mean over the rows of |accuracy - mean probability of the answer| in their bin.
    """
    confidence, answers = probabilities.double().max(dim=1)
    bins = (confidence * CALIBRATION_BINS).ceil().long().clamp(1, CALIBRATION_BINS) - 1
    gaps = torch.zeros(CALIBRATION_BINS, dtype=torch.float64, device=bins.device)
    gaps.index_add_(0, bins, (answers == target).double() - confidence)
    return float(gaps.abs().sum() / len(target))
