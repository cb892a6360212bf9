"""Shared fixtures: no network, no W&B, and copies of the project in which tasks have run.

Tests that need results ask for `finished` or `workspace`, which run the stages of a task in this process when
they are first needed. Tests of all results ask for `first_clone`, tests that compare two environments for
`clones`. They are marked `slow`, as others are by their own mark: `pytest -m "not slow"` leaves them out.
"""

import src  # noqa: F401 - before torch and NumPy, since it chooses what they compute with

# isort: split
import contextlib
import inspect
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import yaml
from dvc.cli import main as dvc
from jsonargparse._common import parsing_settings

from pipelines.code import code as write_code_digests
from pipelines.parameters import every_kind

ROOT = Path(__file__).parents[1]
EPOCHS = 2
PARAMETERS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
TASKS: dict[str, str] = PARAMETERS["tasks"]
PARSING = dict(parsing_settings)

Run = Callable[..., subprocess.CompletedProcess[str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow tests last, those of two environments among them; skip tests of removed tasks and of Unix."""
    for item in items:
        if {"clones", "first_clone"} & {*getattr(item, "fixturenames", ())}:
            item.add_marker(pytest.mark.slow)
            if not TASKS:
                item.add_marker(pytest.mark.skip("params.yaml has no task"))
        if sys.platform == "win32" and item.get_closest_marker("unix"):
            item.add_marker(pytest.mark.skip("Windows has no named pipes, devices or signals of Unix"))
        for marker in item.iter_markers("kinds"):
            if missing := set(marker.args) - set(every_kind()):
                item.add_marker(pytest.mark.skip(f"src/ has no kind of data {min(missing)}"))
        for marker in item.iter_markers("tasks"):
            if missing := set(marker.args) - set(TASKS):
                item.add_marker(pytest.mark.skip(f"params.yaml has no task {min(missing)}"))
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


def refuse_other_machines() -> None:
    """Let the sockets of this process reach this machine only.

    The text of this function is also the sitecustomize.py of the subprocesses, so it imports what it needs.
    """
    import socket

    def guarded(original: Callable[..., Any]) -> Callable[..., Any]:
        def connect(self: socket.socket, address: Any) -> Any:
            inet = self.family in (socket.AF_INET, socket.AF_INET6)
            if inet and not str(address[0]).startswith("127.") and address[0] not in ("::1", "localhost"):
                raise RuntimeError(f"the tests may not connect to {address[0]}")
            return original(self, address)

        return connect

    socket.socket.connect = guarded(socket.socket.connect)  # type: ignore[method-assign]
    socket.socket.connect_ex = guarded(socket.socket.connect_ex)  # type: ignore[method-assign]


def see_fewer_cores() -> None:
    """Let the process see as many cores as a test sets; in sitecustomize.py, too."""
    import os

    if (cores := os.environ.get("LOCKSTEP_TEST_CORES")) and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])


@pytest.fixture(scope="session", autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No other machine, no W&B and no settings of the user, here and in every subprocess."""
    site = tmp_path_factory.mktemp("site")
    guard = f"from typing import *\n{inspect.getsource(refuse_other_machines)}\nrefuse_other_machines()\n"
    guard += inspect.getsource(see_fewer_cores) + "see_fewer_cores()\n"
    (site / "sitecustomize.py").write_text(guard)
    # for repositories that tests make themselves: DVC's helper would outlive its command
    (site / "config").write_text("[core]\nanalytics = false\ncheck_update = false\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", socket.socket.connect)
        patch.setattr(socket.socket, "connect_ex", socket.socket.connect_ex)
        refuse_other_machines()
        patch.setenv("WANDB_MODE", "disabled")
        patch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        for name in ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR"):
            patch.setenv(name, str(site))
        patch.setenv("OMP_WAIT_POLICY", "passive")  # two runs at a time would wait for each other in loops
        patch.delenv("LOCKSTEP_TRACEBACK", raising=False)
        yield


@pytest.fixture(autouse=True)
def parsing() -> Iterator[None]:
    """Restore which classes configurations may name, which other tests and fixtures may have restricted."""
    with mock.patch.dict(parsing_settings, PARSING, clear=True):
        yield


@pytest.fixture(autouse=True)
def interruption() -> Iterator[None]:
    """Let Ctrl-C interrupt: an interrupted command ignores it in its process, a shell in background jobs."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, signal.default_int_handler)


def forget_wandb() -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        del os.environ[name]
    os.environ["WANDB_MODE"] = "disabled"


@pytest.fixture(autouse=True)
def variables_of_wandb() -> Iterator[None]:
    """Remove the variables that trainings and studies set in this process: later commands would read them."""
    forget_wandb()
    yield
    forget_wandb()


@contextlib.contextmanager
def restored_settings() -> Iterator[None]:
    """Restore the settings of this process that a training changes."""
    interrupt, threads = signal.getsignal(signal.SIGINT), torch.get_num_threads()
    with mock.patch.dict(parsing_settings, PARSING, clear=True):
        yield
    signal.signal(signal.SIGINT, interrupt)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def settings_of_the_process() -> Iterator[None]:
    """Restore the settings of this process that a training changes."""
    with restored_settings():
        yield


@pytest.fixture(scope="session")
def python() -> Run:
    """Run `python ...` in a folder; its output, both streams as one text."""

    def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=cwd,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            timeout=590,
        )

    return run


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, stdout=subprocess.PIPE)
    return done.stdout.decode()


def small_studies() -> dict[str, Any]:
    """The first study of each of three kinds in params.yaml, cut to a few short trainings."""
    kinds: dict[str, str] = {}
    for name, study in (PARAMETERS["studies"] or {}).items():
        kinds.setdefault(
            next(key for key in ("folds", "prepare", "variants", "grid") if study.get(key)), name
        )
    small = {}
    for name in (kinds[kind] for kind in ("grid", "prepare", "folds") if kind in kinds):
        study = dict(PARAMETERS["studies"][name])
        study["fixed"] = study.get("fixed", {}) | {"trainer.max_epochs": EPOCHS}
        if study.get("folds"):
            study |= {"folds": 2, "seeds": [1]}
        else:
            study |= {"grid": {key: values[:2] for key, values in study["grid"].items()}, "seeds": [1, 2]}
        small[name] = study
    return small


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's files as they are now, committed in a folder of their own; nothing has run.

    Trainings are cut to a few epochs, studies to a few small ones, and results of the pipeline are left out.
    """
    folder = tmp_path_factory.mktemp("first")
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in sorted(set(listed) - {"", "dvc.lock"}):
        if (ROOT / name).is_file() and not name.startswith("reports/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    for path in (folder / "configs").glob("*.yaml"):
        configuration = yaml.safe_load(path.read_text(encoding="utf-8"))
        configuration["trainer"]["max_epochs"] = EPOCHS
        path.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    parameters = PARAMETERS | {"studies": small_studies()}
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False), encoding="utf-8")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Start")
    return folder


def run_stages(tasks: list[str], studies: list[str]) -> None:
    """Run the stages of tasks and their models, then studies and the report if any, in the working folder.

    The text of this function is also a program, which runs in the second clone.
    """
    from pathlib import Path

    import yaml

    from pipelines.evaluate import evaluate
    from pipelines.fetch import fetch
    from pipelines.prepare import prepare
    from src.cli import main

    for task in tasks:
        fetch(task)
        prepare(task)
    models = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["models"]
    # after all fetches: from here on configurations may not name classes of pipelines
    for model in (name for task in tasks for name in models if models[name] == f"data/prepared/{task}"):
        main(["fit", "--config", f"configs/{model}.yaml"])
        evaluate(model)
    if studies:
        from pipelines.report.report import report
        from pipelines.study.run import study

        for name in studies:
            study(name)
        report()


@pytest.fixture(scope="session")
def finished(clone: Path) -> Callable[..., Path]:
    """Run the stages of tasks in the clone, of each task once; return the clone's folder."""
    done: set[str] = set()

    def finish(*tasks: str) -> Path:
        with contextlib.chdir(clone), restored_settings():
            run_stages([task for task in tasks if task not in done], [])
        done.update(tasks)
        return clone

    return finish


@pytest.fixture(scope="session")
def workspace(finished: Callable[..., Path]) -> Callable[..., Path]:
    """Make a folder with the results of some tasks: code linked; configurations, data and models copied."""

    def make(folder: Path, *tasks: str) -> Path:
        clone = finished(*tasks)
        for name in ("src", "pipelines", "data/samples", "requirements.lock"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(clone / name)
        for name in ("params.yaml", "dvc.yaml"):
            shutil.copyfile(clone / name, folder / name)
        names = [
            f"{part}/{task}" for part in ("data/raw", "data/prepared", "models", "reports") for task in tasks
        ]
        for name in ("configs", *names):
            shutil.copytree(clone / name, folder / name)
        return folder

    return make


@pytest.fixture(scope="session")
def second_clone(clone: Path, tmp_path_factory: pytest.TempPathFactory, python: Run) -> Path:
    """A clone in which everything has run in another environment.

    It has another name, hash seed, time zone, locale and temporary folder; it sees one processor core, and an
    older processor where libraries ask the C library. DVC runs the stages of a task and of its study there;
    one process runs all others, from the last task to the first.
    """
    folder = tmp_path_factory.mktemp("other place") / "second clone"
    git(clone, "clone", "--quiet", str(clone), str(folder))
    environment = {
        "PYTHONHASHSEED": "2",
        "TZ": "Asia/Tokyo",
        "LC_ALL": "C",
        "TMPDIR": str(tmp_path_factory.mktemp("temporary")),
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ",
        "LOCKSTEP_TEST_CORES": "1",
    }
    studies = small_studies()
    by_dvc = next(iter(studies), "")
    task = studies[by_dvc]["task"] if studies else next(iter(TASKS))
    rest = [other for other in reversed(TASKS) if other != task]
    call = f"run_stages({rest}, {[name for name in studies if name != by_dvc]})"
    for command in (
        ("-m", "dvc", "repro", f"evaluate@{task}", *(f"study@{name}" for name in studies if name == by_dvc)),
        ("-c", f"{inspect.getsource(run_stages)}\n{call}"),
        ("-m", "dvc", "commit", "--force", "--quiet"),
    ):
        done = python(*command, cwd=folder, **environment)
        assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture(scope="session")
def first_clone(finished: Callable[..., Path]) -> Path:
    """The clone after all tasks and studies and the report have run in this process."""
    first = finished(*TASKS)
    with contextlib.chdir(first), restored_settings():
        run_stages([], list(small_studies()))
    return first


@pytest.fixture(scope="session")
def clones(second_clone: Path, first_clone: Path) -> tuple[Path, Path]:
    """Two clones of different names in which everything has run, in two environments; DVC has recorded it."""
    with contextlib.chdir(first_clone), restored_settings():
        write_code_digests()
        assert dvc(["commit", "--force", "--quiet"]) == 0
    return first_clone, second_clone
