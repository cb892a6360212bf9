import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipelines.fetch import fetch
from pipelines.prepare import prepare
from src.core.errors import ConfigurationError, DataError, IntegrityError

PREPARED = Path("data/prepared/tiny")
SETTINGS: dict[str, Any] = {"target": "price", "validation_share": 0.25}

pytestmark = pytest.mark.kinds("tabular")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project with the raw files of one task."""
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    rows = "".join(f"{number % 7},{'ab'[number % 2]},{number * 10}\n" for number in range(1, 21))
    Path("mine/train.csv").write_text(f"size,kind,price\n{rows}")
    write_parameters(SETTINGS)
    fetch("tiny")


def write_parameters(settings: Any) -> None:
    parameters = {"tasks": {"tiny": "tabular"}, "tiny": {"source": "mine", "files": {}, "prepare": settings}}
    Path("params.yaml").write_text(yaml.safe_dump(parameters))


def contents() -> dict[str, bytes]:
    """All files below data/prepared, hidden ones too."""
    return {str(path): path.read_bytes() for path in Path("data/prepared").rglob("*") if path.is_file()}


def refused(error: type[Exception], match: str) -> None:
    """The preparation ends with an error, and data/prepared stays as it was."""
    before = contents()
    with pytest.raises(error, match=match):
        prepare("tiny")
    assert contents() == before


def test_the_section_decides_how_the_task_is_prepared(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    prepare("tiny")
    assert capsys.readouterr().out == "tiny: prepared: data/prepared/tiny/\n"
    shapes = {name: np.load(PREPARED / f"{name}_codes.npy").shape for name in ("train", "validation", "test")}
    assert shapes == {"train": (12, 1), "validation": (4, 1), "test": (4, 1)}
    learnt = json.loads((PREPARED / "preprocessing.json").read_text(encoding="utf-8"))
    assert learnt["target"]["name"] == "price"
    write_parameters(SETTINGS | {"drop": ["kind"]})
    prepare("tiny")
    assert np.load(PREPARED / "train_numbers.npy").shape == (12, 1)
    assert np.load(PREPARED / "train_codes.npy").shape == (12, 0)


def test_twice_gives_the_same_bytes() -> None:
    prepare("tiny")
    before = contents()
    prepare("tiny")
    assert contents() == before
    assert len(before) == 12


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (SETTINGS | {"colour": "red"}, "colour"),
        (SETTINGS | {"test_share": "much"}, "test_share"),
        (SETTINGS | {"test_share": 1.5}, "test_share"),
        (SETTINGS | {"impute": "magic"}, "impute"),
        ({"validation_share": 0.25}, "target"),
        (None, "target"),
        ("text", r"tiny\.prepare"),
    ],
)
def test_mistakes_in_the_section_are_told_and_the_older_data_stay(settings: Any, named: str) -> None:
    prepare("tiny")
    write_parameters(settings)
    refused(ConfigurationError, named)


def test_raw_data_that_are_not_there_are_told() -> None:
    Path("data/raw/tiny/train.csv").unlink()
    refused(IntegrityError, r"data/raw/tiny/train\.csv: .*no such file.*-f fetch@tiny")
    Path("data/raw/tiny/SOURCE.json").unlink()
    refused(ConfigurationError, r"data/raw/tiny/SOURCE\.json is not here; .* fetch@tiny")
    assert contents() == {}


@pytest.mark.parametrize("name", ["train.csv", "SOURCE.json"])
def test_damaged_raw_data_are_told_and_the_older_data_stay(name: str) -> None:
    prepare("tiny")
    path = Path("data/raw/tiny", name)
    path.write_bytes(path.read_bytes().replace(b"7", b"8"))
    refused(IntegrityError, r"raw/tiny/train\.csv: sha256 \w{64}, expected \w{64}; run: dvc")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": [1]}', '{"files": {"train.csv": "x"}}'])
def test_a_damaged_record_of_the_source_is_told(text: str) -> None:
    Path("data/raw/tiny/SOURCE.json").write_text(text)
    refused(IntegrityError, r"data/raw/tiny/SOURCE\.json is damaged: .* -f fetch@tiny")


def test_a_wrong_cell_is_told_and_the_older_data_stay() -> None:
    prepare("tiny")
    with Path("mine/train.csv").open("a") as file:
        file.write("7,a,dear\n")
    fetch("tiny")
    refused(DataError, r"train\.csv: row 21, column 'price': 'dear' is not a number")


def test_unknown_task_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"params\.yaml has no task 'tinny'; its tasks are: tiny"):
        prepare("tinny")
