"""The LightningDataModule of tables."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src.core.errors import ConfigurationError
from src.tabular.preprocessing import Preprocessing
from src.training.loading import Batches, BatchSize, WholeData
from src.training.seeding import derived_seed

Splits = dict[str, tuple[Tensor, Tensor]]


def load_split(prepared: Path, split: str) -> tuple[Tensor, Tensor]:
    """Read a split: features (rows, F) float32, target (rows, 1) float32 or, for classes, (rows,) int64."""
    arrays = (np.load(prepared / f"{split}_{part}.npy") for part in ("features", "target"))
    features, target = map(torch.from_numpy, arrays)
    return features, target


class BalancedBatches(Batches):
    """Batches of an order in which all classes have the same number of rows, up to one.

    An epoch has as many rows as before: rows of a small class come several times, each as often as the
    others up to one, and of a large class other rows come in each epoch.
    """

    def _order(self) -> Tensor | None:
        if self.seed is None:
            return None
        generator = torch.Generator().manual_seed(derived_seed(self.seed, self.epoch))
        target = self.tensors[-1].cpu()
        classes = target.argsort(stable=True).split(target.bincount().tolist())
        classes = [rows for rows in classes if len(rows)]
        parts = []
        for number, rows in enumerate(classes):
            wanted = (self.rows + number) // len(classes)
            times, more = divmod(wanted, len(rows))
            parts += [rows.repeat(times), rows[torch.randperm(len(rows), generator=generator)[:more]]]
        order = torch.cat(parts)
        return order[torch.randperm(self.rows, generator=generator)].to(self.tensors[0].device)


class TabularData(WholeData):
    """Batches of (features, target) as `load_split` returns them.

    Args:
        prepared: the folder data/prepared/<task>; the command line gives it.
        batch_size: rows of a training batch over all devices, or `full`.
        balanced: whether all classes have the same number of training rows in an epoch.
        order_seed: of the batch order; the command line gives it `seed_everything`.

    Raises:
        ConfigurationError: a batch size below 1, data that are not prepared, or `balanced` of a quantity.
    """

    evaluation_size = 8192

    def __init__(
        self, prepared: Path, batch_size: BatchSize = 64, balanced: bool = False, order_seed: int = 0
    ) -> None:
        super().__init__(prepared, batch_size, order_seed)
        self.balanced = balanced
        if balanced and self.preprocessing.target.classes is None:
            raise ConfigurationError("data.balanced does not fit a target of regression")

    def kind(self, split: str) -> type[Batches]:
        """The class that cuts the batches of a split."""
        return BalancedBatches if self.balanced and split == "train" else Batches

    def load_preprocessing(self) -> Preprocessing:
        """Read what the preparation has learnt."""
        return Preprocessing.load(self.prepared)

    def tensors(self, split: str) -> tuple[Tensor, ...]:
        """Read a split, as `load_split` does."""
        return load_split(self.prepared, split)
