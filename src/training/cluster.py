"""A training whose processes are on the nodes of a Ray cluster.

Each process is an actor of Ray, with the variables that torchrun would give it, and runs the same command in
the project's folder. Ray Train is not used: it runs a training in a second thread, where signals cannot be
handled, connects the processes before `portable` is known, and repeats a training that ended by an error of
the user.
"""

import os
import platform
import re
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from shutil import get_terminal_size
from typing import Any, NamedTuple

import torch

from src.core import cluster
from src.core.code import run_digest
from src.core.digests import data_digest
from src.core.errors import ConfigurationError, LockstepError, reported_error
from src.core.paths import LOCK, PREPARED
from src.training.exactness import choose_instructions
from src.training.provenance import environment, provenance
from src.training.shared_output import Output, files_beside, shown

COMMAND = "src.cli"
AFTERWARDS = 60.0  # seconds in which the others end, or are found dead, after the error of a process
TERMINAL = ("TERM", "COLORTERM", "COLUMNS", "LINES")


class Shape(NamedTuple):
    """The processes of a training.

    Args:
        nodes: their number.
        processes: of each node.
        threads: of a process.
    """

    nodes: int
    processes: int
    threads: int


def shape_of(configuration: Mapping[str, Any]) -> Shape | None:
    """The processes that a configuration asks for; None if it is one process.

    Raises:
        ConfigurationError: `trainer.devices` leaves their number to the machine.
    """
    trainer = configuration["trainer"]
    nodes, processes = int(trainer.get("num_nodes") or 1), trainer.get("devices")
    if isinstance(processes, str) and processes.isdecimal():
        processes = int(processes)
    if isinstance(processes, list):
        processes = len(processes)
    if not isinstance(processes, int) or processes < 1:
        if nodes == 1:
            return None
        raise ConfigurationError(
            f"trainer.devices: found {processes}; on a Ray cluster, give the number of processes of each node"
        )
    return Shape(nodes, processes, int(configuration["threads"])) if nodes * processes > 1 else None


def conditions_of(portable: bool) -> dict[str, Any]:
    """What must be equal for equal bits beside the project's files, as this process finds it."""
    choose_instructions(portable)
    cpu = torch.device("cpu")
    record = provenance(None, cpu)
    return {str(LOCK): record[str(LOCK)], **record["versions"], **environment(cpu, 1, portable)}


def train_on(address: str, arguments: list[str], configuration: dict[str, Any], shape: Shape) -> None:
    """Run a command on the nodes of a cluster, until all its processes have ended.

    After the death of a process or a node, all processes start again, on the nodes that are left.

    Args:
        address: as `cluster.connect` takes it.
        arguments: of the command.
        configuration: the resolved one.
        shape: its processes.

    Raises:
        LockstepError: the error of the process that failed first.
        ResourceError: processes were killed DEATHS times while their nodes lived on.
    """
    ray = cluster.connect(address)
    token = cluster.write_token()
    deaths, again = 0, False
    try:
        places = _places(ray, configuration, shape)
        with shown(token):
            while True:
                nodes = {node["NodeID"] for node in cluster.living_nodes(ray)}
                with _processes(ray, places, token) as processes:
                    if _train(ray, processes, shape, arguments, configuration, again):
                        return
                again = True
                deaths += nodes <= {node["NodeID"] for node in cluster.living_nodes(ray)}
                if deaths == cluster.DEATHS:
                    raise cluster.killed_again("a process of the training")
                print("a process or its node has died: all start again", file=sys.stderr, flush=True)
    finally:
        for path in token.parent.glob(f"{token.name}*"):
            path.unlink(missing_ok=True)
        ray.shutdown()


class _Places(NamedTuple):
    """What a training asks of the cluster: a bundle of resources a node, and its processes."""

    bundles: list[dict[str, float]]
    processes: int
    options: dict[str, Any]  # of each process


def _places(ray: Any, configuration: Mapping[str, Any], shape: Shape) -> _Places:
    """The resources of a training.

    Raises:
        ConfigurationError: the cluster has fewer.
    """
    nodes = [node["Resources"] for node in cluster.living_nodes(ray)]
    gpu = {} if configuration["trainer"].get("accelerator") == "cpu" else cluster.gpu_of(nodes)
    bundle: dict[str, float] = {"CPU": shape.processes * shape.threads}
    if gpu:
        bundle["GPU"] = shape.processes
    room = sum(int(min(node.get(name, 0) // number for name, number in bundle.items())) for node in nodes)
    if room < shape.nodes:
        wanted = " and ".join(f"{number} {name}{'s' * (number > 1)}" for name, number in bundle.items())
        raise ConfigurationError(
            f"trainer.num_nodes: found {shape.nodes}, each with {wanted} (devices times threads), but "
            f"the cluster has room for {room}"
        )
    return _Places([bundle] * shape.nodes, shape.processes, {"num_cpus": shape.threads, **gpu})


@contextmanager
def _processes(ray: Any, places: _Places, token: Path) -> Iterator[list[Any]]:
    """Start the processes in the order of their ranks, as actors; kill them with the end of the block."""
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    group = placement_group(places.bundles, strategy="SPREAD")
    try:
        if not group.wait(AFTERWARDS):
            print("waiting for CPUs or GPUs of the cluster that are free", file=sys.stderr, flush=True)
            while not group.wait(AFTERWARDS):
                pass
        there = [index for index in range(len(places.bundles)) for _ in range(places.processes)]
        terminal = sys.stdout.isatty(), sys.stderr.isatty()
        variables = {name: os.environ[name] for name in TERMINAL if name in os.environ}
        if any(terminal):
            variables |= dict(zip(TERMINAL[-2:], map(str, get_terminal_size()), strict=True))
        yield [
            ray.remote(Process)
            .options(
                **places.options,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    group, placement_group_bundle_index=index
                ),
            )
            .remote(Path.cwd(), token, terminal if rank == 0 else None, variables)
            for rank, index in enumerate(there)
        ]
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would leave processes behind
        raise
    finally:
        remove_placement_group(group)  # kills its actors


def _train(
    ray: Any,
    processes: list[Any],
    shape: Shape,
    arguments: list[str],
    configuration: dict[str, Any],
    again: bool,
) -> bool:
    """Check all processes, connect them, and train.

    Returns:
        Whether they have ended well; False if one of them has died.
    """
    task = configuration["task"]
    expected = conditions_of(configuration["portable"])
    expected["code or data"] = run_digest(configuration, data_digest(PREPARED / task))
    try:
        found = ray.get([process.check.remote(configuration, expected) for process in processes])
    except ray.exceptions.RayError as error:
        if (refusal := _refusal(error)) is None:
            return False
        raise refusal from None
    address, port = found[0].address, found[0].port
    calls = {}
    for rank, process in enumerate(processes):
        node, local = divmod(rank, shape.processes)
        beside = found[node * shape.processes : (node + 1) * shape.processes]
        variables = {
            "TORCHELASTIC_RUN_ID": f"{address}:{port}",
            "MASTER_ADDR": address,
            "MASTER_PORT": port,
            "RANK": rank,
            "WORLD_SIZE": len(processes),
            "LOCAL_RANK": local,
            "LOCAL_WORLD_SIZE": shape.processes,
            "GROUP_RANK": node,
        }
        if gpus := [gpu for place in beside for gpu in place.gpus]:
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))
        texts = {name: str(value) for name, value in variables.items()}
        calls[process.train.remote(texts, arguments, again)] = process
    return _ended(ray, calls)


def _refusal(error: Any) -> LockstepError | None:
    """Why a process cannot train, from Ray's error; None if it has died."""
    if isinstance(cause := getattr(error, "cause", None), LockstepError):
        return cause
    if cause is None and not getattr(error, "actor_init_failed", True):
        return None
    said = str(error).strip()
    where = re.search(r"\bip=([^,)]+)", said)
    return cluster.unfit(
        where[1] if where else "with another project", f"cannot run the project: {said.splitlines()[-1]}"
    )


def _ended(ray: Any, calls: dict[Any, Any]) -> bool:
    """Wait for the processes.

    A process loses its connection when another one dies, and may be the first to be heard of.

    Returns:
        Whether they have ended well; False if one of them has died.
    """
    failed: Exception | None = None
    waiting = list(calls)
    while waiting:
        ended, waiting = ray.wait(waiting, timeout=AFTERWARDS if failed else None)
        if not ended:
            break
        try:
            ray.get(ended[0])
        except ray.exceptions.RayActorError:
            return False
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, LockstepError):
                raise error.cause from None
            failed = failed or error
            ray.kill(calls[ended[0]])  # so that the others do not wait for it
    if failed:
        raise failed
    return True


class _Place(NamedTuple):
    address: str
    port: int
    gpus: list[Any]


class Process:
    """A process of a training on a node; Ray calls its methods there.

    Args:
        home: the project's folder.
        token: a file in it; what the first process prints is appended to files beside it.
        terminal: whether that will be shown on a terminal, of standard output and error; None if this is
            another process.
        variables: of the environment.
    """

    def __init__(
        self, home: Path, token: Path, terminal: tuple[bool, bool] | None, variables: dict[str, str]
    ) -> None:
        import ray

        self.ray = ray
        os.environ |= variables
        self.refusal = cluster.enter(home, token)
        if self.refusal is None and terminal:
            sys.stdout, sys.stderr = (
                Output(path, seen) for path, seen in zip(files_beside(token), terminal, strict=True)
            )

    def check(self, configuration: dict[str, Any], expected: dict[str, Any]) -> _Place:
        """Where this process is, and a port that is free there.

        Raises:
            NodeError: it would not compute the same bits.
        """
        address = self.ray.util.get_node_ip_address()
        refusal = self.refusal
        if refusal is None:
            found = conditions_of(configuration["portable"])
            found["code or data"] = run_digest(configuration, data_digest(PREPARED / configuration["task"]))
            refusal = cluster.difference(expected, found)
        if refusal:
            raise cluster.unfit(f"{platform.node()} ({address})", refusal)
        with socket.socket() as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
        return _Place(address, port, self.ray.get_gpu_ids())

    def train(self, variables: dict[str, str], arguments: list[str], again: bool) -> None:
        """Run the command.

        Args:
            variables: of the environment, as torchrun sets them.
            arguments: of the command.
            again: whether another process, which has died, ran it before.

        Raises:
            LockstepError: an error that a user can mend.
        """
        os.environ |= variables
        command = import_module(COMMAND)
        try:
            cluster.once_unlocked(lambda: command.main(arguments), again)
        except Exception as error:
            if (found := reported_error(error)) is None:
                raise
            raise found from None  # the error around it cannot be sent to another process
        finally:
            sys.stdout.flush()
