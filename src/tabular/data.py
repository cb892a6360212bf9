"""The LightningDataModule of tables."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src.tabular.preprocessing import Preprocessing
from src.training.loading import WholeData

Splits = dict[str, tuple[Tensor, Tensor]]


def load_split(prepared: Path, split: str) -> tuple[Tensor, Tensor]:
    """Read a split: features (rows, F) float32, target (rows, 1) float32 or, for classes, (rows,) int64."""
    arrays = (np.load(prepared / f"{split}_{part}.npy") for part in ("features", "target"))
    features, target = map(torch.from_numpy, arrays)
    return features, target


class TabularData(WholeData):
    """Batches of (features, target) as `load_split` returns them."""

    evaluation_size = 8192

    def load_preprocessing(self) -> Preprocessing:
        """Read what the preparation has learnt."""
        return Preprocessing.load(self.prepared)

    def tensors(self, split: str) -> tuple[Tensor, ...]:
        """Read a split, as `load_split` does."""
        return load_split(self.prepared, split)
