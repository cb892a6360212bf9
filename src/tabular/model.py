"""Batches -> loss and metrics: the LightningModule of the tabular room.

B batch, F features, O outputs (1, or the number of classes)
"""

from typing import Any, Literal

import torch
from lightning import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.nn import functional
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric, MetricCollection, R2Score
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)

from src.shared.errors import ConfigurationError
from src.shared.optimization import optimizer_and_schedule
from src.shared.training import log_epoch
from src.tabular.networks import (
    MLP,
    Choice,
    binary_cross_entropy,
    cross_entropy,
    log_rmse,
    weight_penalty,
)

REGRESSION_LOSSES = ("mse", "mae", "smooth_l1", "log_rmse")


class LogRootMeanSquaredError(MeanSquaredError):
    """log-RMSE over all rows seen, predictions and targets clamped to 1 and above."""

    def __init__(self) -> None:
        super().__init__(squared=False)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add rows, shape (B,), in the target's unit."""
        super().update(preds.clamp(min=1).log(), target.clamp(min=1).log())


def make_metrics(target: dict[str, Any]) -> MetricCollection:
    """The metrics of a target: over values in its unit (B,), or over class scores (B, C) and codes (B,)."""
    if target["classes"] is not None:
        classes = len(target["classes"])
        return MetricCollection(
            {
                "accuracy": MulticlassAccuracy(classes, average="micro"),
                "precision": MulticlassPrecision(classes, average="macro"),
                "recall": MulticlassRecall(classes, average="macro"),
                "f1": MulticlassF1Score(classes, average="macro"),
            }
        )
    metrics: dict[str, Metric | MetricCollection] = {
        "rmse": MeanSquaredError(squared=False),
        "mae": MeanAbsoluteError(),
        "r2": R2Score(),
    }
    if target["at_least_one"]:
        metrics["log_rmse"] = LogRootMeanSquaredError()
    return MetricCollection(metrics)


class TabularModel(LightningModule):
    """A multilayer perceptron on prepared rows.

    Args:
        preprocessing: the content of preprocessing.json; it gives the sizes and the target's transform.
        hidden_sizes: units of each hidden layer; `[]` is a linear model.
        activation: identity, step, sigmoid, tanh, relu, leaky_relu, prelu, rrelu, elu, silu, softplus
            or softmax, with arguments as in `{leaky_relu: {negative_slope: 0.1}}`; or a list, one a layer.
        norm: of each hidden layer.
        dropout: the share of activations set to 0 in training.
        initialisation: constant ({constant: {k: 0.1}}), zeros, ones, eye, normal ({normal: {std: 0.01}}),
            uniform ({uniform: {a: -0.1, b: 0.1}}), xavier_normal, xavier_uniform, kaiming_normal or
            kaiming_uniform; or a list, one a linear layer. null is torch's default.
        share_hidden: the hidden layers from the second on share one set of weights.
        loss: mse, mae and smooth_l1 on the transformed target, log_rmse on the target's own unit;
            cross_entropy or, for two classes, bce.
        label_smoothing: of cross_entropy.
        l1: L1 penalty on the weights, added to the training loss.
        l2: L2 penalty, likewise; equals weight decay under SGD.
        optimizer: any of torch.optim.
        lr_scheduler: any of torch.optim.lr_scheduler.
        lr_interval: whether the schedule moves each epoch or each step.
    """

    def __init__(
        self,
        preprocessing: dict[str, Any],
        hidden_sizes: list[int],
        activation: Choice | list[Choice] = "relu",
        norm: Literal["batch", "layer"] | None = None,
        dropout: float = 0.0,
        initialisation: Choice | list[Choice] | None = None,
        share_hidden: bool = False,
        loss: Literal["mse", "mae", "smooth_l1", "log_rmse", "bce", "cross_entropy"] = "mse",
        label_smoothing: float = 0.0,
        l1: float = 0.0,
        l2: float = 0.0,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_interval: Literal["epoch", "step"] = "epoch",
    ) -> None:
        super().__init__()
        self.target = preprocessing["target"]
        classes = self.target["classes"]
        if (loss in REGRESSION_LOSSES) != (classes is None):
            raise ConfigurationError(f"loss: {loss} does not fit a target of {preprocessing['task']}")
        if loss == "bce" and len(classes) != 2:
            raise ConfigurationError(f"loss: bce needs two classes, the target has {len(classes)}")
        if label_smoothing and loss != "cross_entropy":
            raise ConfigurationError(f"label_smoothing: only cross_entropy has it, the loss is {loss}")
        inputs = len(preprocessing["features"])
        outputs = len(classes) if loss == "cross_entropy" else 1
        self.network = MLP(
            inputs, hidden_sizes, outputs, activation, norm, dropout, initialisation, share_hidden
        )
        self.loss = loss
        self.label_smoothing = label_smoothing
        self.l1 = l1
        self.l2 = l2
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.lr_interval = lr_interval
        self.example_input_array = torch.zeros(2, inputs)
        metrics = make_metrics(self.target)
        # a plain dict: as submodules they would fill the summary, which is about the network
        self.stage_metrics = {stage: metrics.clone(prefix=f"{stage}/") for stage in ("validation", "test")}
        self.loss_sums: dict[str, tuple[Tensor | float, int]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        """As torch's, with a short way for the note that Lightning makes twice a hook."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, F) to outputs (B, O): the transformed target, or logits."""
        return self.network(features)

    def predict(self, outputs: Tensor) -> Tensor:
        """Outputs (B, O) to values in the target's unit (B,), or to class probabilities (B, C)."""
        if self.target["classes"] is None:
            values = outputs[:, 0] * self.target["scale"] + self.target["center"]  # (B,)
            return values.exp() if self.target["log"] else values
        if self.loss == "bce":
            positive = outputs[:, 0].sigmoid()  # (B,)
            return torch.stack([1 - positive, positive], dim=1)  # (B, 2)
        return outputs.softmax(dim=1)

    def trivial_metrics(self, train: Tensor, test: Tensor) -> dict[str, float]:
        """Test metrics of always answering the mean of the (transformed) target, or its commonest class.

        Args:
            train: the training target, (rows, 1) or class codes (rows,).
            test: the test target, likewise.
        """
        metrics = make_metrics(self.target)
        if self.target["classes"] is None:
            answer = train.mean(dim=0, keepdim=True)  # (1, 1)
            metrics.update(self.predict(answer).expand(len(test)), self.predict(test))
        else:
            codes = train.bincount(minlength=len(self.target["classes"]))
            metrics.update(codes.argmax().expand(len(test)), test)
        return {name: float(value) for name, value in metrics.compute().items()}

    def _loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        if self.loss == "cross_entropy":
            return cross_entropy(outputs, target, self.label_smoothing)
        if self.loss == "bce":
            return binary_cross_entropy(outputs, target)
        if self.loss == "log_rmse":
            return log_rmse(self.predict(outputs), self.predict(target))
        losses = {
            "mse": functional.mse_loss,
            "mae": functional.l1_loss,
            "smooth_l1": functional.smooth_l1_loss,
        }
        return losses[self.loss](outputs, target)

    def _step(self, batch: tuple[Tensor, Tensor], stage: str) -> Tensor:
        features, target = batch
        outputs = self(features)
        loss = self._loss(outputs, target)
        # summed on the device and logged once an epoch: self.log costs more than this step
        total, rows = self.loss_sums.get(stage, (0.0, 0))
        self.loss_sums[stage] = (total + loss.detach() * len(features), rows + len(features))
        if stage != "train":
            actual = self.predict(target) if self.target["classes"] is None else target
            self._metrics(stage).update(self.predict(outputs), actual)
        return loss

    def _metrics(self, stage: str) -> MetricCollection:
        """The metrics of a stage, on the device of the model."""
        metrics = self.stage_metrics[stage]
        if next(iter(metrics.values())).device != self.device:
            metrics.to(self.device)
        return metrics

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of a batch, penalties added."""
        loss = self._step(batch, "train")
        if self.l1 or self.l2:
            loss = loss + weight_penalty(self.network, self.l1, self.l2)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Collect loss and metrics."""
        self._step(batch, "validation")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Collect loss and metrics."""
        self._step(batch, "test")

    def predict_step(self, batch: tuple[Tensor], batch_idx: int) -> Tensor:
        """Features to predictions, as `predict`."""
        return self.predict(self(batch[0]))

    def _log_epoch(self, stage: str) -> None:
        total = torch.stack([torch.as_tensor(part, device=self.device) for part in self.loss_sums.pop(stage)])
        loss, rows = self.trainer.strategy.reduce(total, reduce_op="sum")
        metrics = {f"{stage}/loss": loss / rows}
        if stage != "train":
            metrics |= self.stage_metrics[stage].compute()
            self.stage_metrics[stage].reset()
        log_epoch(self, metrics)

    def on_train_epoch_end(self) -> None:
        """Log the mean training loss, penalties left out."""
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
