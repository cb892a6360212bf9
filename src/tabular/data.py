"""The LightningDataModule of tables.

B rows of a batch, F features, N numbers, C columns of categories
"""

import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src.bundle.bundle import Bundle
from src.core.errors import ConfigurationError
from src.tabular.preprocessing import Preprocessing
from src.training.loading import BalancedBatches, Batches, BatchSize, Blocks, WholeData
from src.training.seeding import derived_seed

Splits = dict[str, tuple[Tensor, Tensor]]

BLOCK_ROWS = 256
BLOCKS_AT_ONCE = 1024


def load_split(prepared: Path, split: str) -> tuple[Tensor, Tensor]:
    """Read a split: features (rows, F) float32, targets as `Preparation` has them."""
    numbers, codes, target = (_load(prepared, split, part) for part in ("numbers", "codes", "target"))
    return densify(numbers, codes, Preprocessing.load(prepared)), target


def densify(numbers: Tensor, codes: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Turn prepared numbers (B, N) and codes of categories (B, C) into features (B, F).

    The code of a category is the number of its feature, which is 1; the code after the last one is that of a
    category without a training row, whose features are all 0. The feature of an embedded column is its code.
    """
    if not codes.shape[1]:
        return numbers
    layout = preprocessing.layout
    places, starts, widths, embedded = (torch.from_numpy(array).to(codes.device) for array in layout[:4])
    features = numbers.new_zeros(len(numbers), layout.features)
    features.index_copy_(1, places, numbers)
    codes = codes.to(torch.int32)
    values = torch.where(embedded, codes, codes < widths) if layout.embedded.any() else codes < widths
    ones = torch.minimum(codes, widths - 1).mul_(~embedded).add_(starts)
    return features.scatter_(1, ones.to(torch.int64), values.to(features.dtype))


def _load(prepared: Path, split: str, part: str, mapped: bool = False) -> Tensor:
    """Read an array of a split, or map it into memory: then it is read from the disk where it is used."""
    array = np.load(prepared / f"{split}_{part}.npy", mmap_mode="r" if mapped else None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nothing writes to it
        return torch.from_numpy(array)


def mapped_split(prepared: Path, split: str) -> tuple[Tensor, ...]:
    """Numbers (rows, N), codes (rows, C) and target of a split, read from the disk where they are used."""
    return tuple(_load(prepared, split, part, mapped=True) for part in ("numbers", "codes", "target"))


def load_rows(prepared: Path, split: str, rows: NDArray[np.int64]) -> Tensor:
    """Read the features (rows, F) of some rows of a split, as `load_split` reads those of all."""
    numbers, codes, _ = mapped_split(prepared, split)
    chosen = torch.from_numpy(rows)
    return densify(numbers[chosen], codes[chosen], Preprocessing.load(prepared))


class MappedBatches(Batches):
    """Batches of a table that may be larger than the memory, from memory-mapped numbers, codes and target.

    The shuffled order is one of blocks: a batch has rows of `BLOCKS_AT_ONCE` blocks of `BLOCK_ROWS` adjacent
    rows, which are drawn for it from the whole table, so that the disk is read in blocks (Xu et al. 2022,
    CorgiPile). It is a function of (seed, epoch) and the same for any number of processes.

    Args:
        tensors: numbers (rows, N), codes (rows, C) and target (rows, ...).
        batch_size: as for `Batches`.
        seed: likewise.
        process: likewise.
        processes: likewise.
        preprocessing: of the training rows.
        device: of the batches.
    """

    def __init__(
        self,
        tensors: tuple[Tensor, ...],
        batch_size: BatchSize,
        seed: int | None,
        process: int,
        processes: int,
        preprocessing: Preprocessing,
        device: torch.device,
    ) -> None:
        rows = len(tensors[0])
        sizes = [min(BLOCK_ROWS, rows - first) for first in range(0, rows, BLOCK_ROWS)]
        super().__init__(tensors, batch_size, seed, process, processes, Blocks(sizes, BLOCKS_AT_ONCE))
        self.preprocessing = preprocessing
        self.device = device

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for batch in super().__iter__():
            numbers, codes, target = (tensor.to(self.device) for tensor in batch)
            yield densify(numbers, codes, self.preprocessing), target


class TabularData(WholeData):
    """Batches of (features, target) as `load_split` returns them.

    Where the features of the training rows take up to `whole_bytes`, each split is kept on the device that
    trains. Larger ones stay on the disk as numbers and codes, and each batch is made from them; a balanced
    order keeps the features of all training rows.

    Args:
        prepared: the folder data/prepared/<task>; the command line gives it.
        batch_size: rows of a training batch over all devices, or `full`.
        balanced: whether all classes have the same number of training rows in an epoch.
        order_seed: of the batch order; the command line gives it `seed_everything`.

    Raises:
        ConfigurationError: a batch size below 1, data that are not prepared, or `balanced` of a quantity.
    """

    evaluation_size = 8192
    whole_bytes: float = 1 << 28

    def __init__(
        self, prepared: Path, batch_size: BatchSize = 64, balanced: bool = False, order_seed: int = 0
    ) -> None:
        super().__init__(prepared, batch_size, order_seed)
        self.balanced = balanced
        if balanced and self.preprocessing.target.classes is None:
            raise ConfigurationError("data.balanced does not fit a target of regression")
        if balanced and len(self.preprocessing.targets) > 1:
            raise ConfigurationError("data.balanced is for one target of classes")

    def kind(self, split: str) -> type[Batches]:
        """The class that cuts the batches of a split."""
        return BalancedBatches if self.balanced and split == "train" else Batches

    def load_preprocessing(self) -> Preprocessing:
        """Read what the preparation has learnt."""
        return Preprocessing.load(self.prepared)

    def tensors(self, split: str) -> tuple[Tensor, ...]:
        """Read a split, as `load_split` does."""
        return load_split(self.prepared, split)

    def targets(self, split: str) -> Tensor:
        """The target of a split, (rows, ...)."""
        return _load(self.prepared, split, "target")

    def batches(self, split: str, batch_size: BatchSize, seed: int | None = None) -> Batches:
        """The batches of a split, of memory-mapped arrays where the table is large."""
        rows = len(mapped_split(self.prepared, "train")[0])
        size = 4 * rows * len(self.preprocessing.features)
        if size <= self.whole_bytes or self.kind(split) is not Batches:
            return super().batches(split, batch_size, seed)
        trainer: Any = self.trainer
        return MappedBatches(
            mapped_split(self.prepared, split),
            batch_size,
            seed,
            trainer.global_rank,
            trainer.world_size,
            self.preprocessing,
            trainer.strategy.root_device,
        )


class FoldedData(TabularData):
    """Batches of (features, target, position) of the training and validation rows together.

    Both loaders have all of these rows. The position of a row in a random order of them says in which folds
    it is (`TabularEnsemble.held_out`). Rows of one class have neighbouring positions, so that each fold has
    its share of every class. The test batches are those of `TabularData`.
    """

    evaluation_size = 4096  # each row has the activations of all members

    def load_preprocessing(self) -> Preprocessing:
        """Read what the preparation has learnt.

        Raises:
            ConfigurationError: the rows were split by a group, a time or a column. Folds of single rows would
                have neighbours of a row on both sides, and the out-of-fold metrics would be too good.
        """
        preprocessing = super().load_preprocessing()
        way = "lags" if preprocessing.lags else preprocessing.split_by
        if way:
            raise ConfigurationError(
                f"data: FoldedData folds single rows, but prepare.{way} keeps rows together; use "
                "src.tabular.data.TabularData, which validates on the rows of the split"
            )
        return preprocessing

    def setup(self, stage: str) -> None:
        """Refuse a model that has no members.

        Raises:
            ConfigurationError: it would be validated on the rows that it is trained on.
        """
        assert self.trainer is not None
        if not hasattr(self.trainer.lightning_module, "held_out"):
            raise ConfigurationError(
                "data: FoldedData leaves no row to the validation of one network; use TabularData, or "
                "src.tabular.ensemble.TabularEnsemble"
            )

    def tensors(self, split: str) -> tuple[Tensor, ...]:
        """Features (rows, F), target and position (rows,) of the rows; of the test rows no position."""
        if split == "test":
            return super().tensors(split)
        training, validation = super().tensors("train"), super().tensors("validation")
        features, target = map(torch.cat, zip(training, validation, strict=True))
        positions = fold_positions(target, self.order_seed)
        return features, target, of_equal_rows(positions, features, target, len(training[0]))

    def targets(self, split: str) -> Tensor:
        """The target of a split, (rows, ...)."""
        return self.tensors(split)[1]

    def batches(self, split: str, batch_size: BatchSize, seed: int | None = None) -> Batches:
        """The batches of a split, of whole tensors: an ensemble is for tables that are not large."""
        return WholeData.batches(self, split, batch_size, seed)


def fold_positions(target: Tensor, seed: int) -> Tensor:
    """The position (rows,) of each row in a random order, in which the rows of a class lie together.

    Args:
        target: (rows, T) or, of one target of classes, (rows,).
        seed: of the order.
    """
    generator = torch.Generator().manual_seed(derived_seed(seed, -1))  # from 0 on they are those of epochs
    order = torch.randperm(len(target), generator=generator)
    if target.ndim == 1:
        order = order[target[order].argsort(stable=True)]
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))


def of_equal_rows(positions: Tensor, features: Tensor, target: Tensor, training: int) -> Tensor:
    """Positions (rows,) in which equal rows have that of the first, if the preparation kept them together.

    It has if no validation row equals a training row. A row would otherwise be judged by a network that was
    trained on its copy.

    Args:
        positions: of `fold_positions`.
        features: (rows, F), those of the training rows first.
        target: (rows, ...).
        training: the number of training rows.
    """
    rows = torch.cat([features.double(), target.reshape(len(target), -1).double()], dim=1)
    different, group = rows.unique(dim=0, return_inverse=True)
    if len(different) == len(rows) or torch.isin(group[training:], group[:training]).any():
        return positions
    first = torch.full((len(different),), len(rows))
    first.scatter_reduce_(0, group, torch.arange(len(rows)), "amin")
    return positions[first[group]]


def data_of(bundle: Bundle, prepared: Path) -> TabularData:
    """The rows that a model was trained with.

    Args:
        bundle: of the model.
        prepared: data/prepared/<task>.
    """
    configuration = bundle.configuration
    module, _, name = (configuration.get("data") or {}).get("class_path", "").rpartition(".")
    folded = module and issubclass(getattr(import_module(module), name), FoldedData)
    return (FoldedData if folded else TabularData)(prepared, order_seed=configuration["seed_everything"])
