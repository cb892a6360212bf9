"""Training in two processes against training in one."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

BUNDLE = Path("models/house_prices")


@pytest.fixture
def fit(clones: tuple[Path, Path], tmp_path: Path, python: Callable[..., Any]) -> Callable[..., Any]:
    """Train house_prices for two epochs of eight batches; the weights, and their digest."""

    def run(name: str, *options: str) -> tuple[dict[str, NDArray[Any]], str]:
        folder = tmp_path / name
        for part in ("src", "configs", "requirements.lock", "data/prepared/house_prices"):
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            (folder / part).symlink_to(clones[0] / part)
        # batch norm looks at the part of the batch that a process has
        settings = ["--trainer.accelerator=cpu", "--trainer.max_epochs=2", "--model.norm=null", *options]
        done = python(
            *("-m", "src.cli", "fit", "--config", "configs/house_prices.yaml", *settings), cwd=folder
        )
        assert done.returncode == 0, done.stdout
        manifest = json.loads((folder / BUNDLE / "manifest.json").read_text(encoding="utf-8"))
        return load_file(folder / BUNDLE / "model.safetensors"), manifest["tensors"]

    return run


TWO = ("--trainer.devices=2", "--trainer.strategy=ddp")


def test_two_processes_give_the_bits_of_one_that_accumulates_two_batches(fit: Callable[..., Any]) -> None:
    _, together = fit("two", *TWO, "--trainer.limit_train_batches=8")
    options = ("--trainer.accumulate_grad_batches=2", "--trainer.limit_train_batches=16")
    _, alone = fit("one", "--data.batch_size=64", *options)
    assert together == alone


def test_two_processes_agree_with_one(fit: Callable[..., Any]) -> None:
    # dropout draws other noise for two halves of a batch than for the whole
    options = ("--model.dropout=0", "--trainer.limit_train_batches=8")
    two, _ = fit("two", *TWO, *options)
    one, _ = fit("one", *options)
    for name, weights in one.items():
        np.testing.assert_allclose(two[name], weights, rtol=1e-4, atol=1e-6)


def test_the_death_of_one_process_ends_the_other(clones: tuple[Path, Path], tmp_path: Path) -> None:
    for part in ("src", "configs", "requirements.lock", "data/prepared/house_prices"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / part).symlink_to(clones[0] / part)
    options = ("--trainer.accelerator=cpu", "--trainer.max_epochs=100000", *TWO)
    first = subprocess.Popen(
        [sys.executable, "-m", "src.cli", "fit", "--config", "configs/house_prices.yaml", *options],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # until an epoch has ended
    while not any(path.stat().st_size for path in tmp_path.glob("runs/house_prices/*/history.csv")):
        with contextlib.suppress(subprocess.TimeoutExpired):
            assert first.wait(timeout=0.1) is None
    (second,) = psutil.Process(first.pid).children()
    second.kill()
    assert first.wait(timeout=60) != 0
    assert not (tmp_path / BUNDLE).exists()
