import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.datasets import load_digits

from src.images.preprocessing import read_idx
from src.images.sample import write_sample

SAMPLES = Path(__file__).parents[2] / "data/samples"
SMALL: dict[str, Any] = {
    "seed": 3,
    "size": 12,
    "images": {"train": 20, "test": 10},
    "variation": {"shift": 0, "size": 0, "stretch": 0, "rotation": 0, "shade": 0, "noise": 0},
    "drawings": {
        "square": [{"polygon": [[2, 2], [10, 2], [10, 10], [2, 10]]}],
        "bar": [{"line": [[2, 6], [10, 6]], "width": 2, "shade": 0.4}],
    },
}


def draw(folder: Path, **changes: Any) -> Path:
    """Write the sample of a description; its folder."""
    folder.mkdir()
    (folder / "shapes.yaml").write_text(yaml.safe_dump(SMALL | changes, sort_keys=False), encoding="utf-8")
    write_sample(folder / "shapes.yaml", folder)
    return folder


def images(folder: Path) -> tuple[Any, Any]:
    parts = (read_idx(folder / f"train-{part}-ubyte.gz") for part in ("images-idx3", "labels-idx1"))
    first, second = parts
    return first, second


def test_shapes_are_drawn_as_described(tmp_path: Path) -> None:
    pixels, labels = images(draw(tmp_path / "a"))
    square, bar = pixels[labels == 0][0], pixels[labels == 1][0]
    assert (square[3:10, 3:10] == 255).all()
    assert square[:2].max() == square[11:].max() == 0
    assert bar[6, 4:9].tolist() == [102] * 5  # 0.4 of 255
    assert bar[5, 4:9].min() > 70  # the edge of the stroke
    assert bar[:4].max() == 0


@pytest.mark.parametrize("name", list(SMALL["variation"]))
def test_each_variation_makes_images_of_a_class_differ(tmp_path: Path, name: str) -> None:
    amount = 20 if name == "rotation" else 0.4
    pixels, labels = images(draw(tmp_path / "a", variation=SMALL["variation"] | {name: amount}))
    assert len({image.tobytes() for image in pixels[labels == 0]}) > 3


def test_without_variation_images_of_a_class_are_equal(tmp_path: Path) -> None:
    pixels, labels = images(draw(tmp_path / "a"))
    assert len({image.tobytes() for image in pixels[labels == 0]}) == 1


def test_a_shape_can_be_left_out_by_chance(tmp_path: Path) -> None:
    shapes = [*SMALL["drawings"]["square"], {"ellipse": [[4, 4], [8, 8]], "shade": 0, "chance": 0.5}]
    pixels, _ = images(draw(tmp_path / "a", drawings={"ring": shapes}))
    assert {int(image[6, 6]) for image in pixels} == {0, 255}


def test_bytes_repeat_and_follow_the_seed(tmp_path: Path) -> None:
    noisy = {"variation": SMALL["variation"] | {"noise": 0.3}}
    folders = [draw(tmp_path / str(number), **noisy, seed=seed) for number, seed in enumerate((3, 3, 4))]
    contents = [(folder / "train-images-idx3-ubyte.gz").read_bytes() for folder in folders]
    assert contents[0] == contents[1] != contents[2]
    assert contents[0][:10].hex() == "1f8b08000000000000ff"  # gzip without name, time or operating system


def test_the_garments_are_files_of_fashion_mnist(tmp_path: Path) -> None:
    write_sample(SAMPLES / "fashion_mnist.yaml", tmp_path)
    for prefix, count in (("train", 6000), ("t10k", 1000)):
        content = gzip.decompress((tmp_path / f"{prefix}-images-idx3-ubyte.gz").read_bytes())
        assert content[:16] == bytes.fromhex("00000803") + np.array([count, 28, 28], ">u4").tobytes()
        labels = read_idx(tmp_path / f"{prefix}-labels-idx1-ubyte.gz")
        assert np.bincount(labels).tolist() == [count // 10] * 10
        assert labels[:10].tolist() != sorted(labels[:10])
    pixels = read_idx(tmp_path / "train-images-idx3-ubyte.gz")
    assert len({image.tobytes() for image in pixels}) == 6000
    assert 20 < pixels.mean() < 120


def test_the_digits_are_those_of_scikit_learn(tmp_path: Path) -> None:
    write_sample(SAMPLES / "digits.yaml", tmp_path)
    with (tmp_path / "train.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["label", *(f"pixel{number}" for number in range(64))]
    digits = load_digits()
    values = np.array(rows, dtype=int)
    assert np.array_equal(values[:, 0], digits.target)
    assert np.array_equal(values[:, 1:], digits.data)


def hat(kind: str, points: Any, **keys: Any) -> dict[str, Any]:
    return {"drawings": {"hat": [{kind: points} | keys]}}


LINE = [[1, 1], [2, 2]]
STILL = SMALL["variation"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sede": 1}, "the description: does not take sede"),
        ({"seed": -1}, "seed: .* -1"),
        ({"size": 9.5}, "size: .* whole number, 1 or more, found 9.5"),
        ({"images": [3]}, "images: expected the keys test, train"),
        ({"images": {"train": 2}}, "images: lacks test"),
        ({"images": {"train": 2, "test": 2, "other": 2}}, "images: does not take other"),
        ({"images": {"train": "many", "test": 2}}, "images.train: .* 'many'"),
        ({"images": {"train": 2, "test": 3}}, "images.test: 3 is no multiple of the 2 classes"),
        ({"variation": {"shift": 1}}, "variation: lacks noise"),
        ({"variation": STILL | {"noise": float("nan")}}, "variation.noise: .* nan"),
        ({"variation": STILL | {"shade": 0.6}}, "variation.shade: .* 0 to 0.5, found 0.6"),
        ({"drawings": None}, "drawings: expected 1 to 256 classes"),
        ({"drawings": {}}, "drawings: expected 1 to 256 classes"),
        ({"drawings": {"hat": []}}, "drawings.hat: expected a list of shapes"),
        ({"drawings": {"hat": ["line"]}}, "drawings.hat, shape 1: expected one of"),
        (hat("star", LINE), "drawings.hat, shape 1: expected one of"),
        (hat("line", LINE, ellipse=LINE), "drawings.hat, shape 1: expected one of"),
        (hat("line", LINE, colour=1), "drawings.hat, shape 1: does not take colour"),
        (hat("ellipse", LINE, width=1), "drawings.hat, shape 1: does not take width"),
        (hat("line", 3), "drawings.hat, shape 1, line: expected a list of points"),
        (hat("line", ["ab", "cd"]), "drawings.hat, shape 1, line: expected a list of points"),
        (hat("line", [[1, 1, 1], [2, 2, 2]]), "drawings.hat, shape 1, line: expected a list of points"),
        (hat("line", [[1, None], [2, 2]]), "drawings.hat, shape 1, line: expected a list of points"),
        (hat("line", [[1, 1]]), "drawings.hat, shape 1, line: wrong number of points: 1"),
        (hat("polygon", LINE), "drawings.hat, shape 1, polygon: wrong number of points: 2"),
        (hat("ellipse", [*LINE, [3, 3]]), "drawings.hat, shape 1, ellipse: wrong number of points: 3"),
        (hat("line", LINE, width=0), "drawings.hat, shape 1, width: .* found 0"),
        (hat("line", LINE, shade="dark"), "drawings.hat, shape 1, shade: .* 'dark'"),
        (hat("line", LINE, chance=2), "drawings.hat, shape 1, chance: .* 0 to 1, found 2"),
    ],
    ids=json.dumps,
)
def test_mistakes_are_told_with_file_and_key(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=rf"shapes\.yaml: {named}"):
        draw(tmp_path / "a", **changes)
    assert not list((tmp_path / "a").glob("*.gz"))


def test_a_lacking_key_is_told(tmp_path: Path) -> None:
    (tmp_path / "shapes.yaml").write_text("drawings: {}\nseed: 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"shapes\.yaml: the description: lacks images, size, variation"):
        write_sample(tmp_path / "shapes.yaml", tmp_path)


def test_a_file_that_is_no_yaml_is_told(tmp_path: Path) -> None:
    (tmp_path / "shapes.yaml").write_text("drawings: [1", encoding="utf-8")
    with pytest.raises(ValueError, match=r"shapes\.yaml is no YAML"):
        write_sample(tmp_path / "shapes.yaml", tmp_path)


@pytest.mark.parametrize("text", ["dataset: letters", "", "[1]", "dataset: digits\nseed: 1"])
def test_other_descriptions_are_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "shapes.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"shapes\.yaml: expected `drawings`"):
        write_sample(tmp_path / "shapes.yaml", tmp_path)
