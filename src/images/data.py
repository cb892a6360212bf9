"""Arrays -> batches: the LightningDataModule of the images room."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src.training.loading import WholeData

# a network's first layers make a hundred numbers of each pixel
EVALUATION_IMAGES = 500


def load_split(prepared: Path, split: str) -> tuple[Tensor, Tensor]:
    """The arrays of a split: images (N, C, H, W) uint8, target (N,) int64."""
    arrays = (np.load(prepared / f"{split}_{part}.npy") for part in ("images", "target"))
    images, target = map(torch.from_numpy, arrays)
    return images, target


class ImageData(WholeData):
    """Batches of (images, target) as `load_split` has them: images travel as bytes."""

    evaluation_size = EVALUATION_IMAGES

    def tensors(self, split: str) -> tuple[Tensor, ...]:
        """As `load_split`."""
        return load_split(self.prepared, split)
