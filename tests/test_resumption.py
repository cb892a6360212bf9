"""A training of each task that is interrupted in its third epoch ends with the weights of a whole one."""

import importlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from src.cli import main
from tests.support import PowerFailureError, power_failure

TASKS = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text(encoding="utf-8"))["tasks"]
STEPS = 6
# in addition to the networks, schedules and noise of the tasks
TRAINERS: dict[str, dict[str, Any]] = {
    "house_prices": {
        "accumulate_grad_batches": 2,
        "callbacks": [
            {
                "class_path": "lightning.pytorch.callbacks.EarlyStopping",
                "init_args": {"monitor": "validation/loss", "patience": 5},
            }
        ],
    },
    "poems": {"gradient_clip_val": 1},
}
MODELS: dict[str, dict[str, Any]] = {
    "house_prices": {
        "network": {
            "class_path": "src.training.networks.MLP",
            "init_args": {"hidden_sizes": [16], "norm": "batch", "dropout": 0.3},
        },
        "lr_interval": "epoch",
        "lr_scheduler": {
            "class_path": "lightning.pytorch.cli.ReduceLROnPlateau",
            # no epoch is good enough: the rate falls after each
            "init_args": {"monitor": "validation/loss", "patience": 0, "threshold": 1.0},
        },
    },
    "fashion_mnist": {
        "network": {"class_path": "src.images.networks.ConvNet", "init_args": {"width": 4, "dropout": 0.3}},
        "augmentation": {"flip": 0.5, "crop": 2, "rotation": 10.0, "erasing": 0.5, "noise": 0.1},
    },
}


def fit(task: str, last_step: int | None, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, int]:
    """Train, or fail after `last_step` steps; the manifest of the bundle and the number of steps."""
    monkeypatch.setattr(sys, "argv", ["src.cli", "fit", "--config", f"configs/{task}.yaml"])
    module, _, name = configuration(task)["model"]["class_path"].rpartition(".")
    with power_failure(getattr(importlib.import_module(module), name), last_step) as count:
        main()
    return json.loads(Path("models", task, "manifest.json").read_text(encoding="utf-8")), next(count)


def configuration(task: str) -> Any:
    return yaml.safe_load(Path("configs", f"{task}.yaml").read_text(encoding="utf-8"))


@pytest.mark.usefixtures("settings_of_the_process")
@pytest.mark.parametrize("task", TASKS)
def test_resumed_training_gives_the_same_weights(
    task: str,
    workspace: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(workspace(tmp_path, task))
    changed = configuration(task)
    changed["checkpoint_seconds"] = 0
    changed["portable"] = True  # one process trains all
    monkeypatch.setattr("src.cli.trial_by", lambda trainer: [])  # a few steps of a task are kept here
    limits = {"limit_train_batches": STEPS, "limit_val_batches": 2, "limit_test_batches": 2}
    changed["trainer"] = {"max_epochs": 3} | limits | TRAINERS.get(task, {})
    changed["model"]["init_args"] |= MODELS.get(task, {})
    Path("configs", f"{task}.yaml").write_text(yaml.safe_dump(changed), encoding="utf-8")

    shutil.rmtree("models")
    expected, steps = fit(task, None, monkeypatch)
    shutil.rmtree("models")
    with pytest.raises(PowerFailureError):
        fit(task, steps - steps // 6 - 1, monkeypatch)
    assert not Path("models", task).exists()
    capsys.readouterr()
    again, repeated = fit(task, None, monkeypatch)
    assert again == expected
    assert repeated == steps // 3
    assert "going on after epoch 2\n" in capsys.readouterr().out
