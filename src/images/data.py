"""Arrays -> batches: the LightningDataModule of the images room."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor

from src.shared.batches import Batches
from src.shared.errors import ConfigurationError
from src.shared.folders import PREPARED, read_preprocessing

# a network's first layers make a hundred numbers of each pixel
EVALUATION_IMAGES = 500


def load_split(prepared: Path, split: str) -> tuple[Tensor, Tensor]:
    """The arrays of a split: images (N, C, H, W) uint8, target (N,) int64."""
    arrays = (np.load(prepared / f"{split}_{part}.npy") for part in ("images", "target"))
    images, target = map(torch.from_numpy, arrays)
    return images, target


class ImageData(LightningDataModule):
    """The prepared images of a task, whole in memory as bytes, on the device that trains.

    Args:
        task: a name under `tasks` in params.yaml.
        batch_size: images of a training batch over all devices, or `full`.
        seed: of the batch order.
    """

    def __init__(self, task: str, batch_size: int | Literal["full"] = 128, seed: int = 0) -> None:
        super().__init__()
        if batch_size != "full" and batch_size < 1:
            raise ConfigurationError(f"data.batch_size must be at least 1 or 'full': {batch_size}")
        self.batch_size = batch_size
        self.seed = seed
        self.prepared = PREPARED / task
        self.preprocessing = read_preprocessing(self.prepared)

    def targets(self, split: str) -> Tensor:
        """The target of a split, as `load_split`."""
        return load_split(self.prepared, split)[1]

    def _batches(self, split: str, batch_size: int | Literal["full"], seed: int | None = None) -> Batches:
        assert self.trainer is not None
        device = self.trainer.strategy.root_device
        return Batches(
            tuple(tensor.to(device) for tensor in load_split(self.prepared, split)),
            batch_size,
            seed=seed,
            process=self.trainer.global_rank,
            processes=self.trainer.world_size,
        )

    def train_dataloader(self) -> Batches:
        """Shuffled batches of (images, target)."""
        return self._batches("train", self.batch_size, self.seed)

    def val_dataloader(self) -> Batches:
        """Batches in the order of the images."""
        return self._batches("validation", EVALUATION_IMAGES)

    def test_dataloader(self) -> Batches:
        """Batches in the order of the images."""
        return self._batches("test", EVALUATION_IMAGES)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Nothing: `_batches` put the whole split on the device."""
        return batch
