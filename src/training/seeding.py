"""Random numbers as a function of (seed, epoch, position), so that a resumed training repeats them."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from types import ModuleType
from typing import Any

import numpy as np
import torch
from lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info


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


MOST_OBJECTS = 1_000_000  # that are searched for generators, in half a second
MOST_ITEMS = 10_000  # of a list
OwnGenerator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random


def own_generators(*owners: Any) -> list[OwnGenerator]:
    """The random generators that objects hold as attributes, or in lists, tuples and mappings of these."""
    found: list[OwnGenerator] = []
    seen = {id(None)}
    waiting = list(reversed(owners))
    while waiting and len(seen) < MOST_OBJECTS:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, Tensor | np.ndarray | str | bytes | int | float | type):
            continue
        seen.add(id(value))
        if isinstance(value, OwnGenerator):
            found.append(value)
        elif isinstance(value, list | tuple):
            waiting += reversed(value[:MOST_ITEMS])
        elif isinstance(value, dict):
            waiting += reversed(list(value.values()))
        elif not isinstance(value, ModuleType | Trainer):
            waiting += reversed(list(getattr(value, "__dict__", {}).values()))
    return found


def seed_generators(generators: list[OwnGenerator], *numbers: int) -> None:
    """Seed generators that objects hold, each by `derived_seed` of the numbers and of its place."""
    for place, generator in enumerate(generators):
        seed = derived_seed(*numbers, place)
        if isinstance(generator, torch.Generator):
            generator.manual_seed(seed)
        elif isinstance(generator, np.random.Generator):
            generator.bit_generator.state = type(generator.bit_generator)(seed).state
        else:
            generator.seed(seed & 0xFFFFFFFF)


class SeededLoader:
    """A data loader whose shuffling and augmentation repeat after an interruption.

    A `DataLoader` draws the order of its rows, and the seeds of its workers, from global generators, whose
    state depends on all that was drawn before. Here they are seeded before each batch is fetched, in the
    process that fetches it, which takes 30 microseconds. The number of workers has no effect. Generators
    that the loader or its samplers own are seeded before the first batch of an epoch, those of the dataset
    and of `collate_fn` before each batch. Workers end with the epoch, since those that stay
    (`persistent_workers`) keep their generators.

    An epoch that was interrupted begins at the batch `start`. Of a `DataLoader` with a sampler, the batches
    before it are not fetched; those of an `IterableDataset`, or of another class, are fetched and dropped.

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
        self.start = 0  # the first batch of the next iteration alone
        self.workers = int(getattr(loader, "num_workers", 0))
        self.known = isinstance(loader, DataLoader) and type(loader).__iter__ is DataLoader.__iter__
        if getattr(loader, "persistent_workers", False):
            _set(loader, persistent_workers=False)

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        if name in ("loader", "state_dict", "load_state_dict"):
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __iter__(self) -> Iterator[Any]:
        # a generator, so that nothing is drawn before the epoch has begun
        epoch = self.position()
        start, self.start = self.start, 0
        parts = [getattr(self.loader, name, None) for name in ("sampler", "batch_sampler", "dataset")]
        seeded: list[Any] = []
        for owner in (self.loader, *parts, *(getattr(part, "sampler", None) for part in parts)):
            if isinstance(generator := getattr(owner, "generator", None), torch.Generator):
                generator.manual_seed(derived_seed(*epoch))
                seeded.append(generator)
        # all processes draw one order, and each draws its own augmentation
        seed_generators([one for one in own_generators(*parts) if one not in seeded], *epoch, -2)
        self.generators = own_generators(
            getattr(self.loader, "dataset", None), getattr(self.loader, "collate_fn", None)
        )
        seed_everything(*epoch)
        first, batches = self._batches(epoch, start)
        number = first
        while True:
            if number > first:
                self._seed(epoch, number)
            try:
                batch = next(batches)
            except StopIteration:
                return
            if number >= start:
                yield batch
            number += 1

    def _seed(self, epoch: tuple[int, ...], number: int) -> None:
        """Seed the generators for a batch."""
        place = number * self.processes + self.process
        seed_everything(*epoch, place)
        seed_generators(self.generators, *epoch, place)

    def _batches(self, epoch: tuple[int, ...], start: int) -> tuple[int, Iterator[Any]]:
        """The number of the first batch that is fetched, and the iterator of the loader from there on."""
        if not self.known:
            return 0, iter(self.loader)
        first = 0
        changes: dict[str, Any] = {}
        if (start or not self.workers) and not isinstance(self.loader.dataset, IterableDataset):
            # a multiple of the workers, so that each batch has the worker that it would have had
            first = start - start % max(self.workers, 1)
            name = "batch_sampler" if self.loader.batch_sampler is not None else "sampler"
            changes[name] = self._later(getattr(self.loader, name), epoch, first)
        if self.workers:
            seeds = _WorkerSeeds(
                epoch,
                first,
                self.workers,
                self.process,
                self.processes,
                self.loader.worker_init_fn,
                self.loader.collate_fn,
            )
            changes |= {
                "worker_init_fn": seeds,
                "collate_fn": _Collating(self.loader.collate_fn, seeds),
            }
        before = {name: getattr(self.loader, name) for name in changes}
        _set(self.loader, **changes)
        try:
            return first, iter(self.loader)
        finally:
            _set(self.loader, **before)

    def _later(self, sampler: Any, epoch: tuple[int, ...], first: int) -> Iterator[Any]:
        """What a sampler draws from a batch on, with the seeds that it would have had.

        Workers are ahead of the training by `prefetch_factor` batches each. A sampler that draws lazily has
        been seeded for the batch that was then fetched.
        """
        ahead = self.workers * (self.loader.prefetch_factor or 0)
        indices = iter(sampler)
        for number in range(first + ahead + 1):
            if number > ahead:
                self._seed(epoch, number - ahead)
            try:
                drawn = next(indices)
            except StopIteration:
                return
            if number == 0 and not self.workers:
                self._seed(epoch, 0)  # as a worker is for its first batch, before which it draws no order
            if number >= first:
                yield drawn
        yield from indices


@dataclass
class _WorkerSeeds:
    """The `worker_init_fn` of a loader, and the seeds of the batches that a worker fetches.

    Batches go round the workers. A worker that is seeded for each of its batches needs not have fetched the
    batches before.
    """

    epoch: tuple[int, ...]
    first: int
    workers: int
    process: int
    processes: int
    given: Callable[[int], None] | None
    collate: Callable[[Any], Any]
    generators: dict[int, list[OwnGenerator]] = field(default_factory=dict)

    def __call__(self, worker: int) -> None:
        """Start a worker as the loader says, and seed it for its first batch."""
        if self.given is not None:
            self.given(worker)
        self.number = self.first + worker
        self.seed()

    def seed(self) -> None:
        """Seed the generators of this worker for its next batch, and move on to the one after that."""
        place = self.number * self.processes + self.process
        seed_everything(*self.epoch, place)
        worker = get_worker_info()
        if worker is not None and worker.id not in self.generators:
            self.generators[worker.id] = own_generators(worker.dataset, self.collate)
        seed_generators(self.generators.get(worker.id if worker else -1, []), *self.epoch, place)
        self.number += self.workers


@dataclass
class _Collating:
    """The `collate_fn` of a loader, which ends the fetching of a batch in a worker."""

    given: Callable[[Any], Any]
    seeds: _WorkerSeeds

    def __call__(self, samples: Any) -> Any:
        """Collate a batch, and seed the worker for the next one."""
        batch = self.given(samples)
        self.seeds.seed()
        return batch


def _set(loader: Any, **values: Any) -> None:
    """Change attributes of a DataLoader, which refuses their assignment."""
    for name, value in values.items():
        object.__setattr__(loader, name, value)
