"""Processes that help this one: how many, and how they begin and end."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from typing import Any

from src.core.errors import ResourceError


def processors() -> int:
    """The number of processors for this process: those that the system lets it use.

    The environment variable PYTHON_CPU_COUNT gives another number, as it does from Python 3.13 on.
    """
    given = os.environ.get("PYTHON_CPU_COUNT", "")
    if given.isdecimal() and int(given):
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def follow_parent() -> None:
    """Let Ctrl-C to the process that started this one, and have this one end when that one has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def helpers(
    number: int, work: str, begin: Callable[..., None], *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """Processes that run functions for this one; they start as they are needed, and end with the block.

    Args:
        number: of processes.
        work: what they do, for messages.
        begin: is called first in each of them.
        arguments: of `begin`.

    Raises:
        ResourceError: one of them was ended from outside.
    """
    others = set(active_children())
    # spawned: a fork would copy locks that threads of other libraries hold
    pool = ProcessPoolExecutor(number, get_context("spawn"), _begin, (begin, arguments))
    try:
        yield pool
    except BaseException as error:
        for process in set(active_children()) - others:
            process.kill()
        if isinstance(error, BrokenProcessPool):
            raise ResourceError(
                f"a process that {work} was ended from outside; was there memory left?"
            ) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(begin: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    follow_parent()
    begin(*arguments)
