"""The LightningModule of tables: regression or classification of prepared rows.

B batch, F features, O outputs, C classes
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from jsonargparse.typing import NonNegativeFloat
from lightning import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.functional import mean_absolute_error, mean_squared_error, r2_score

from src.core.errors import ConfigurationError
from src.tabular.losses import log_rmse, perceptron_loss, weight_penalty
from src.tabular.preprocessing import Preprocessing
from src.training.distributed import mean_over_processes
from src.training.epoch_outputs import EpochOutputs
from src.training.metrics import classification_metrics
from src.training.optimizers import ParameterGroups, optimizer_and_schedule
from src.training.overhead import log_epoch

Batch = tuple[Tensor, Tensor]
NetworkCallable = Callable[[int, int], nn.Module]  # inputs, outputs

REGRESSION_LOSSES = ("mse", "mae", "smooth_l1", "log_rmse")


class TabularModel(LightningModule):
    """A network on prepared rows, with its loss, metrics and optimizer.

    Args:
        preprocessing: what the preparation has learnt; it gives F, O and the transform of the target.
        network: src.training.networks.MLP, or any class below src or torch.nn whose first two arguments are
            the numbers of inputs F and outputs O, and which maps (B, F) to (B, O).
        loss: mse, mae or smooth_l1 of the transformed target, log_rmse in the unit of the target;
            cross_entropy or, for two classes, bce or perceptron. O is the number of classes for
            cross_entropy, else 1.
        label_smoothing: of cross_entropy.
        l1: factor of the L1 penalty on the weights, added to the training loss.
        l2: factor of the L2 penalty on the weights; equals weight decay under SGD.
        optimizer: any of torch.optim.
        lr_scheduler: any of torch.optim.lr_scheduler.
        lr_interval: whether the schedule advances each epoch or each step.
        parameter_groups: settings of the optimizer for parameters by name, such as
            `[{pattern: 'bias|Norm', weight_decay: 0}]` (src.training.optimizers.grouped).

    Raises:
        ConfigurationError: the loss does not fit the target.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        network: NetworkCallable,
        loss: Literal["mse", "mae", "smooth_l1", "log_rmse", "bce", "perceptron", "cross_entropy"] = "mse",
        label_smoothing: float = 0.0,
        l1: NonNegativeFloat = 0.0,
        l2: NonNegativeFloat = 0.0,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_interval: Literal["epoch", "step"] = "epoch",
        parameter_groups: ParameterGroups | None = None,
    ) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.lr_interval = lr_interval
        self.parameter_groups = parameter_groups
        self.epoch_outputs = EpochOutputs()
        self.target = preprocessing.target
        classes = self.target.classes
        if (loss in REGRESSION_LOSSES) != (classes is None):
            task = "regression" if classes is None else "classification"
            raise ConfigurationError(f"loss: {loss} does not fit a target of {task}")
        if classes is not None and loss in ("bce", "perceptron") and len(classes) != 2:
            raise ConfigurationError(f"loss: {loss} needs two classes, the target has {len(classes)}")
        if label_smoothing and loss != "cross_entropy":
            raise ConfigurationError(
                f"label_smoothing: expected 0 for the loss {loss}, found {label_smoothing}"
            )
        inputs = len(preprocessing.features)
        outputs = len(classes) if classes is not None and loss == "cross_entropy" else 1
        self.network = network(inputs, outputs)
        self.loss = loss
        self.label_smoothing = label_smoothing
        self.l1 = l1
        self.l2 = l2
        self.example_input_array = torch.zeros(2, inputs)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, F) to outputs (B, O): the transformed target, or logits."""
        outputs: Tensor = self.network(features)
        return outputs

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch, or of the part of it that this process has, and the penalties."""
        features, target = batch
        outputs = self(features)
        self.epoch_outputs.add("train", outputs, target)
        loss = mean_over_processes(self.loss_of(outputs, target), len(target))
        if self.l1 or self.l2:
            loss = loss + weight_penalty(self.network, self.l1, self.l2)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the outputs for the metrics of the epoch."""
        features, target = batch
        self.epoch_outputs.add("validation", self(features), target)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the outputs for the metrics of the epoch."""
        features, target = batch
        self.epoch_outputs.add("test", self(features), target)

    def on_train_epoch_end(self) -> None:
        """Log the training loss without penalties, from the outputs at each step."""
        outputs, target = self.epoch_outputs.take("train")
        metrics = {"loss": self.loss_of(outputs, target)}
        if self.target.classes is not None:
            metrics["accuracy"] = classification_metrics(self.predict(outputs), target)["accuracy"]
        log_epoch(self, "train", metrics)

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
        """Convert outputs (B, O) to values in the unit of the target (B,) or to probabilities (B, C)."""
        if self.target.classes is None:
            values = outputs[:, 0] * self.target.scale + self.target.center  # (B,)
            return values.exp() if self.target.log else values
        if self.loss != "cross_entropy":
            # a perceptron decides for a side of the plane and has no probability
            logits = outputs[:, 0]
            hard = self.loss == "perceptron"
            positive = (logits > 0).to(logits.dtype) if hard else logits.sigmoid()  # (B,)
            return torch.stack([1 - positive, positive], dim=1)  # (B, 2)
        return outputs.softmax(dim=1)

    def trivial_outputs(self, target: Tensor) -> Tensor:
        """Constant outputs (1, O): the mean of a target (B, 1), or the shares of the classes of (B,)."""
        if self.target.classes is None:
            return target.mean(dim=0, keepdim=True)  # (1, 1)
        logits = target.bincount(minlength=len(self.target.classes)).log()[None]  # (1, C)
        return logits if self.loss == "cross_entropy" else logits[:, 1:] - logits[:, :1]

    def trivial_metrics(self, train: Tensor, test: Tensor) -> dict[str, float]:
        """Metrics of the constant prediction of `trivial_outputs`.

        Args:
            train: the prepared target of the training rows.
            test: the prepared target of the test rows.
        """
        outputs = self.trivial_outputs(train).expand(len(test), -1)
        return {name: float(value) for name, value in self.metrics_of(outputs, test).items()}

    def loss_of(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The configured loss of outputs (B, O) and the prepared target, without penalties."""
        if self.loss == "cross_entropy":
            return functional.cross_entropy(outputs, target, label_smoothing=self.label_smoothing)
        if self.loss == "bce":
            return functional.binary_cross_entropy_with_logits(outputs[:, 0], target.to(outputs.dtype))
        if self.loss == "perceptron":
            return perceptron_loss(outputs, target)
        if self.loss == "log_rmse":
            return log_rmse(self.predict(outputs), self.predict(target))
        losses = {
            "mse": functional.mse_loss,
            "mae": functional.l1_loss,
            "smooth_l1": functional.smooth_l1_loss,
        }
        return losses[self.loss](outputs, target)

    def metrics_of(self, outputs: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The metrics of outputs (B, O) and the prepared target.

        RMSE, MAE, R2 and, for targets of at least 1, log-RMSE in the unit of the target; accuracy, and macro
        precision, recall and F1 of classes.
        """
        predicted = self.predict(outputs)
        if self.target.classes is not None:
            return classification_metrics(predicted, target)
        actual = self.predict(target)
        metrics = {
            "rmse": mean_squared_error(predicted, actual, squared=False),
            "mae": mean_absolute_error(predicted, actual),
            "r2": r2_score(predicted, actual),
        }
        if self.target.at_least_one:
            metrics["log_rmse"] = log_rmse(predicted, actual)
        return metrics
