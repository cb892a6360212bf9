"""Training with augmentation in a clone where the pipeline has run, whole and interrupted."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from src.cli import main

CONFIG = Path("configs/fashion_mnist.yaml")
BUNDLE = Path("models/fashion_mnist")
STEPS = 6


@pytest.fixture
def project(
    clones: tuple[Path, Path],
    settings_of_the_process: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The working folder is a clone that trains three short epochs with everything that draws numbers."""
    folder = tmp_path / "project"
    shutil.copytree(clones[0], folder, ignore=shutil.ignore_patterns(".git", ".dvc"))
    monkeypatch.chdir(folder)
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    config["checkpoint_seconds"] = 0
    config["portable"] = True  # one process trains all
    config["trainer"] = {"max_epochs": 3, "limit_train_batches": STEPS}
    config["model"]["init_args"] |= {
        "network": {"class_path": "src.images.networks.ConvNet", "init_args": {"width": 4, "dropout": 0.3}},
        "augmentation": {"flip": 0.5, "crop": 2, "rotation": 10.0, "erasing": 0.5, "noise": 0.1},
    }
    CONFIG.write_text(yaml.safe_dump(config), encoding="utf-8")


def fit(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Train; the manifest of the bundle."""
    monkeypatch.setattr(sys, "argv", ["src.cli", "fit", "--config", str(CONFIG)])
    main()
    return json.loads((BUNDLE / "manifest.json").read_text(encoding="utf-8"))


@pytest.mark.usefixtures("project")
def test_augmentation_changes_what_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    augmented = fit(monkeypatch)["tensors"]
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    del config["model"]["init_args"]["augmentation"]
    CONFIG.write_text(yaml.safe_dump(config), encoding="utf-8")
    assert fit(monkeypatch)["tensors"] != augmented
