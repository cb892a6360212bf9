"""The cells of a study as tasks of a Ray cluster, all of whose nodes see the project in the same folder.

Ray's scheduler, transport and detection of dead nodes are used as they are. A task calls the function that a
local worker calls. Configurations, data, checkpoints and results are files of the project's folder.
"""

import itertools
import logging
import os
import platform
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import yaml

from pipelines.study.cells import Cell
from src.core.errors import ConfigurationError, LockedError, ResourceError
from src.core.paths import LOCK, MANIFEST, RUNS

if TYPE_CHECKING:
    from pipelines.study.search import Search

Item = TypeVar("Item", bound="Cell | Search")

UNDER_WAY = 1000  # tasks that wait in the cluster at once; each wait for a result looks at all of them
DEATHS = 3  # of a task's process on nodes that live on
CONNECTING = 10.0  # seconds
UNLOCKING = 120.0  # seconds; a process that lost its cluster ends, or a file server notices that it is gone
INSTALL = "make setup EXTRAS=cluster"


class NodeError(ConfigurationError):
    """A node that would not compute the same bits as this machine."""


class Cluster:
    """The nodes of a running Ray cluster, in the place of the worker processes of one machine.

    Args:
        address: `auto` for the cluster that this machine is a node of, HOST:PORT of the head, or
            ray://HOST:PORT from a machine that is not a node.

    Raises:
        ConfigurationError: Ray is not installed, there is no such cluster, or its version is another one.
    """

    def __init__(self, address: str) -> None:
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
            said = " ".join(str(error).split())
            raise ConfigurationError(f"cluster: cannot use the Ray cluster at {address}: {said}") from None
        self.ray: Any = ray
        self.token = RUNS / f".cluster-{uuid4().hex}"
        self.token.parent.mkdir(exist_ok=True)
        self.token.touch()
        self.expected: dict[str, Any] = {}
        self.under_way: dict[Any, tuple[int, Any]] = {}

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would leave tasks behind
        for task in self.under_way:
            self.ray.cancel(task, force=True)  # its cell resumes from the checkpoint next time
        self.token.unlink(missing_ok=True)
        self.ray.shutdown()

    def each(
        self, function: Callable[[Item], Any], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Any, BaseException | None]]:
        """Call a function for each item, on the nodes.

        Yields:
            The item, the function's result, and its error if it failed, in the order in which they end. An
            item whose node dies is started again on another one; one whose process dies DEATHS times on
            living nodes fails with a ResourceError.

        Raises:
            NodeError: a node has another folder, lock file, code, data or instruction set.
        """
        errors = self.ray.exceptions
        remaining = enumerate(items)
        deaths: Counter[int] = Counter()
        while True:
            for number, item in itertools.islice(remaining, UNDER_WAY - len(self.under_way)):
                self._submit(function, number, item)
            if not self.under_way:
                return
            (task,), _ = self.ray.wait([*self.under_way])
            number, item = self.under_way.pop(task)
            try:
                found, error = self.ray.get(task), None
            except errors.NodeDiedError:
                self._submit(function, number, item, again=True)
                continue
            except (errors.WorkerCrashedError, errors.OutOfMemoryError):
                deaths[number] += 1
                if deaths[number] < DEATHS:
                    self._submit(function, number, item, again=True)
                    continue
                message = f"its process was killed {DEATHS} times, perhaps because memory is exhausted"
                found, error = None, ResourceError(message)
            except errors.RayTaskError as raised:
                found, error = None, raised.cause
                if isinstance(error, NodeError):
                    raise error from None
            yield item, found, error

    def _submit(self, function: Callable[[Item], Any], number: int, item: Item, again: bool = False) -> None:
        cell = _cell(item)
        if not self.expected:
            self.expected = conditions(cell)
            self._check_nodes(cell)
        options = {**self._resources(cell), "max_retries": 0}  # `each` starts a task again
        call: Any = self.ray.remote(_call).options(**options)
        checked = self.expected, cell, self.token
        self.under_way[call.remote(Path.cwd(), checked, function, item, again)] = number, item

    def _check_nodes(self, cell: Cell) -> None:
        """Refuse a node that would compute other bits, before anything is trained."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = [node for node in self.ray.nodes() if node["Alive"]]
        self.largest = int(max(node["Resources"].get("CPU", 0) for node in nodes))
        self.gpu = gpu_of([node["Resources"] for node in nodes])
        on_node = {}
        for node in nodes:
            place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            probe = self.ray.remote(_probe).options(num_cpus=0, scheduling_strategy=place, max_retries=0)
            on_node[probe.remote(Path.cwd(), self.expected, cell, self.token)] = node
        for task, node in on_node.items():
            try:
                refusal = self.ray.get(task)
            except (self.ray.exceptions.NodeDiedError, self.ray.exceptions.TaskUnschedulableError):
                continue  # it has left the cluster
            except self.ray.exceptions.RayError as error:
                refusal = f"cannot run the project: {str(error).strip().splitlines()[-1]}"
            if refusal:
                raise NodeError(
                    _about(f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})", refusal)
                )

    def _resources(self, cell: Cell) -> dict[str, Any]:
        """The CPUs of a cell's `threads`, and a GPU if the cluster has any.

        Raises:
            ConfigurationError: no node has that many CPUs.
        """
        threads = int(_settings(cell).get("threads") or 1)
        if threads > self.largest:
            raise ConfigurationError(
                f"{cell.name}: threads: found {threads}, but the largest node has {self.largest} CPUs"
            )
        return {"num_cpus": threads, **self.gpu}


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


def conditions(cell: Cell) -> dict[str, Any]:
    """What must be equal for equal bits beside the project's files, as this process finds it."""
    import torch

    from src.training.exactness import choose_instructions
    from src.training.provenance import environment, provenance

    # a configuration without prepared data is that of an ordinary module, which is not portable by itself
    portable = bool(_settings(cell).get("portable", (cell.prepared / MANIFEST).is_file()))
    choose_instructions(portable)
    cpu = torch.device("cpu")
    record = provenance(None, cpu)
    return {str(LOCK): record[str(LOCK)], **record["versions"], **environment(cpu, 1, portable)}


def refusal_of(expected: dict[str, Any], cell: Cell, token: Path) -> str | None:
    """What makes this process unfit to train a cell, in words; None if nothing does.

    Args:
        expected: the conditions of the machine where the study was started.
        cell: the cell, with the folder that was computed there.
        token: a file that was written there.
    """
    if not token.is_file():
        return f"{Path.cwd()} is another folder there; all nodes must share it"
    here = conditions(cell)
    for name, value in expected.items():
        if here[name] != value:
            return f"{name}: found {here[name]}, expected {value}"
    fresh = Cell(**{each.name: getattr(cell, each.name) for each in fields(cell)})
    if fresh.folder != cell.folder:
        return f"it reads other code, another {cell.configuration} or other prepared data"
    return None


def _probe(home: Path, *arguments: Any) -> str | None:
    """The refusal of a node; runs there."""
    if not home.is_dir():
        return f"there is no folder {home}; all nodes must share it"
    os.chdir(home)
    return refusal_of(*arguments)


def _call(
    home: Path, checked: tuple[Any, ...], function: Callable[[Item], Any], item: Item, again: bool
) -> Any:
    """Call a function for an item; runs on a node."""
    if refusal := _probe(home, *checked):
        raise NodeError(_about(platform.node(), refusal))
    last = time.monotonic() + (UNLOCKING if again else 0)
    while True:
        try:
            return function(item)
        except LockedError:
            if time.monotonic() > last:
                raise
            time.sleep(1)


def _about(node: str, refusal: str) -> str:
    return f"cluster: the node {node} cannot train: {refusal}"


def _cell(item: "Cell | Search") -> Cell:
    return item if isinstance(item, Cell) else item.base


def _settings(cell: Cell) -> dict[str, Any]:
    """The keys of a cell's configuration."""
    configuration = yaml.safe_load(cell.configuration.read_text(encoding="utf-8"))
    return {**configuration, **cell.settings}


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
