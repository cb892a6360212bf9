"""Batches cut from whole tensors: no item-by-item loading, no worker processes."""

import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
from lightning import LightningDataModule
from torch import Tensor

from src.core.digests import read_preprocessing
from src.core.errors import ConfigurationError
from src.core.paths import PREPARED
from src.training.exactness import derived_seed

BatchSize = int | Literal["full"]


class Batches:
    """An iterable of batches over tensors that share their first dimension.

    The order is a function of (seed, epoch), so a resumed or repeated epoch sees the same batches. Several
    processes share out each batch, whose size is that of all together: process `r` of two takes the rows that
    a single process, with half the batch size, has in its batch `2 * i + r`. Short last batches are kept, but
    one that leaves a process less than two rows joins the batch before it, since batch norm has no variance
    of one row.

    Args:
        tensors: each of shape (rows, ...), on the device where the batches are wanted.
        batch_size: rows of one batch over all processes, or "full" for all rows.
        seed: shuffles the rows anew each epoch; None keeps their order.
        process: the rank of this process.
        processes: how many there are.

    Raises:
        ConfigurationError: batches that are shuffled, so for training, are too small for a row a process.
    """

    def __init__(
        self,
        tensors: tuple[Tensor, ...],
        batch_size: BatchSize,
        seed: int | None = None,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.tensors = tensors
        self.rows = len(tensors[0])
        self.batch_size = self.rows if batch_size == "full" else batch_size
        self.seed = seed
        self.process = process
        self.processes = processes
        self.epoch = 0
        smallest = min(self.rows, self.batch_size)
        if seed is not None and smallest < processes:
            raise ConfigurationError(
                f"data.batch_size: {processes} processes cannot share a batch of {smallest} rows"
            )
        # Lightning tells the epoch to a loader's sampler, and here the two are one
        self.sampler = self
        self.batch_sampler = None

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration has."""
        self.epoch = epoch

    def __len__(self) -> int:
        batches = math.ceil(self.rows / self.batch_size)
        enough = min(2 * self.processes, self.batch_size)
        joined = batches > 1 and 0 < self.rows % self.batch_size < enough
        return batches - 1 if joined else batches

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        order = self._order()
        for number in range(len(self)):
            start = number * self.batch_size
            last = number == len(self) - 1
            stop = self.rows if last else start + self.batch_size
            if order is None and self.processes == 1:
                yield tuple(tensor[start:stop] for tensor in self.tensors)
            else:
                mine = self._share(start, stop)
                rows = torch.arange(self.rows)[mine] if order is None else order[mine]
                # index_select: the same rows in a quarter of the time that tensor[rows] takes
                yield tuple(tensor.index_select(0, rows) for tensor in self.tensors)

    def _share(self, start: int, stop: int) -> slice:
        """The part of a batch that this process has; where it does not divide, the first have a row more."""
        size, more = divmod(stop - start, self.processes)
        first = start + self.process * size + min(self.process, more)
        return slice(first, first + size + (self.process < more))

    def _order(self) -> Tensor | None:
        if self.seed is None:
            return None
        generator = torch.Generator().manual_seed(derived_seed(self.seed, self.epoch))
        # drawn on the CPU so that every device sees the same order
        return torch.randperm(self.rows, generator=generator).to(self.tensors[0].device)


class WholeData(LightningDataModule):
    """The prepared data of a task, whole in memory, on the device that trains.

    Args:
        task: a name under `tasks` in params.yaml.
        batch_size: rows of a training batch over all devices, or `full`.
        seed: of the batch order.

    Raises:
        ConfigurationError: a batch size below 1, or data that are not prepared.
    """

    evaluation_size = 1024  # rows of a batch when nothing is learnt

    def __init__(self, task: str, batch_size: BatchSize = 64, seed: int = 0) -> None:
        super().__init__()
        if batch_size != "full" and batch_size < 1:
            raise ConfigurationError(f"data.batch_size must be at least 1 or 'full': {batch_size}")
        self.batch_size = batch_size
        self.seed = seed
        self.prepared = PREPARED / task
        self.preprocessing = self.load_preprocessing()

    def load_preprocessing(self) -> Any:
        """Read what the preparation has learnt; a kind of data overrides this to return its own type."""
        return read_preprocessing(self.prepared)

    def tensors(self, split: str) -> tuple[Tensor, ...]:
        """The tensors of a split that batches are cut from, each of shape (rows, ...)."""
        raise NotImplementedError

    def targets(self, split: str) -> Tensor:
        """The target of a split, (rows, ...)."""
        return self.tensors(split)[-1]

    def kind(self, split: str) -> type[Batches]:
        """What cuts the batches of a split."""
        return Batches

    def _batches(self, split: str, batch_size: BatchSize, seed: int | None = None) -> Batches:
        assert self.trainer is not None
        device = self.trainer.strategy.root_device
        tensors = tuple(tensor.to(device) for tensor in self.tensors(split))
        process, processes = self.trainer.global_rank, self.trainer.world_size
        return self.kind(split)(tensors, batch_size, seed, process, processes)

    def train_dataloader(self) -> Batches:
        """Shuffled batches."""
        return self._batches("train", self.batch_size, self.seed)

    def val_dataloader(self) -> Batches:
        """Batches in the order of the rows."""
        return self._batches("validation", self.evaluation_size)

    def test_dataloader(self) -> Batches:
        """Batches in the order of the rows."""
        return self._batches("test", self.evaluation_size)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Nothing: `_batches` put the whole split on the device."""
        return batch
