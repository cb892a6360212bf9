"""What several tests do: call a command line in this process, cut a training off, write and read folders."""

import itertools
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from src.cli import main
from src.core.errors import exit_with_message


def ended(function: Callable[..., object], *arguments: Any, **options: Any) -> Any:
    """The exit code of a function that is called as a command line."""
    try:
        exit_with_message(lambda: function(*arguments, **options))
    except SystemExit as stopped:
        return stopped.code
    return 0


def cli(*arguments: str) -> Any:
    """Run `python -m src.cli ...` in this process; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["src.cli", *arguments])
        return ended(main)


class PowerFailureError(Exception):
    pass


@contextmanager
def power_failure(model: type[Any], steps: int | None) -> Iterator["itertools.count[int]"]:
    """Let a training fail within the step after the first `steps`, or not at all where that is None.

    Yields:
        A counter, whose next number is that of the steps so far.
    """
    step, count = model.training_step, itertools.count()

    def counted(self: Any, *arguments: Any) -> Any:
        if next(count) == steps:
            raise PowerFailureError
        return step(self, *arguments)

    with mock.patch.object(model, "training_step", counted):
        yield count


def require_same_weights(model: type[Any], steps: int) -> dict[str, torch.Tensor]:
    """Train by mine.yaml at once, and with a power failure after some steps; the weights, which are equal."""
    weights = []
    for failure in (None, steps):
        for folder in ("models", "runs"):
            shutil.rmtree(folder, ignore_errors=True)
        if failure is not None:
            with power_failure(model, failure), pytest.raises(PowerFailureError):
                cli("fit", "--config=mine.yaml")
        assert cli("fit", "--config=mine.yaml") == 0
        weights.append(load_file("models/mine/model.safetensors"))
    whole, resumed = weights
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    return whole


def write_pictures(folder: Path, classes: Sequence[str], *shape: int) -> None:
    """Write random pictures (N, H, W) or (N, H, W, 3) as PNG files, in turn to a folder for each class."""
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for number, value in enumerate(values):
        path = folder / classes[number % len(classes)] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(value).save(path)


def contents(*folders: Path) -> dict[str, bytes]:
    """Every file below some folders, hidden ones too."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files}


def slurm_variables(rank: int) -> dict[str, str]:
    """The variables that srun sets for one of two processes on a machine, but for MASTER_PORT."""
    return {
        "SLURM_JOB_ID": "1234",
        "SLURM_JOB_NAME": "lockstep",
        "SLURM_NODELIST": "127.0.0.1",
        "SLURM_NNODES": "1",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NODEID": "0",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
    }


def free_port() -> str:
    """A port of this machine that nothing uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def address_of(cluster: Any) -> str:
    """That of the head; the tests may not connect to another one than the loopback's."""
    return f"127.0.0.1:{cluster.address.rpartition(':')[2]}"


def wait_for(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds."""
    last = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < last
        time.sleep(0.02)
