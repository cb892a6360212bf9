import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from src.core.errors import ConfigurationError, DataError
from src.images.prepare import Preparation, prepare
from src.images.propose import propose
from src.preparation.proposals import plain


def draw(folder: Path, size: tuple[int, int], mode: str = "L", each: int = 2) -> None:
    for name in "ab":
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            Image.new(mode, size).save(folder / name / f"{size[0]} {number}.png")


def write_idx(path: Path, values: Any) -> None:
    header = struct.pack(">BBBB", 0, 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    content = header + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize(
    ("sizes", "resize", "crop"),
    [
        ([(8, 8)], 16, 1),
        ([(28, 28)], None, 1),
        ([(40, 64)], None, 4),
        ([(200, 150)], 64, 4),
        ([(30, 30), (40, 50), (60, 60)], 32, 2),
    ],
)
def test_the_size_to_which_images_are_resized(
    sizes: list[tuple[int, int]], resize: int | None, crop: int, tmp_path: Path
) -> None:
    for size in sizes:
        draw(tmp_path, size)
    proposal = propose(tmp_path, None)
    assert plain(proposal.prepare).get("resize") == resize
    assert plain(proposal.configuration)["model"]["init_args"]["augmentation"]["crop"] == crop
    assert (proposal.files, plain(proposal.prepare)["train"]) == ([], ".")


def test_only_headers_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path, (40, 30), "RGB", each=3)
    monkeypatch.setattr("src.images.propose.read_picture", None)
    monkeypatch.setattr("src.images.pictures._read_picture", None)
    assert propose(tmp_path, None).findings[0].endswith(": 6 images, colour, 40 x 30 pixels")


@pytest.mark.parametrize(("mode", "colour"), [("L", "grey"), ("RGB", "colour"), ("P", "colour")])
def test_colours(mode: str, colour: str, tmp_path: Path) -> None:
    draw(tmp_path, (20, 20), mode)
    assert f"4 images, {colour}, 20 x 20 pixels" in propose(tmp_path, None).findings[0]


@pytest.mark.parametrize(
    ("folders", "test"),
    [(("train", "val", "test"), "test"), (("Training", "valid"), "valid"), (("train",), None)],
)
def test_folders_of_the_parts(folders: tuple[str, ...], test: str | None, tmp_path: Path) -> None:
    for folder in folders:
        draw(tmp_path / folder, (20, 20))
    proposal = propose(tmp_path, None)
    assert plain(proposal.prepare).get("test") == test
    assert proposal.files == [folders[0], *([test] if test else [])]
    assert ("test_share" in proposal.prepare) == (test is None)


def test_idx_files(tmp_path: Path) -> None:
    for part in ("train", "t10k"):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", np.zeros((8, 28, 20)))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", np.array([0, 0, 0, 0, 0, 0, 1, 1]))
    proposal = propose(tmp_path, None)
    assert len(proposal.files) == 4
    assert plain(proposal.prepare)["test"] == "t10k-images-idx3-ubyte.gz"
    assert proposal.findings[:2] == [
        f"{tmp_path.name}: 8 images for training, grey, 20 x 28 pixels",
        "2 classes ('0', '1'), 2 to 6 images each",
    ]


@pytest.mark.parametrize(("column", "target"), [("label", None), ("Y", None), ("digit", "digit")])
def test_a_table_of_pixels(column: str, target: str | None, tmp_path: Path) -> None:
    table = pd.DataFrame(np.zeros((6, 400), int)).assign(**{column: [0, 1, 2, 0, 1, 2]})
    table.to_csv(tmp_path / "train.csv", index=False)
    table.drop(columns=column).to_csv(tmp_path / "test.csv", index=False)
    proposal = propose(tmp_path, target)
    assert (plain(proposal.prepare)["label"], proposal.files) == (column, ["train.csv"])
    assert proposal.predict == f"--data.input {tmp_path / 'test.csv'}"


def test_more_images_have_a_narrower_network_and_fewer_epochs(tmp_path: Path) -> None:
    write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros((70_000, 28, 28), np.uint8))
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(70_000) % 10)
    configuration = plain(propose(tmp_path, None).configuration)
    assert configuration["model"]["init_args"]["network"]["init_args"]["width"] == 16
    assert configuration["trainer"]["max_epochs"] == 8


def test_unusable_input_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folders, expected one per class"):
        propose(tmp_path, None)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"text")
    with pytest.raises(DataError, match=r"1\.png: not a readable image"):
        propose(tmp_path, None)
    with pytest.raises(ConfigurationError, match="only CSV files have a column of classes"):
        propose(tmp_path, "label")
    for part in ("one", "two"):
        (tmp_path / f"{part}.csv").write_text("label,pixel\n0,1\n")
    with pytest.raises(DataError, match="no table is named train"):
        propose(tmp_path, None)


def test_a_table_of_labels_beside_pictures_is_named(tmp_path: Path) -> None:
    draw(tmp_path / "pictures", (20, 20))
    (tmp_path / "labels.csv").write_text("file,label\n0.png,1\n")
    for path in (tmp_path, tmp_path / "labels.csv"):
        with pytest.raises(DataError, match=r"labels\.csv: column 'file' names pictures \(0\.png\)"):
            propose(path, None)


@pytest.mark.parametrize("content", ["name,price\nx,1\n", "a;b\n1;2\n", "", "a,b\n1,2,3\n"])
@pytest.mark.parametrize("parts", [("",), ("train", "test")])
def test_another_table_beside_class_folders_is_left_out(
    content: str, parts: tuple[str, ...], tmp_path: Path
) -> None:
    for part in parts:
        draw(tmp_path / part, (20, 20))
    (tmp_path / "notes.csv").write_text(content)
    proposal = propose(tmp_path, None)
    assert plain(proposal.prepare)["train"] == (parts[0] or ".")
    assert "left out: 'notes.csv': no table of pictures" in proposal.findings
    with pytest.raises((ConfigurationError, DataError), match=r"notes\.csv"):
        propose(tmp_path, "label")


def test_a_damaged_table_of_labels_is_not_left_out(tmp_path: Path) -> None:
    draw(tmp_path, (20, 20))
    (tmp_path / "labels.csv").write_bytes("file,label\na/20 0.png,schön\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"labels\.csv"):
        propose(tmp_path, None)


def test_a_table_of_labels_with_a_mistake_is_not_left_out(tmp_path: Path) -> None:
    draw(tmp_path, (20, 20))  # the folders a and b may be parts of one set
    (tmp_path / "labels.csv").write_text("file,label\n../a/20 0.png,1\n../a/20 1.png,0\n")
    with pytest.raises(DataError, match=r"row 1, column 'file': '\.\./a/20 0\.png' is no picture in"):
        propose(tmp_path, None)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_few_damaged_pictures_are_proposed_to_be_left_out(ending: str, tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "raw" / "ab"[number % 2] / f"{number}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (20, 20), dtype=np.uint8)).save(path)
    for number, size in ((0, 0), (3, 300)):  # empty, and cut off behind the header
        path = tmp_path / "raw" / "ab"[number % 2] / f"{number}.{ending}"
        path.write_bytes(path.read_bytes()[:size])
    proposal = propose(tmp_path / "raw", None)
    keys = plain(proposal.prepare)
    assert keys["unreadable"] == "skip"
    (finding,) = [each for each in proposal.findings if "cannot be read" in each]
    assert finding.startswith("left out: 2 of 40 pictures cannot be read: ")
    prepare(tmp_path / "raw", tmp_path / "prepared", Preparation(**keys))
    assert len((tmp_path / "prepared/left_out.csv").read_text().splitlines()) == 3
    for number in (5, 7, 9):
        (tmp_path / "raw/b" / f"{number}.{ending}").write_bytes(b"")
    with pytest.raises(DataError, match="5 of 40 pictures cannot be read"):
        propose(tmp_path / "raw", None)
