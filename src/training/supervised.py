"""What the modules of tables, labelled images and texts share: steps, metrics of an epoch, constant answers.

B batch, N examples, O outputs, K classes
"""

from typing import Any

from lightning import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from src.training.epoch_outputs import EpochOutputs
from src.training.freezing import Frozen
from src.training.metrics import classification_metrics
from src.training.optimizers import ParameterGroups, optimizer_and_schedule
from src.training.overhead import log_epoch

Batch = tuple[Tensor, Tensor]


class Supervised(LightningModule):
    """A module whose batches are inputs and targets; its metrics are of all examples of an epoch.

    A subclass has the network, `forward`, `training_step` and `loss_of(outputs, target)`. A classifier has
    `classes`; others have answers, a constant answer and metrics of their own. It has `frozen` if a part of
    the network is, which its `setup` begins.

    Args:
        optimizer: one of torch.optim.
        lr_scheduler: one of torch.optim.lr_scheduler.
        lr_interval: "epoch" or "step", when the schedule advances.
        parameter_groups: settings of the optimizer for parameters by name (src.training.optimizers.grouped).
    """

    classes: list[str]
    network: nn.Module
    frozen: Frozen | None = None

    def __init__(
        self,
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None,
        lr_interval: str,
        parameter_groups: ParameterGroups | None,
    ) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.lr_interval = lr_interval
        self.parameter_groups = parameter_groups
        self.epoch_outputs = EpochOutputs()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Freeze or unfreeze as the epoch wants it, also in a training that begins in the middle of one."""
        if self.frozen is not None:
            self.frozen.apply(self.network, self.current_epoch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the outputs for the metrics of the epoch."""
        self.epoch_outputs.add("validation", self(batch[0]), batch[1])

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the outputs for the metrics of the epoch."""
        self.epoch_outputs.add("test", self(batch[0]), batch[1])

    def on_train_epoch_end(self) -> None:
        """Log the training loss and accuracy, of the outputs at each step."""
        outputs, target = self.epoch_outputs.take("train")
        metrics = self.training_metrics_of(outputs, target)
        log_epoch(self, "train", {"loss": self.loss_of(outputs, target), **metrics})

    def on_validation_epoch_end(self) -> None:
        """Log the validation loss and metrics."""
        self._log_metrics("validation")

    def on_test_epoch_end(self) -> None:
        """Log the test loss and metrics."""
        self._log_metrics("test")

    def _log_metrics(self, stage: str) -> None:
        outputs, target = self.epoch_outputs.take(stage)
        log_epoch(self, stage, {"loss": self.loss_of(outputs, target), **self.metrics_of(outputs, target)})

    def configure_optimizers(self) -> Any:
        """The optimizer and schedule of the configuration."""
        return optimizer_and_schedule(
            self, self.optimizer, self.lr_scheduler, self.lr_interval, self.parameter_groups
        )

    def predict(self, outputs: Tensor) -> Tensor:
        """Logits (B, K) to probabilities (B, K)."""
        return outputs.softmax(dim=1)

    def trivial_outputs(self, target: Tensor) -> Tensor:
        """Logits (1, K) whose softmax is the frequency of each class in the target (N,)."""
        return target.bincount(minlength=len(self.classes)).log()[None]

    def trivial_metrics(self, train: Tensor, test: Tensor) -> dict[str, float]:
        """The metrics of `trivial_outputs`.

        Args:
            train: the training target (N, ...).
            test: the test target (N, ...).
        """
        outputs = self.trivial_outputs(train).expand(len(test), -1)
        return {name: float(value) for name, value in self.metrics_of(outputs, test).items()}

    def loss_of(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The mean loss of outputs (B, O) and targets (B, ...)."""
        raise NotImplementedError

    def training_metrics_of(self, outputs: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The accuracy of logits (N, K)."""
        return {"accuracy": (outputs.argmax(dim=1) == target).float().mean()}

    def metrics_of(self, outputs: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Accuracy, and precision, recall and F1 as means over the classes."""
        return classification_metrics(outputs, target)
