"""Random numbers as a function of (seed, epoch, position), so that a resumed training repeats them."""

import random
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import numpy as np
import torch


def derived_seed(*numbers: int) -> int:
    """A seed of 63 bits that is a function of the numbers alone, such as (seed, epoch).

    Checkpoints need no state of random generators: the next draw follows from the position in the training.
    """
    digest = sha256(" ".join(map(str, numbers)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_everything(*numbers: int) -> None:
    """Seed torch's CPU generator, NumPy's and Python's by `derived_seed`; generators of devices stay."""
    seed = derived_seed(*numbers)
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002
    random.seed(seed)


class SeededLoader:
    """A data loader whose shuffling and augmentation repeat after an interruption.

    A `DataLoader` draws the order of its rows, and the seeds of its workers, from global generators, whose
    state depends on all that was drawn before. Here they are seeded before each batch is fetched, which takes
    30 microseconds. Generators that the loader or its samplers own are seeded before the first batch of an
    epoch. Workers end with the epoch, since those that stay (`persistent_workers`) keep their generators.

    A sampler or an iterable dataset that keeps a position of its own from one epoch to the next cannot be
    repeated.

    Args:
        loader: any iterable of batches.
        position: returns numbers that name the epoch, such as (seed, epoch).
        process: the rank of this process.
        processes: the number of processes.
    """

    def __init__(
        self, loader: Any, position: Callable[[], tuple[int, ...]], process: int = 0, processes: int = 1
    ) -> None:
        self.loader = loader
        self.position = position
        self.process = process
        self.processes = processes
        if getattr(loader, "persistent_workers", False):
            object.__setattr__(loader, "persistent_workers", False)  # DataLoader refuses the assignment

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        if name in ("loader", "state_dict", "load_state_dict"):
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __iter__(self) -> Iterator[Any]:
        # a generator, so that nothing is drawn before the epoch has begun
        epoch = self.position()
        parts = [getattr(self.loader, name, None) for name in ("sampler", "batch_sampler", "dataset")]
        for owner in (self.loader, *parts, *(getattr(part, "sampler", None) for part in parts)):
            if isinstance(generator := getattr(owner, "generator", None), torch.Generator):
                generator.manual_seed(derived_seed(*epoch))
        # all processes draw one order, and each draws its own augmentation
        seed_everything(*epoch)
        batches = iter(self.loader)
        number = 0
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            yield batch
            number += 1
            seed_everything(*epoch, number * self.processes + self.process)
