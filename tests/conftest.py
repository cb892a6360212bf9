"""What all tests share: no network, no W&B, and clones of the project in which the pipeline has run."""

import src  # noqa: F401 - before torch and NumPy, since it chooses what they compute with

# isort: split
import inspect
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import yaml
from jsonargparse._common import parsing_settings

ROOT = Path(__file__).parents[1]
EPOCHS = 3
STUDIES = ("activations", "losses_with_outliers", "folds")
TARGETS = [f"evaluate@{task}" for task in ("house_prices", "fashion_mnist", "poems", "words", "bowl")]
TARGETS.append("study@losses_with_outliers")

PARSING = dict(parsing_settings)

Run = Callable[..., subprocess.CompletedProcess[str]]


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
    """Let the process see as many cores as a test says; in sitecustomize.py, too."""
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
    """What configurations may import as at the start, whatever other tests and their fixtures have chosen."""
    with mock.patch.dict(parsing_settings, PARSING, clear=True):
        yield


@pytest.fixture(autouse=True)
def interruption() -> Iterator[None]:
    """Ctrl-C interrupts, though a command that was interrupted switches that off for its process, and a
    shell for what it starts in the background.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def settings_of_the_process() -> Iterator[None]:
    """What a training changes in its process, put back."""
    interrupt, threads = signal.getsignal(signal.SIGINT), torch.get_num_threads()
    yield
    signal.signal(signal.SIGINT, interrupt)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


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


@pytest.fixture(scope="session")
def repro(python: Run) -> Callable[..., str]:
    """Run `dvc repro` in a clone, for some targets or all; its output."""

    def run(folder: Path, *targets: str, **environment: str) -> str:
        done = python("-m", "dvc", "repro", *targets, cwd=folder, **environment)
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, stdout=subprocess.PIPE)
    return done.stdout.decode()


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's files as they are now, committed in a folder of their own; nothing has run.

    The training is cut to a few epochs, the studies to a few small ones, and the pipeline's old results are
    left out.
    """
    folder = tmp_path_factory.mktemp("first")
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in sorted(set(listed) - {"", "dvc.lock"}):
        if (ROOT / name).is_file() and not name.startswith("reports/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    for path in (folder / "configs").glob("*.yaml"):
        configuration = yaml.safe_load(path.read_text(encoding="utf-8"))
        configuration["trainer"]["max_epochs"] = EPOCHS
        path.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    parameters = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    parameters["studies"] = {name: parameters["studies"][name] for name in STUDIES}
    for study in parameters["studies"].values():
        study["seeds"] = [1, 2]
        study["fixed"] = study.get("fixed", {}) | {"trainer.max_epochs": EPOCHS}
    parameters["studies"]["activations"]["grid"]["model.network.activation"] = ["relu", "tanh"]
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False), encoding="utf-8")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Start")
    return folder


@pytest.fixture(scope="session", autouse=True)
def runs(
    alone: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Path, Future[str]]]:
    """Two clones in which `dvc repro` runs while the tests that need no clone do, if any test needs them.

    They have other names, hash seeds, time zones, locales and temporary folders; the second, which runs some
    tasks and a study, sees one processor core, and an older processor where libraries ask the C library.
    """
    if not any("clones" in getattr(item, "fixturenames", ()) for item in request.session.items):
        yield {}
        return
    first, repro = request.getfixturevalue("clone"), request.getfixturevalue("repro")
    second = tmp_path_factory.mktemp("other place") / "second clone"
    git(first, "clone", "--quiet", str(first), str(second))
    other = {
        "PYTHONHASHSEED": "2",
        "TZ": "Asia/Tokyo",
        "LC_ALL": "C",
        "TMPDIR": str(tmp_path_factory.mktemp("temporary")),
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ",
        "LOCKSTEP_TEST_CORES": "1",
    }
    with ThreadPoolExecutor() as pool:
        yield {
            first: pool.submit(repro, first, PYTHONHASHSEED="1", TZ="UTC", LC_ALL="C.UTF-8"),
            second: pool.submit(repro, second, *TARGETS, **other),
        }


@pytest.fixture(scope="session")
def clones(runs: dict[Path, Future[str]]) -> tuple[Path, Path]:
    """Two clones of different names after `dvc repro`, the second one of a part."""
    for run in runs.values():
        run.result()
    first, second = runs
    return first, second


@pytest.fixture(scope="session", autouse=True)
def campaign(
    runs: dict[Path, Future[str]], request: pytest.FixtureRequest, python: Run
) -> Iterator[Future[str] | None]:
    """What benchmarks.kills says of a small campaign in the first clone, which runs while other tests do."""
    if not any(item.path.name == "test_kills.py" for item in request.session.items):
        yield None
        return
    first, *_ = runs

    def kill() -> str:
        for run in runs.values():
            run.result()
        options = ("--kills=3", "--seed=3", "--tasks=[line]", "--seconds=3")
        return python("-m", "benchmarks.kills", *options, cwd=first).stdout

    with ThreadPoolExecutor() as pool:
        yield pool.submit(kill)
