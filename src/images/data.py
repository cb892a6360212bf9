"""The LightningDataModule of images."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from src.core.errors import ConfigurationError
from src.images.preprocessing import WHOLE_BYTES, Preprocessing
from src.images.pretrained import WEIGHTS, read_weights
from src.training.loading import BalancedBatches, Batches, BatchSize, WholeData
from src.training.shards import Remote

EVALUATION_IMAGES = 500  # the first layers of a network have a hundred activations per pixel
EVALUATION_PIXELS = EVALUATION_IMAGES * 64 * 64


def images_at_once(height: int, width: int) -> int:
    """The number of images of a batch without gradients: fewer of large ones."""
    return max(1, min(EVALUATION_IMAGES, EVALUATION_PIXELS // (height * width)))


def load_split(prepared: Path, split: str) -> tuple[Tensor, Tensor]:
    """Read a split: images (N, C, H, W) uint8, target (N,) int64, of a
    regression float32, of several labels an image (N, K) uint8.

    Images of more than `WHOLE_BYTES` are a memory map: they are read from the disk where they are used.
    """
    path = prepared / f"{split}_images.npy"
    # copy on write, since torch warns of arrays that cannot be written; nothing writes to it
    images = np.load(path, mmap_mode="c" if path.stat().st_size > WHOLE_BYTES else None)
    return torch.from_numpy(images), torch.from_numpy(np.load(prepared / f"{split}_target.npy"))


class ImageData(WholeData):
    """Batches of (images, target) as `load_split` reads them: uint8, the model scales them.

    If the model has features of images that its training does not change, the batches have those instead.

    Args:
        prepared: the folder data/prepared/<task>; the command line gives it.
        batch_size: rows of a training batch over all devices, or `full`.
        balanced: whether all classes have the same number of training images in an epoch.
        order_seed: of the batch order; the command line gives it `seed_everything`.
        remote: where the images of splits that are in shards are, if not in `prepared`.

    Raises:
        ConfigurationError: `balanced` of remote images, whose shards would be read for every batch.
    """

    array = "images"

    def __init__(
        self,
        prepared: Path,
        batch_size: BatchSize = 64,
        balanced: bool = False,
        order_seed: int = 0,
        remote: Remote | None = None,
    ) -> None:
        super().__init__(prepared, batch_size, order_seed, remote)
        self.balanced = balanced
        if balanced and remote is not None:
            raise ConfigurationError("data.balanced: it draws from all shards at once; leave data.remote out")

    def kind(self, split: str) -> type[Batches]:
        """The class that cuts the batches of a split.

        Raises:
            ConfigurationError: `balanced` without classes.
        """
        if self.balanced and self.preprocessing.task != "classification":
            raise ConfigurationError(
                f"data.balanced: it is for one class an image, found {self.preprocessing.task}; leave it out"
            )
        return BalancedBatches if self.balanced and split == "train" else Batches

    def load_preprocessing(self) -> Preprocessing:
        """Read what the preparation has learnt."""
        preprocessing = Preprocessing.load(self.prepared)
        self.evaluation_size = images_at_once(*preprocessing.shape[1:])
        return preprocessing

    def batches(self, split: str, batch_size: BatchSize, seed: int | None = None) -> Batches:
        """The batches of a split, shuffled in each epoch if there is a seed."""
        trainer: Any = self.trainer
        tensors, blocks = self.tensors(split), self.blocks(split)
        features_of = getattr(trainer.lightning_module, "features_of", None)
        if trainer.state.fn == TrainerFn.FITTING and features_of is not None:
            found = features_of(tensors[0])
            blocks = blocks if found is tensors[0] else None
            if found is not tensors[0]:
                tensors = found, *(tensor.to(found.device) for tensor in tensors[1:])
        if blocks is None and tensors[0].nbytes <= WHOLE_BYTES:
            tensors = tuple(tensor.to(trainer.strategy.root_device) for tensor in tensors)
        process, processes = trainer.global_rank, trainer.world_size
        return self.kind(split)(tensors, batch_size, seed, process, processes, blocks)

    def targets(self, split: str) -> Tensor:
        """The target of a split (N,)."""
        return torch.from_numpy(np.load(self.prepared / f"{split}_target.npy"))

    def tensors(self, split: str) -> tuple[Any, ...]:
        """Read a split, as `load_split` does; remote images are a `RemoteArray`."""
        images = self.remote_array(split)
        return load_split(self.prepared, split) if images is None else (images, self.targets(split))

    def pretrained(self) -> dict[str, Tensor]:
        """The weights with which a training begins, by name; none if the preparation was given none."""
        path = self.prepared / WEIGHTS
        return read_weights(path) if path.exists() else {}
