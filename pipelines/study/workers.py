"""Worker processes that import Lightning once and run one cell after another, in parallel."""

import itertools
import logging
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from src.core.errors import ResourceError
from src.core.processes import follow_parent, processors

Item = TypeVar("Item")
Outcome = tuple[Item, Any, BaseException | None]


def _begin(devices: Any, method: str) -> None:
    """Start a worker process: it ends with its parent, and has a GPU of its own if there are any.

    Args:
        devices: a queue with the device of each worker.
        method: how the workers of data loaders start, as they do outside a study; otherwise they would import
            everything anew, which takes seconds an epoch, and could not have a dataset that pickle refuses.
    """
    multiprocessing.set_start_method(method, force=True)
    follow_parent()
    logging.captureWarnings(True)
    device = devices.get()
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device


def devices_of(workers: int) -> Sequence[str | None]:
    """The GPU of each worker, as CUDA_VISIBLE_DEVICES names it, or None for the CPU.

    Args:
        workers: the number of workers; 0 for one per core. On a machine with GPUs there is at most one worker
            per GPU.
    """
    wanted = workers or processors()
    if shutil.which("nvidia-smi") is None:
        return [None] * wanted
    import torch

    gpus = torch.cuda.device_count()
    if not gpus:
        return [None] * wanted
    given = os.environ.get("CUDA_VISIBLE_DEVICES")  # those that may be used
    names = given.split(",") if given else map(str, range(gpus))
    return [*map(str.strip, names)][: min(gpus, workers or gpus)]


class Workers:
    """A pool of worker processes, which start with the first item.

    Args:
        number: as `devices_of` takes it.
    """

    def __init__(self, number: int) -> None:
        self.method = multiprocessing.get_start_method()
        methods = multiprocessing.get_all_start_methods()
        self.context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        if "forkserver" in methods:
            self.context.set_forkserver_preload(["src.cli"])
        self.devices = devices_of(number)
        self.pool = self._new_pool()

    def _new_pool(self) -> ProcessPoolExecutor:
        queue = self.context.Queue()
        for device in self.devices:
            queue.put(device)
        return ProcessPoolExecutor(len(self.devices), self.context, _begin, (queue, self.method))

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would leave workers behind
        if kind is not None:
            for worker in multiprocessing.active_children():
                worker.kill()  # its cell resumes from the checkpoint next time
        self.pool.shutdown(cancel_futures=True)

    def each(self, function: Callable[[Item], Any], items: Iterable[Item]) -> Iterator[Outcome[Item]]:
        """Call a function for each item, in parallel.

        Yields:
            The item, the function's result, and its error if it failed, in the order in which they end. A
            worker that dies breaks the pool: the items under way are started again, one at a time, so that
            only the item that kills its worker fails, with a ResourceError.
        """
        broken_off: list[Item] = []
        for item, found, error in self._side_by_side(function, items, len(self.devices)):
            if isinstance(error, BrokenProcessPool):
                broken_off.append(item)
            else:
                yield item, found, error
        for item, found, error in self._side_by_side(function, broken_off, 1):
            if isinstance(error, BrokenProcessPool):
                error = ResourceError("its process was killed, perhaps because memory is exhausted")
            yield item, found, error

    def _side_by_side(
        self, function: Callable[[Item], Any], items: Iterable[Item], width: int
    ) -> Iterator[Outcome[Item]]:
        remaining = iter(items)
        under_way: dict[Future[Any], Item] = {}
        while True:
            for item in itertools.islice(remaining, width - len(under_way)):
                under_way[self._submit(function, item)] = item
            if not under_way:
                return
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                item, error = under_way.pop(future), future.exception()
                yield item, None if error else future.result(), error

    def _submit(self, function: Callable[[Item], Any], item: Item) -> Future[Any]:
        try:
            return self.pool.submit(function, item)
        except BrokenProcessPool:
            self.pool.shutdown()
            self.pool = self._new_pool()
            return self.pool.submit(function, item)
