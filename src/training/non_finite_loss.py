"""The end of a training whose loss is no longer a number."""

import math

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from src.core.errors import NonFiniteError

ADVICE = "try a lower learning rate or --trainer.gradient_clip_val=1"


class NonFiniteLossGuard(Callback):
    """End the training at the first step whose loss is NaN or infinite.

    One process on a CPU looks at each loss before it changes a weight. To look at one on an accelerator is
    to wait for it, and several processes have to end together: there the losses of `together` steps are
    looked at at once. Nothing is kept in between, as checkpoints and the best weights are those of the end
    of an epoch, and this callback looks before them.

    Args:
        together: how many steps.
    """

    def __init__(self, together: int = 100) -> None:
        self.together = together
        self.noted: list[tuple[str, Tensor]] = []

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Look at the loss, or note it."""
        if loss.device.type == "cpu" and trainer.world_size == 1:
            value = loss.item()
            if not math.isfinite(value):
                raise _error(value, _place(trainer))
            return
        self.noted.append((_place(trainer), loss.detach()))
        if len(self.noted) == self.together:
            self._look(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the losses that are left."""
        if self.noted:
            self._look(trainer)

    def _look(self, trainer: Trainer) -> None:
        places, losses = zip(*self.noted, strict=True)
        self.noted.clear()
        # a sum is not finite where one of its parts is not, so all processes find the same
        found: Tensor = trainer.strategy.reduce(torch.stack(losses), reduce_op="sum")
        for place, value in zip(places, found.tolist(), strict=True):
            if not math.isfinite(value):
                raise _error(value, place)


def _place(trainer: Trainer) -> str:
    """The epoch and its step that are under way, from 1."""
    # current_epoch is stale after going on from a checkpoint
    epoch = int(trainer.fit_loop.epoch_progress.current.processed) + 1  # type: ignore[attr-defined]
    return f"epoch {epoch}, step {trainer.fit_loop.batch_idx + 1}"


def _error(value: float, place: str) -> NonFiniteError:
    return NonFiniteError(f"train/loss became {value} in {place}; {ADVICE}")
