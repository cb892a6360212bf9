"""Arrays -> batches: the LightningDataModule of the tabular room."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src.training.loading import WholeData


def load_split(prepared: Path, split: str) -> tuple[Tensor, Tensor]:
    """The arrays of a split: features (rows, F) float32, target (rows, 1) float32 or (rows,) int64."""
    arrays = (np.load(prepared / f"{split}_{part}.npy") for part in ("features", "target"))
    features, target = map(torch.from_numpy, arrays)
    return features, target


class TabularData(WholeData):
    """Batches of (features, target) as `load_split` has them."""

    evaluation_size = 8192

    def tensors(self, split: str) -> tuple[Tensor, ...]:
        """As `load_split`."""
        return load_split(self.prepared, split)
