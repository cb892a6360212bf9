import gzip
import json
import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from src.core.errors import ConfigurationError, DataError
from src.images.prepare import Preparation, prepare
from src.images.preprocessing import Preprocessing, read_inputs
from src.images.propose import propose
from src.preparation.proposals import plain
from tests.support import contents

Pixels = NDArray[np.uint8]
IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


def some(count: int, classes: int = 2, side: int = 4, seed: int = 0) -> tuple[Pixels, Pixels]:
    """Images (count, side, side) and labels (count,), classes equally often."""
    images = np.random.default_rng(seed).integers(0, 256, (count, side, side), dtype=np.uint8)
    return images, (np.arange(count) % classes).astype(np.uint8)


def idx(values: Pixels) -> bytes:
    return bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.tobytes()


def packed(values: Pixels) -> bytes:
    return gzip.compress(idx(values))


def write_idx(folder: Path, images: Pixels, labels: Pixels, prefix: str = "train") -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(packed(images))
    (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(packed(labels))


def write_csv(path: Path, images: Pixels, labels: Pixels | None = None, first: int = 0) -> None:
    flat = images.reshape(len(images), -1)
    names = [f"pixel{number}" for number in range(first, first + flat.shape[1])]
    rows = [list(map(str, row)) for row in flat]
    if labels is not None:
        names.insert(0, "label")
        rows = [[str(label), *row] for label, row in zip(labels, rows, strict=True)]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(",".join(row) for row in [names, *rows]) + "\n", encoding="utf-8")


def write_pictures(folder: Path, **classes: list[Image.Image]) -> None:
    for name, pictures in classes.items():
        (folder / name).mkdir(parents=True)
        for number, picture in enumerate(pictures):
            picture.save(folder / name / f"{number}.png")


def grey(count: int, size: tuple[int, int] = (4, 4), seed: int = 0) -> list[Image.Image]:
    values = np.random.default_rng(seed).integers(0, 256, (count, *size[::-1]), dtype=np.uint8)
    return [Image.fromarray(value) for value in values]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder with 40 images of two classes in idx files."""
    write_idx(tmp_path / "raw", *some(40))
    return tmp_path / "raw"


def prepared(raw: Path, **settings: Any) -> Path:
    """Prepare with settings; the folder of the arrays."""
    folder = raw.parent / "prepared"
    prepare(raw, folder, Preparation(**{"train": IMAGES, **settings}))
    return folder


def arrays(folder: Path, split: str) -> tuple[Any, Any]:
    return np.load(folder / f"{split}_images.npy"), np.load(folder / f"{split}_target.npy")


def test_arrays_keep_each_image_with_its_label(raw: Path) -> None:
    images, labels = some(40)
    folder = prepared(raw)
    known = {image.tobytes(): int(label) for image, label in zip(images, labels, strict=True)}
    seen = []
    for split, count in (("train", 28), ("validation", 4), ("test", 8)):
        pixels, target = arrays(folder, split)
        assert (pixels.dtype, pixels.shape, target.dtype) == (np.uint8, (count, 1, 4, 4), np.int64)
        assert [known[image.tobytes()] for image in pixels] == target.tolist()
        assert np.bincount(target).tolist() == [count // 2, count // 2]
        seen += [image.tobytes() for image in pixels]
    assert sorted(seen) == sorted(known)
    assert (folder / "sheet.png").is_file()
    lines = (folder / "split.csv").read_text().splitlines()
    assert lines[0] == "row,split"
    assert [line.split(",")[0] for line in lines[1:]] == [str(row) for row in range(40)]


def test_the_split_follows_the_seed(raw: Path) -> None:
    splits = [(prepared(raw, seed=seed) / "split.csv").read_bytes() for seed in (1, 1, 2)]
    assert splits[0] == splits[1] != splits[2]


def test_the_official_test_part_is_the_test_set(raw: Path) -> None:
    images, labels = some(10, seed=9)
    write_idx(raw, images, labels, "t10k")
    folder = prepared(raw, test="t10k-images-idx3-ubyte.gz")
    assert np.array_equal(arrays(folder, "test")[0][:, 0], images)
    assert np.array_equal(arrays(folder, "test")[1], labels)
    assert len(arrays(folder, "train")[0]) + len(arrays(folder, "validation")[0]) == 40
    assert ",test" not in (folder / "split.csv").read_text()


@pytest.mark.parametrize("first", [0, 1], ids=["digit recognizer", "fashion"])
def test_pixel_csv_is_read_as_the_same_images(raw: Path, first: int) -> None:
    expected = contents(prepared(raw))
    write_csv(raw / "train.csv", *some(40), first=first)
    assert contents(prepared(raw, train="train.csv")) == expected


def test_the_size_comes_from_the_data(raw: Path) -> None:
    write_csv(raw / "train.csv", *some(40, side=8))
    folder = prepared(raw, train="train.csv")
    assert Preprocessing.load(folder).shape == (1, 8, 8)
    folder = prepared(raw, train="train.csv", resize=6)
    assert Preprocessing.load(folder).shape == (1, 6, 6)
    assert arrays(folder, "train")[0].shape[1:] == (1, 6, 6)


def test_class_folders_are_classes(tmp_path: Path) -> None:
    write_pictures(tmp_path / "raw", dog=grey(10, seed=1), cat=grey(10, seed=2))
    (tmp_path / "raw" / ".hidden").mkdir()
    folder = prepared(tmp_path / "raw", train=".")
    assert Preprocessing.load(folder).classes == ["cat", "dog"]
    cats = {np.asarray(picture).tobytes() for picture in grey(10, seed=2)}
    pixels, target = arrays(folder, "train")
    assert [image.tobytes() in cats for image in pixels] == (target == 0).tolist()


def test_one_colour_picture_makes_all_colour_and_resize_makes_the_sizes_equal(tmp_path: Path) -> None:
    red = Image.new("RGB", (9, 6), "red")
    write_pictures(tmp_path / "raw", a=[*grey(9), red], b=grey(10, (5, 7)))
    with pytest.raises(DataError, match=r"9\.png: 9 x 6 pixels, 0\.png has 4 x 4; set prepare\.resize"):
        prepared(tmp_path / "raw", train=".")
    folder = prepared(tmp_path / "raw", train=".", resize=5)
    assert Preprocessing.load(folder).shape == (3, 5, 5)
    pixels = np.concatenate([arrays(folder, split)[0] for split in ("train", "validation", "test")])
    assert sum((image == np.array([255, 0, 0])[:, None, None]).all() for image in pixels) == 1


def test_transparent_pixels_become_white(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    write_pictures(tmp_path / "raw", a=[clear] * 10, b=grey(10))
    pixels, target = arrays(prepared(tmp_path / "raw", train="."), "train")
    assert (pixels[target == 0] == 255).all()


def test_picture_files_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path / "raw", a=grey(10), b=grey(10, seed=1))
    decoded: list[Any] = []
    start = PngImagePlugin.PngImageFile.load_prepare

    def counted(file: PngImagePlugin.PngImageFile) -> None:
        decoded.append(file)
        start(file)

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load_prepare", counted)
    prepared(tmp_path / "raw", train=".", resize=3)
    assert len(decoded) == 20


def test_the_preprocessing_is_written_as_sorted_json(raw: Path) -> None:
    folder = prepared(raw, classes=[{"en": "Bag", "zh": "包"}, {"en": "Coat"}])
    text = (folder / "preprocessing.json").read_text(encoding="utf-8")
    content = json.loads(text)
    assert text == json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    assert (content["shape"], content["task"]) == ([1, 4, 4], "classification")
    learnt = Preprocessing.load(folder)
    assert (learnt.shape, learnt.classes) == ((1, 4, 4), ["Bag", "Coat"])
    assert learnt.labels["Bag"]["zh"] == "包"
    learnt.save(raw)
    assert (raw / "preprocessing.json").read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("scale", "center", "divisor"),
    [
        ("none", [[[0]]], [[[1]]]),
        ("range", [[[0]]], [[[8]]]),
        ("per_pixel", [[[2, 0], [4, 7]]], [[[2, 8], [4, 1]]]),
        ("standardize", [[[4.5]]], [[[np.sqrt(7.25)]]]),
        (
            {"mean": [0.5, 0.25, 0], "std": [0.5, 1, 2]},  # of the brightest pixel
            [[[4]], [[2]], [[0]]],
            [[[4]], [[8]], [[16]]],
        ),
    ],
)
def test_scaling_is_learnt_as_its_name_says(
    tmp_path: Path, scale: Any, center: list[Any], divisor: list[Any]
) -> None:
    # two images, each twenty times: (2, 0, 4, 7) and (4, 8, 8, 7), the last pixel never changes
    images = np.array([[[2, 0], [4, 7]], [[4, 8], [8, 7]]] * 20, dtype=np.uint8)
    images[1::2, 1, 1] = 7
    write_idx(tmp_path / "raw", images, np.array([0, 1] * 20, dtype=np.uint8))
    learnt = Preprocessing.load(prepared(tmp_path / "raw", scale=scale))
    if scale == "standardize":
        values = np.array([2, 0, 4, 7, 4, 8, 8, 7])
        center, divisor = [[[values.mean()]]], [[[values.std()]]]
    np.testing.assert_allclose(learnt.center, center)
    np.testing.assert_allclose(learnt.scale, divisor)


@pytest.mark.parametrize(
    "scale",
    [
        {"mean": [0.5] * 3},
        {"mean": [0.5] * 3, "std": [0.5]},
        {"mean": [0.5] * 3, "std": [0.5, 0, 0.5]},
        {"mean": [0.5, np.nan, 0.5], "std": [0.5] * 3},
    ],
)
def test_a_scale_needs_three_means_and_deviations(scale: dict[str, list[float]]) -> None:
    with pytest.raises(ConfigurationError, match="expected a name, or mean and std with three numbers each"):
        Preparation(train=".", scale=scale)


def test_nothing_is_learnt_from_validation_and_test(raw: Path) -> None:
    before = Preprocessing.load(folder := prepared(raw, scale="per_pixel"))
    train = arrays(folder, "train")[0]
    rows = [line.split(",") for line in (folder / "split.csv").read_text().splitlines()[1:]]
    images, labels = some(40)
    for row, split in rows:
        if split != "train":
            images[int(row)] = 255 - images[int(row)] // 50
    write_idx(raw, images, labels)
    after = Preprocessing.load(folder := prepared(raw, scale="per_pixel"))
    assert after == before
    assert np.array_equal(arrays(folder, "train")[0], train)


HEADER = b"\x00\x00\x08\x03"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({IMAGES: packed(some(40)[0])[:-40]}, f"{IMAGES}: not a whole gzip file"),
        ({IMAGES: b"hello"}, f"{IMAGES}: not a whole gzip file"),
        (
            {IMAGES: gzip.compress(b"\x00\x00\x0d\x03" + bytes(12))},
            f"{IMAGES}: not an idx file of bytes: starts with 00000d03, expected 00000803",
        ),
        ({IMAGES: gzip.compress(idx(some(40)[0])[:-1])}, f"{IMAGES}: 639 values, the header says 40 x 4 x 4"),
        (
            {IMAGES: gzip.compress(idx(some(1)[0]) + bytes(10_000_000))},  # packed, 10 kB
            f"{IMAGES}: more than 16 values, the header says 1 x 4 x 4",
        ),
        (
            {IMAGES: gzip.compress(HEADER + bytes([0, 255, 0, 0] * 3))},
            f"{IMAGES}: the header says 16711680 x 16711680 x 16711680 bytes, expected at most",
        ),
        ({IMAGES: gzip.compress(HEADER + b"\x00")}, f"{IMAGES}: 0 values"),
        ({IMAGES: packed(some(40)[1])}, f"{IMAGES}: 1 dimensions, expected 3"),
        ({LABELS: packed(some(39)[1])}, f"{IMAGES}: 40 images, but {LABELS} has 39 labels"),
        ({LABELS: None}, f"{LABELS}: there is no such file"),
        ({LABELS: packed(some(40, classes=1)[1])}, "all images are of one class"),
        (dict(zip((IMAGES, LABELS), map(packed, some(4)), strict=True)), "are too few for the split"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_idx_files_are_reported_and_the_older_arrays_stay(
    raw: Path, files: dict[str, bytes | None], message: str
) -> None:
    before = contents(prepared(raw))
    for name, content in files.items():
        (raw / name).unlink()
        if content is not None:
            (raw / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        prepared(raw)
    assert message in str(caught.value)
    assert str(raw) in str(caught.value)
    assert contents(raw.parent / "prepared") == before


def test_a_label_outside_the_classes_is_reported(raw: Path) -> None:
    with pytest.raises(DataError, match=r"image 2 has label 1, expected less than 1"):
        prepared(raw, classes=[{"en": "Bag"}])
    images, labels = some(10, classes=3)
    write_idx(raw, images, labels, "t10k")
    with pytest.raises(DataError, match=r"t10k-images.*image 3 has label 2, a class without training images"):
        prepared(raw, test="t10k-images-idx3-ubyte.gz")


def test_test_images_of_another_size_are_reported(raw: Path) -> None:
    write_idx(raw, *some(10, side=5), "t10k")
    with pytest.raises(DataError, match=r"t10k.*\(1, 5, 5\), expected \(1, 4, 4\) as in training"):
        prepared(raw, test="t10k-images-idx3-ubyte.gz")


PIXELS = b"label,pixel0,pixel1,pixel2,pixel3\n0,1,2,3,4\n1,1,2,3,4\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PIXELS + b"1,0,0,0,256\n", "row 3, column 'pixel3': '256', expected a whole number, 0 to 255"),
        (PIXELS + b"1,0,-1,0,0\n", "row 3, column 'pixel1': '-1', expected a whole number, 0 to 255"),
        (PIXELS + b"1,0,0.5,0,0\n", "row 3, column 'pixel1': '0.5', expected a whole number"),
        (PIXELS + b"1,0,dark,0,0\n", "row 3, column 'pixel1': 'dark', expected a whole number"),
        (PIXELS + b"1,0,,0,0\n", "row 3, column 'pixel1': an empty cell, expected a whole number"),
        (PIXELS + b"1,0,0,0\n", "row 3, column 'pixel3': an empty cell, expected a whole number"),
        (PIXELS + b",0,0,0,0\n", "row 3, column 'label': an empty cell, expected a whole number, 0 or more"),
        (PIXELS + b"-2,0,0,0,0\n", "row 3, column 'label': '-2', expected a whole number, 0 or more"),
        (PIXELS + b"1,0,0,0,0,0\n", "Expected 5 fields in line 4, saw 6"),
        (b"label,pixel0\n0,1,2\n", "the header has 2 cells, the first row 3; put"),
        (b"", "the file is empty"),
        (b"label,pixel0\n", "no rows below the header"),
        (b"label,pixel0,pixel1,pixel2\n0,1,2,3\n", "3 pixels per row, expected a square number"),
        (b"label\n0\n", "0 pixels per row, expected a square number"),
        (b"class,pixel0\n0,1\n", "column 'label' is missing"),
        (b"label,pixel0\n0,\xff\n", "not UTF-8; save it as UTF-8"),
    ],
)
def test_unusable_pixel_csv_is_reported(tmp_path: Path, content: bytes, message: str) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "train.csv").write_bytes(content)
    with pytest.raises(DataError, match=f"^{re.escape(str(raw / 'train.csv'))}: .*{message}"):
        prepared(raw, train="train.csv")


def test_unusable_class_folders_are_reported(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    with pytest.raises(DataError, match="no folders, expected one per class"):
        prepared(raw, train=".")
    write_pictures(raw, a=grey(10), b=grey(10), empty=[])
    with pytest.raises(DataError, match=r"empty: no \.png"):
        prepared(raw, train=".")
    (raw / "empty").rmdir()
    whole = (raw / "a/3.png").read_bytes()
    for content in (b"text", whole[: len(whole) // 2]):
        (raw / "a/3.png").write_bytes(content)
        with pytest.raises(DataError, match=r"a/3\.png: not a readable image"):
            prepared(raw, train=".")


def test_a_test_folder_with_a_new_class_is_reported(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_pictures(raw / "train", a=grey(10), b=grey(10, seed=1))
    write_pictures(raw / "test", b=grey(3, (6, 6)))
    folder = prepared(raw, train="train", test="test")
    assert arrays(folder, "test")[1].tolist() == [1, 1, 1]
    assert arrays(folder, "test")[0].shape == (3, 1, 4, 4)
    write_pictures(raw / "test", c=grey(1))
    with pytest.raises(DataError, match=r"test/c: a class without training images"):
        prepared(raw, train="train", test="test")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"test_share": 0}, "test_share"),
        ({"validation_share": 1.0}, "validation_share"),
        ({"resize": 0}, "resize"),
        ({"prediction_columns": ["id"]}, "prediction_columns"),
        ({"classes": [{"zh": "包"}]}, "classes"),
    ],
)
def test_settings_that_cannot_be_used_are_reported(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"prepare\.{named}"):
        Preparation(train="train.csv", **settings)


LEARNT = Preprocessing((1, 4, 4), 255, [], [], "none", [[[0.0]]], [[[1.0]]], ["a", "b"])


def all_inputs(path: Path, learnt: Preprocessing = LEARNT) -> tuple[Any, list[str], int]:
    """Images, names and the number of adapted ones, which come two at a time."""
    parts = list(read_inputs(path, learnt, size=2))
    images, names, adapted = zip(*parts, strict=True)
    assert all(len(part) <= 2 for part in images)
    return np.concatenate(images), [name for part in names for name in part], sum(adapted)


def test_raw_images_of_any_kind_are_read_for_a_prediction(tmp_path: Path) -> None:
    images, labels = some(3)
    write_idx(tmp_path / "idx", images, labels)
    write_csv(tmp_path / "test.csv", images)
    write_pictures(tmp_path / "pictures", some=[Image.fromarray(image) for image in images])
    for path, names in (
        (tmp_path / "idx" / IMAGES, ["1", "2", "3"]),
        (tmp_path / "test.csv", ["1", "2", "3"]),
        (tmp_path / "pictures/some", ["0.png", "1.png", "2.png"]),
    ):
        found, named, adapted = all_inputs(path)
        assert np.array_equal(found[:, 0], images)
        assert (named, adapted) == (names, 0)
    found, named, _ = all_inputs(tmp_path / "pictures/some/1.png")
    assert (named, found[0, 0].tolist()) == (["1.png"], images[1].tolist())


def test_pictures_are_converted_to_size_colour_and_range_of_the_training_images(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), (255, 255, 255)).save(tmp_path / "white.jpg")
    for learnt, value in ((LEARNT, 255), (replace(LEARNT, brightest=16), 16)):
        found, _, adapted = all_inputs(tmp_path / "white.jpg", learnt)
        assert (found == value).all()
        assert (found.shape, found.dtype, adapted) == ((1, 1, 4, 4), np.uint8, 1)
    found, _, adapted = all_inputs(tmp_path / "white.jpg", replace(LEARNT, shape=(3, 30, 40)))
    assert (found.shape, adapted) == ((1, 3, 30, 40), 0)


def test_unusable_raw_input_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        all_inputs(tmp_path / "none.png")
    with pytest.raises(DataError, match=r"no \.png"):
        all_inputs(tmp_path)
    write_idx(tmp_path / "idx", *some(3))
    with pytest.raises(DataError, match="an idx file of labels, expected images"):
        all_inputs(tmp_path / "idx" / LABELS)


@pytest.mark.parametrize("side", [9_500, 60_000])
def test_a_huge_picture_is_refused_by_its_header(side: int, tmp_path: Path) -> None:
    header = b"IHDR" + struct.pack(">II", side, side) + bytes([1, 0, 0, 0, 0])
    chunks = [header, b"IDAT" + zlib.compress(b""), b"IEND"]
    parts = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    with pytest.raises(DataError, match=r"bomb\.png: more than 89,478,485 pixels"):
        all_inputs(tmp_path / "bomb.png")


def test_other_formats_are_not_opened(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "picture.png", format="TGA")
    (tmp_path / "text.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n")
    for name in ("picture.png", "text.png"):
        with pytest.raises(DataError, match=rf"{name}: not a readable image"):
            all_inputs(tmp_path / name)


def test_links_to_outside_the_folder_are_refused(tmp_path: Path) -> None:
    for name in ("secret.png", "in/0.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name)
    (tmp_path / "in/1.png").symlink_to("0.png")
    assert all_inputs(tmp_path / "in")[1] == ["0.png", "1.png"]
    (tmp_path / "in/2.png").symlink_to("../secret.png")
    with pytest.raises(DataError, match=r"in/2\.png: a link to outside the folder"):
        all_inputs(tmp_path / "in")


def test_white_of_dark_images_is_their_largest_pixel(tmp_path: Path) -> None:
    images, labels = some(40)
    write_csv(tmp_path / "raw/train.csv", images // 16, labels)
    assert Preprocessing.load(prepared(tmp_path / "raw", train="train.csv")).brightest == 15
    assert json.loads((tmp_path / "prepared/preprocessing.json").read_text())["mean"][0] < 16


def test_each_image_is_a_test_image_of_one_fold(raw: Path) -> None:
    write_idx(raw, *some(12, seed=1), prefix="t10k")
    images, _ = some(40)
    seen: list[bytes] = []
    for fold in (1, 2, 3, 4):
        folder = prepared(raw, test="t10k-images-idx3-ubyte.gz", folds=4, fold=fold)
        pixels, target = arrays(folder, "test")
        assert np.bincount(target).tolist() == [5, 5]
        assert len(arrays(folder, "train")[0]) + len(arrays(folder, "validation")[0]) == 30
        seen += [image.tobytes() for image in pixels]
    assert sorted(seen) == sorted(image.tobytes() for image in images)


def test_more_folds_than_images_of_a_class_are_rejected(raw: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"prepare\.folds: 21 folds of 20 rows of the largest class"):
        prepared(raw, folds=21)


@pytest.mark.parametrize(
    ("values", "classes", "names"),
    [
        ([1, 2, 3], [], ["1", "2", "3"]),
        ([0, 1, 3], [], ["0", "1", "3"]),
        ([7, 20240101, 2_000_000_000], [], ["7", "20240101", "2000000000"]),
        ([1, 2, 3], ["a", "b", "c"], ["a", "b", "c"]),
    ],
)
def test_labels_need_not_count_from_zero(
    tmp_path: Path, values: list[int], classes: list[str], names: list[str]
) -> None:
    images, codes = some(60, classes=3)
    write_csv(tmp_path / "raw/train.csv", images, np.array(values)[codes])
    write_csv(tmp_path / "raw/test.csv", images[3:9], np.array(values)[codes[3:9]])
    settings = {"train": "train.csv", "test": "test.csv", "classes": [{"en": name} for name in classes]}
    folder = prepared(tmp_path / "raw", **settings)
    assert Preprocessing.load(folder).classes == names
    assert arrays(folder, "test")[1].tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (5, "image 3 has label 5, expected less than 3, the number of prepare.classes, or as many"),
        (0, r"no image of class c \(2\)"),
    ],
)
def test_labels_that_do_not_fit_the_names_are_reported(tmp_path: Path, label: int, message: str) -> None:
    images, codes = some(60, classes=3)
    codes[codes == 2] = label
    codes[0] = codes[0] if label == 0 else 2
    write_csv(tmp_path / "raw/train.csv", images, codes)
    with pytest.raises(DataError, match=message):
        prepared(tmp_path / "raw", train="train.csv", classes=[{"en": name} for name in "abc"])


def test_a_table_that_names_pictures_is_no_table_of_pixels(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/train.csv").write_text("file,label\n0.PNG,1\n1.PNG,0\n")
    with pytest.raises(
        DataError, match=r"train\.csv: column 'file' names pictures \(0\.PNG\): .*docs/data\.md"
    ):
        prepared(tmp_path / "raw", train="train.csv")


def test_the_rarest_class_is_named_when_a_split_is_not_possible(tmp_path: Path) -> None:
    images, codes = some(41)
    codes[40] = 9
    write_csv(tmp_path / "raw/train.csv", images, codes)
    with pytest.raises(DataError, match="41 images, 1 of the rarest class, 9, are too few for the split"):
        prepared(tmp_path / "raw", train="train.csv")


def copied(folder: Path, count: int = 20) -> Path:
    """Pictures of two classes in class folders, three of each, all equal."""
    write_pictures(folder, a=grey(count, seed=1) * 3, b=grey(count, seed=2) * 3)
    return folder


def part_of_each(folder: Path) -> dict[bytes, set[str]]:
    """The parts of the split that have each different image."""
    parts: dict[bytes, set[str]] = {}
    for split in ("train", "validation", "test"):
        for image in arrays(folder, split)[0]:
            parts.setdefault(image.tobytes(), set()).add(split)
    return parts


def test_copies_of_an_image_are_counted_or_stay_in_one_part(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = copied(tmp_path / "raw")
    folder = prepared(raw, train=".")
    known = {image.tobytes() for image in arrays(folder, "train")[0]}
    for split in ("validation", "test"):
        images = arrays(folder, split)[0]
        copies = sum(image.tobytes() in known for image in images)
        assert copies > 0
        assert f"{copies} of {len(images)} {split} images are copies of training images" in caplog.text
    caplog.clear()
    together = prepared(raw, train=".", duplicates="together")
    assert {len(parts) for parts in part_of_each(together).values()} == {1}
    assert "copies of training images" not in caplog.text
    for split, number in (("train", 86), ("validation", 10), ("test", 24)):
        assert abs(len(arrays(together, split)[1]) - number) <= 3
        assert len(set(arrays(together, split)[1].tolist())) == 2
    fold = prepared(raw, train=".", duplicates="together", folds=4, fold=2)
    assert {len(parts) for parts in part_of_each(fold).values()} == {1}


def test_without_copies_both_ways_of_splitting_are_the_same(raw: Path) -> None:
    apart = contents(prepared(raw))
    assert contents(prepared(raw, duplicates="together")) == apart


def test_copies_in_the_official_test_part_are_counted(raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    images, labels = some(40)
    others, more = some(5, seed=9)
    write_idx(raw, np.concatenate([images[:3], others]), np.concatenate([labels[:3], more]), "t10k")
    prepared(raw, test="t10k-images-idx3-ubyte.gz")
    assert "3 of 8 images of the official test part are copies of images in it" in caplog.text


def test_copies_are_proposed_to_stay_together(tmp_path: Path) -> None:
    proposal = propose(copied(tmp_path / "raw"), None)
    assert plain(proposal.prepare)["duplicates"] == "together"
    assert "80 images repeat another one: equal images stay in one part of the split; see `duplicates`" in (
        proposal.findings
    )
    write_pictures(tmp_path / "different", a=grey(3), b=grey(3, seed=1))
    assert "duplicates" not in propose(tmp_path / "different", None).prepare
    write_idx(tmp_path / "idx", *(np.concatenate([part, part[:2]]) for part in some(10)))
    assert plain(propose(tmp_path / "idx", None).prepare)["duplicates"] == "together"


def test_more_classes_than_images_in_a_part_are_drawn_by_chance(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_csv(tmp_path / "raw/train.csv", *some(90, classes=30))
    folder = prepared(tmp_path / "raw", train="train.csv")
    sizes = {split: len(arrays(folder, split)[1]) for split in ("train", "validation", "test")}
    assert sizes == {"train": 64, "validation": 8, "test": 18}
    assert len(set(arrays(folder, "train")[1].tolist())) == 30
    assert "a part of 18 images cannot have all 30 classes: it is drawn by chance" in caplog.text
    write_csv(tmp_path / "raw/train.csv", *some(60, classes=30))
    with pytest.raises(
        DataError, match=r"2 of the rarest class, 0, are too few .* expected at least 3 of each"
    ):
        prepared(tmp_path / "raw", train="train.csv")


def test_idx_files_named_as_on_kaggle_are_read(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for prefix, seed in (("train", 0), ("t10k", 1)):
        images, labels = some(40, seed=seed)
        (raw / f"{prefix}-images.idx3-ubyte").write_bytes(idx(images))
        (raw / f"{prefix}-labels.idx1-ubyte").write_bytes(idx(labels))
    keys = plain(propose(raw, None).prepare)
    assert (keys["train"], keys["test"]) == ("train-images.idx3-ubyte", "t10k-images.idx3-ubyte")
    assert len(arrays(prepared(raw, **keys), "test")[1]) == 40


def test_a_tiff_of_many_bands_says_what_is_read(tmp_path: Path) -> None:
    bands = 13
    tags = (
        (256, 4),
        (257, 4),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 122),
        (277, bands),
        (278, 4),
        (279, 16 * bands),
    )
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    content = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + bytes(16 * bands)
    (tmp_path / "0.tif").write_bytes(content)
    with pytest.raises(DataError, match=r"0\.tif: not a readable image: .*other channels than 1, 3 or 4"):
        all_inputs(tmp_path / "0.tif")
