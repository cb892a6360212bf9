"""Arrays -> batches: the LightningDataModule of the tabular room."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor

from src.shared.batches import Batches
from src.shared.errors import ConfigurationError
from src.shared.folders import PREPARED, read_preprocessing

EVALUATION_ROWS = 8192


def load_split(prepared: Path, split: str) -> tuple[Tensor, Tensor]:
    """The arrays of a split: features (rows, F) float32, target (rows, 1) float32 or (rows,) int64."""
    arrays = (np.load(prepared / f"{split}_{part}.npy") for part in ("features", "target"))
    features, target = map(torch.from_numpy, arrays)
    return features, target


class TabularData(LightningDataModule):
    """The prepared table of a task, whole in memory, on the device that trains.

    Args:
        task: a name under `tasks` in params.yaml.
        batch_size: rows of a training batch over all devices, or `full`.
        seed: of the batch order.
    """

    def __init__(self, task: str, batch_size: int | Literal["full"] = 64, seed: int = 0) -> None:
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

    def _batches(self, split: str, batch_size: int | str, seed: int | None = None) -> Batches:
        assert self.trainer is not None
        device = self.trainer.strategy.root_device
        return Batches(
            tuple(tensor.to(device) for tensor in load_split(self.prepared, split)),
            batch_size,  # type: ignore[arg-type]
            seed=seed,
            process=self.trainer.global_rank,
            processes=self.trainer.world_size,
        )

    def train_dataloader(self) -> Batches:
        """Shuffled batches of (features, target)."""
        return self._batches("train", self.batch_size, self.seed)

    def val_dataloader(self) -> Batches:
        """Batches in the order of the rows."""
        return self._batches("validation", EVALUATION_ROWS)

    def test_dataloader(self) -> Batches:
        """Batches in the order of the rows."""
        return self._batches("test", EVALUATION_ROWS)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Nothing: `_batches` put the whole split on the device."""
        return batch
