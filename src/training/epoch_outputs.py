"""The outputs of an epoch, kept for metrics over all of its examples."""

from abc import abstractmethod
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, distributed
from torchmetrics.utilities.distributed import gather_all_tensors

from src.training.optimizers import optimizer_and_schedule
from src.training.overhead import log_epoch


class EpochOutputs:
    """Keep outputs and targets batch by batch; hand out those of all batches and processes at once.

    A metric of the whole epoch is not the mean of the metrics of its batches, so none is computed before.
    """

    def __init__(self) -> None:
        self.batches: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def add(self, stage: str, outputs: Tensor, target: Tensor) -> None:
        """Keep a batch: outputs (B, ...) and target (B, ...) of `train`, `validation` or `test`."""
        self.batches.setdefault(stage, []).append((outputs.detach(), target))

    def take(self, stage: str) -> tuple[Tensor, Tensor]:
        """Outputs (N, ...) and targets (N, ...) of an epoch of a stage, which is then forgotten."""
        outputs, target = map(torch.cat, zip(*self.batches.pop(stage), strict=True))
        if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
            outputs, target = (torch.cat(gather_all_tensors(part)) for part in (outputs, target))
        return outputs, target


class EpochModel(LightningModule):
    """A model that is judged by the outputs and targets of all examples of an epoch."""

    def __init__(
        self, optimizer: OptimizerCallable, lr_scheduler: LRSchedulerCallable | None, lr_interval: str
    ) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.lr_interval = lr_interval
        self.epoch_outputs = EpochOutputs()

    @abstractmethod
    def loss_of(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The mean loss of outputs (N, ...) and target (N, ...)."""

    @abstractmethod
    def metrics_of(self, outputs: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The metrics by name of outputs (N, ...) and target (N, ...)."""

    def judged(self, batch: Any) -> tuple[Tensor, Tensor]:
        """What is kept of a batch: outputs (B, ...) and target (B, ...)."""
        inputs, target = batch
        return self(inputs), target

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Keep the outputs for the metrics of the epoch."""
        self.epoch_outputs.add("validation", *self.judged(batch))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Keep the outputs for the metrics of the epoch."""
        self.epoch_outputs.add("test", *self.judged(batch))

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
        return optimizer_and_schedule(self, self.optimizer, self.lr_scheduler, self.lr_interval)
