"""The parts of a table: copies, groups, rare classes and tables that are too small."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.core.errors import ConfigurationError, DataError
from src.tabular.prepare import Preparation, prepare

NUMBERS = np.random.default_rng(0).permutation(400)


def parts(folder: Path, table: pd.DataFrame, **keys: Any) -> pd.Series:
    """Prepare a table; the part of each of its rows, None for rows left out."""
    folder.mkdir(exist_ok=True)
    table.to_csv(folder / "train.csv", index=False)
    prepare(folder, folder / "prepared", Preparation(target="y", **keys))
    split = pd.read_csv(folder / "prepared" / "split.csv").set_index("row")["split"]
    return split.reindex(table.index + 1).set_axis(table.index)


def numbers(rows: int, **columns: Any) -> pd.DataFrame:
    """A table with a column of different numbers."""
    return pd.DataFrame({"x": NUMBERS[:rows] / 8, "y": NUMBERS[:rows] % 7 / 4, **columns})


def classes(*sizes: int) -> list[str]:
    return [name for name, size in zip("abcd", sizes, strict=False) for _ in range(size)]


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"task": "classification"},
        {"folds": 4, "fold": 2},
        {"task": "classification", "folds": 4},
        {"id": "n"},
    ],
)
def test_copies_of_a_row_stay_in_one_part(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, keys: dict[str, Any]
) -> None:
    table = pd.concat([numbers(60), numbers(60)], ignore_index=True)
    table["y"] = (table["y"] > 0.8).astype(int)
    table["n"] = range(120)
    found = parts(tmp_path, table, **keys, drop=[] if "id" in keys else ["n"])
    assert found[:60].tolist() == found[60:].tolist()
    assert found.value_counts()["test"] == (30 if "folds" in keys else 24)
    assert "60 rows repeat another row: equal rows stay in one part" in caplog.text


def test_copies_fall_apart_where_they_are_told_to_and_where_rows_are_bound_to_repeat(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copies = pd.concat([numbers(60)] * 2, ignore_index=True)
    assert (parts(tmp_path, copies, duplicates="apart")[:60].tolist()) != parts(tmp_path, copies)[
        :60
    ].tolist()
    coarse = pd.DataFrame({"x": [0, 1, 0, 1] * 25, "y": classes(50, 50)})
    caplog.clear()
    assert parts(tmp_path, coarse, task="classification").value_counts()["test"] == 20
    assert "96 rows repeat another row: they are split as other rows" in caplog.text


def test_without_copies_the_split_is_that_of_train_test_split(tmp_path: Path) -> None:
    from sklearn.model_selection import train_test_split

    table = numbers(50)
    rest, test = train_test_split(np.arange(50), test_size=0.2, random_state=3)
    _, validation = train_test_split(np.sort(rest), test_size=0.1, random_state=3)
    found = parts(tmp_path, table, seed=3)
    assert set(found.index[found == "test"]) == set(test)
    assert set(found.index[found == "validation"]) == set(validation)


@pytest.mark.parametrize(
    "keys", [{}, {"task": "classification"}, *({"folds": 3, "fold": fold} for fold in (1, 2, 3))]
)
def test_no_group_is_in_two_parts(tmp_path: Path, keys: dict[str, Any]) -> None:
    table = numbers(90, who=[f"p{row // 3}" for row in range(90)])
    table["y"] = (np.arange(90) // 3) % 2
    found = parts(tmp_path, table, group="who", **keys)
    assert (found.groupby(table["who"]).nunique() == 1).all()
    assert set(found) == {"train", "validation", "test"}
    assert found.equals(parts(tmp_path, table, group="who", **keys))
    if keys == {"task": "classification"}:  # 30 groups, half of each class
        assert table["y"][found == "test"].mean() == 0.5
    assert '"who"' not in (tmp_path / "prepared" / "preprocessing.json").read_text(encoding="utf-8")


def test_groups_of_one_class_are_split_although_no_part_can_have_its_share(tmp_path: Path) -> None:
    table = numbers(80, who=[row // 10 for row in range(80)])
    table["y"] = classes(60, 10, 10)  # b and c are one group each
    for seed in range(5):
        found = parts(tmp_path, table, group="who", task="classification", seed=seed)
        assert set(table["y"][found == "train"]) == set("abc")
    assert (found.groupby(table["who"]).nunique() == 1).all()


def test_groups_that_an_official_test_set_shares_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = numbers(40, who=[row // 4 for row in range(40)])
    table[36:].to_csv(tmp_path / "test.csv", index=False)
    parts(tmp_path, table, group="who", test="test.csv")
    assert "test.csv: 4 rows are of groups that train.csv has, too" in caplog.text


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"group": "y"}, "group"),
        ({"group": "x", "lags": 2}, "group"),
        ({"drop_rare_classes": 2}, "drop_rare_classes"),
        ({"drop_rare_classes": -1, "task": "classification"}, "drop_rare_classes"),
    ],
)
def test_keys_that_cannot_be_used_are_named(keys: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError, match=f"prepare.{key}"):
        Preparation(target="y", **keys)


def test_a_row_without_a_group_is_named(tmp_path: Path) -> None:
    table = numbers(40, who=[None if row == 4 else row // 4 for row in range(40)])
    with pytest.raises(DataError, match="row 5: the group 'who' is missing"):
        parts(tmp_path, table, group="who")


def test_a_class_of_one_row_is_named_with_the_ways_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = numbers(42)
    table["y"] = classes(20, 20, 1, 1)
    with pytest.raises(DataError, match=r"found 1 of 'c', 'd'; `drop_rare_classes: 2`.*`task: regression`"):
        parts(tmp_path, table, task="classification")
    found = parts(tmp_path, table, task="classification", drop_rare_classes=2)
    assert found[40:].isna().all()
    assert found[:40].notna().all()
    assert "2 rows of rare classes left out: 'c', 'd'" in caplog.text


def test_copies_do_not_make_a_rare_class_frequent(tmp_path: Path) -> None:
    table = numbers(42)
    table["y"] = classes(20, 20, 2)
    table.loc[41] = table.loc[40]
    with pytest.raises(DataError, match="found 1 of 'c'"):
        parts(tmp_path, table, task="classification")
    assert parts(tmp_path, table, task="classification", drop_rare_classes=2)[40:].isna().all()


def test_a_class_that_cannot_be_in_each_part_is_named(tmp_path: Path) -> None:
    table = numbers(42)
    table["y"] = classes(20, 20, 2)
    with pytest.raises(
        DataError, match="fewer than 3 rows, one for each part of the split, of 'c'; `drop_rare"
    ):
        parts(tmp_path, table, task="classification")
    assert parts(tmp_path, table, task="classification", drop_rare_classes=3)[40:].isna().all()


@pytest.mark.parametrize("drop", [[], ["when"]])
def test_rows_that_repeat_a_training_row_at_another_time_are_counted(
    drop: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = numbers(50, when=list(range(50)))
    parts(tmp_path, table, time="when", drop=drop)
    assert "repeat a training row" not in caplog.text
    table.loc[49, ["x", "y"]] = table.loc[3, ["x", "y"]]
    parts(tmp_path, table, time="when", drop=drop)
    assert "1 test rows repeat a training row" in caplog.text


def test_a_class_without_test_rows_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    table = numbers(63)
    table["y"] = classes(30, 31, 2)
    parts(tmp_path, table, task="classification", test_share=0.1)
    assert "no test row has the class 'c'" in caplog.text


@pytest.mark.parametrize("rows", [3, 5, 7])
def test_parts_of_one_row_are_refused(tmp_path: Path, rows: int) -> None:
    with pytest.raises(DataError, match=f"{rows} rows are too few for the split"):
        parts(tmp_path, numbers(rows))


@pytest.mark.parametrize(
    "times",
    [
        [100 - row // 2 for row in range(50)],
        [f"2024-{1 + (49 - row) // 10:02}-{1 + (49 - row) % 10 // 2:02}" for row in range(50)],
    ],
)
def test_later_rows_are_the_test_part_and_equal_times_stay_together(tmp_path: Path, times: list[Any]) -> None:
    table = numbers(50, when=times)
    found = parts(tmp_path, table, time="when", test_share=0.1, validation_share=0.1)
    latest = {part: table["when"][found == part] for part in ("train", "validation", "test")}
    assert latest["train"].max() < latest["validation"].min()
    assert latest["validation"].max() < latest["test"].min()
    # 5 of 50 rows are to be tested and 5 of the others validated; pairs have the same time
    assert found.value_counts().to_dict() == {"train": 38, "validation": 6, "test": 6}


def test_the_time_is_a_feature_of_dates_unless_it_is_dropped(tmp_path: Path) -> None:
    table = numbers(50, when=[f"2024-{1 + row // 5:02}-05" for row in range(50)])
    parts(tmp_path, table, time="when")
    learnt = json.loads((tmp_path / "prepared" / "preprocessing.json").read_text())
    assert learnt["features"] == ["x", "when_month", "when_weekday", "when_elapsed"]
    parts(tmp_path, table, time="when", drop=["when"])
    assert json.loads((tmp_path / "prepared" / "preprocessing.json").read_text())["features"] == ["x"]


def test_a_column_says_the_parts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    said = ["Train"] * 30 + ["val"] * 8 + [" TEST"] * 12
    table = numbers(50, part=said)
    table.loc[40, ["x", "y"]] = table.loc[3, ["x", "y"]]
    found = parts(tmp_path, table, split_column="part")
    assert found.tolist() == ["train"] * 30 + ["validation"] * 8 + ["test"] * 12
    assert json.loads((tmp_path / "prepared" / "preprocessing.json").read_text())["features"] == ["x"]
    assert "1 test rows repeat a training row" in caplog.text


def test_without_validation_rows_in_the_column_they_are_cut_from_the_training_rows(tmp_path: Path) -> None:
    table = numbers(50, part=["training"] * 40 + ["testing"] * 10)
    found = parts(tmp_path, table, split_column="part")
    assert found[40:].tolist() == ["test"] * 10
    assert found[:40].value_counts().to_dict() == {"train": 36, "validation": 4}


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"split_column": "part"}, "row 2, column 'part': 'tset' is no part of a split: train, training, "),
        ({"time": "when"}, "row 3: the time 'when' is missing"),
        ({"time": "word"}, "row 1, column 'word': 'soon' is no date"),
    ],
)
def test_a_wrong_time_or_part_is_refused_by_row(tmp_path: Path, keys: dict[str, Any], complaint: str) -> None:
    table = numbers(20, part=["train", "tset"] * 10, when=[1.0, 2.0, None, 3.0] * 5, word=["soon"] * 20)
    with pytest.raises(DataError, match=complaint):
        parts(tmp_path, table, **keys)


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"time": "when", "group": "who"}, r"prepare\.group and prepare\.time exclude each other"),
        ({"time": "when", "folds": 3}, r"prepare\.time and prepare\.folds exclude each other"),
        ({"split_column": "part", "time": "when"}, r"prepare\.time and prepare\.split_column exclude"),
        ({"split_column": "y"}, r"prepare\.split_column must be another column"),
        ({"time": "y"}, r"prepare\.time and prepare\.target are the same"),
    ],
)
def test_ways_to_split_exclude_each_other(keys: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        Preparation(target="y", **keys)
