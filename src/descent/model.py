"""The LightningModule whose only parameter is a point on a surface.

B batch
"""

from typing import Any, Literal

import torch
from lightning import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from src.descent.preprocessing import Preprocessing
from src.descent.surfaces import SURFACES
from src.training.optimizers import optimizer_and_schedule
from src.training.overhead import log_epoch


class Descent(LightningModule):
    """Minimise a surface from the starting point of the prepared data, in float64.

    The history has one row per step: the point before it (`train/x1`, `train/x2`) and its height
    (`train/loss`), the point after it (`validation/x1`, `validation/x2`) and its height (`validation/loss`).

    Args:
        preprocessing: of the prepared data; it holds the starting point.
        surface: bowl, rosenbrock, saddle or beale.
        optimizer: one of torch.optim or of src.descent.optimizers.
        lr_scheduler: one of torch.optim.lr_scheduler.
        lr_interval: as in the other models; here an epoch is one step.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        surface: Literal["bowl", "rosenbrock", "saddle", "beale"] = "bowl",
        optimizer: OptimizerCallable = torch.optim.SGD,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_interval: Literal["epoch", "step"] = "epoch",
    ) -> None:
        super().__init__()
        self.surface = surface
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.lr_interval = lr_interval
        self.x = nn.Parameter(torch.tensor(preprocessing.start, dtype=torch.float64))  # (2,)
        self.example_input_array = torch.zeros(1, 2, dtype=torch.float64)

    def forward(self, points: Tensor) -> Tensor:
        """Heights (B,) of points (B, 2)."""
        return SURFACES[self.surface].height(points)

    def metrics_of(self, point: Tensor) -> dict[str, Tensor]:
        """The height of a point (2,), and its distance to the minimum if the surface has one."""
        metrics = {"loss": self(point)}
        minimum = SURFACES[self.surface].minimum
        if minimum is not None:
            metrics["distance"] = torch.linalg.vector_norm(point - point.new_tensor(minimum))
        return metrics

    def trivial_metrics(self, train: Tensor, test: Tensor) -> dict[str, float]:
        """The metrics of the starting point (1, 2)."""
        return {name: float(value) for name, value in self.metrics_of(train[0]).items()}

    def _log(self, stage: str, values: dict[str, Tensor]) -> None:
        log_epoch(self, stage, {name: value.detach().clone() for name, value in values.items()})

    def training_step(self, batch: tuple[Tensor], batch_idx: int) -> Tensor:
        """The height of the point before the step."""
        height: Tensor = self(self.x)
        self._log("train", {"loss": height, "x1": self.x[0], "x2": self.x[1]})
        return height

    def validation_step(self, batch: tuple[Tensor], batch_idx: int) -> None:
        """Log the point after the step and its height."""
        self._log("validation", {**self.metrics_of(self.x), "x1": self.x[0], "x2": self.x[1]})

    def test_step(self, batch: tuple[Tensor], batch_idx: int) -> None:
        """Log the height of the lowest point found."""
        self._log("test", self.metrics_of(self.x))

    def configure_optimizers(self) -> Any:
        """The optimizer and schedule of the configuration."""
        return optimizer_and_schedule(self, self.optimizer, self.lr_scheduler, self.lr_interval)
