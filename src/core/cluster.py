"""A running Ray cluster, all of whose nodes see the project in the same folder.

Nothing but calls and their results are sent between nodes: code, data, checkpoints and results are files of
that folder. Ray's scheduler, transport and detection of dead nodes are used as they are.
"""

import logging
import os
import platform
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

from src.core.digests import file_digest
from src.core.errors import ConfigurationError, LockedError, ResourceError
from src.core.paths import LOCK, RUNS

ADDRESS = "RAY_ADDRESS"
CONNECTING = 10.0  # seconds
PREPARING = ("numpy", "pandas", "pyarrow")
DEATHS = 3  # of a process on nodes that live on, before its work fails
UNLOCKING = 120.0  # seconds; a process that lost its cluster ends, or a file server notices that it is gone
INSTALL = "make setup EXTRAS=cluster"


class NodeError(ConfigurationError):
    """A node that would not compute the same bits as this machine."""


def connect(address: str) -> Any:
    """Connect this process to a cluster.

    Args:
        address: `auto` for the cluster that this machine is a node of, HOST:PORT of the head, or
            ray://HOST:PORT from a machine that is not a node.

    Returns:
        The module `ray`.

    Raises:
        ConfigurationError: Ray is not installed, there is no such cluster, or its version is another one.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # tries to connect, of half a minute each
    try:
        import ray
    except ModuleNotFoundError:
        raise ConfigurationError(f"cluster: Ray is not installed; run: {INSTALL}") from None
    _require_answer(address)
    variables = {"PYTHONPATH": str(Path.cwd())}
    if "WANDB_MODE" in os.environ:  # its key is not sent: Ray writes these variables into its logs
        variables["WANDB_MODE"] = os.environ["WANDB_MODE"]
    try:
        ray.init(
            address, log_to_driver=False, logging_level=logging.ERROR, runtime_env={"env_vars": variables}
        )
    except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError and others
        if address == "auto" and isinstance(error, ConnectionError):  # Ray names its own options
            raise ConfigurationError(
                "cluster: no Ray cluster runs on this machine; start one: ray start --head, "
                "or give the address of another machine"
            ) from None
        said = " ".join(str(error).split())
        raise ConfigurationError(f"cluster: cannot use the Ray cluster at {address}: {said}") from None
    return ray


def write_token() -> Path:
    """Write a file by which nodes know that they see the same folder; the caller removes it."""
    token = RUNS / f".cluster-{uuid4().hex}"
    token.parent.mkdir(exist_ok=True)
    token.touch()
    return token


def enter(home: Path, token: Path) -> str | None:
    """Make the project's folder the working folder of a process on a node.

    Returns:
        Why it is not the folder that the caller sees; None if it is.
    """
    if not home.is_dir():
        return f"there is no folder {home}; all nodes must share it"
    os.chdir(home)
    if not token.is_file():
        return f"{home} is another folder there; all nodes must share it"
    return None


def difference(expected: dict[str, Any], found: dict[str, Any]) -> str | None:
    """The first value that differs from the expected one, in words; None if none does."""
    for name, value in expected.items():
        if found[name] != value:
            return f"{name}: found {found[name]}, expected {value}"
    return None


@contextmanager
def tasks(address: str, work: str) -> Iterator[Callable[..., Iterator[Any]]]:
    """Call functions on the nodes of a cluster, as tasks with a CPU each, which end with the block.

    Args:
        address: as `connect` takes it.
        work: what they do, for messages.

    Yields:
        A function as `map`; the calls are made at once, and their results are in the order of the items. A
        call whose node dies is made again on another one.

    Raises:
        NodeError: a node has another folder, lock file or version of a package.
        ResourceError: the process of a call was killed several times.
    """
    ray = connect(address)
    token = write_token()
    under_way: list[Any] = []
    errors = ray.exceptions

    def results(function: Callable[..., Any], *items: Iterable[Any]) -> Iterator[Any]:
        call = ray.remote(_call)
        under_way[:] = [
            call.remote(Path.cwd(), token, versions(), work, function, each)
            for each in zip(*items, strict=False)
        ]
        for task in under_way:
            try:
                yield ray.get(task)
            except errors.RayTaskError as error:
                raise error.cause from None
            except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError):
                raise killed_again("a process of the cluster") from None

    try:
        yield results
    finally:
        for task in under_way:
            ray.cancel(task, force=True)
        token.unlink(missing_ok=True)
        ray.shutdown()


def versions() -> dict[str, str]:
    """The versions that the preparation of a table depends on."""
    lock = {str(LOCK): file_digest(LOCK) if LOCK.is_file() else "none"}
    return {**lock, "python": platform.python_version(), **{name: version(name) for name in PREPARING}}


def _call(
    home: Path, token: Path, expected: dict[str, str], work: str, function: Callable[..., Any], items: Any
) -> Any:
    """Call a function; runs on a node."""
    refusal = enter(home, token) or difference(expected, versions())
    if refusal:
        raise unfit(platform.node(), refusal, work)
    return function(*items)


def unfit(node: str, refusal: str, work: str = "train") -> NodeError:
    """The error about a node that cannot take part."""
    return NodeError(f"cluster: the node {node} cannot {work}: {refusal}")


def killed_again(what: str) -> ResourceError:
    """The error about a process that does not live long enough for its work."""
    return ResourceError(f"{what} was killed {DEATHS} times, perhaps because memory is exhausted")


def once_unlocked(function: Callable[[], Any], again: bool) -> Any:
    """Call a function; where it was called before, wait for the locks of the process that has died."""
    last = time.monotonic() + (UNLOCKING if again else 0)
    while True:
        try:
            return function()
        except LockedError:
            if time.monotonic() > last:
                raise
            time.sleep(1)


def living_nodes(ray: Any) -> list[dict[str, Any]]:
    """The nodes of the cluster, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]


def gpu_of(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """What a task asks for to have a GPU; nothing if no node has one.

    Args:
        nodes: the resources of each node, by Ray's names.

    Raises:
        ConfigurationError: the GPUs are of several types.
    """
    if not any(node.get("GPU") for node in nodes):
        return {}
    prefix = "accelerator_type:"
    types = {name.removeprefix(prefix) for node in nodes for name in node if name.startswith(prefix)}
    if len(types) > 1:
        raise ConfigurationError(
            f"cluster: found GPUs of several types ({', '.join(sorted(types))}), whose bits differ; "
            "use a cluster of one type"
        )
    return {"num_gpus": 1, **({"accelerator_type": types.pop()} if types else {})}


def _require_answer(address: str) -> None:
    """Refuse an address at which nothing listens; Ray would try for minutes.

    Raises:
        ConfigurationError: it is not `auto` and no connection can be made.
    """
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECTING).close()
    except ValueError:
        raise ConfigurationError(
            f"cluster: found {address}, expected auto, HOST:PORT or ray://HOST:PORT"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"cluster: nothing answers at {address} ({error}); start the head: ray start --head"
        ) from None
