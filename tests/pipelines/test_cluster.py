"""Studies on a Ray cluster of two nodes, which are processes of this machine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.study.cells import Cell
from pipelines.study.cluster import conditions, refusal_of
from pipelines.study.run import study
from pipelines.study.search import CALL, PROCESS, Search
from pipelines.study.study import cells_of, read_study
from src.core.cluster import gpu_of
from src.core.errors import ConfigurationError
from tests.support import address_of, contents, wait_for

ROOT = Path(__file__).parents[2]
PARAMETERS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
TINY: dict[str, Any] = {
    "task": "polynomial",
    "metric": "test/rmse",
    "seeds": [1, 2],
    "fixed": {"trainer.max_epochs": 2},
    "grid": {"model.network.activation": ["relu", "tanh"]},
}
LONG = {"fixed": {"trainer.max_epochs": 400, "checkpoint_seconds": 0}}  # all cells train at the same time
SEARCH = {
    **LONG,
    "search": "optuna",
    "budget": 3,
    "pruning": False,
    "grid": {"model.lr_scheduler.init_args.max_lr": {"low": 0.001, "high": 0.1, "log": True}},
}
pytestmark = [pytest.mark.tasks("polynomial"), pytest.mark.unix]


def write_study(**changes: Any) -> None:
    parameters = PARAMETERS | {"studies": {"tiny": TINY | changes}}
    Path("params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False), encoding="utf-8")


@pytest.fixture
def project(
    prepared: Path, settings_of_the_process: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A copy of it, with a tiny study, as the working folder."""
    folder = shutil.copytree(prepared, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    for name in ("WANDB_RUN_GROUP", "WANDB_TAGS", "WANDB_NAME", "WANDB_DIR", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    write_study()
    return folder


def every_cell() -> list[Cell]:
    return [cell for group in cells_of("tiny", read_study("tiny")).values() for cell in group]


def digests() -> dict[str, str]:
    """The digest of the weights of each cell."""
    return {
        cell.folder.name: json.loads((cell.bundle / "manifest.json").read_text())["tensors"]
        for cell in every_cell()
    }


def locally() -> tuple[dict[str, str], dict[str, bytes]]:
    """The digests and the report of the same study on this machine; the results are removed again."""
    study("tiny", workers=2)
    found = digests(), contents(Path("reports"))
    shutil.rmtree("runs")
    shutil.rmtree("reports")
    return found


def remove_when(cluster: Any, node: Any, condition: Callable[[], Any]) -> threading.Thread:
    """Kill a node as soon as a condition holds, while the caller goes on."""

    def watch() -> None:
        wait_for(condition)
        cluster.remove_node(node, allow_graceful=False)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.mark.slow
def test_a_cluster_gives_the_digests_and_the_report_of_one_machine(
    two_nodes: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = locally()
    monkeypatch.setenv("RAY_ADDRESS", address_of(two_nodes))  # as `dvc repro` is given it
    study("tiny")
    assert (digests(), contents(Path("reports"))) == expected
    assert not [*Path("runs").glob(".cluster-*")]


@pytest.mark.slow
def test_cells_of_a_dead_node_go_on_from_their_checkpoints(two_nodes: Any, project: Path) -> None:
    write_study(**LONG)
    expected = locally()
    second = two_nodes.add_node(num_cpus=2)
    folders = [cell.folder / "runs/polynomial" for cell in every_cell()]
    killing = remove_when(
        two_nodes, second, lambda: sum(bool([*folder.glob("*/last.ckpt")]) for folder in folders) >= 3
    )
    study("tiny", cluster=address_of(two_nodes))
    killing.join()
    assert (digests(), contents(Path("reports"))) == expected
    logs = [(cell.folder / "log.txt").read_text() for cell in every_cell()]
    assert any("going on after epoch" in log for log in logs)


@pytest.mark.slow
def test_a_search_tries_the_trials_of_a_dead_node_again(two_nodes: Any, project: Path) -> None:
    write_study(**SEARCH)
    second = two_nodes.add_node(num_cpus=2)
    killing = remove_when(
        two_nodes, second, lambda: len([*Path("runs/cells").glob("*/runs/*/*/last.ckpt")]) >= 3
    )
    study("tiny", cluster=address_of(two_nodes))
    killing.join()
    table = Path("reports/studies/tiny/tables/trials.md").read_text().splitlines()
    assert len(table) - 2 == SEARCH["budget"]


@pytest.mark.slow
def test_a_cell_that_fails_is_reported_as_by_one_machine(two_nodes: Any, project: Path) -> None:
    write_study(grid={"model.network.activation": ["relu"]}, seeds=[1, 2])
    blocked = every_cell()[0].folder
    blocked.mkdir(parents=True)
    (blocked / "models").write_text("a file in the place of the folder")
    messages = []
    for options in ({"workers": 2}, {"cluster": address_of(two_nodes)}):
        with pytest.raises(Exception, match="1 of 2 cells failed") as raised:
            study("tiny", **options)
        messages.append((type(raised.value), str(raised.value)))
        shutil.rmtree(every_cell()[1].folder)
    assert messages[0] == messages[1]


@pytest.mark.slow
def test_a_node_with_another_instruction_set_is_refused_before_it_trains(
    two_nodes: Any, project: Path
) -> None:
    odd = two_nodes.add_node(num_cpus=1, env_vars={"ATEN_CPU_CAPABILITY": "default"})
    try:
        with pytest.raises(ConfigurationError, match=r"the node .* cannot train: instructions: found"):
            study("tiny", cluster=address_of(two_nodes))
    finally:
        two_nodes.remove_node(odd)
    assert not [*Path("runs/cells").glob("*/runs")]


def test_gpus_of_several_types_are_refused() -> None:
    cpu, first, second = {"CPU": 4.0}, {"GPU": 1.0, "accelerator_type:H100": 1.0}, {"GPU": 1.0}
    assert gpu_of([cpu]) == {}
    assert gpu_of([cpu, second]) == {"num_gpus": 1}
    assert gpu_of([cpu, first]) == {"num_gpus": 1, "accelerator_type": "H100"}
    with pytest.raises(ConfigurationError, match=r"GPUs of several types \(A100, H100\)"):
        gpu_of([first, second | {"accelerator_type:A100": 1.0}])


@pytest.mark.slow
def test_more_threads_than_any_node_has_are_refused(two_nodes: Any, project: Path) -> None:
    write_study(fixed={"threads": 64})
    with pytest.raises(ConfigurationError, match="threads: found 64, but the largest node has 1 CPUs"):
        study("tiny", cluster=address_of(two_nodes))


@pytest.mark.slow
def test_ctrl_c_leaves_no_task_behind(two_nodes: Any, project: Path) -> None:
    import psutil

    write_study(fixed={"trainer.max_epochs": 100_000, "checkpoint_seconds": 0})
    command = [sys.executable, "-m", "pipelines.study", "tiny", "--cluster", address_of(two_nodes)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(project)})
    wait_for(lambda: len([*Path("runs/cells").glob("*/runs/*/*/last.ckpt")]) >= 2)

    def tasks() -> list[psutil.Process]:
        found = []
        for each in psutil.process_iter(["cmdline"]):
            if (each.info["cmdline"] or [""])[0] == "ray::_call":
                found.append(each)
        return found

    assert len(tasks()) == 2
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    wait_for(lambda: not tasks())
    assert not [*Path("runs").glob(".cluster-*")]


def test_only_the_repeated_call_gives_back_the_trial_of_a_dead_machine(project: Path) -> None:
    base = every_cell()[0]
    space = {"model.optimizer.lr": [0.1, 0.2]}
    search = Search(base, space, "validation/rmse", "min", 3, True, "runs/tiny.journal", call="first")
    trial = search.open().ask()
    trial.suggest_categorical("model.optimizer.lr", ["0.1", "0.2"])
    trial.set_user_attr(PROCESS, ["a dead machine", 1, 0.0])
    trial.set_user_attr(CALL, "first")
    states = [each.state.name for each in replace(search, call="second").open().trials]
    assert states == ["RUNNING"]
    again = search.open().trials
    assert [each.state.name for each in again] == ["FAIL", "WAITING"]
    assert again[1].system_attrs["fixed_params"] == again[0].params
    assert search.left() == 3  # the repeated trial takes the place of the lost one


@pytest.mark.parametrize(
    ("name", "found"), [("requirements.lock", "0" * 64), ("torch", "1.0"), ("instructions", "AVX512")]
)
def test_a_node_that_differs_is_refused_by_what_differs(project: Path, name: str, found: str) -> None:
    cell, token = every_cell()[0], project / "token"
    assert "all nodes must share it" in str(refusal_of(project, {}, cell, token))
    token.touch()
    expected = conditions(cell)
    assert refusal_of(project, expected, cell, token) is None
    assert refusal_of(project, expected | {name: found}, cell, token) == (
        f"{name}: found {expected[name]}, expected {found}"
    )


def test_a_node_that_reads_other_code_or_data_is_refused(project: Path) -> None:
    cell, token = every_cell()[0], project / "token"
    token.touch()
    assert cell.folder.is_relative_to("runs")  # computed before the change
    path = Path("configs/polynomial.yaml")
    path.write_text(path.read_text() + "\nthreads: 2\n")
    assert "configs/polynomial.yaml" in str(refusal_of(project, conditions(cell), cell, token))


def test_what_is_not_a_cluster_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="workers: found 2, but the Ray cluster auto"):
        study("tiny", workers=2, cluster="auto")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigurationError, match="Ray is not installed; run: make setup EXTRAS=cluster"):
        study("tiny", cluster="auto")


@pytest.mark.parametrize(
    ("address", "message"),
    [("somewhere", "expected auto, HOST:PORT"), ("127.0.0.1:1", "nothing answers at 127.0.0.1:1")],
)
def test_an_address_without_a_cluster_is_refused(project: Path, address: str, message: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(ConfigurationError, match=message):
        study("tiny", cluster=address)


def test_a_machine_without_a_cluster_is_told_how_to_start_one(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")

    def init(*_: Any, **__: Any) -> None:  # Ray searches all processes, where tests may run a cluster
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ConfigurationError, match="no Ray cluster runs on this machine; start one"):
        study("tiny", cluster="auto")
