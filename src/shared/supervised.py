"""Training and judging a network that maps examples to outputs, whatever the examples are.

B batch, O outputs, C classes
"""

from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)
from torchmetrics.utilities.distributed import gather_all_tensors

from src.shared.optimization import optimizer_and_schedule
from src.shared.processes import weighted
from src.shared.training import log_epoch

Batch = tuple[Tensor, Tensor]


class SupervisedModel(LightningModule):
    """What the models of all rooms with (inputs, target) batches do alike.

    A room's model adds `forward`, `loss_of`, `metrics_of`, `trivial_outputs` and `predict`. Outputs of an
    epoch are kept and judged at its end, all rows of all processes at once: no metric is a mean of batches.

    Args:
        optimizer: any of torch.optim.
        lr_scheduler: any of torch.optim.lr_scheduler.
        lr_interval: "epoch" or "step", when the schedule moves on.
    """

    def __init__(
        self, optimizer: OptimizerCallable, lr_scheduler: LRSchedulerCallable | None, lr_interval: str
    ) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.lr_interval = lr_interval
        self.seen: dict[str, list[Batch]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        """As torch's, with a short way for the note that Lightning makes twice a hook."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def loss_of(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The mean loss of outputs (B, O)."""
        raise NotImplementedError

    def metrics_of(self, outputs: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Metrics by name, of outputs (B, O)."""
        raise NotImplementedError

    def training_metrics_of(self, outputs: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Those that a learning curve shows of training too, beside the loss."""
        return {}

    def trivial_outputs(self, target: Tensor) -> Tensor:
        """The best answer (1, O) that looks at no input, learnt from the training target."""
        raise NotImplementedError

    def count_of(self, target: Tensor) -> Tensor | int:
        """What the loss of a batch is a mean over: rows."""
        return len(target)

    def predict(self, outputs: Tensor) -> Tensor:
        """Outputs (B, O) to what a person asks for: values in the target's unit or probabilities."""
        raise NotImplementedError

    def penalty(self) -> Tensor | None:
        """What is added to the loss of a training step, if anything."""
        return None

    def trivial_metrics(self, train: Tensor, test: Tensor) -> dict[str, float]:
        """Metrics of the trivial answer.

        Args:
            train: the training target.
            test: the test target.
        """
        outputs = self.trivial_outputs(train).expand(len(test), -1)
        return {name: float(value) for name, value in self.metrics_of(outputs, test).items()}

    def _step(self, batch: Batch, stage: str) -> Batch:
        inputs, target = batch
        outputs = self(inputs)
        self.seen.setdefault(stage, []).append((outputs.detach(), target))
        return outputs, target

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch, or of the part that this process has of it, penalty added."""
        outputs, target = self._step(batch, "train")
        loss = weighted(self.loss_of(outputs, target), self.count_of(target))
        penalty = self.penalty()
        return loss if penalty is None else loss + penalty

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect outputs."""
        self._step(batch, "validation")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect outputs."""
        self._step(batch, "test")

    def _log_epoch(self, stage: str) -> None:
        outputs, target = map(torch.cat, zip(*self.seen.pop(stage), strict=True))
        if self.trainer.world_size > 1:
            outputs, target = (torch.cat(gather_all_tensors(part)) for part in (outputs, target))
        metrics_of = self.training_metrics_of if stage == "train" else self.metrics_of
        metrics = {"loss": self.loss_of(outputs, target), **metrics_of(outputs, target)}
        log_epoch(self, {f"{stage}/{name}": value for name, value in metrics.items()})

    def on_train_epoch_end(self) -> None:
        """Log the training loss, penalty left out, with the network as it was at each step."""
        self._log_epoch("train")

    def on_validation_epoch_end(self) -> None:
        """Log the validation loss and metrics."""
        self._log_epoch("validation")

    def on_test_epoch_end(self) -> None:
        """Log the test loss and metrics."""
        self._log_epoch("test")

    def configure_optimizers(self) -> Any:
        """The optimizer and schedule of the configuration."""
        return optimizer_and_schedule(self, self.optimizer, self.lr_scheduler, self.lr_interval)


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
