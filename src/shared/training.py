"""What a training run remembers: its history, its best weights, and a checkpoint to go on from."""

import csv
import math
import os
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from src.shared.errors import ConfigurationError, NonFiniteError

CHECKPOINT = "last.ckpt"


class TrainingRecord(Checkpoint):
    """Keep one row of metrics an epoch and the weights of the best one; save all of it each epoch.

    Best weights stay in memory and travel inside the checkpoint, so that one small file an epoch is all
    that is written, and a run that is cut off goes on as if it had not been.

    Args:
        folder: where the checkpoint and history.csv lie.
        monitor: the metric that decides which epoch is best.
        mode: "min" or "max", what is better.
    """

    def __init__(self, folder: Path, monitor: str, mode: str) -> None:
        self.folder = folder
        self.monitor = monitor
        self.sign = 1 if mode == "min" else -1
        self.rows: list[dict[str, float]] = []
        self.best_row: dict[str, float] = {}
        self.best_weights: dict[str, Tensor] = {}
        self.stopped = False

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of this callback."""
        names = ("rows", "best_row", "best_weights", "stopped")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        for name, value in state_dict.items():
            setattr(self, name, value)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the rows of the epochs before an interruption; do not go on past an early stop."""
        trainer.should_stop = self.stopped
        if trainer.is_global_zero:
            (self.folder / "history.csv").unlink(missing_ok=True)
            for number, row in enumerate(self.rows):
                self._append(row, header=number == 0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's row, keep its weights if they are the best, save."""
        row = {"epoch": len(self.rows) + 1, **_learning_rates(trainer)}
        row |= {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        for name in ("train/loss", "validation/loss"):
            if not math.isfinite(row.get(name, 0.0)):
                raise NonFiniteError(
                    f"{name} became {row[name]} in epoch {row['epoch']}; try a lower learning rate or "
                    "--trainer.gradient_clip_val=1; the last good checkpoint is kept"
                )
        if self.monitor not in row:
            names = ", ".join(row)
            raise ConfigurationError(f"monitor: there is no metric '{self.monitor}'; there are: {names}")
        self.rows.append(row)
        best = self.best_row.get(self.monitor, math.inf * self.sign)
        if self.sign * row[self.monitor] < self.sign * best:
            self.best_row = row
            self.best_weights = {
                name: tensor.detach().clone() for name, tensor in pl_module.state_dict().items()
            }
        self.stopped = trainer.should_stop
        if trainer.is_global_zero:
            self._append(row, header=len(self.rows) == 1)
        for logger in trainer.loggers:
            logger.log_metrics(row, step=int(row["epoch"]))
        self._save(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the module with the weights of the best epoch."""
        if self.best_weights:
            pl_module.load_state_dict(self.best_weights)

    def _save(self, trainer: Trainer) -> None:
        """Replace the checkpoint by a rename: the old or the new one is there, never half of one."""
        partial = self.folder / f"{CHECKPOINT}.partial"
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(self.folder / CHECKPOINT)

    def _append(self, row: dict[str, float], header: bool) -> None:
        with (self.folder / "history.csv").open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            if header:
                writer.writeheader()
            writer.writerow(row)


def _learning_rates(trainer: Trainer) -> dict[str, float]:
    return {"learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"])}
