"""Metrics that several kinds of data share.

B batch, C classes
"""

from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)


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
