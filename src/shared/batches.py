"""Batches cut from whole tensors: no item-by-item loading, no worker processes."""

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from src.shared.errors import ConfigurationError
from src.shared.exactness import derived_seed


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
        batch_size: int | Literal["full"],
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
