"""Pictures whose labels are in a table beside them."""

import logging
import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.core.errors import ConfigurationError, DataError
from src.images.labels import in_order, labelled_pictures
from src.images.prepare import Preparation, prepare
from src.images.preprocessing import Preprocessing, read_inputs
from src.images.propose import propose
from src.preparation.proposals import plain


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """20 pictures, half of them in a subfolder, and labels.csv with the columns id and kind."""
    folder = tmp_path / "raw"
    (folder / "pictures/more").mkdir(parents=True)
    rows = ["id,kind,photographer"]
    for number in range(20):
        name = f"{number}.JPG" if number < 10 else f"more/{number}.jpg"
        Image.new("L", (8, 8), 10 * number).save(folder / "pictures" / name, "jpeg")
        rows.append(f"{name},{('2', '10')[number % 2]},me")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def change(raw: Path, old: str, new: str) -> None:
    path = raw / "labels.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


def prepared(raw: Path, **settings: Any) -> Path:
    options: dict[str, Any] = {"train": "pictures", "labels": "labels.csv", "file": "id", "label": "kind"}
    prepare(raw, raw.parent / "prepared", Preparation(**options | settings))
    return raw.parent / "prepared"


def test_labels_of_a_table_are_those_of_the_pictures(raw: Path) -> None:
    folder = prepared(raw, scale="none")
    assert Preprocessing.load(folder).classes == ["2", "10"]
    for split, number in (("train", 14), ("validation", 2), ("test", 4)):
        images, target = (np.load(folder / f"{split}_{part}.npy") for part in ("images", "target"))
        assert len(target) == number
        assert (np.rint(images.mean(axis=(1, 2, 3)) / 10) % 2).tolist() == target.tolist()


def test_the_ending_of_a_name_may_be_missing(raw: Path) -> None:
    change(raw, ".jpg", "")
    change(raw, ".JPG", "")
    paths, labels = labelled_pictures(raw / "pictures", raw / "labels.csv", "id", "kind")
    assert [path.name for path in paths[:2]] == ["0.JPG", "1.JPG"]
    assert labels.tolist()[:2] == ["2", "10"]


def test_rows_without_a_label_are_left_out_on_demand(raw: Path) -> None:
    change(raw, "3.JPG,10", "3.JPG, ")
    folder = prepared(raw, missing_label="drop")
    sizes = [len(np.load(folder / f"{split}_target.npy")) for split in ("train", "validation", "test")]
    assert sum(sizes) == 19
    _, labels = labelled_pictures(raw / "pictures", raw / "labels.csv", "id", "kind", drop=True)
    assert 4 not in labels.index
    (raw / "labels.csv").write_text("id,kind\n0.JPG,\n1.JPG,\n", encoding="utf-8")
    with pytest.raises(DataError, match="no row has a 'kind'"):
        prepared(raw, missing_label="drop")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("3.JPG,10", "3.JPG, ", r"labels\.csv: row 4 has no 'kind'"),
        ("3.JPG", "33.JPG", r"row 4, '33\.JPG' is no picture in .*pictures; write the path"),
        ("3.JPG", "../labels.csv", r"row 4, '\.\./labels\.csv' is no picture"),
        ("0.JPG,2,me", "0.JPG,2,me,you", r"the header has 3 cells, the first row 4; put a cell"),
        (",", ";", r"labels\.csv: the header is cut by semicolons; save the table with commas"),
        ("3.JPG", "2.JPG", r"rows 3 and 4 are both of 2\.JPG"),
        ("id,", "name,", r"there is no column 'id', found name, kind, photographer; set prepare\.file"),
    ],
)
def test_rows_that_cannot_be_used_are_named(raw: Path, old: str, new: str, message: str) -> None:
    change(raw, old, new)
    with pytest.raises(DataError, match=message):
        prepared(raw)


def test_a_name_of_several_pictures_is_refused(raw: Path) -> None:
    Image.new("L", (8, 8)).save(raw / "pictures/3.png")
    change(raw, "3.JPG", "3")
    with pytest.raises(DataError, match=r"row 4, '3' is the name of several pictures"):
        prepared(raw)


def test_pictures_without_a_row_are_left_out(raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    change(raw, "3.JPG,10,me\n", "")
    with caplog.at_level(logging.WARNING):
        prepared(raw)
    assert "1 pictures have no row in labels.csv and are left out: 3.JPG" in caplog.text


def test_a_test_part_and_a_table_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"prepare\.test: the rows of prepare\.labels are split by"):
        Preparation(train="pictures", test="others", labels="labels.csv")


@pytest.mark.parametrize("file", [False, True])
def test_a_proposal_finds_the_table_and_its_pictures(raw: Path, file: bool) -> None:
    change(raw, ",photographer", "")
    change(raw, ",me", "")
    proposal = propose(raw / "labels.csv" if file else raw, None)
    found = plain(proposal.prepare)
    assert found["train"] == "pictures"
    assert (found["labels"], found["file"], found["label"]) == ("labels.csv", "id", "kind")
    assert proposal.files == ["pictures", "labels.csv"]
    prepare(raw, raw.parent / "prepared", Preparation(**found))


def test_a_proposal_asks_for_the_label_among_several_columns(raw: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"several columns of labels; name one of 'kind', 'photog"):
        propose(raw, None)
    assert plain(propose(raw, "kind").prepare)["label"] == "kind"
    with pytest.raises(ConfigurationError, match=r"no column 'colour'; name one of"):
        propose(raw, "colour")


def test_labels_are_ordered_by_number_or_by_name() -> None:
    assert in_order(["10", "2", "-1", "2"]) == ["-1", "2", "10"]
    assert in_order(["10", "2", "a"]) == ["10", "2", "a"]


def many(folder: Path, first: int = 0, number: int = 12) -> None:
    """Pictures 0.png, 1.png, ..., each of another brightness."""
    folder.mkdir(parents=True)
    for each in range(number):
        Image.new("L", (8, 8), first + each).save(folder / f"{each}.png")


def write_table(path: Path, columns: str, rows: list[str]) -> None:
    path.write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")


@pytest.mark.parametrize("other", ["a_test", "zest/test"])
def test_pictures_of_the_training_folder_are_proposed_whatever_their_order(
    other: str, tmp_path: Path
) -> None:
    many(tmp_path / other)
    many(tmp_path / "train", 100)
    write_table(tmp_path / "labels.csv", "file,label", [f"{n}.png,{'ab'[n % 2]}" for n in range(12)])
    proposal = propose(tmp_path, None)
    assert plain(proposal.prepare)["train"] == "train"
    assert "pictures: column 'file' of labels.csv, in the folder 'train'" in proposal.findings


def test_the_folder_that_has_all_pictures_is_proposed_or_several_are_named(tmp_path: Path) -> None:
    many(tmp_path / "some", 0, 11)
    many(tmp_path / "whole", 100)
    rows = [f"{n}.png,{'ab'[n % 2]}" for n in range(12)]
    write_table(tmp_path / "labels.csv", "file,label", rows)
    assert plain(propose(tmp_path, None).prepare)["train"] == "whole"
    many(tmp_path / "again")
    with pytest.raises(
        DataError, match=r"column 'file' names pictures of several folders: 'again/', 'whole/'"
    ):
        propose(tmp_path, None)


def test_row_numbers_are_no_file_names(tmp_path: Path) -> None:
    many(tmp_path / "pictures")
    turned = [f"{n},{11 - n}.png,{'ab'[n % 2]}" for n in range(12)]
    for rows in (turned, [row.replace(".png", "") for row in turned]):
        write_table(tmp_path / "labels.csv", ",file,kind", rows)
        keys = plain(propose(tmp_path, None).prepare)
        assert (keys["file"], keys["label"]) == ("file", "kind")


def test_labels_are_those_of_the_training_table(tmp_path: Path) -> None:
    many(tmp_path / "pictures")
    names = [f"{n}.png" for n in range(12)]
    write_table(tmp_path / "a_test.csv", "file", names)
    write_table(tmp_path / "list.csv", "file", names)
    write_table(tmp_path / "sample_submission.csv", "file,label", [f"{name},a" for name in names])
    write_table(tmp_path / "test.csv", "file,label", [f"{name},c" for name in names])
    write_table(
        tmp_path / "train.csv", "file,label", [f"{name},{'ab'[n % 2]}" for n, name in enumerate(names)]
    )
    assert plain(propose(tmp_path, None).prepare)["labels"] == "train.csv"


@pytest.mark.parametrize("prefix", ["../input/train/", "set/pictures/", "/"])
def test_paths_from_elsewhere_are_refused_by_row(prefix: str, tmp_path: Path) -> None:
    many(tmp_path / "pictures")
    write_table(tmp_path / "labels.csv", "file,label", [f"{prefix}{n}.png,{'ab'[n % 2]}" for n in range(12)])
    with pytest.raises(DataError, match=r"labels\.csv: row 1, column 'file': '.*0\.png' is no picture in .*"):
        propose(tmp_path, None)


def test_the_command_of_a_proposal_reads_a_folder_of_pictures(tmp_path: Path) -> None:
    many(tmp_path / "set/cats")
    many(tmp_path / "set/dogs")
    names = [f"{kind}/{n}.png,{kind}" for n in range(12) for kind in ("cats", "dogs")]
    write_table(tmp_path / "labels.csv", "file,label", names)
    proposal = propose(tmp_path, None)
    assert plain(proposal.prepare)["train"] == "set"
    assert proposal.predict == f"--data.input {tmp_path / 'set/cats'}"


def patients(raw: Path) -> None:
    """A column with the patient of each picture, two pictures each."""
    lines = (raw / "labels.csv").read_text(encoding="utf-8").splitlines()
    rows = [f"{line},p{number // 2}" for number, line in enumerate(lines[1:])]
    write_table(raw / "labels.csv", f"{lines[0]},patient_id", rows)


@pytest.mark.parametrize("settings", [{}, {"folds": 3}, {"task": "regression"}, {"missing_label": "drop"}])
def test_pictures_of_a_group_are_in_one_part(raw: Path, settings: dict[str, Any]) -> None:
    patients(raw)
    if settings.get("missing_label"):
        change(raw, "5.JPG,10", "5.JPG,")
    folder = prepared(raw, group="patient_id", scale="none", **settings)
    parts: dict[int, set[str]] = {}
    for split in ("train", "validation", "test"):
        for image in np.load(folder / f"{split}_images.npy"):
            number = round(float(image.mean()) / 10)  # pictures are of the brightness 10 * number
            parts.setdefault(number // 2, set()).add(split)
    assert len(parts) == 10
    assert {len(found) for found in parts.values()} == {1}
    assert set.union(*parts.values()) == {"train", "validation", "test"}


def test_a_class_without_a_training_picture_is_named(raw: Path) -> None:
    """Two pictures of one of four patients, who may be drawn into another part, have the second class."""
    lines = [f"{number}.JPG,{'10' if number < 2 else '2'},p{number // 5}" for number in range(20)]
    names = [line.split(",")[0] for line in (raw / "labels.csv").read_text(encoding="utf-8").splitlines()[1:]]
    rows = [f"{name},{line.split(',', 1)[1]}" for name, line in zip(names, lines, strict=True)]
    write_table(raw / "labels.csv", "id,kind,patient_id", rows)
    outcomes = set[bool]()
    for seed in range(20):
        try:
            folder = prepared(raw, group="patient_id", seed=seed, test_share=0.25, validation_share=0.3)
        except DataError as error:
            outcomes.add("'10': no training image; all are in groups" not in str(error))
        else:
            outcomes.add(set(np.load(folder / "train_target.npy").tolist()) == {0, 1})
    assert outcomes == {True, False}


def test_groups_that_cannot_be_used_are_refused(raw: Path) -> None:
    patients(raw)
    with pytest.raises(DataError, match=r"there is no column 'lesion', found id, .*correct prepare\.group"):
        prepared(raw, group="lesion")
    change(raw, "me,p3", "me,")
    with pytest.raises(DataError, match=r"row 7: the group 'patient_id' is missing"):
        prepared(raw, group="patient_id")
    for settings in ({}, {"labels": "labels.csv", "duplicates": "together"}):
        with pytest.raises(ConfigurationError, match=r"prepare\.group: it needs prepare\.labels"):
            Preparation(train=".", group="patient_id", **settings)  # type: ignore[arg-type]


def test_a_proposal_names_columns_of_groups(raw: Path) -> None:
    assert not any("`group`" in finding for finding in propose(raw, "kind").findings)
    patients(raw)
    (finding,) = [each for each in propose(raw, "kind").findings if "`group`" in each]
    assert finding.startswith("'patient_id' may name what several pictures are of")


@pytest.mark.parametrize(
    ("labels", "task"),
    [
        (["tench, Tinca tinca", "goldfish, Carassius auratus"], None),
        (["great white shark, man-eater", "tiger shark, Galeocerdo", "crane, bird", "crane"], None),
        (["cat, dog", "dog", "cat", "dog, bird", "bird, cat"], "multilabel"),
        (["cat; dog", "dog", "cat"], "multilabel"),
    ],
)
def test_a_class_name_with_a_comma_is_no_list(labels: list[str], task: str | None, tmp_path: Path) -> None:
    many(tmp_path / "pictures", number=20)
    write_table(
        tmp_path / "labels.csv", "file,label", [f'{n}.png,"{labels[n % len(labels)]}"' for n in range(20)]
    )
    keys = plain(propose(tmp_path, None).prepare)
    assert (keys.get("task"), keys["label"]) == (task, "label")


@pytest.mark.parametrize(("no", "yes"), [("0.0", "1.0"), ("-1", "1"), ("False", "True"), ("false", "true")])
def test_marks_of_labels_may_be_written_in_several_ways(no: str, yes: str, tmp_path: Path) -> None:
    many(tmp_path / "pictures", number=20)
    marks = [(yes if n % 2 else no, yes if n % 3 else no, no) for n in range(20)]
    write_table(
        tmp_path / "labels.csv",
        "file,odd,third,none",
        [f"{n}.png,{','.join(m)}" for n, m in enumerate(marks)],
    )
    proposal = propose(tmp_path, None)
    keys = plain(proposal.prepare)
    assert (keys["task"], keys["label"]) == ("multilabel", ["odd", "third"])
    assert "left out: 'none': no picture has such a label" in proposal.findings
    prepare(tmp_path, tmp_path / "prepared", Preparation(**keys))
    target = np.concatenate(
        [np.load(tmp_path / f"prepared/{split}_target.npy") for split in ("train", "validation", "test")]
    )
    assert target.sum(axis=0).tolist() == [10, 13]


def test_several_columns_of_labels_can_be_named(tmp_path: Path) -> None:
    many(tmp_path / "pictures")
    rows = [f"{n}.png,{n % 2},{n % 5},{int(n % 3 > 0)}" for n in range(12)]
    write_table(tmp_path / "labels.csv", "file,odd,rest,third", rows)
    assert plain(propose(tmp_path, "odd, third").prepare)["label"] == ["odd", "third"]
    with pytest.raises(ConfigurationError, match=r"no column 'even'; name one of 'odd', 'rest', 'third'"):
        propose(tmp_path, "odd,even")
    with pytest.raises(ConfigurationError, match="several columns of labels; name one of"):
        propose(tmp_path, "odd,rest")


def test_a_third_mark_is_refused(tmp_path: Path) -> None:
    many(tmp_path / "pictures")
    rows = [f"{n}.png,{(0.0, 1.0, -1.0)[n % 3]},{float(n % 2)}" for n in range(12)]
    write_table(tmp_path / "labels.csv", "file,a,b", rows)
    settings = Preparation(
        train="pictures", labels="labels.csv", label=["a", "b"], task="multilabel", test_share=0.3
    )
    with pytest.raises(DataError, match=r"row 3, column 'a': '-1\.0', expected 0\.0 or 1\.0"):
        prepare(tmp_path, tmp_path / "prepared", settings)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_may_be_written_as_one_character_or_as_two(form: Any, tmp_path: Path) -> None:
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    folder = tmp_path / unicodedata.normalize(form, "été/hiver")
    many(folder, number=20)
    rows = []
    for n in range(20):
        (folder / f"{n}.png").rename(folder / unicodedata.normalize(form, f"é{n}.png"))
        rows.append(unicodedata.normalize(other, f"é{n}.png") + f",{'ab'[n % 2]}")
    write_table(tmp_path / "labels.csv", "file,label", rows)
    keys = plain(propose(tmp_path, None).prepare)
    assert keys["train"] == unicodedata.normalize(form, "été/hiver")
    prepare(tmp_path, tmp_path / "prepared", Preparation(**keys))


@pytest.mark.unix
def test_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    many(tmp_path / "raw/a")
    many(tmp_path / "raw/b", 100)
    name = os.fsdecode(b"caf\xe9")
    try:
        (tmp_path / "raw/b/3.png").rename(tmp_path / f"raw/b/{name}.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    with pytest.raises(DataError, match=r"raw/b: the name caf\\xe9\.png is not UTF-8; rename it") as caught:
        prepare(tmp_path / "raw", tmp_path / "prepared", Preparation(train="."))
    str(caught.value).encode()
    learnt = Preprocessing((1, 8, 8), 255, [], [], "none", [[[0.0]]], [[[1.0]]], ["a", "b"])
    for path in (tmp_path / "raw/b", tmp_path / f"raw/b/{name}.png"):
        with pytest.raises(DataError, match=r"raw/b: the name caf\\xe9\.png is not UTF-8"):
            list(read_inputs(path, learnt, 10))
    rows = [f"{n}.png,{'ab'[n % 2]}" for n in range(12)]
    write_table(tmp_path / "raw/labels.csv", "file,label", rows)
    with pytest.raises(DataError, match=r"raw/b: the name caf\\xe9\.png is not UTF-8"):
        prepare(tmp_path / "raw", tmp_path / "prepared", Preparation(train="b", labels="labels.csv"))
    (tmp_path / f"raw/b/{name}.png").unlink()
    (tmp_path / "raw/labels.csv").unlink()
    (tmp_path / "raw/b").rename(tmp_path / "raw" / name)
    with pytest.raises(DataError, match=r"raw: the name caf\\xe9 is not UTF-8; rename it"):
        propose(tmp_path / "raw", None)


def test_the_mistake_in_a_table_is_told(tmp_path: Path) -> None:
    many(tmp_path / "pictures")
    rows = [f"{n}.png,{'ab'[n % 2]}" for n in range(12)]
    write_table(tmp_path / "labels.csv", "file,label", [*rows, "1.png,a,more"])
    with pytest.raises(DataError, match=r"labels\.csv: .*Expected 2 fields in line 14, saw 3"):
        propose(tmp_path, None)
    write_table(tmp_path / "labels.csv", "file;label", [row.replace(",", ";") for row in rows])
    with pytest.raises(DataError, match=r"labels\.csv: the header is cut by semicolons"):
        propose(tmp_path, None)


@pytest.mark.parametrize(("encoding", "guess"), [("gbk", "gb18030"), ("utf-16", "utf-16")])
def test_the_encoding_of_a_table_is_told_with_the_command_that_converts_it(
    encoding: str, guess: str, tmp_path: Path
) -> None:
    many(tmp_path / "pictures")
    rows = [f"{n}.png,{'红蓝'[n % 2]}" for n in range(12)]
    write_table(tmp_path / "labels.csv", "file,label", rows)
    text = (tmp_path / "labels.csv").read_text(encoding="utf-8")
    (tmp_path / "labels.csv").write_bytes(text.encode(encoding))
    message = rf"labels\.csv: not UTF-8; it looks like {guess}: iconv -f {guess} -t UTF-8 labels\.csv > "
    with pytest.raises(DataError, match=message):
        propose(tmp_path, None)
    with pytest.raises(DataError, match=message):
        prepare(tmp_path, tmp_path / "prepared", Preparation(train="pictures", labels="labels.csv"))


def test_windows_paths_are_named(tmp_path: Path) -> None:
    many(tmp_path / "pictures")
    write_table(
        tmp_path / "labels.csv", "file,label", [f"pictures\\{n}.png,{'ab'[n % 2]}" for n in range(12)]
    )
    with pytest.raises(DataError, match=r"column 'file': pictures\\0\.png: write / between folders"):
        propose(tmp_path, None)


def test_pictures_without_a_label_are_told(tmp_path: Path) -> None:
    many(tmp_path / "pictures")
    rows = [f"{n}.png,{'ab'[n % 2] if n < 10 else ''}" for n in range(12)]
    write_table(tmp_path / "labels.csv", "file,label", rows)
    proposal = propose(tmp_path, None)
    assert "left out: 2 pictures without a label; see `missing_label`" in proposal.findings


@pytest.mark.parametrize(("column", "task"), [("tags", "multilabel"), ("label", None)])
def test_a_column_of_tags_may_have_few_different_lists(column: str, task: str | None, tmp_path: Path) -> None:
    many(tmp_path / "pictures")
    rows = [f"{n}.png,{('', 'cat', 'cat;dog')[n % 3]}" for n in range(12)]
    write_table(tmp_path / "labels.csv", f"file,{column}", rows)
    assert plain(propose(tmp_path, None).prepare).get("task") == task


def test_pictures_may_be_in_several_folders_if_each_has_a_name_of_its_own(tmp_path: Path) -> None:
    many(tmp_path / "part_1")
    many(tmp_path / "part_2/more", first=12)
    for number in range(12):  # 12.png to 23.png
        (tmp_path / f"part_2/more/{number}.png").rename(tmp_path / f"part_2/more/{number + 12}.png")
    write_table(tmp_path / "labels.csv", "file,label", [f"{n},{'ab'[n % 2]}" for n in range(24)])
    assert plain(propose(tmp_path, None).prepare)["train"] == "."
    paths, _ = labelled_pictures(tmp_path, tmp_path / "labels.csv", "file", "label")
    assert [path.stem for path in paths] == [str(number) for number in range(24)]
    assert {path.parent.name for path in paths} == {"part_1", "more"}
    many(tmp_path / "part_3", number=1)
    with pytest.raises(DataError, match=r"row 1, '0' is the name of several pictures"):
        labelled_pictures(tmp_path, tmp_path / "labels.csv", "file", "label")
