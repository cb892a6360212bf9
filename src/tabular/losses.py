"""Losses and penalties of tables that PyTorch does not have.

B batch, O outputs
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from src.core.errors import ConfigurationError
from src.tabular.preprocessing import Preprocessing
from src.training.parts import sum_of

OF_QUANTITIES = ("mse", "mae", "smooth_l1", "huber", "log_rmse", "quantile")


def require_loss(
    loss: str, preprocessing: Preprocessing, label_smoothing: float, mixup: float, quantile: float
) -> None:
    """Refuse a loss that does not fit the target, and options that do not fit the loss.

    Raises:
        ConfigurationError: as it says.
    """
    classes = preprocessing.target.classes
    if (loss in OF_QUANTITIES) != (classes is None):
        task = "regression" if classes is None else "classification"
        raise ConfigurationError(f"loss: {loss} does not fit a target of {task}")
    if classes is not None and loss in ("bce", "perceptron") and len(classes) != 2:
        raise ConfigurationError(f"loss: {loss} needs two classes, the target has {len(classes)}")
    if len(preprocessing.targets) > 1 and loss in ("cross_entropy", "perceptron"):
        raise ConfigurationError(f"loss: {loss} is for one target of classes; of several it is bce")
    if label_smoothing and loss not in ("cross_entropy", "bce"):
        raise ConfigurationError(f"label_smoothing: expected 0 for the loss {loss}, found {label_smoothing}")
    if mixup and preprocessing.embedded:
        raise ConfigurationError("mixup: codes of embedded columns have no mean; use `encode: one_hot`")
    if quantile != 0.5 and loss != "quantile":
        raise ConfigurationError(f"quantile: expected 0.5 for the loss {loss}, found {quantile}")


def log_rmse(prediction: Tensor, target: Tensor) -> Tensor:
    """Root mean squared difference of the logarithms, of values clamped to at least 1.

    Args:
        prediction: any shape, in the unit of the target.
        target: the same shape.
    """
    square = functional.mse_loss(prediction.clamp(min=1).log(), target.clamp(min=1).log())
    # the root has no gradient at 0
    return square.sqrt() if square > 0 else square


def quantile_losses(prediction: Tensor, target: Tensor, quantile: float) -> Tensor:
    """The pinball losses, whose mean a quantile minimises (Koenker and Bassett 1978).

    Args:
        prediction: any shape.
        target: the same shape.
        quantile: between 0 and 1.
    """
    error = target - prediction
    return torch.maximum(quantile * error, (quantile - 1) * error)


def quantile_loss(prediction: Tensor, target: Tensor, quantile: float) -> Tensor:
    """The mean of `quantile_losses`."""
    return quantile_losses(prediction, target, quantile).mean()


def perceptron_loss(outputs: Tensor, target: Tensor) -> Tensor:
    """The perceptron criterion (Rosenblatt 1958; Bishop 2006, section 4.1.7), as a mean over the batch.

    A misclassified point has the absolute value of its output as its loss, another point 0.

    Args:
        outputs: (B, 1), positive on the side of class 1.
        target: (B,), classes 0 and 1.
    """
    sign = 2 * target.to(outputs.dtype) - 1  # (B,)
    return (-sign * outputs[:, 0]).clamp(min=0).mean()


def weight_penalty(network: nn.Module, l1: float, l2: float) -> Tensor:
    """l1 times the sum of absolute weights, plus half of l2 times the sum of squared weights.

    Weights are the parameters of two or more dimensions: biases and norms are not penalised. With plain SGD
    the second part equals a weight decay of l2 (Goodfellow et al. 2016, section 7.1).
    """
    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    first = next(network.parameters())
    penalty = torch.zeros((), dtype=first.dtype, device=first.device)
    for weight in weights:
        if l1:
            penalty = penalty + l1 * sum_of(torch.abs, weight)
        if l2:
            penalty = penalty + 0.5 * l2 * sum_of(torch.square, weight)
    return penalty
