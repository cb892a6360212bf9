"""The starting point as the only batch of each epoch."""

from pathlib import Path

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor

from src.descent.preprocessing import Preprocessing
from src.training.loading import Batches


class DescentData(LightningDataModule):
    """The starting point of a task; each epoch has one batch, so an epoch is one step.

    Args:
        prepared: the folder data/prepared/<task>; the command line gives it.
    """

    def __init__(self, prepared: Path) -> None:
        super().__init__()
        self.prepared = prepared
        self.preprocessing = Preprocessing.load(prepared)

    def targets(self, split: str) -> Tensor:
        """The starting point (1, 2), the same for each split."""
        return torch.from_numpy(np.load(self.prepared / "start.npy"))

    def train_dataloader(self) -> Batches:
        """One batch."""
        return Batches((self.targets("train"),), "full")

    val_dataloader = test_dataloader = train_dataloader
