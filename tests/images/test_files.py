"""Pictures that are decoded in each epoch: the same images and weights with any number of workers."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningModule
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from src.core.errors import DataError
from src.images.files import PictureFiles
from src.images.pictures import Decoding
from tests.support import PowerFailureError, cli, power_failure

FOLDER = Path("photos")
CONFIGURATION = """
task: mine
portable: true
trainer: {max_epochs: 3}
model: tests.images.test_files.Linear
data:
  class_path: src.images.files.PictureFiles
  init_args: {folder: photos, size: 16, batch_size: 8, decoding: {background: black}}
"""


class Linear(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 16 * 16, 2)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, classes = batch
        return functional.cross_entropy(self.layer(images.flatten(1)), classes)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty pictures of two classes in the current folder, 40 x 30 or 30 x 40, and a configuration."""
    monkeypatch.chdir(tmp_path)
    chance = np.random.default_rng(0)
    for number in range(40):
        path = FOLDER / ("cat", "dog")[number % 2] / f"{number:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = ((30, 40, 3), (40, 30, 3))[number // 2 % 2]
        Image.fromarray(chance.integers(0, 256, size, dtype=np.uint8)).save(path)
    Path("params.yaml").write_text("tasks: {}\ntrusted: [tests]\n")
    Path("mine.yaml").write_text(CONFIGURATION)


def weights(*options: str) -> dict[str, Tensor]:
    assert cli("fit", "--config=mine.yaml", *options) == 0
    return load_file("models/mine/model.safetensors")


@pytest.mark.usefixtures("photos", "settings_of_the_process")
def test_workers_and_interruptions_change_no_weight(capsys: pytest.CaptureFixture[str]) -> None:
    expected = weights()
    for workers in (1, 2):
        options = [f"--data.num_workers={workers}", "--checkpoint_steps=1"]
        shutil.rmtree("models")
        if workers == 2:
            with power_failure(Linear, 6), pytest.raises(PowerFailureError):
                cli("fit", "--config=mine.yaml", *options)
            capsys.readouterr()
        found = weights(*options)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert "going on in epoch 2, after batch 2" in capsys.readouterr().out


@pytest.mark.usefixtures("photos")
def test_the_parts_are_all_pictures_with_the_shares_of_the_classes() -> None:
    data = PictureFiles(FOLDER, size=16)
    data.setup("fit")
    train = data.train
    data.setup("test")
    assert np.array_equal(data.train, train)
    parts = (data.train, data.validation, data.test)
    assert sorted(np.concatenate(parts)) == list(range(40))
    assert [np.bincount(data.target[part]).tolist() for part in parts] == [[14, 14], [2, 2], [4, 4]]


@pytest.mark.usefixtures("photos")
def test_an_evaluation_sees_the_middle_of_an_upright_picture() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (27, 18, 3), dtype=np.uint8)  # the shorter side of 16
    picture = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 90 degrees
    Path("new").mkdir()
    picture.transpose(Image.Transpose.ROTATE_90).save("new/lying.png", exif=exif)
    picture.convert("RGBA").save("new/upright.png")
    data = PictureFiles(FOLDER, size=16, pictures=Path("new"))
    data.setup("predict")
    ((images, files),) = data.predict_dataloader()
    assert list(files) == ["lying.png", "upright.png"]
    middle = torch.from_numpy(pixels[6:22, 1:17].copy()).permute(2, 0, 1) / 255
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    for image in images:
        torch.testing.assert_close(image, (middle - mean) / deviation)


@pytest.mark.usefixtures("photos")
def test_damaged_files_are_named_before_training() -> None:
    path = FOLDER / "cat" / "00.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    Path(FOLDER, "dog", "01.jpg").write_text("no picture")
    data = PictureFiles(FOLDER)
    with pytest.raises(
        DataError, match=r"2 of 40 pictures cannot be read: .*01\.jpg: .*00\.jpg: .*; replace"
    ):
        data.setup("fit")


@pytest.mark.usefixtures("photos")
def test_too_few_pictures_for_the_split_are_refused() -> None:
    for path in list(FOLDER.glob("cat/*"))[1:]:
        path.unlink()
    with pytest.raises(DataError, match="photos: too few pictures for the split: "):
        PictureFiles(FOLDER).setup("fit")


@pytest.mark.usefixtures("photos")
def test_the_range_of_deep_pictures_is_given() -> None:
    Path("new").mkdir()
    Image.fromarray(np.full((18, 18), 4095, dtype=np.uint16)).save("new/deep.png")
    data = PictureFiles(FOLDER, size=16, pictures=Path("new"), decoding=Decoding(grey_range=(0, 4095)))
    ((images, _),) = data.predict_dataloader()
    assert images.amax() == pytest.approx((1 - 0.406) / 0.225)
