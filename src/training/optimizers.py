"""The optimizer and the learning-rate schedule of a configuration, in the form of Lightning."""

from typing import Any

from lightning import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import ReduceLROnPlateau


class OneCycle(lr_scheduler.OneCycleLR):
    """torch's one-cycle schedule, whose highest rate is the `lr` of the optimizer (`max_lr` in torch).

    Args:
        optimizer: of each of its groups the rate is the highest one.
        **options: those of torch.optim.lr_scheduler.OneCycleLR other than `max_lr`.
    """

    def __init__(self, optimizer: Optimizer, **options: Any) -> None:
        super().__init__(optimizer, max_lr=[group["lr"] for group in optimizer.param_groups], **options)


def optimizer_and_schedule(
    module: LightningModule,
    optimizer_of: OptimizerCallable,
    lr_scheduler_of: LRSchedulerCallable | None,
    interval: str,
) -> dict[str, Any]:
    """The return value of `configure_optimizers`.

    A schedule that needs its number of steps (OneCycleLR) gets that of the training if none is configured.

    Args:
        module: its parameters are trained.
        optimizer_of: from parameters to the optimizer.
        lr_scheduler_of: from the optimizer to the schedule.
        interval: "epoch" or "step", when the schedule advances.
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
        # Lightning's class has a `monitor`, torch's has none
        settings["monitor"] = getattr(scheduler, "monitor", "validation/loss")
    return {"optimizer": optimizer, "lr_scheduler": settings}
