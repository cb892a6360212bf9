"""Two processes that SLURM or torchrun starts again end with the weights of an uninterrupted training."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from src.core.errors import ConfigurationError
from src.training.distributed import launched_by
from tests.support import free_port, slurm_variables

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
ARGUMENTS = (
    *("fit", "--config=configs/house_prices.yaml", "--trainer.accelerator=cpu", "--model.network.norm=none"),
    *("--trainer.max_epochs=2", "--trainer.limit_train_batches=8", "--checkpoint_seconds=0"),
    *("--trainer.devices=2", "--trainer.strategy=ddp"),
)
# A training that ends in its second epoch, unless it was started again: by SIGTERM to both processes, as by
# SLURM, or by the death of one of them.
PROGRAM = """
import os, signal
import src.cli
from src.tabular.model import TabularModel

src.cli.trial_by = lambda trainer: []  # a training of a few batches is kept here
step, steps = TabularModel.training_step, iter(range(12))
restarts = os.environ.get("SLURM_RESTART_COUNT") or os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")

def ends(self, *arguments):
    if "UNINTERRUPTED" not in os.environ and restarts == "0" and next(steps, None) is None:
        if "SLURM_JOB_ID" in os.environ:
            os.kill(os.getpid(), signal.SIGTERM)
        elif os.environ["RANK"] == "1":
            os._exit(9)
    return step(self, *arguments)

TabularModel.training_step = ends
if __name__ == "__main__":
    src.cli.main()
"""


def write_project(clone: Path, folder: Path) -> Path:
    """A folder with the code and the prepared data of a task, and the program above."""
    for part in ("src", "configs", "requirements.lock", "data/prepared/house_prices"):
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        (folder / part).symlink_to(clone / part)
    (folder / "program.py").write_text(PROGRAM)
    return folder


@pytest.fixture
def project(finished: Callable[..., Path], tmp_path: Path) -> Path:
    """A project of its own for a test."""
    return write_project(finished("house_prices"), tmp_path)


@pytest.fixture(scope="module")
def expected(
    finished: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory, python: Callable[..., Any]
) -> str:
    """The digest of the weights of an uninterrupted training."""
    folder = write_project(finished("house_prices"), tmp_path_factory.mktemp("uninterrupted"))
    done = python(*TORCHRUN, "program.py", *ARGUMENTS, cwd=folder, UNINTERRUPTED="1")
    assert done.returncode == 0, done.stdout
    return digest(folder)


def digest(folder: Path) -> str:
    """That of the weights of the bundle."""
    manifest = json.loads((folder / "models/house_prices/manifest.json").read_text(encoding="utf-8"))
    tensors: str = manifest["tensors"]
    return tensors


def slurm_job(folder: Path, **environment: str) -> tuple[list[int], str]:
    """Run two processes with the variables that srun sets, and a free port; their exit codes and output."""
    job = {"MASTER_PORT": free_port(), **environment}
    with (folder / "output.txt").open("wb") as output:
        tasks = [
            subprocess.Popen(
                [sys.executable, "program.py", *ARGUMENTS],
                cwd=folder,
                env=os.environ | slurm_variables(rank) | job,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            for rank in (0, 1)
        ]
        codes = [task.wait(timeout=240) for task in tasks]
    return codes, (folder / "output.txt").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.tasks("house_prices")
def test_a_requeued_slurm_job_goes_on_to_the_same_weights(project: Path, expected: str) -> None:
    codes, output = slurm_job(project)
    assert codes == [143, 143], output
    assert not (project / "models/house_prices").exists()
    codes, output = slurm_job(project, SLURM_RESTART_COUNT="1")
    assert codes == [0, 0], output
    assert "going on after epoch 1\n" in output
    assert digest(project) == expected


@pytest.mark.slow
@pytest.mark.tasks("house_prices")
def test_torchrun_starts_the_processes_again_after_the_death_of_one(
    project: Path, expected: str, python: Callable[..., Any]
) -> None:
    command = (*TORCHRUN, "--max-restarts=1", "program.py", *ARGUMENTS)
    done = python(*command, cwd=project, TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("going on after epoch 1\n") == 1
    assert digest(project) == expected


def test_restarts_in_which_processes_would_not_find_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    assert launched_by() is not None
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    with pytest.raises(
        ConfigurationError,
        match=r"^torchrun --max-restarts 3: .*; set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1, with --standalone",
    ):
        launched_by()
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "False")
    assert launched_by() is not None
