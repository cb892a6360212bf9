"""The progress of a training: a bar on terminals, elsewhere a line a minute."""

import sys
import time
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.progress import Progress, TextColumn

from src.core.progress import progress_bar

SECONDS = 60  # between two lines


def latest_metrics(trainer: Trainer, monitor: str) -> dict[str, float]:
    """The losses and the monitored metric of the last epoch that has them."""
    names = dict.fromkeys(("train/loss", "validation/loss", monitor))
    return {name: float(trainer.callback_metrics[name]) for name in names if name in trainer.callback_metrics}


class TrainingProgress(ProgressBar):
    """One rich bar over all steps, with the latest losses; redrawn ten times a second, not each step.

    Args:
        monitor: the metric shown beside the losses.
    """

    def __init__(self, monitor: str) -> None:
        super().__init__()
        self.monitor = monitor
        self.enabled = True
        self.progress: Progress | None = None

    def disable(self) -> None:
        """Show nothing; Lightning calls this on all processes except the first."""
        self.enabled = False

    def enable(self) -> None:
        """Show the bar."""
        self.enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the bar."""
        if not self.enabled:
            return
        metrics = TextColumn("{task.fields[metrics]}")
        self.progress = progress_bar(metrics, description="epoch {task.fields[epoch]}")
        self.task = self.progress.add_task(
            "train",
            total=trainer.estimated_stepping_batches,
            completed=trainer.global_step,
            epoch=trainer.current_epoch + 1,
            metrics="",
        )
        self.progress.start()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Advance the bar."""
        if self.progress is not None:
            self.progress.update(self.task, completed=trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the epoch's metrics."""
        if self.progress is not None:
            latest = latest_metrics(trainer, self.monitor)
            metrics = "  ".join(f"{name} {value:.4g}" for name, value in latest.items())
            self.progress.update(self.task, epoch=trainer.current_epoch + 1, metrics=metrics)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the finished bar on the screen."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop the bar."""
        self._stop()

    def _stop(self) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None


class ProgressLines(Callback):
    """A line on standard error each minute, for the logs of schedulers and of continuous integration.

    Args:
        monitor: the metric shown beside the losses.
    """

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self.told = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the first minute."""
        self.told = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write the line if it is due."""
        if not trainer.is_global_zero or time.monotonic() - self.told < SECONDS:
            return
        self.told = time.monotonic()
        total = trainer.estimated_stepping_batches
        steps = f"{trainer.global_step:,}" + (f" of {int(total):,}" if total < float("inf") else "")
        metrics = [f"{name} {value:.4g}" for name, value in latest_metrics(trainer, self.monitor).items()]
        parts = [f"epoch {trainer.current_epoch + 1}", f"step {steps}", *metrics]
        print(", ".join(parts), file=sys.stderr, flush=True)
