from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer

from src.core.errors import ConfigurationError
from src.images.data import ImageData, images_at_once, load_split
from src.images.preprocessing import Preprocessing

PREPARED = Path("data/prepared/marks")


def data(**settings: Any) -> ImageData:
    """The data module with a trainer of one process on the CPU."""
    module = ImageData(PREPARED, **settings)
    module.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    return module


@pytest.mark.usefixtures("marks")
def test_batches_are_bytes_with_their_classes() -> None:
    images, target = load_split(PREPARED, "train")
    known = {image.numpy().tobytes(): int(code) for image, code in zip(images, target, strict=True)}
    batches = list(data(batch_size=16, order_seed=3).train_dataloader())
    assert [len(batch[0]) for batch in batches] == [16, 16, 11]
    for pixels, codes in batches:
        assert (pixels.dtype, pixels.shape[1:], codes.dtype) == (torch.uint8, (1, 12, 12), torch.int64)
        assert [known[image.numpy().tobytes()] for image in pixels] == codes.tolist()


@pytest.mark.usefixtures("marks")
@pytest.mark.parametrize("split", ["validation", "test"])
def test_evaluation_keeps_the_order_of_the_images(split: str) -> None:
    module = data()
    loader = module.val_dataloader() if split == "validation" else module.test_dataloader()
    assert torch.equal(torch.cat([images for images, _ in loader]), load_split(PREPARED, split)[0])


@pytest.mark.usefixtures("marks")
def test_the_preprocessing_is_that_of_the_prepared_data() -> None:
    assert data().preprocessing == Preprocessing.load(PREPARED)
    assert data().preprocessing.classes == ["circle", "cross"]


def test_missing_data_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"dvc repro prepare@marks"):
        ImageData(PREPARED)


@pytest.mark.usefixtures("marks")
def test_a_memory_map_gives_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [list(loader) for loader in loaders()]
    monkeypatch.setattr("src.images.data.WHOLE_BYTES", 0)
    mapped = [list(loader) for loader in loaders()]
    for some, others in zip(whole, mapped, strict=True):
        for batch, other in zip(some, others, strict=True):
            assert all(map(torch.equal, batch, other))


def loaders() -> list[Any]:
    module = data(batch_size=16, order_seed=3)
    return [module.train_dataloader(), module.val_dataloader(), module.test_dataloader()]


@pytest.mark.usefixtures("marks")
def test_a_memory_map_is_not_read_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[Any] = []
    load = np.load
    monkeypatch.setattr(np, "load", lambda path, **options: modes.append(options) or load(path, **options))
    load_split(PREPARED, "train")
    monkeypatch.setattr("src.images.data.WHOLE_BYTES", 0)
    load_split(PREPARED, "train")
    assert [mode.get("mmap_mode") for mode in modes] == [None, None, "c", None]


def test_large_images_are_evaluated_in_smaller_batches() -> None:
    assert [images_at_once(side, side) for side in (28, 64, 224, 4000)] == [500, 500, 40, 1]


@pytest.mark.usefixtures("marks")
def test_a_balanced_order_has_each_class_alike_often() -> None:
    codes = np.load(PREPARED / "train_target.npy")
    codes[3:] = 0
    codes[:3] = 1
    np.save(PREPARED / "train_target.npy", codes)
    drawn = torch.cat([codes for _, codes in data(balanced=True).train_dataloader()])
    assert sorted(drawn.bincount().tolist()) == [21, 22]
    in_order = torch.cat([codes for _, codes in data(balanced=True).val_dataloader()])
    assert torch.equal(in_order, load_split(PREPARED, "validation")[1])
