"""The starting point as the one batch of every epoch."""

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor

from src.core.digests import read_preprocessing
from src.core.paths import PREPARED
from src.training.loading import Batches


class DescentData(LightningDataModule):
    """The starting point of a task; each epoch has one batch, so that it is one step.

    Args:
        task: a name under `tasks` in params.yaml.
        seed: not used: nothing is drawn.
    """

    def __init__(self, task: str, seed: int = 0) -> None:
        super().__init__()
        self.prepared = PREPARED / task
        self.preprocessing = read_preprocessing(self.prepared)

    def targets(self, split: str) -> Tensor:
        """The starting point (1, 2), the only data there are."""
        return torch.from_numpy(np.load(self.prepared / "start.npy"))

    def train_dataloader(self) -> Batches:
        """One batch."""
        return Batches((self.targets("train"),), "full")

    val_dataloader = test_dataloader = train_dataloader
