"""Optimizer and learning-rate schedule as Lightning wants them, from what the configuration names."""

from typing import Any

from lightning import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch.optim.lr_scheduler import ReduceLROnPlateau


def optimizer_and_schedule(
    module: LightningModule,
    optimizer_of: OptimizerCallable,
    lr_scheduler_of: LRSchedulerCallable | None,
    interval: str,
) -> dict[str, Any]:
    """The answer of `configure_optimizers`.

    A schedule that must know its number of steps (OneCycleLR) and is not told gets the training's own.

    Args:
        module: whose parameters are trained.
        optimizer_of: makes the optimizer from parameters.
        lr_scheduler_of: makes the schedule from the optimizer.
        interval: "epoch" or "step", when the schedule moves on.
    """
    optimizer = optimizer_of(module.parameters())
    if lr_scheduler_of is None:
        return {"optimizer": optimizer}
    told = getattr(lr_scheduler_of, "keywords", {})
    arguments = {}
    if "total_steps" in told and told["total_steps"] is None and told.get("epochs") is None:
        steps = module.trainer.estimated_stepping_batches
        epochs = module.trainer.max_epochs
        arguments = {"total_steps": steps if interval == "step" else epochs}
    scheduler = lr_scheduler_of(optimizer, **arguments)
    settings: dict[str, Any] = {"scheduler": scheduler, "interval": interval}
    if isinstance(scheduler, ReduceLROnPlateau):
        # Lightning's own variant carries the metric to watch, torch's does not
        settings["monitor"] = getattr(scheduler, "monitor", "validation/loss")
    return {"optimizer": optimizer, "lr_scheduler": settings}
