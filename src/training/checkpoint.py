"""The checkpoint of a training, its history, and the weights of the best epoch."""

import io
import math
import os
import time
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from src.core.errors import ConfigurationError, NonFiniteError

CHECKPOINT = "last.ckpt"
HISTORY = "history.csv"
USUAL_MONITORS = ("validation/loss", "val_loss")
MOST_OF_THE_TIME = 0.01  # the share of the time that checkpoints may take
FIRST_GUESS = 0.01  # seconds to save a checkpoint, until one was saved


class DurableCheckpointIO(TorchCheckpointIO):
    """Saves checkpoints by fsync and a rename in the same folder; Lightning's own save does neither."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a temporary file, flush it to the disk, and rename it to `path`."""
        partial = Path(f"{path}.partial")
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)


class ResumableCheckpoint(Checkpoint):
    """Collect a row of metrics per epoch and the weights of the best epoch, and save checkpoints to resume.

    The best weights are part of the checkpoint, so that a training needs one file. Epochs after the last
    checkpoint are trained again to the same bits. A checkpoint is therefore saved by time: at the end of an
    epoch if saving takes less than 1 % of the time since the last one, or if `seconds` have passed. The
    second-to-last epoch always saves one, so that a crash at the very end costs one epoch.

    Args:
        folder: for the checkpoint and history.csv.
        monitor: the metric that decides which epoch is best; None for the first of USUAL_MONITORS that is
            logged, and without one the last epoch is kept.
        mode: "min" or "max".
        seconds: maximum time between two checkpoints, checked at the end of each epoch.
    """

    def __init__(self, folder: Path, monitor: str | None, mode: str, seconds: float) -> None:
        self.folder = folder
        self.monitor = monitor
        self.sign = 1 if mode == "min" else -1
        self.seconds = seconds
        self.saved_at = time.monotonic()
        self.saving_takes = FIRST_GUESS
        self.epochs = 0
        self.history = ""
        self.row: dict[str, float] = {}
        self.best_row: dict[str, float] = {}
        self.best_weights: dict[str, Tensor] = {}
        self.stopped = False

    def state_dict(self) -> dict[str, Any]:
        """The part of the checkpoint that belongs to this callback."""
        names = ("epochs", "history", "row", "best_row", "best_weights", "stopped")
        return {"run": self.folder.name, **{name: getattr(self, name) for name in names}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint.

        Raises:
            ConfigurationError: it belongs to another configuration, other data or other code.
        """
        state = dict(state_dict)
        if (run := state.pop("run", None)) != self.folder.name:
            raise ConfigurationError(
                f"{self.folder / CHECKPOINT} is a checkpoint of the run {run}, not of {self.folder.name}: "
                "remove it"
            )
        for name, value in state.items():
            setattr(self, name, value)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the history; stop if the training had been stopped early.

        Raises:
            ConfigurationError: the first process has other code, other data or another checkpoint.
        """
        start = self.folder.name, self.epochs
        if (first := trainer.strategy.broadcast(start)) != start:
            raise ConfigurationError(
                f"this process is about to train {start[0]} from epoch {start[1]} on, the first process "
                f"{first[0]} from epoch {first[1]} on: all nodes need the same project folder"
            )
        trainer.should_stop = self.stopped
        for config in trainer.lr_scheduler_configs if self.epochs else []:
            # Lightning updates these after the checkpoint of an epoch, which has the state before the update
            due = config.interval == "epoch" and self.epochs % config.frequency == 0
            if config.reduce_on_plateau and due:
                config.scheduler.step(self.row[str(config.monitor)])  # type: ignore[arg-type]
        if trainer.is_global_zero:
            (self.folder / HISTORY).write_text(self.history, encoding="utf-8")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the learning rate at the start of the epoch."""
        rates = [group["lr"] for optimizer in trainer.optimizers[:1] for group in optimizer.param_groups]
        self.learning_rate = float(rates[0]) if rates else 0.0

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find a monitor that the validation does not log before anything is trained."""
        metrics = trainer.callback_metrics
        if self.monitor and "val" in self.monitor and metrics and self.monitor not in metrics:
            raise _no_metric(self.monitor, metrics)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the row of the epoch, keep the weights if they are the best, save a checkpoint if it is due."""
        row = {"epoch": self.epochs + 1, "learning_rate": self.learning_rate}
        row |= {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        for name in row:
            if name.endswith("loss") and not math.isfinite(row[name]):
                raise NonFiniteError(
                    f"{name} became {row[name]} in epoch {row['epoch']}; try a lower learning rate or "
                    "--trainer.gradient_clip_val=1"
                )
        monitor = self.monitor or next((name for name in USUAL_MONITORS if name in row), None)
        if monitor is not None and monitor not in row:
            raise _no_metric(monitor, row)
        self.epochs += 1
        if monitor is None or self.sign * row[monitor] < self.sign * self.best_row.get(
            monitor, math.inf * self.sign
        ):
            self.best_row = row
            self.best_weights = {
                name: tensor.detach().clone() for name, tensor in pl_module.state_dict().items()
            }
        self.stopped = trainer.should_stop
        self.row = row
        lines: list[list[Any]] = [list(row.values())]
        if self.epochs == 1:
            lines.insert(0, list(row))
        text = "".join(",".join(map(str, line)) + "\n" for line in lines)
        self.history += text
        if trainer.is_global_zero:
            with (self.folder / HISTORY).open("a", encoding="utf-8") as file:
                file.write(text)
        unlogged = {name: value for name, value in row.items() if name not in trainer.logged_metrics}
        for logger in trainer.loggers:
            logger.log_metrics(unlogged, step=int(row["epoch"]))
        if trainer.strategy.reduce_boolean_decision(self._due(trainer), all=False):  # clocks differ
            start = time.monotonic()
            trainer.save_checkpoint(self.folder / CHECKPOINT)
            self.saved_at = time.monotonic()
            self.saving_takes = self.saved_at - start

    def _due(self, trainer: Trainer) -> bool:
        """Whether a checkpoint is due at the end of this epoch."""
        if self.epochs + 1 == trainer.max_epochs:
            return True
        elapsed = time.monotonic() - self.saved_at
        return elapsed >= min(self.seconds, self.saving_takes / MOST_OF_THE_TIME)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load the weights of the best epoch into the module."""
        if self.best_weights:
            pl_module.load_state_dict(self.best_weights)


def require_storable(model: LightningModule) -> None:
    """Refuse hyperparameters that only a pickle could store, before the training.

    A checkpoint with them could not be loaded without running code from it.

    Raises:
        ConfigurationError: naming them.
    """
    refused = []
    for name, value in model.hparams.items():
        file = io.BytesIO()
        try:
            torch.save(value, file)
            file.seek(0)
            torch.load(file, weights_only=True)
        except Exception:  # torch and pickle raise many kinds
            refused.append(f"{name} ({type(value).__name__})")
    if refused:
        raise ConfigurationError(
            f"save_hyperparameters: a checkpoint cannot store {', '.join(refused)}; "
            f"name them in save_hyperparameters(ignore=[...])"
        )


def _no_metric(monitor: str, metrics: Any) -> ConfigurationError:
    return ConfigurationError(f"monitor: there is no metric '{monitor}'; there are: {', '.join(metrics)}")
