"""Training in two processes compared with training in one."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from lightning import LightningModule
from lightning.pytorch.utilities.exceptions import SIGTERMException
from numpy.typing import NDArray
from safetensors.numpy import load_file

from src.cli import main
from src.core.digests import write_manifest
from src.core.errors import ConfigurationError
from src.training.distributed import Termination
from src.training.loading import Batches
from tests.support import free_port, slurm_variables

pytestmark = [
    pytest.mark.slow,
    pytest.mark.tasks("house_prices", "fashion_mnist", "bowl", "digits", "poems", "words"),
]

TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node=2")
TWO = ("--trainer.devices=2", "--trainer.strategy=ddp")
ONE = ("--trainer.devices=1", "--trainer.strategy=auto")
# Several trainings, each in a folder of its own, in one start of the processes. One is interrupted in its
# second epoch and started again.
TRAININGS = """
import json, os, pathlib, signal
from unittest import mock
import pytest
import src.cli
from src.cli import main
from src.tabular.model import TabularModel

src.cli.trial_by = lambda trainer: []  # trainings of eight batches are kept here
step, steps = TabularModel.training_step, iter(range(12))

def terminated(self, *arguments):
    if next(steps, None) is None:
        os.kill(os.getpid(), signal.SIGTERM)
    return step(self, *arguments)

for folder, arguments in json.loads(pathlib.Path("trainings.json").read_text()).items():
    os.chdir(folder)
    if folder.endswith("cut off"):
        with mock.patch.object(TabularModel, "training_step", terminated):
            with pytest.raises(SystemExit, match="143"):
                main(arguments)
        assert not pathlib.Path("models/house_prices").exists()
    main(arguments)
"""
EVENLY = ("--trainer.max_epochs=2", "--trainer.limit_train_batches=8")
# batch norm and noise differ between the two halves of a batch and the whole batch
QUIET = {
    "house_prices": ("--model.network.norm=none", "--model.network.dropout=0"),
    "digits": (),
    "poems": ("--model.network.dropout=0", "--model.unknown_share=0"),
    "words": ("--model.network.dropout=0",),
}
WHOLE = {
    # a last batch of 27 rows, 117 rows to validate
    "house_prices": ("--trainer.max_epochs=2", "--log_gradient_norms=true"),
    "digits": ("--trainer.max_epochs=2", "--data.batch_size=101"),  # a last batch of 20 images
    "poems": ("--trainer.max_epochs=1", "--data.batch_size=9"),
    "words": ("--trainer.max_epochs=1", "--data.batch_size=65"),
}


def project(finished: Callable[..., Path], folder: Path, task: str) -> Path:
    """A folder with the code and the prepared data of a task, and results of its own."""
    clone = finished(task)
    for part in ("src", "configs", "requirements.lock", f"data/prepared/{task}"):
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        (folder / part).symlink_to(clone / part)
    return folder


def arguments(task: str, *options: str) -> list[str]:
    return ["fit", f"--config=configs/{task}.yaml", "--trainer.accelerator=cpu", *options]


def weights(folder: Path) -> tuple[dict[str, NDArray[Any]], str]:
    """Those of the one bundle in a project, and their digest."""
    (bundle,) = (folder / "models").iterdir()
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    return load_file(bundle / "model.safetensors"), manifest["tensors"]


def metrics(folder: Path) -> dict[str, float]:
    """Those of the one training in a project."""
    (record,) = folder.glob("runs/*/*/run.json")
    return json.loads(record.read_text(encoding="utf-8"))["metrics"]


@pytest.fixture(scope="module")
def by_two(
    finished: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory, python: Callable[..., Any]
) -> Path:
    """A folder with one project for each training; two processes, started by torchrun, have trained them."""
    folder = tmp_path_factory.mktemp("by two")
    options = {
        "evenly": arguments("house_prices", "--model.network.norm=none", *EVENLY),
        "cut off": arguments("house_prices", "--model.network.norm=none", *EVENLY, "--checkpoint_seconds=0"),
        "evenly images": arguments("fashion_mnist", *EVENLY),
        "bowl": arguments("bowl", "--trainer.max_epochs=3"),
    }
    options |= {task: arguments(task, *QUIET[task], *WHOLE[task]) for task in WHOLE}
    tasks = {"evenly": "house_prices", "cut off": "house_prices", "evenly images": "fashion_mnist"}
    for name in options:
        project(finished, folder / name, tasks.get(name, name))
    # one image and one document to validate: less than there are processes
    for task, names in {"digits": ("images", "target"), "poems": ("offsets",)}.items():
        cut = folder / task / "data/prepared" / task
        cut.unlink()
        cut.mkdir()
        for path in (finished(task) / "data/prepared" / task).iterdir():
            (cut / path.name).symlink_to(path)
        for name in names:
            path = cut / f"validation_{name}.npy"
            array = np.load(path)
            path.unlink()
            np.save(path, array[: 1 + (name == "offsets")])
        (cut / "manifest.json").unlink()
        write_manifest(cut)
    trainings = {str(folder / name): [*options[name], *TWO] for name in options}
    (folder / "trainings.json").write_text(json.dumps(trainings))
    (folder / "trainings.py").write_text(TRAININGS)
    path = os.pathsep.join([str(finished()), os.environ["PYTHONPATH"]])
    done = python("-m", *TORCHRUN, "trainings.py", cwd=folder, PYTHONPATH=path)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("going on after epoch 1\n") == 1  # printed by one of them
    return folder


@pytest.fixture
def fit(
    finished: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings_of_the_process: None,
) -> Callable[..., Path]:
    """Train in this process; the project's folder."""

    def train(task: str, *options: str, data: Path | None = None) -> Path:
        project(finished, tmp_path, task)
        if data is not None:
            (tmp_path / "data/prepared" / task).unlink()
            (tmp_path / "data/prepared" / task).symlink_to(data)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("src.cli.trial_by", lambda trainer: [])
        main(arguments(task, *options))
        return tmp_path

    return train


@pytest.mark.parametrize(
    ("name", "task", "options"),
    [("evenly", "house_prices", ("--model.network.norm=none",)), ("evenly images", "fashion_mnist", ())],
)
def test_two_processes_give_the_bits_of_one_that_accumulates_two_batches(
    name: str, task: str, options: tuple[str, ...], by_two: Path, fit: Callable[..., Path]
) -> None:
    doubled = ("--trainer.accumulate_grad_batches=2", "--trainer.limit_train_batches=16")
    alone = fit(task, *options, "--trainer.max_epochs=2", "--data.batch_size=64", *doubled)
    assert weights(by_two / name)[1] == weights(alone)[1]


def test_two_processes_go_on_to_the_same_weights(by_two: Path) -> None:
    assert weights(by_two / "cut off")[1] == weights(by_two / "evenly")[1]
    assert metrics(by_two / "cut off") == metrics(by_two / "evenly")


@pytest.mark.parametrize("task", WHOLE)
def test_two_processes_agree_with_one(
    task: str, by_two: Path, fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = by_two / task
    alone = fit(task, *QUIET[task], *WHOLE[task], data=folder / "data/prepared" / task)
    one, two = weights(alone)[0], weights(folder)[0]
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-4, atol=1e-6, err_msg=name)
    found = metrics(folder)
    assert metrics(alone) == pytest.approx(found, rel=1e-4)

    # the same weights, judged by one process
    monkeypatch.chdir(folder)
    for command in ("validate", "test"):
        trainer = main([command, f"--config=models/{task}/config.yaml", *ONE]).trainer
        judged = {key: float(value) for key, value in trainer.callback_metrics.items()}
        assert judged == pytest.approx({key: found[key] for key in judged}, rel=1e-6)


def test_a_point_slides_down_the_same_way(by_two: Path, fit: Callable[..., Path]) -> None:
    alone = fit("bowl", "--trainer.max_epochs=3")
    assert weights(by_two / "bowl")[1] == weights(alone)[1]
    assert metrics(by_two / "bowl") == metrics(alone)


def start(folder: Path, *command: str, **environment: str) -> subprocess.Popen[bytes]:
    """Start `command` in a project; its output goes to a file there."""
    with (folder / "output.txt").open("ab") as output:
        streams: dict[str, Any] = {"stdout": output, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, cwd=folder, env=os.environ | environment, **streams)


def wait_for(pattern: str, folder: Path, processes: list[subprocess.Popen[bytes]]) -> None:
    """Wait for a file that is not empty, while all processes run."""
    while not any(path.stat().st_size for path in folder.glob(pattern)):
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                assert process.wait(timeout=0.1) is None, (folder / "output.txt").read_text()


def endless(*options: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "src.cli",
        *arguments("house_prices", "--trainer.max_epochs=100000", *options),
    ]


def test_the_death_of_one_process_ends_the_other(finished: Callable[..., Path], tmp_path: Path) -> None:
    project(finished, tmp_path, "house_prices")
    first = start(tmp_path, *endless(*TWO))
    wait_for("runs/house_prices/*/history.csv", tmp_path, [first])
    (second,) = psutil.Process(first.pid).children()
    second.kill()
    assert first.wait(timeout=60) != 0
    assert not (tmp_path / "models/house_prices").exists()


def test_slurm_starts_one_run_and_ends_all_processes_with_143(
    finished: Callable[..., Path], tmp_path: Path
) -> None:
    project(finished, tmp_path, "house_prices")
    job = {"MASTER_PORT": free_port(), "WANDB_MODE": "offline"}
    command = endless(*TWO, "--checkpoint_seconds=0")
    tasks = [start(tmp_path, *command, **job, **slurm_variables(rank)) for rank in (0, 1)]
    wait_for("runs/house_prices/*/last.ckpt", tmp_path, tasks)
    for task in tasks:
        task.terminate()
    codes = [task.wait(timeout=60) for task in tasks]
    output = (tmp_path / "output.txt").read_text()
    assert codes == [143, 143], output
    assert len(list(tmp_path.glob("runs/wandb/**/run-*.wandb"))) == 1, output
    assert len(list(tmp_path.glob("runs/house_prices/*/last.ckpt"))) == 1
    assert not (tmp_path / "models").exists() or not list((tmp_path / "models").iterdir())


@pytest.fixture
def nodes() -> Iterator[list[str]]:
    """Two network namespaces that see each other alone, as 10.0.0.1 and 10.0.0.2."""

    def ip(*words: str) -> None:
        done = subprocess.run(["ip", *words], stderr=subprocess.PIPE, text=True)
        if done.returncode:
            pytest.skip(f"no network namespaces: {done.stderr.strip()}")

    if shutil.which("ip") is None:
        pytest.skip("no network namespaces: there is no command ip")
    names = [f"lockstep-{os.getpid()}-{number}" for number in (0, 1)]
    try:
        for name in names:
            ip("netns", "add", name)
            ip("netns", "exec", name, "true")
        ends = [word for name in names for word in ("name", "veth", "netns", name)]
        ip("link", "add", *ends[:4], "type", "veth", "peer", *ends[4:])
        for number, name in enumerate(names, start=1):
            ip("-netns", name, "address", "add", f"10.0.0.{number}/24", "dev", "veth")
            for device in ("lo", "veth"):
                ip("-netns", name, "link", "set", device, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL)


def test_two_nodes_give_the_bits_of_two_processes(
    nodes: list[str], by_two: Path, finished: Callable[..., Path], tmp_path: Path
) -> None:
    project(finished, tmp_path, "house_prices")
    options = ("--model.network.norm=none", *EVENLY, "--trainer.num_nodes=2", *TWO[1:], "--trainer.devices=1")
    program = "import src.cli; src.cli.trial_by = lambda trainer: []; src.cli.main()"
    command = [sys.executable, "-c", program, *arguments("house_prices", *options)]
    network = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", "GLOO_SOCKET_IFNAME": "veth"}
    running = [
        start(tmp_path, "ip", "netns", "exec", name, *command, **network, NODE_RANK=str(rank))
        for rank, name in enumerate(nodes)
    ]
    try:
        assert [process.wait(timeout=120) for process in running] == [0, 0], (
            tmp_path / "output.txt"
        ).read_text()
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert weights(tmp_path)[1] == weights(by_two / "evenly")[1]
    assert metrics(tmp_path) == metrics(by_two / "evenly")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"TORCHELASTIC_RUN_ID": "1", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}, "world size (2)"),
        ({"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}, "Set `devices=2`"),
        ({"SLURM_NTASKS": "2"}, "Use `--ntasks-per-node=2`"),
    ],
)
def test_another_number_of_processes_than_were_started_is_refused(
    environment: dict[str, str], message: str, fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"} | environment
    ).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        fit("house_prices")


def test_batches_too_small_for_all_processes_are_refused() -> None:
    assert len(list(Batches((torch.arange(3),), 3, seed=1, process=1, processes=3))) == 1
    with pytest.raises(
        ConfigurationError, match=r"^data\.batch_size: 4 processes cannot share a batch of 3 rows$"
    ):
        Batches((torch.arange(9),), 3, seed=1, processes=4)


def test_termination_goes_on_to_the_processes_that_were_started(settings_of_the_process: None) -> None:
    sent: list[int] = []
    before = signal.getsignal(signal.SIGTERM)
    trainer: Any = SimpleNamespace(
        world_size=2, strategy=SimpleNamespace(launcher=SimpleNamespace(kill=sent.append))
    )
    try:
        Termination().on_train_start(trainer, LightningModule())
        with pytest.raises(SIGTERMException):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # a second one does not disturb the end
    finally:
        signal.signal(signal.SIGTERM, before)
    assert sent == [signal.SIGTERM]
