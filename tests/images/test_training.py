"""Training with augmentation in a clone where the pipeline has run, whole and interrupted."""

import contextlib
import json
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from src.cli import main
from src.images.model import ImageModel

CONFIG = Path("configs/fashion_mnist.yaml")
BUNDLE = Path("models/fashion_mnist")
STEPS = 6


class PowerFailureError(Exception):
    pass


@pytest.fixture(autouse=True)
def settings_of_the_process() -> Iterator[None]:
    """What a run changes in its process, put back."""
    interrupt, threads = signal.getsignal(signal.SIGINT), torch.get_num_threads()
    yield
    signal.signal(signal.SIGINT, interrupt)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def project(clones: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder is a clone that trains three short epochs with everything that draws numbers."""
    folder = tmp_path / "project"
    shutil.copytree(clones[0], folder, ignore=shutil.ignore_patterns(".git", ".dvc"))
    monkeypatch.chdir(folder)
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    config["checkpoint_seconds"] = 0
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
def test_augmented_training_goes_on_to_the_same_weights(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = fit(monkeypatch)
    shutil.rmtree(BUNDLE)
    step, done = ImageModel.training_step, iter(range(2 * STEPS + 3))

    def failing(self: ImageModel, *arguments: Any) -> Any:
        if next(done, None) is None:
            raise PowerFailureError
        return step(self, *arguments)

    with monkeypatch.context() as patch, contextlib.suppress(PowerFailureError):
        patch.setattr(ImageModel, "training_step", failing)
        fit(monkeypatch)
    assert not BUNDLE.exists()
    assert fit(monkeypatch) == expected
    assert "going on after epoch 2\n" in capsys.readouterr().out


@pytest.mark.usefixtures("project")
def test_augmentation_changes_what_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    augmented = fit(monkeypatch)["tensors"]
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    del config["model"]["init_args"]["augmentation"]
    CONFIG.write_text(yaml.safe_dump(config), encoding="utf-8")
    assert fit(monkeypatch)["tensors"] != augmented
