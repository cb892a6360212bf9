"""The LightningModule that finds all labels that fit an image.

B batch, K labels
"""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.classification import binary_average_precision, multilabel_f1_score

from src.images.model import ImageModel
from src.images.networks import NetworkCallable
from src.images.preprocessing import Preprocessing

RAREST = 1e-6  # share of a label in the constant answer


class ImageTagger(ImageModel):
    """A classifier with several labels an image: the mean binary cross-entropy over images and labels.

    Targets are (B, K), 1 for each label that fits.

    Args:
        preprocessing: of the prepared data.
        network: as for `ImageModel`; it maps (B, C, H, W) to logits (B, K).
        arguments: those that follow in `ImageModel`.
        settings: those of `ImageModel` except what is for one class an image: class_weights, and mixup and
            cutmix of the augmentation.

    Raises:
        ConfigurationError: as `ImageModel`, or a setting that is for one class an image.
    """

    task: ClassVar[str] = "multilabel"

    def __init__(
        self, preprocessing: Preprocessing, network: NetworkCallable, *arguments: Any, **settings: Any
    ) -> None:
        super().__init__(preprocessing, network, *arguments, **settings)
        self.refuse_settings("several labels an image")

    def loss_of(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Mean binary cross-entropy of logits (B, K) and labels (B, K); smoothed ones are nearer to 1/2."""
        wanted = target.to(outputs.dtype) * (1 - self.label_smoothing) + self.label_smoothing / 2
        return functional.binary_cross_entropy_with_logits(outputs, wanted)

    def mean_of(self, outputs: Tensor) -> Tensor:
        """The logits (B, K) whose sigmoid is the mean of those of some logits (A, B, K)."""
        precise = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        # log(p / (1 - p)) of the means p and 1 - p
        fits, fits_not = (functional.logsigmoid(sign * precise).logsumexp(dim=0) for sign in (1, -1))
        return fits - fits_not

    def predict(self, outputs: Tensor) -> Tensor:
        """Logits (B, K) to the probability of each label (B, K)."""
        return outputs.sigmoid()

    def trivial_outputs(self, target: Tensor) -> Tensor:
        """Logits (1, K) whose sigmoid is the frequency of each label in the target (N, K)."""
        shares = target.float().mean(dim=0, keepdim=True)
        return shares.clamp(RAREST, 1 - RAREST).logit()

    def training_metrics_of(self, outputs: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The F1 over all images and labels."""
        return {
            "micro_f1": multilabel_f1_score(outputs.sigmoid(), target, len(self.classes), average="micro")
        }

    def metrics_of(self, outputs: Tensor, target: Tensor) -> dict[str, Tensor]:
        """F1, average precision and subset accuracy of logits (N, K) and labels (N, K).

        `f1` and `average_precision` are means over the labels, the latter over those that occur; `micro_f1`
        counts all images and labels alike; `subset_accuracy` is the share of images all of whose labels are
        right. A label is found where its probability is above 1/2.
        """
        labels = len(self.classes)
        metrics = {
            "f1": multilabel_f1_score(outputs.sigmoid(), target, labels, average="macro"),
            **self.training_metrics_of(outputs, target),
            "subset_accuracy": ((outputs > 0) == target.bool()).all(dim=1).float().mean(),
        }
        # on the CPU, as sums along a sorted list are not deterministic on a GPU
        scores, known = outputs.sigmoid().cpu(), target.long().cpu()
        occurring = known.any(dim=0).nonzero()[:, 0].tolist()
        if occurring:
            each = [binary_average_precision(scores[:, label], known[:, label]) for label in occurring]
            metrics["average_precision"] = torch.stack(each).mean()
        return metrics
