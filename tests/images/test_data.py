from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from src.core.errors import ConfigurationError
from src.images.data import ImageData, load_split
from src.images.preprocessing import Preprocessing

PREPARED = Path("data/prepared/marks")


def data(**settings: Any) -> ImageData:
    """The data module with a trainer of one process on the CPU."""
    module = ImageData(PREPARED, **settings)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    trainer = SimpleNamespace(global_rank=0, world_size=1, strategy=strategy)
    module.trainer = trainer  # type: ignore[assignment]
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
