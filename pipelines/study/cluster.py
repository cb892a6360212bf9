"""The cells of a study as tasks of a Ray cluster, all of whose nodes see the project in the same folder.

Ray's scheduler, transport and detection of dead nodes are used as they are. A task calls the function that a
local worker calls. Configurations, data, checkpoints and results are files of the project's folder.
"""

import itertools
import platform
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from pipelines.study.cells import Cell
from src.core import cluster
from src.core.cluster import NodeError
from src.core.errors import ConfigurationError
from src.core.paths import MANIFEST

if TYPE_CHECKING:
    from pipelines.study.search import Search

Item = TypeVar("Item", bound="Cell | Search")

UNDER_WAY = 1000  # tasks that wait in the cluster at once; each wait for a result looks at all of them


class Cluster:
    """The nodes of a running Ray cluster, in the place of the worker processes of one machine.

    Args:
        address: `auto` for the cluster that this machine is a node of, HOST:PORT of the head, or
            ray://HOST:PORT from a machine that is not a node.

    Raises:
        ConfigurationError: Ray is not installed, there is no such cluster, or its version is another one.
    """

    def __init__(self, address: str) -> None:
        self.ray = cluster.connect(address)
        self.token = cluster.write_token()
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
                if deaths[number] < cluster.DEATHS:
                    self._submit(function, number, item, again=True)
                    continue
                found, error = None, cluster.killed_again("its process")
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

        nodes = cluster.living_nodes(self.ray)
        self.largest = int(max(node["Resources"].get("CPU", 0) for node in nodes))
        self.gpu = cluster.gpu_of([node["Resources"] for node in nodes])
        on_node = {}
        for node in nodes:
            place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            probe = self.ray.remote(refusal_of).options(num_cpus=0, scheduling_strategy=place, max_retries=0)
            on_node[probe.remote(Path.cwd(), self.expected, cell, self.token)] = node
        for task, node in on_node.items():
            try:
                refusal = self.ray.get(task)
            except (self.ray.exceptions.NodeDiedError, self.ray.exceptions.TaskUnschedulableError):
                continue  # it has left the cluster
            except self.ray.exceptions.RayError as error:
                refusal = f"cannot run the project: {str(error).strip().splitlines()[-1]}"
            if refusal:
                raise cluster.unfit(f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})", refusal)

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


def conditions(cell: Cell) -> dict[str, Any]:
    """What must be equal for equal bits beside the project's files, as this process finds it."""
    from src.training.cluster import conditions_of

    # a configuration without prepared data is that of an ordinary module, which is not portable by itself
    return conditions_of(bool(_settings(cell).get("portable", (cell.prepared / MANIFEST).is_file())))


def refusal_of(home: Path, expected: dict[str, Any], cell: Cell, token: Path) -> str | None:
    """What makes a node unfit to train a cell, in words; None if nothing does. Runs there.

    Args:
        home: the project's folder.
        expected: the conditions of the machine where the study was started.
        cell: the cell, with the folder that was computed there.
        token: a file that was written there.
    """
    refusal = cluster.enter(home, token) or cluster.difference(expected, conditions(cell))
    if refusal:
        return refusal
    fresh = Cell(**{each.name: getattr(cell, each.name) for each in fields(cell)})
    if fresh.folder != cell.folder:
        return f"it reads other code, another {cell.configuration} or other prepared data"
    return None


def _call(
    home: Path, checked: tuple[Any, ...], function: Callable[[Item], Any], item: Item, again: bool
) -> Any:
    """Call a function for an item; runs on a node."""
    if refusal := refusal_of(home, *checked):
        raise cluster.unfit(platform.node(), refusal)
    return cluster.once_unlocked(partial(function, item), again)


def _cell(item: "Cell | Search") -> Cell:
    return item if isinstance(item, Cell) else item.base


def _settings(cell: Cell) -> dict[str, Any]:
    """The keys of a cell's configuration."""
    configuration = yaml.safe_load(cell.configuration.read_text(encoding="utf-8"))
    return {**configuration, **cell.settings}
