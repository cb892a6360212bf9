"""Arrays -> batches: the LightningDataModule of the images room, and raw images -> predictions."""

import csv
import io
import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor

from src.images.networks import feature_maps
from src.images.preprocessing import read_inputs
from src.shared.batches import Batches
from src.shared.errors import ConfigurationError
from src.shared.folders import MODELS, PREPARED, read_preprocessing
from src.shared.plots import plot_feature_maps

logger = logging.getLogger(__name__)

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
        input: for `predict`, a picture (PNG, JPEG), a folder of them, an idx file or a CSV file of pixels.
        output: for `predict`, the CSV file to write.
        feature_maps: for `predict`, a PNG file for what the network's layers make of the first image.
    """

    def __init__(
        self,
        task: str,
        batch_size: int | Literal["full"] = 128,
        seed: int = 0,
        input: Path | None = None,
        output: Path = Path("predictions.csv"),
        feature_maps: Path | None = None,
    ) -> None:
        super().__init__()
        if batch_size != "full" and batch_size < 1:
            raise ConfigurationError(f"data.batch_size must be at least 1 or 'full': {batch_size}")
        self.batch_size = batch_size
        self.seed = seed
        self.input = input
        self.output = output
        self.feature_maps = feature_maps
        self.prepared = PREPARED / task
        learnt = (MODELS / task, "train") if input else (self.prepared, "prepare")
        self.preprocessing = read_preprocessing(*learnt)
        self.names: list[str] = []
        self.first_image = torch.empty(0)

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

    def predict_dataloader(self) -> Batches:
        """Batches of (images,) made from the raw images of `input`.

        Raises:
            ConfigurationError: no input was given.
            DataError: the input cannot be read.
        """
        if self.input is None:
            raise ConfigurationError("predict needs raw images: add --data.input FILE_OR_FOLDER")
        images, self.names, adapted = read_inputs(self.input, self.preprocessing)
        if adapted:
            channels, height, width = self.preprocessing["shape"]
            kind = "grey" if channels == 1 else "colour"
            logger.warning(
                "%s: %d of %d images were made %d x %d and %s, as in training",
                *(self.input, adapted, len(images), width, height, kind),
            )
        tensor = torch.from_numpy(images)
        self.first_image = tensor[:1]
        return Batches((tensor,), EVALUATION_IMAGES)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Nothing for training and evaluation: `_batches` put the whole split on the device."""
        return batch if batch[0].device == device else tuple(tensor.to(device) for tensor in batch)

    def write_predictions(self, predictions: list[Tensor]) -> Path:
        """Write one row an image to `output`: its name, its class and the class's probability.

        Args:
            predictions: batches of class probabilities (B, K).
        """
        probabilities, codes = torch.cat(predictions).cpu().max(dim=1)
        classes = [self.preprocessing["classes"][code] for code in codes.tolist()]
        columns = self.preprocessing["prediction_columns"]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        for row in zip(self.names, classes, (f"{p:.6f}" for p in probabilities.tolist()), strict=True):
            writer.writerow(row[: len(columns)])
        # a name of its own, then a rename: an older file is replaced whole or kept
        partial = self.output.with_name(f".{self.output.name}.partial")
        self.output.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text.getvalue(), encoding="utf-8")
        partial.replace(self.output)
        if self.feature_maps is not None:
            self._draw_feature_maps(self.feature_maps)
        return self.output

    def _draw_feature_maps(self, path: Path) -> None:
        assert self.trainer is not None
        model: Any = self.trainer.lightning_module
        scaled = model.scaled(self.first_image.to(model.device))
        plot_feature_maps(self.first_image[0].numpy(), feature_maps(model.network, scaled), path)
