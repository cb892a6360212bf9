"""Stop a training whose loss is NaN or infinite."""

import math
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from src.core.errors import NonFiniteError

ADVICE = "try a lower learning rate or --trainer.gradient_clip_val=1"


class NonFiniteLossGuard(Callback):
    """End the training at the first step whose loss is NaN or infinite.

    A single process on a CPU checks each loss before the weights change. On an accelerator a check waits for
    the device, and several processes have to stop together: there the losses of `together` steps are checked
    at once, and the rest at the end of the epoch, before a checkpoint is saved.

    Args:
        together: number of steps.
    """

    def __init__(self, together: int = 100) -> None:
        self.together = together
        self.noted: list[tuple[str, Tensor]] = []

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Check the loss, or keep it for later."""
        loss = loss.detach()
        if loss.ndim:  # `manual_backward` takes a vector with its gradient
            loss = loss.sum()
        if loss.device.type == "cpu" and trainer.world_size == 1:
            value = loss.item()
            if not math.isfinite(value):
                raise _error(value, _place(trainer))
            return
        self.noted.append((_place(trainer), loss))
        if len(self.noted) == self.together:
            self._check(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the remaining losses."""
        if self.noted:
            self._check(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Check the remaining losses before a checkpoint within an epoch."""
        if self.noted:
            self._check(trainer)

    def _check(self, trainer: Trainer) -> None:
        places, losses = zip(*self.noted, strict=True)
        self.noted.clear()
        # the sum is not finite if one of its parts is not, so all processes raise
        found: Tensor = trainer.strategy.reduce(torch.stack(losses), reduce_op="sum")
        for place, value in zip(places, found.tolist(), strict=True):
            if not math.isfinite(value):
                raise _error(value, place)


def _place(trainer: Trainer) -> str:
    """The current epoch and step, counted from 1."""
    # current_epoch is stale after a checkpoint was loaded
    epoch = int(trainer.fit_loop.epoch_progress.current.processed) + 1  # type: ignore[attr-defined]
    return f"epoch {epoch}, step {trainer.fit_loop.batch_idx + 1}"


def _error(value: float, place: str) -> NonFiniteError:
    return NonFiniteError(f"train/loss became {value} in {place}; {ADVICE}")
