"""Pictures in shards, here and in another folder."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning import Trainer

from src.core.errors import ConfigurationError
from src.images.data import ImageData, load_split
from src.images.model import ImageModel
from src.images.prepare import Preparation, prepare
from tests.support import PowerFailureError, cli, power_failure, write_pictures

PREPARED = Path("data/prepared/photos")
IMAGES = "train_images.npy"
REMOTE = ("--data.remote.address=store", "--data.remote.cache=cache", "--data.remote.cache_bytes=1536")


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prepared task `photos`: 60 images of 192 bytes, those for training in 22 shards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("src.core.shards.SHARD_BYTES", 2 * 192)
    monkeypatch.setattr("src.training.loading.SHARDS_AT_ONCE", 4)
    write_pictures(Path("raw"), ["cat", "dog"], 60, 8, 8, 3)
    prepare(Path("raw"), Path("whole"), Preparation(train="."))
    monkeypatch.setattr("src.images.prepare.WHOLE_BYTES", 20 * 192)
    monkeypatch.setattr("src.images.data.WHOLE_BYTES", 20 * 192)
    prepare(Path("raw"), PREPARED, Preparation(train="."))


def configuration(**data: Any) -> dict[str, Any]:
    return {
        "task": "photos",
        "seed_everything": 1,
        "checkpoint_seconds": 0,
        "checkpoint_steps": 1,
        "trainer": {"max_epochs": 2, "accelerator": "cpu"},
        "data": {"class_path": "src.images.data.ImageData", "init_args": {"batch_size": 10, **data}},
        "model": {
            "class_path": "src.images.model.ImageModel",
            "init_args": {
                "network": {"class_path": "src.images.networks.ConvNet", "init_args": {"width": 4}},
                "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}},
            },
        },
    }


def trained(*options: str, last_step: int | None = None) -> tuple[dict[str, Any], list[str]]:
    """Train, or fail after `last_step` steps: the manifest of the bundle, and the names of runs."""
    Path("config.yaml").write_text(yaml.safe_dump(configuration()), encoding="utf-8")
    with power_failure(ImageModel, last_step):
        assert cli("fit", "--config", "config.yaml", *options) == 0
    manifest = json.loads(Path("models/photos/manifest.json").read_text(encoding="utf-8"))
    return manifest, sorted(path.name for path in Path("runs/photos").iterdir() if path.is_dir())


def upload() -> None:
    """Move the large array into a folder of its own."""
    Path("store").mkdir()
    (PREPARED / IMAGES).rename(Path("store", IMAGES))


def batches_of(processes: int = 1, start: int = 0, **data: Any) -> list[list[list[Any]]]:
    found = []
    for process in range(processes):
        module = ImageData(PREPARED, batch_size=10, order_seed=3, **data)
        module.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        loader = module.train_dataloader()
        loader.process, loader.processes, loader.start = process, processes, start
        found.append([[images.tolist(), codes.tolist()] for images, codes in loader])
    return found


def test_large_images_are_in_shards_and_in_random_order() -> None:
    assert not Path("whole/shards.json").exists()
    assert json.loads((PREPARED / "shards.json").read_text()).keys() == {IMAGES}
    before, after = load_split(Path("whole"), "train"), load_split(PREPARED, "train")
    assert isinstance(after[0].numpy().base, np.memmap) or after[0].shape == before[0].shape
    assert not torch.equal(before[1], after[1])
    pairs = [
        sorted(zip(images.flatten(1).tolist(), codes.tolist(), strict=True))
        for images, codes in (before, after)
    ]
    assert pairs[0] == pairs[1]
    for name in ("validation_images.npy", "test_target.npy", "preprocessing.json", "split.csv"):
        assert Path("whole", name).read_bytes() == (PREPARED / name).read_bytes()


def test_an_epoch_reads_some_shards_at_a_time() -> None:
    images, target = load_split(PREPARED, "train")
    row_of = {str(image): row for row, image in enumerate(images.tolist())}
    (alone,) = batches_of()
    order = [row_of[str(image)] for batch, _ in alone for image in batch]
    assert sorted(order) == list(range(43))
    assert target[order].tolist() == [code for _, codes in alone for code in codes]
    # windows of four shards with two rows each
    first = [row // 2 for row in order[:8]]
    assert len(set(first)) == 4
    assert not set(first) & {row // 2 for row in order[8:]}


def test_processes_and_a_resumed_epoch_have_the_same_batches() -> None:
    (alone,) = batches_of()
    first, second = batches_of(processes=2)
    shared = [a[0] + b[0] for a, b in zip(first, second, strict=True)]
    # the last batch of three is joined to the one before
    assert shared == [*[images for images, _ in alone[:3]], alone[3][0] + alone[4][0]]
    assert batches_of(start=2) == [alone[2:]]


@pytest.mark.usefixtures("settings_of_the_process")
def test_remote_images_give_the_same_weights_and_run() -> None:
    expected = trained()
    shutil.rmtree("models")
    shutil.rmtree("runs")
    upload()
    assert trained(*REMOTE) == expected
    assert sum(path.stat().st_size for path in Path("cache").iterdir()) <= 1536
    assert cli("test", "--config", "models/photos/config.yaml", *REMOTE) == 0


@pytest.mark.usefixtures("settings_of_the_process")
def test_a_training_goes_on_within_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    expected = trained()
    shutil.rmtree("models")
    shutil.rmtree("runs")
    with pytest.raises(PowerFailureError):
        trained(last_step=6)
    upload()  # and it goes on elsewhere
    capsys.readouterr()
    assert trained(*REMOTE) == expected
    assert "going on in epoch 2, after batch 1" in capsys.readouterr().out


@pytest.mark.usefixtures("settings_of_the_process")
def test_what_cannot_be_remote_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    upload()
    Path("config.yaml").write_text(yaml.safe_dump(configuration()), encoding="utf-8")
    assert cli("fit", "--config", "config.yaml") == 4
    assert "train_images.npy: sha256 no such file" in capsys.readouterr().err
    (PREPARED / "train_target.npy").rename("train_target.npy")
    assert cli("fit", "--config", "config.yaml", *REMOTE) == 4
    assert "train_target.npy: sha256 no such file" in capsys.readouterr().err
    Path("train_target.npy").rename(PREPARED / "train_target.npy")
    assert cli("fit", "--config", "config.yaml", "--data.balanced=true", *REMOTE) == 2
    assert "data.balanced: it draws from all shards" in capsys.readouterr().err
    shutil.rmtree(PREPARED)
    Path("whole").rename(PREPARED)
    assert cli("fit", "--config", "config.yaml", *REMOTE) == 2
    assert "is large enough to be in shards; leave it out" in capsys.readouterr().err


def test_balanced_images_in_shards_are_drawn_from_all_of_them() -> None:
    (found,) = batches_of(balanced=True)
    codes = [code for _, batch in found for code in batch]
    assert sorted(np.bincount(codes).tolist()) == [21, 22]
    with pytest.raises(ConfigurationError, match=r"leave data\.remote out"):
        batches_of(balanced=True, remote=object())
