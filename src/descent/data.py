"""The starting point as the only batch of each epoch."""

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor

from src.core.paths import PREPARED
from src.descent.preprocessing import Preprocessing
from src.training.loading import Batches


class DescentData(LightningDataModule):
    """The starting point of a task; each epoch has one batch, so an epoch is one step.

    Args:
        task: a name under `tasks` in params.yaml.
    """

    def __init__(self, task: str) -> None:
        super().__init__()
        self.prepared = PREPARED / task
        self.preprocessing = Preprocessing.load(self.prepared)

    def targets(self, split: str) -> Tensor:
        """The starting point (1, 2), the same for each split."""
        return torch.from_numpy(np.load(self.prepared / "start.npy"))

    def train_dataloader(self) -> Batches:
        """One batch."""
        return Batches((self.targets("train"),), "full")

    val_dataloader = test_dataloader = train_dataloader
