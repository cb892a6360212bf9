"""The LightningDataModule of images."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src.images.preprocessing import Preprocessing
from src.images.pretrained import WEIGHTS, read_weights
from src.training.loading import WholeData

EVALUATION_IMAGES = 500  # the first layers of a network have a hundred activations per pixel


def load_split(prepared: Path, split: str) -> tuple[Tensor, Tensor]:
    """Read a split: images (N, C, H, W) uint8, target (N,) int64."""
    arrays = (np.load(prepared / f"{split}_{part}.npy") for part in ("images", "target"))
    images, target = map(torch.from_numpy, arrays)
    return images, target


class ImageData(WholeData):
    """Batches of (images, target) as `load_split` reads them: uint8, the model scales them."""

    evaluation_size = EVALUATION_IMAGES

    def load_preprocessing(self) -> Preprocessing:
        """Read what the preparation has learnt."""
        return Preprocessing.load(self.prepared)

    def tensors(self, split: str) -> tuple[Tensor, ...]:
        """Read a split, as `load_split` does."""
        return load_split(self.prepared, split)

    def pretrained(self) -> dict[str, Tensor]:
        """The weights with which a training begins, by name; none if the preparation was given none."""
        path = self.prepared / WEIGHTS
        return read_weights(path) if path.exists() else {}
