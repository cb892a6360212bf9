"""What is learnt after a training from examples that were not trained on, with the weights that are kept.

N examples, O outputs, C classes
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

WARMEST = 10.0  # temperatures are searched between this and its inverse
HALVINGS = 50
DIGITS = 4  # of a temperature: more say nothing, and processors may differ in the last ones


@torch.inference_mode()
def outputs_of(
    module: LightningModule, function: Callable[..., Tensor], inputs: Sequence[Any], at_once: int
) -> Tensor:
    """What a function of a module finds for all examples, in evaluation mode.

    Args:
        module: whose mode is restored; it is on the device that computes.
        function: from the inputs of some examples to their outputs.
        inputs: each of the length N; a tensor, or what has slices that are tensors.
        at_once: the examples of a batch.

    Returns:
        (N, O) on the CPU, float32 or float64.
    """
    training = module.training
    module.eval()
    found = [
        function(*(part[start : start + at_once].to(module.device) for part in inputs)).cpu()
        for start in range(0, len(inputs[0]), at_once)
    ]
    module.train(training)
    outputs = torch.cat(found)
    return outputs if outputs.dtype == torch.float64 else outputs.float()


def fit_temperature(logits: Tensor, target: Tensor) -> float:
    """The temperature that makes probabilities softmax(logits / temperature) fit best (Guo et al. 2017).

    The mean negative log-likelihood is convex in 1 / temperature; its slope is halved to 0.

    Args:
        logits: (N, C) of examples that were not trained on.
        target: classes (N,).

    Returns:
        Between 0.1 and 10.
    """
    logits = logits.double()
    right = logits.gather(1, target[:, None]).mean()

    def slope(inverse: float) -> float:
        return float(((logits * inverse).softmax(dim=1) * logits).sum(dim=1).mean() - right)

    low, high = -math.log(WARMEST), math.log(WARMEST)  # of the logarithm of 1 / temperature
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(math.exp(middle)) < 0 else (low, middle)
    return float(f"{math.exp(-(low + high) / 2):.{DIGITS}g}")
