"""Pictures in class folders that are decoded anew in each epoch, as data of an ordinary LightningModule.

B batch, S height and width of an image
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse.typing import ClosedUnitInterval, NonNegativeInt, OpenUnitInterval, PositiveInt
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from src.core.errors import DataError
from src.images.folders import LeftOut, class_folders, require_pictures
from src.images.pictures import Decoding, cut_pictures, read_headers, read_picture, unreadable_files
from src.images.preprocessing import IMAGENET
from src.preparation.splits import Rows, cut_share

logger = logging.getLogger(__name__)

MARGIN = 256 / 224  # the shorter side over S, before the middle is cut out


class DecodedFiles(Dataset[tuple[Tensor, int | str]]):
    """Picture files, each decoded when it is asked for: images (3, S, S) float32, and what goes with them.

    Args:
        paths: the files.
        answers: the class or the name of each.
        decoding: how files become 8-bit colour.
        transform: of a colour picture of Pillow.
    """

    def __init__(
        self, paths: list[Path], answers: Sequence[int | str], decoding: Decoding | None, transform: Any
    ) -> None:
        self.paths = paths
        self.answers = answers
        self.decoding = decoding
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Tensor, int | str]:
        picture = read_picture(self.paths[row], self.decoding).convert("RGB")
        return self.transform(picture), self.answers[row]


class PictureFiles(LightningDataModule):
    """Batches of images (B, 3, S, S) float32, scaled as ImageNet's, and of their classes (B,) int64.

    An image of the training is a part of the whole picture, cut out at random in each epoch; elsewhere it is
    the middle of the picture. Batches of `predict` have the names of the files in place of the classes.

    Args:
        folder: with a folder of pictures for each class; classes are numbered in the order of their names.
        size: the height and width S of the images.
        batch_size: images of a batch.
        num_workers: processes that decode; 0 is none beside that of the training. It changes no image.
        crop: the smallest share of the area of a picture that is cut out in training.
        flip: the probability that a training image is mirrored.
        decoding: of the files, as `{background: black}`; null for white, and no pictures above 8 bits.
        test_share: of all pictures.
        validation_share: of the others.
        seed: of the split, which keeps the shares of the classes.
        pictures: a folder whose pictures `predict` reads; null for those of the test.
    """

    def __init__(
        self,
        folder: Path,
        size: PositiveInt = 224,
        batch_size: PositiveInt = 64,
        num_workers: NonNegativeInt = 0,
        crop: ClosedUnitInterval = 0.08,
        flip: ClosedUnitInterval = 0.5,
        decoding: Decoding | None = None,
        test_share: OpenUnitInterval = 0.2,
        validation_share: OpenUnitInterval = 0.1,
        seed: int = 42,
        pictures: Path | None = None,
    ) -> None:
        super().__init__()
        self.folder = folder
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.decoding = decoding
        self.shares = test_share, validation_share
        self.seed = seed
        self.pictures = pictures
        colours = v2.Normalize(**IMAGENET)
        scaled = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), colours]
        whole, middle = v2.Resize(round(MARGIN * size)), v2.CenterCrop(size)
        self.evaluation = v2.Compose([whole, middle, *scaled])
        part, mirrored = v2.RandomResizedCrop(size, scale=(crop, 1)), v2.RandomHorizontalFlip(flip)
        self.training = v2.Compose([part, mirrored, *scaled])

    def setup(self, stage: str) -> None:
        """List the files and split them; before a training, look for damaged ones.

        Raises:
            DataError: the folder cannot be used, a file is damaged, or there are too few of a class.
        """
        if stage == "predict" and self.pictures is not None:
            return
        folders, left = class_folders(self.folder)
        self.paths = [path for members in folders.values() for path in members]
        self.target = np.repeat(np.arange(len(folders)), [len(members) for members in folders.values()])
        if stage == "fit":
            if str(left):
                logger.warning("%s: left out: %s", self.folder, left)
            require_readable(self.paths)
        rows: Rows = np.arange(len(self.paths))
        try:
            rows, self.test = cut_share(rows, self.shares[0], self.seed, self.target)
            self.train, self.validation = cut_share(rows, self.shares[1], self.seed, self.target)
        except ValueError as error:
            raise DataError(f"{self.folder}: too few pictures for the split: {error}") from None

    def train_dataloader(self) -> DataLoader[Any]:
        """Random parts of the pictures, shuffled."""
        return self._loader(self._files(self.train, self.training), shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """The validation part."""
        return self._loader(self._files(self.validation, self.evaluation))

    def test_dataloader(self) -> DataLoader[Any]:
        """The test part."""
        return self._loader(self._files(self.test, self.evaluation))

    def predict_dataloader(self) -> DataLoader[Any]:
        """Images and the names of their files, in the order of these names."""
        if self.pictures is None:
            paths = [self.paths[row] for row in self.test]
        else:
            paths = require_pictures(self.pictures, LeftOut())
            require_readable(paths)
        names = [path.relative_to(self.pictures or self.folder).as_posix() for path in paths]
        return self._loader(DecodedFiles(paths, names, self.decoding, self.evaluation))

    def _files(self, rows: Rows, transform: Any) -> DecodedFiles:
        paths, classes = [self.paths[row] for row in rows], self.target[rows].tolist()
        return DecodedFiles(paths, classes, self.decoding, transform)

    def _loader(self, files: DecodedFiles, shuffle: bool = False) -> DataLoader[Any]:
        return DataLoader(files, self.batch_size, shuffle=shuffle, num_workers=self.num_workers)


def require_readable(paths: list[Path]) -> None:
    """Raise a DataError for files that have no header of a picture, or end too early."""
    unreadable = read_headers(paths)[1]
    unreadable |= cut_pictures([path for path in paths if path not in unreadable])
    if unreadable:
        raise DataError(f"{unreadable_files(unreadable, len(paths))}; replace or remove them")
