"""Raw images -> classes."""

import csv
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from src.core.errors import ConfigurationError
from src.images.model import ImageModel
from src.images.networks import LeNet
from src.images.predict import predict_pictures, write_classes
from src.images.preprocessing import Preprocessing


@pytest.fixture
def network(marks: None) -> tuple[ImageModel, Preprocessing]:
    """A network for the task `marks`, and its preprocessing."""
    learnt = Preprocessing.load(Path("data/prepared/marks"))
    torch.manual_seed(0)
    return ImageModel(learnt, LeNet).eval(), learnt  # type: ignore[arg-type]


def rows(path: str) -> list[list[str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_predictions_are_rows_of_name_class_and_probability(
    network: tuple[ImageModel, Preprocessing], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, learnt = network
    monkeypatch.setattr("src.images.data.EVALUATION_IMAGES", 7)
    assert write_classes(model, learnt, Path("raw/cross"), Path("new/out.csv")) == 30
    header, *found = rows("new/out.csv")
    assert header == ["id", "class", "probability"]
    names = sorted(f"{number}.png" for number in range(0, 60, 2))
    assert [row[0] for row in found] == names
    pixels = np.stack([np.asarray(Image.open(Path("raw/cross", name))) for name in names])
    with torch.inference_mode():
        expected = model(torch.from_numpy(pixels)[:, None]).softmax(dim=1)
    likeliest, codes = expected.max(dim=1)
    assert [row[1] for row in found] == [["circle", "cross"][code] for code in codes]
    assert [float(row[2]) for row in found] == pytest.approx(likeliest.tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("number", "text"), [(1.23e-7, "1.23e-07"), (0.1, "0.1"), (12.5, "12.5"), (3e9, "3e+09")]
)
def test_numbers_of_a_regression_keep_their_digits(
    network: tuple[ImageModel, Preprocessing], number: float, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, learnt = network
    learnt = replace(learnt, task="regression", prediction_columns=["id", "size"])
    monkeypatch.setattr("src.images.predict.probabilities", lambda model, images: torch.tensor([number]))
    write_classes(model, learnt, Path("raw/cross/0.png"), Path("out.csv"))
    assert rows("out.csv") == [["id", "size"], ["0.png", text]]


def test_two_prediction_columns_leave_the_probability_out(network: tuple[ImageModel, Preprocessing]) -> None:
    model, learnt = network
    learnt = replace(learnt, prediction_columns=["ImageId", "Label"])
    write_classes(model, learnt, Path("raw/cross/0.png"), Path("out.csv"))
    header, row = rows("out.csv")
    assert (header, row[0], len(row)) == (["ImageId", "Label"], "0.png", 2)


@pytest.mark.parametrize("names", [["id", "class", "probability"], ["ImageId", "Label"]])
def test_the_probabilities_of_all_classes_are_written_on_wish(
    names: list[str], network: tuple[ImageModel, Preprocessing]
) -> None:
    model, learnt = network
    learnt = replace(learnt, prediction_columns=names)
    write_classes(model, learnt, Path("raw/cross/0.png"), Path("out.csv"), all_probabilities=True)
    header, row = rows("out.csv")
    assert header == [*names, "probability_circle", "probability_cross"]
    pixels = torch.from_numpy(np.asarray(Image.open("raw/cross/0.png")).copy())[None, None]
    with torch.inference_mode():
        expected = model(pixels).softmax(dim=1)[0].tolist()
    assert [float(cell) for cell in row[-2:]] == pytest.approx(expected, abs=1e-6)
    table = predict_pictures(model, learnt, [Path("raw/cross/0.png")], all_probabilities=True)
    assert list(table) == header
    assert table.iloc[0, -2:].tolist() == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ConfigurationError, match="all_probabilities"):
        predict_pictures(model, replace(learnt, task="regression"), [], all_probabilities=True)


def test_a_failed_prediction_keeps_the_older_file(
    network: tuple[ImageModel, Preprocessing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.images.data.EVALUATION_IMAGES", 7)
    Path("out.csv").write_text("older")
    Path("raw/cross/58.png").write_bytes(b"no picture")
    with pytest.raises(Exception, match=r"58\.png: not a readable image"):
        write_classes(*network, Path("raw/cross"), Path("out.csv"))
    assert Path("out.csv").read_text() == "older"
    assert not list(Path().glob(".*partial"))


def test_converted_images_are_logged_once(
    network: tuple[ImageModel, Preprocessing],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("src.images.data.EVALUATION_IMAGES", 7)
    for name in ("0.jpg", "photo.jpg"):
        Image.new("RGB", (30, 20), "blue").save(f"raw/cross/{name}")
    with caplog.at_level(logging.WARNING):
        write_classes(*network, Path("raw/cross"))
    (message,) = [record.getMessage() for record in caplog.records]
    assert message == "raw/cross: 2 of 32 images were converted to 12 x 12 and grey, as in training"


def test_feature_maps_of_a_colour_photo_are_drawn(network: tuple[ImageModel, Preprocessing]) -> None:
    Image.new("RGB", (30, 20), "blue").save("photo.jpg")
    write_classes(*network, Path("photo.jpg"), Path("out.csv"), feature_maps=Path("maps.png"))
    with Image.open("maps.png") as picture:
        assert min(picture.size) > 300
        assert len(picture.convert("L").getcolors(10_000) or []) > 20
