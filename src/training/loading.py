"""Batches that are cut from whole tensors, without worker processes."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor

from src.core.errors import ConfigurationError
from src.core.shards import read_shards
from src.training.seeding import derived_seed
from src.training.shards import Remote, RemoteArray

BatchSize = int | Literal["full"]
SHARDS_AT_ONCE = 64  # whose rows are mixed; with those of `SHARD_BYTES` a GiB


class Blocks(NamedTuple):
    """Adjacent rows that are read together, of data that may be larger than the memory.

    Args:
        sizes: the rows of each block.
        at_once: of how many blocks the rows are mixed.
    """

    sizes: list[int]
    at_once: int

    def windows(self, generator: torch.Generator | None) -> Iterator[Tensor]:
        """The rows of `at_once` blocks after another, as CorgiPile orders them (Xu et al. 2022).

        Args:
            generator: shuffles the blocks, and then the rows of each window; None keeps the order.
        """
        blocks = torch.arange(sum(self.sizes)).split(self.sizes)
        if generator is None:
            drawn = torch.arange(len(blocks))
        else:
            drawn = torch.randperm(len(blocks), generator=generator)
        for numbers in drawn.split(self.at_once):
            rows = torch.cat([blocks[number] for number in numbers.tolist()])
            yield rows if generator is None else rows[torch.randperm(len(rows), generator=generator)]


class Batches:
    """An iterable of batches over tensors that share their first dimension.

    Cutting takes a tenth of the time of a `DataLoader` over single rows for a dense network, and half of it
    for LeNet (docs/benchmarks.md). The order is a function of (seed, epoch), so a resumed epoch has the same
    batches. With several processes each batch is split: process `r` of two takes the rows that a single
    process, with half the batch size, has in its batch `2 * i + r`. A short last batch is kept; if it leaves
    a process fewer than two rows it is joined to the batch before, since batch norm needs two rows.

    Args:
        tensors: each of shape (rows, ...), on the device of the batches; the first may be a `RemoteArray`.
        batch_size: rows of one batch over all processes, or "full" for all rows.
        seed: of the shuffling in each epoch; None keeps the order of the rows.
        process: the rank of this process.
        processes: the number of processes.
        blocks: the rows that are read together; None shuffles all rows alike.

    Raises:
        ConfigurationError: a shuffled batch has fewer rows than there are processes.
    """

    def __init__(
        self,
        tensors: tuple[Any, ...],
        batch_size: BatchSize,
        seed: int | None = None,
        process: int = 0,
        processes: int = 1,
        blocks: Blocks | None = None,
    ) -> None:
        self.tensors = tensors
        self.rows = len(tensors[0])
        self.batch_size = self.rows if batch_size == "full" else batch_size
        self.seed = seed
        self.process = process
        self.processes = processes
        self.blocks = blocks
        self.epoch = 0
        self.start = 0  # the first batch of the next iteration alone
        smallest = min(self.rows, self.batch_size)
        if seed is not None and smallest < processes:
            raise ConfigurationError(
                f"data.batch_size: {processes} processes cannot share a batch of {smallest} rows"
            )
        # Lightning calls `set_epoch` of a loader's sampler
        self.sampler = self
        self.batch_sampler = None

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that decides the order of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        batches = math.ceil(self.rows / self.batch_size)
        enough = min(2 * self.processes, self.batch_size)
        joined = batches > 1 and 0 < self.rows % self.batch_size < enough
        return batches - 1 if joined else batches

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        order = self._order()
        first, self.start = self.start, 0
        for number in range(first, len(self)):
            start = number * self.batch_size
            last = number == len(self) - 1
            stop = self.rows if last else start + self.batch_size
            if order is None and self.processes == 1:
                yield tuple(tensor[start:stop] for tensor in self.tensors)
            else:
                mine = self._share(start, stop)
                if order is None:
                    rows = torch.arange(self.rows, device=self.tensors[0].device)[mine]
                else:
                    rows = order[mine]
                # index_select: the same rows in a quarter of the time that tensor[rows] takes
                yield tuple(tensor.index_select(0, rows) for tensor in self.tensors)

    def _share(self, start: int, stop: int) -> slice:
        """The rows of a batch for this process; the first processes get the rows that are left over."""
        size, more = divmod(stop - start, self.processes)
        first = start + self.process * size + min(self.process, more)
        return slice(first, first + size + (self.process < more))

    def _generator(self) -> torch.Generator | None:
        """Of the order of this epoch."""
        if self.seed is None:
            return None
        return torch.Generator().manual_seed(derived_seed(self.seed, self.epoch))

    def _order(self) -> Tensor | None:
        if (generator := self._generator()) is None:
            return None
        # drawn on the CPU so that every device sees the same order
        if self.blocks is None:
            order = torch.randperm(self.rows, generator=generator)
        else:
            order = torch.cat(list(self.blocks.windows(generator)))
        return order.to(self.tensors[0].device)


class BalancedBatches(Batches):
    """Batches of an order in which all classes have the same number of rows, up to one.

    An epoch has as many rows as before: rows of a small class come several times, each as often as the
    others up to one, and of a large class other rows come in each epoch.
    """

    def _order(self) -> Tensor | None:
        if (generator := self._generator()) is None:
            return None
        target = self.tensors[1].cpu()
        classes = target.argsort(stable=True).split(target.bincount().tolist())
        classes = [rows for rows in classes if len(rows)]
        parts = []
        for number, rows in enumerate(classes):
            wanted = (self.rows + number) // len(classes)
            times, more = divmod(wanted, len(rows))
            parts += [rows.repeat(times), rows[torch.randperm(len(rows), generator=generator)[:more]]]
        order = torch.cat(parts)
        return order[torch.randperm(self.rows, generator=generator)].to(self.tensors[0].device)


class WholeData(LightningDataModule):
    """The prepared data of a task as whole tensors on the device that trains.

    An array that is in shards stays where it is, and the batches that are cut from it are moved.

    Args:
        prepared: the folder data/prepared/<task>; the command line gives it.
        batch_size: rows of a training batch over all devices, or `full`.
        order_seed: of the batch order; the command line gives it `seed_everything`.
        remote: where the arrays in shards are.

    Raises:
        ConfigurationError: a batch size below 1, data that are not prepared, or `remote` of small data.
    """

    evaluation_size = 1024  # rows of a batch of validation and test
    array: str | None = None  # the one that may be in shards, as in `<split>_images.npy`

    def __init__(
        self,
        prepared: Path,
        batch_size: BatchSize = 64,
        order_seed: int = 0,
        remote: Remote | None = None,
    ) -> None:
        super().__init__()
        if batch_size != "full" and batch_size < 1:
            raise ConfigurationError(f"data.batch_size must be at least 1 or 'full': {batch_size}")
        self.batch_size = batch_size
        self.order_seed = order_seed
        self.prepared = prepared
        self.preprocessing = self.load_preprocessing()
        self.sharded = read_shards(prepared)
        self.remote = remote
        if remote is not None and not self.sharded:
            raise ConfigurationError(
                f"data.remote: no array of {prepared} is large enough to be in shards; leave it out"
            )

    def load_preprocessing(self) -> Any:
        """Read what the preparation has learnt."""
        raise NotImplementedError

    def tensors(self, split: str) -> tuple[Tensor, ...]:
        """The tensors of a split, each of shape (rows, ...)."""
        raise NotImplementedError

    def targets(self, split: str) -> Tensor:
        """The target of a split, (rows, ...)."""
        return self.tensors(split)[-1]

    def kind(self, split: str) -> type[Batches]:
        """The class that cuts the batches of a split."""
        return Batches

    def remote_array(self, split: str) -> RemoteArray | None:
        """The array of a split that is read from `remote`, if it is in shards."""
        name = f"{split}_{self.array}.npy"
        if self.remote is None or name not in self.sharded:
            return None
        return RemoteArray(self.remote, name, self.sharded[name], SHARDS_AT_ONCE)

    def blocks(self, split: str) -> Blocks | None:
        """The rows of a split that are read together; None of an array that is not in shards."""
        sharded = self.sharded.get(f"{split}_{self.array}.npy")
        return None if sharded is None else Blocks(np.diff(sharded.rows).tolist(), SHARDS_AT_ONCE)

    def batches(self, split: str, batch_size: BatchSize, seed: int | None = None) -> Batches:
        """The batches of a split, shuffled in each epoch if there is a seed."""
        assert self.trainer is not None
        tensors, blocks = self.tensors(split), self.blocks(split)
        if blocks is None:
            tensors = tuple(tensor.to(self.trainer.strategy.root_device) for tensor in tensors)
        process, processes = self.trainer.global_rank, self.trainer.world_size
        return self.kind(split)(tensors, batch_size, seed, process, processes, blocks)

    def train_dataloader(self) -> Batches:
        """Shuffled batches."""
        return self.batches("train", self.batch_size, self.order_seed)

    def val_dataloader(self) -> Batches:
        """Batches in the order of the rows."""
        return self.batches("validation", self.evaluation_size)

    def test_dataloader(self) -> Batches:
        """Batches in the order of the rows."""
        return self.batches("test", self.evaluation_size)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch that was cut from an array in shards; others are there."""
        return tuple(tensor.to(device) for tensor in batch)
