"""A training in two processes on a Ray cluster of two nodes, which are processes of this machine."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from src.core.errors import ConfigurationError
from src.training.cluster import Shape, _ended, _refusal, shape_of
from tests.support import address_of, wait_for

pytestmark = [pytest.mark.tasks("polynomial"), pytest.mark.unix]

ARGUMENTS = (
    *("fit", "--config=configs/polynomial.yaml", "--trainer.accelerator=cpu", "--trainer.strategy=ddp"),
    *("--trainer.max_epochs=100", "--checkpoint_seconds=0"),
)
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
NODES = ("--trainer.devices=1", "--trainer.num_nodes=2")


@pytest.fixture
def project(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own as the working folder."""
    folder = shutil.copytree(prepared, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(folder)
    return folder


def digest(folder: Path) -> str:
    """That of the weights of the bundle."""
    manifest = json.loads((folder / "models/polynomial/manifest.json").read_text(encoding="utf-8"))
    tensors: str = manifest["tensors"]
    return tensors


@pytest.fixture(scope="session")
def expected(prepared: Path, tmp_path_factory: pytest.TempPathFactory, python: Callable[..., Any]) -> str:
    """The digest of the weights of two processes of torchrun."""
    folder = shutil.copytree(prepared, tmp_path_factory.mktemp("torchrun") / "project", symlinks=True)
    done = python(*TORCHRUN, "-m", "src.cli", *ARGUMENTS, "--trainer.devices=2", cwd=folder)
    assert done.returncode == 0, done.stdout
    return digest(folder)


def start(cluster: Any, *options: str) -> subprocess.Popen[str]:
    """Start the training on the nodes of a cluster."""
    return subprocess.Popen(
        [sys.executable, "-m", "src.cli", *ARGUMENTS, *NODES, *options],
        env={**os.environ, "RAY_ADDRESS": address_of(cluster)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def trainers() -> list[psutil.Process]:
    """The processes that train on the nodes."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if (process.info["cmdline"] or [""])[0].startswith("ray::Process")
    ]


def wait_for_a_checkpoint(process: subprocess.Popen[str]) -> None:
    wait_for(lambda: [*Path("runs/polynomial").glob("*/last.ckpt")] or process.poll() is not None)
    assert process.poll() is None, process.communicate()[0]


@pytest.mark.slow
def test_two_nodes_give_the_weights_of_torchrun_and_one_run(
    two_nodes: Any, project: Path, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    output, _ = start(two_nodes).communicate()
    assert digest(project) == expected, output
    assert output.count("the bundle: models/polynomial/\n") == 1
    assert len([*Path("runs").glob("wandb/**/run-*.wandb")]) == 1
    assert not [*Path("runs").glob(".cluster-*")]
    wait_for(lambda: not trainers())


@pytest.mark.slow
def test_the_death_of_a_process_changes_nothing(two_nodes: Any, project: Path, expected: str) -> None:
    process = start(two_nodes)
    wait_for_a_checkpoint(process)
    trainers()[-1].kill()
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "a process or its node has died: all start again\n" in output
    assert "going on after epoch" in output
    assert digest(project) == expected


@pytest.mark.slow
def test_the_death_of_a_node_changes_nothing(two_nodes: Any, project: Path, expected: str) -> None:
    two_nodes.add_node(num_cpus=1)
    process = start(two_nodes)
    wait_for_a_checkpoint(process)
    raylets = {each.ppid() for each in trainers()}
    (node, *_) = [
        node for node in two_nodes.worker_nodes if node.all_processes["raylet"][0].process.pid in raylets
    ]
    two_nodes.remove_node(node, allow_graceful=False)
    output, _ = process.communicate()
    while len(two_nodes.worker_nodes) > 1:
        two_nodes.remove_node(two_nodes.worker_nodes.copy().pop())
    if not two_nodes.worker_nodes:
        two_nodes.add_node(num_cpus=1)
    assert process.returncode == 0, output
    assert "going on after epoch" in output
    assert digest(project) == expected


@pytest.mark.slow
def test_ctrl_c_leaves_no_process_behind(two_nodes: Any, project: Path) -> None:
    process = start(two_nodes, "--trainer.max_epochs=100000")
    wait_for_a_checkpoint(process)
    assert len(trainers()) == 2
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, output.splitlines()[-1]) == (130, "interrupted")
    wait_for(lambda: not trainers())
    assert not [*Path("runs").glob(".cluster-*")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--data.batch_size=1", "error: data.batch_size: 2 processes cannot share a batch of 1 rows"),
        ("--threads=8", "error: trainer.num_nodes: found 2, each with 8 CPUs"),
        ("--unknown=1", "error: unknown: there is no such key"),
    ],
)
def test_an_error_is_one_line(two_nodes: Any, project: Path, option: str, message: str) -> None:
    process = start(two_nodes, option)
    output, _ = process.communicate()
    assert process.returncode == 2
    assert output.splitlines()[-1].startswith(message)
    assert "Traceback" not in output


@pytest.mark.slow
def test_a_node_with_another_instruction_set_is_refused_before_training(
    two_nodes: Any, project: Path
) -> None:
    odd = two_nodes.add_node(num_cpus=1, env_vars={"ATEN_CPU_CAPABILITY": "default"})
    try:
        process = start(two_nodes, "--trainer.num_nodes=3")
        output, _ = process.communicate()
    finally:
        two_nodes.remove_node(odd)
    assert process.returncode == 2
    assert "cannot train: instructions: found" in output.splitlines()[-1]
    assert not [*Path("runs/polynomial").glob("*/history.csv")]


def test_the_configuration_says_how_many_processes_there_are() -> None:
    def shape(**trainer: Any) -> Shape | None:
        return shape_of({"trainer": trainer, "threads": 2})

    assert shape(devices="auto") is shape(devices=1, num_nodes=1) is shape(devices="-1") is None
    assert shape(devices="2", num_nodes=1) == Shape(1, 2, 2)
    assert shape(devices=[0, 3], num_nodes=2) == Shape(2, 2, 2)
    with pytest.raises(ConfigurationError, match=r"^trainer\.devices: found auto; on a Ray cluster"):
        shape(devices="auto", num_nodes=2)


class TaskError(Exception):
    """As Ray's, with the error of the process."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class ActorError(Exception):
    """As Ray's, of a process that has died, perhaps since it could not begin."""

    def __init__(self, said: str = "", actor_init_failed: bool = False) -> None:
        super().__init__(said)
        self.actor_init_failed = actor_init_failed


def outcome(*errors: Exception | None) -> bool:
    """What is made of the ends of processes, in this order."""

    def get(process: int) -> None:
        if error := errors[process]:
            raise error

    ray = SimpleNamespace(
        exceptions=SimpleNamespace(RayActorError=ActorError, RayTaskError=TaskError),
        wait=lambda waiting, timeout: (waiting[:1], waiting[1:]),
        get=get,
        kill=lambda process: None,
    )
    return _ended(ray, {number: number for number in range(len(errors))})


def test_the_cause_of_an_end_is_found_among_its_effects() -> None:
    lost = TaskError(RuntimeError("connection closed by peer"))
    assert outcome(None, None)
    assert not outcome(lost, ActorError())  # who noticed a death first did not fail
    with pytest.raises(ConfigurationError, match="batch_size"):
        outcome(TaskError(ConfigurationError("batch_size")), ActorError())
    with pytest.raises(TaskError, match="a mistake"):
        outcome(TaskError(RuntimeError("a mistake")), lost)


def test_a_process_that_cannot_begin_is_a_refusal_and_one_that_died_is_none() -> None:
    assert _refusal(ActorError("killed")) is None
    known = ConfigurationError("the node a cannot train")
    assert _refusal(TaskError(known)) is known
    begun = ActorError("(pid=7, ip=10.0.0.2, actor_id=1)\nModuleNotFoundError: No module named 'src'\n", True)
    assert str(_refusal(begun)) == (
        "cluster: the node 10.0.0.2 cannot train: cannot run the project: "
        "ModuleNotFoundError: No module named 'src'"
    )
