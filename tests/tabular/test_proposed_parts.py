"""What new_task proposes about ids, groups, copies, doubtful targets and folders of a competition."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.core.errors import ConfigurationError, DataError
from src.preparation.proposals import plain
from src.tabular.dialect import Reading
from src.tabular.prepare import Preparation, prepare
from src.tabular.propose import Task, propose
from src.tabular.values import MISSING

ROWS = np.arange(120)
X = (ROWS * 37 % 121) / 8
UNIQUE = (7919 * ROWS % 10_007 + 10_000).tolist()


def proposal(
    folder: Path, columns: dict[str, Any], task: Task | None = None, target: str | None = None
) -> Any:
    path = folder / "table.csv"
    pd.DataFrame({"x": X, **columns}).to_csv(path, index=False)
    return propose(path, target, task)


ID_NAMES = "account 编号 MRN SKU isbn OrderNo serial ticket passport Account-Number 学号 unique_id customerId"


@pytest.mark.parametrize("name", ID_NAMES.split())
def test_unique_numbers_with_the_name_of_an_id_are_no_feature(name: str, tmp_path: Path) -> None:
    found = proposal(tmp_path, {name: UNIQUE, "y": X * 2 % 7})
    assert plain(found.prepare)["id"] == name
    assert f"id, not a feature: '{name}': a different number in each row identifies it" in found.findings


@pytest.mark.parametrize("name", ["income", "paid", "humid", "price_of_house", "面积"])
def test_unique_numbers_with_another_name_are_features(name: str, tmp_path: Path) -> None:
    assert "id" not in proposal(tmp_path, {name: UNIQUE, "y": X * 2 % 7}).prepare


@pytest.mark.parametrize(
    ("name", "values", "found"),
    [
        ("tree_id", ROWS // 6 + 1000, True),
        ("编号", ROWS // 6, True),
        ("patient", [f"p{row // 3}" for row in ROWS], True),
        ("姓名", [f"n{row // 3}" for row in ROWS], True),
        ("depth", ROWS // 6, False),
        ("store_id", ROWS % 4, False),  # few places, each known when the model is used
        ("tree_id", [None, *ROWS[1:] // 6], False),
        ("uv_index", ROWS // 6, False),
        ("week_number", ROWS // 6, False),
        ("floorNo", ROWS // 6, False),
        ("no", ROWS // 6, False),
        ("no", [f"n{row // 3}" for row in ROWS], True),
        ("order_no", ROWS // 6, True),
        ("customerNumber", ROWS // 6 + 1000, True),
        ("employee_number", ROWS // 6 + 1000, True),
    ],
)
def test_a_column_that_repeats_and_names_something_is_a_group(
    name: str, values: Any, found: bool, tmp_path: Path
) -> None:
    proposed = proposal(tmp_path, {name: values, "y": X * 2 % 7})
    assert (plain(proposed.prepare).get("group") == name) == found
    assert any("group, not a feature" in finding for finding in proposed.findings) == found
    prepare(tmp_path, tmp_path / "prepared", Preparation(**plain(proposed.prepare)))


def test_copies_are_counted(tmp_path: Path) -> None:
    half = {"y": X * 2 % 7}
    path = tmp_path / "table.csv"
    pd.concat([pd.DataFrame({"x": X, **half})] * 2).to_csv(path, index=False)
    assert "120 rows repeat another one: equal rows stay in one part" in "\n".join(
        propose(path, None).findings
    )


@pytest.mark.parametrize(
    ("name", "values", "kind", "sure"),
    [
        ("label", ROWS % 24, "classification", False),
        ("class", ROWS % 24 + 1000, "classification", False),
        ("类别", ROWS % 24, "classification", False),
        ("y", ROWS % 24, "regression", False),
        ("y", ROWS % 8, "classification", False),
        ("visits", ROWS % 8, "regression", False),
        ("人数", ROWS % 8, "regression", False),
        ("y", [9, *ROWS[1:] % 5], "regression", False),  # one row of 9
        ("label", [9, *ROWS[1:] % 5], "regression", False),
        ("y", UNIQUE, "regression", True),
        ("y", ROWS % 8 + 0.5, "regression", True),
        ("y", ROWS % 2, "classification", True),
        ("y", ["ab"[row % 2] for row in ROWS], "classification", True),
    ],
)
def test_the_kind_of_the_target_and_the_other_way_where_it_is_a_guess(
    name: str, values: Any, kind: str, sure: bool, tmp_path: Path
) -> None:
    found = proposal(tmp_path, {name: values}, target=name)
    assert plain(found.prepare)["task"] == kind
    other = {"classification": "regression", "regression": "classification"}[kind]
    assert (f"the other way: --task {other}" in found.findings[1]) != sure


def test_the_kind_of_the_target_can_be_told(tmp_path: Path) -> None:
    for task, loss in (("regression", "huber"), ("classification", "cross_entropy")):
        found = proposal(tmp_path, {"y": ROWS % 8}, task)  # type: ignore[arg-type]
        assert plain(found.prepare)["task"] == task
        assert plain(found.configuration)["model"]["init_args"]["loss"] == loss
        assert "by --task" in found.findings[1]
    with pytest.raises(ConfigurationError, match="--task: regression needs numbers, 'y' has 'a'"):
        proposal(tmp_path, {"y": ["ab"[row % 2] for row in ROWS]}, "regression")


def test_a_target_without_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the target 'y' .*: expected values, found only empty cells$"):
        proposal(tmp_path, {"y": None})
    path = tmp_path / "table.xlsx"
    pd.DataFrame({"x": X, "y": [f"=A{row + 2}*2" for row in ROWS]}).to_excel(path, index=False)
    with pytest.raises(DataError, match="open the file in Excel or LibreOffice and save it"):
        propose(path, None)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_class_of_few_rows_is_left_out_where_two_others_remain(rows: int, tmp_path: Path) -> None:
    found = proposal(tmp_path, {"y": [*"cc"[:rows], *("ab"[row % 2] for row in ROWS[rows:])]})
    settings = plain(found.prepare)
    assert settings["drop_rare_classes"] == 3
    told = "left out: 'c': classes with fewer than 3 different rows, one for each part of the split"
    assert any(finding.startswith(told) for finding in found.findings)
    prepare(tmp_path, tmp_path / "prepared", Preparation(**settings))
    assert "drop_rare_classes" not in proposal(tmp_path, {"y": [*"cc", *"a" * (len(ROWS) - 2)]}).prepare


def test_a_class_of_two_rows_stays_beside_an_official_test_set(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": X, "y": ["c", "c", *("ab"[row % 2] for row in ROWS[2:])]})
    for name in ("train.csv", "test.csv"):
        table.to_csv(tmp_path / name, index=False)
    assert "drop_rare_classes" not in propose(tmp_path, "y").prepare


@pytest.mark.parametrize(
    ("columns", "asked"),
    [
        ({"code": ["uv"[row % 2] for row in ROWS], "y": ["ab"[row % 2] for row in ROWS]}, "code"),
        ({"cents": X * 700 + 3, "y": X * 7}, "x"),
        ({"z": X * 3 % 5, "y": X * 2 % 7}, None),
        ({"z": ["uuv"[row % 3] for row in ROWS], "y": ["ab"[row % 2] for row in ROWS]}, None),
    ],
)
def test_a_column_that_tells_the_target_is_asked_about(
    columns: dict[str, Any], asked: str | None, tmp_path: Path
) -> None:
    findings = proposal(tmp_path, columns).findings
    questions = [finding for finding in findings if "tells the target exactly" in finding]
    assert [question.split("'")[1] for question in questions[:1]] == ([asked] if asked else [])


@pytest.mark.parametrize("test", ["test.csv", "Test.CSV"])
def test_the_folder_of_a_competition(test: str, tmp_path: Path) -> None:
    table = pd.DataFrame({"Id": ROWS, "felled": ROWS % 2, "x": X, "wood": ["oak", "pine", "ash"] * 40})
    table.to_csv(tmp_path / "train.csv", index=False)
    table.drop(columns="felled").to_csv(tmp_path / test, index=False)
    pd.DataFrame({"Id": ROWS, "Fell": 0}).to_csv(tmp_path / "sample_submission.csv", index=False)
    found = propose(tmp_path, None)
    prepared = plain(found.prepare)
    assert (prepared["target"], prepared.get("test"), found.files) == ("felled", None, ["train.csv"])
    assert found.predict == f"--data.input {tmp_path / test}"
    assert prepared["prediction_columns"] == ["Id", "Fell"]
    assert f"'{test}' has no target: it is what to predict" in found.findings


@pytest.mark.parametrize(
    ("named", "target", "dropped"),
    [
        ("visits", "visits", ["members", "label"]),
        ("felled", "label", ["members", "visits"]),
        (None, "label", ["members", "visits"]),
    ],
)
def test_columns_that_the_test_table_lacks_are_no_features(
    named: str | None, target: str, dropped: list[str], tmp_path: Path
) -> None:
    made = {"members": ROWS * 7 % 11 + 0.5, "visits": ROWS * 5 % 13 + 0.5, "label": ROWS * 3 % 31 + 0.25}
    table = pd.DataFrame({"x": X, "price": X * 2 % 7, **made})
    table.to_csv(tmp_path / "train.csv", index=False)
    table.drop(columns=list(made)).to_csv(tmp_path / "test.csv", index=False)
    if named:
        pd.DataFrame({"row": ROWS, named: 0}).to_csv(tmp_path / "submission.csv", index=False)
    found = propose(tmp_path, None)
    settings = plain(found.prepare)
    assert (settings["target"], settings["drop"]) == (target, dropped)
    names = ", ".join(map(repr, dropped))
    assert f"left out: {names}: test.csv does not have it" in found.findings
    prepare(tmp_path, tmp_path / "prepared", Preparation(**settings))


def test_a_group_that_the_test_table_lacks_still_splits_the_rows(tmp_path: Path) -> None:
    table = pd.DataFrame({"patient_id": ROWS // 3, "x": X, "hours": X * 2 % 7, "outcome": X * 3 % 5})
    table.to_csv(tmp_path / "train.csv", index=False)
    table[["x"]].to_csv(tmp_path / "test.csv", index=False)
    settings = plain(propose(tmp_path, None).prepare)
    assert (settings["target"], settings["group"], settings["drop"]) == ("outcome", "patient_id", ["hours"])
    prepare(tmp_path, tmp_path / "prepared", Preparation(**settings))


def test_a_usual_target_of_the_test_table_goes_before_a_guess(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": X, "label": ROWS % 3, "source": ROWS % 4, "annotator": ROWS % 5})
    table.to_csv(tmp_path / "train.csv", index=False)
    table[["x", "label"]].to_csv(tmp_path / "test.csv", index=False)
    settings = plain(propose(tmp_path, None).prepare)
    assert (settings["target"], settings["test"]) == ("label", "test.csv")


def test_the_last_of_the_columns_that_the_test_table_lacks_is_a_guess(tmp_path: Path) -> None:
    table = pd.DataFrame({"price": X, "casual": X * 2 % 7, "count": X * 3 % 5, "season": ROWS % 4})
    table.to_csv(tmp_path / "train.csv", index=False)
    table[["price", "season"]].to_csv(tmp_path / "test.csv", index=False)
    assert plain(propose(tmp_path, None).prepare)["target"] == "count"


@pytest.mark.parametrize(
    ("first", "id", "columns"),
    [
        ("account", "account", ["account", "felled"]),
        ("code_id", "code_id", ["code_id", "felled"]),  # of two ids that of the submission
        ("ImageId", "account", ["ImageId", "felled"]),  # in no table: rows are counted
        ("x", "account", None),
        ("when", "account", None),
    ],
)
def test_predictions_have_the_columns_of_a_submission_if_its_first_one_is_the_id(
    first: str, id: str, columns: list[str] | None, tmp_path: Path
) -> None:
    when = pd.date_range("2024-01-01", periods=len(ROWS)).strftime("%Y-%m-%d")
    table = pd.DataFrame({"account": UNIQUE, "code_id": UNIQUE[::-1], "when": when, "x": X})
    table.assign(felled=X * 2 % 7).to_csv(tmp_path / "train.csv", index=False)
    table.to_csv(tmp_path / "test.csv", index=False)
    pd.DataFrame({first: ROWS, "felled": 0}).to_csv(tmp_path / "sample_submission.csv", index=False)
    found = propose(tmp_path, None)
    settings = plain(found.prepare)
    assert (settings["id"], settings.get("prediction_columns")) == (id, columns)
    told = f"the submission begins with '{first}', which is not the id here"
    assert any(told in finding for finding in found.findings) == (columns is None)


def test_the_target_of_files_without_headers_is_asked_for(tmp_path: Path) -> None:
    table = pd.DataFrame({"y": X * 2 % 7 + 0.5, "x": X, "z": X * 3 % 5})
    table.to_csv(tmp_path / "train.csv", index=False, header=False)
    table[["x", "z"]].to_csv(tmp_path / "test.csv", index=False, header=False)
    with pytest.raises(
        ConfigurationError, match=r"--target: test\.csv has fewer columns.* column_1 to column_3"
    ):
        propose(tmp_path, None)
    found = propose(tmp_path, "column_1")
    settings = plain(found.prepare)
    assert (settings["target"], settings.get("test"), settings.get("drop")) == ("column_1", None, None)
    assert "'test.csv' has no target: it is what to predict" in found.findings


def test_keys_that_are_often_varied_are_written_out(tmp_path: Path) -> None:
    prepared = plain(proposal(tmp_path, {"y": X * 2 % 7}).prepare)
    usual = {
        "impute",
        "missing_indicators",
        "transform",
        "scale",
        "min_frequency",
        "test_share",
        "validation_share",
        "seed",
        "target_transform",
    }
    assert usual <= set(prepared)


def cells(form: str) -> list[str]:
    return [form.format(row % 50) for row in ROWS]


@pytest.mark.parametrize(
    ("z", "options", "keys", "seen"),
    [
        (cells("{}%"), {}, {"units": {"z": "%"}}, "column 'z': '0%' may be the number 0"),
        (cells("{},5"), {"sep": ";", "decimal": ","}, {"decimal": ","}, "0,0' may be the number 0"),
        (cells("1.{:03},5"), {"sep": ";", "decimal": ","}, {"decimal": ",", "thousands": "."}, "1.000,5"),
        (cells("名{}"), {"encoding": "gb18030"}, {"encoding": "gb18030"}, "all of it is gb18030"),
        (cells("{}.5"), {"header": False}, {"header": "none"}, "has values, not names"),
        (cells("{}"), {"sep": " "}, {"delimiter": " "}, "spaces cut the lines into 3 cells"),
    ],
)
def test_the_keys_that_a_table_needs_are_found_and_explained(
    z: list[str], options: dict[str, Any], keys: dict[str, Any], seen: str, tmp_path: Path
) -> None:
    pd.DataFrame({"x": X, "z": z, "y": X * 2 % 7}).to_csv(tmp_path / "t.csv", index=False, **options)
    found = propose(tmp_path / "t.csv", None)
    settings = plain(found.prepare)
    # the order of the keys of a proposal is that of Reading
    assert list(settings["reading"].items()) == [(key, keys[key]) for key in settings["reading"]]
    assert seen in next(finding for finding in found.findings if finding.startswith("read with `reading: {"))
    settings["reading"] = Reading(**settings["reading"])
    prepare(tmp_path, tmp_path / "prepared", Preparation(**settings))


def test_a_plain_table_needs_no_keys(tmp_path: Path) -> None:
    found = proposal(tmp_path, {"y": X * 2 % 7})
    assert "reading" not in found.prepare
    assert not any("read with" in finding for finding in found.findings)


def test_only_the_user_can_choose_between_two_readings(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x;y\n" + "".join(f"1.{row + 100};{row}\n950;{row}\n" for row in range(50)))
    with pytest.raises(DataError, match="1100; choose --reading") as caught:
        propose(path, None)
    ways = [json.loads(way) for way in str(caught.value).split("'") if way.startswith("{")]
    assert ways == [{"decimal": "."}, {"decimal": ",", "thousands": "."}]
    for way in ways:
        found = propose(path, None, reading=Reading(**way))
        assert plain(found.prepare)["reading"] == way
        assert any("}`: by --reading" in finding for finding in found.findings)


def test_columns_that_need_different_notations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"column 'x': '0\.0' is no number with `reading`"):
        proposal(tmp_path, {"z": cells("{},5"), "y": X * 2 % 7})
    with pytest.raises(DataError, match=r"column 'z': '0,5' may be the number 0\.5; choose --reading"):
        propose(tmp_path / "table.csv", None, reading=Reading(decimal="."))


@pytest.mark.parametrize(("form", "mark"), [("{},5", "-"), ("{},5", "无"), ("{}%", "无"), ("{}", "无")])
def test_a_text_among_numbers_of_any_notation_is_read_as_missing(
    form: str, mark: str, tmp_path: Path
) -> None:
    z = [mark if row % 5 == 0 else form.format(row) for row in ROWS]
    found = proposal(tmp_path, {"x": ROWS * 37 % 121, "z": z, "y": ROWS * 11 % 101})
    settings = plain(found.prepare)
    assert settings["missing"] == [*MISSING, mark]
    assert "features: 2 numbers, 0 categorical" in "\n".join(found.findings)
    settings["reading"] = Reading(**settings.get("reading", {}))
    prepare(tmp_path, tmp_path / "prepared", Preparation(**settings))
    del settings["missing"]
    with pytest.raises(DataError, match=rf"row 1, column 'z': .*'{mark}'"):
        prepare(tmp_path, tmp_path / "prepared", Preparation(**settings))


def test_a_class_of_the_target_is_no_mark_of_missing_cells(tmp_path: Path) -> None:
    y = [["died", "recovered", "unknown"][row % 3] for row in ROWS]
    age = ["unknown" if row % 30 == 7 else row * 7 % 89 for row in ROWS]
    with pytest.raises(DataError, match="row 8, column 'age': 'unknown' is a text among numbers"):
        proposal(tmp_path, {"age": age, "y": y}, target="y")
    z = ["?" if row % 30 == 7 else row * 7 % 89 for row in ROWS]
    found = proposal(tmp_path, {"z": z, "y": y}, target="y")
    assert plain(found.prepare)["missing"] == [*MISSING, "?"]
    assert "3 classes ('died', 'recovered', 'unknown')" in "\n".join(found.findings)


def test_numbers_that_are_not_finite_are_read_as_missing(tmp_path: Path) -> None:
    z = ["inf" if row == 3 else "-Infinity" if row == 9 else row * 1.5 for row in ROWS]
    found = proposal(tmp_path, {"z": z, "y": ["inf" if row == 5 else row * 37 % 121 / 4 for row in ROWS]})
    settings = plain(found.prepare)
    assert settings["missing"] == [*MISSING, "-Infinity", "inf"]
    assert settings["missing_target"] == "drop"
    assert "also read as missing: '-Infinity', 'inf'" in "\n".join(found.findings)
    prepare(tmp_path, tmp_path / "prepared", Preparation(**settings))


@pytest.mark.parametrize("mark", ["3+", "<5"])
def test_a_mark_with_a_digit_is_a_category_beside_few_numbers_else_refused(mark: str, tmp_path: Path) -> None:
    few = [mark if row % 20 == 0 else row % 3 for row in ROWS]
    found = proposal(tmp_path, {"z": few, "y": X * 2 % 7})
    settings = plain(found.prepare)
    assert settings["column_types"] == {"z": "categorical"}
    assert "missing" not in settings
    prepare(tmp_path, tmp_path / "prepared", Preparation(**settings))
    with pytest.raises(
        DataError, match=f"row 1, column 'z': '.{mark[1:]}' is a text among numbers".replace("+", "[+]")
    ):
        proposal(tmp_path, {"z": [mark, *ROWS[1:]], "y": X * 2 % 7})
    settings = {"target": "y", "train": "table.csv", "task": "regression"}
    with pytest.raises(DataError, match=f"row 1, column 'z': .*'.{mark[1:]}'".replace("+", "[+]")):
        prepare(tmp_path, tmp_path / "prepared", Preparation(**settings))
    for keys in ({"missing": [*MISSING, mark]}, {"column_types": {"z": "categorical"}}):
        prepare(tmp_path, tmp_path / "prepared", Preparation(**settings, **keys))


def test_a_word_among_the_numbers_of_a_target_is_a_class(tmp_path: Path) -> None:
    found = proposal(tmp_path, {"y": ["other" if row % 5 == 0 else row % 3 for row in ROWS]})
    assert plain(found.prepare)["task"] == "classification"
    assert "missing" not in found.prepare


def test_rows_without_a_target_are_left_out_and_counted(tmp_path: Path) -> None:
    found = proposal(tmp_path, {"y": [None, None, *X[2:] * 2 % 7]})
    assert found.prepare["missing_target"] == ("drop", "leaves out 2 of 120 rows")
    assert "left out: 2 of 120 rows without a target; see `missing_target`" in found.findings
    prepare(tmp_path, tmp_path / "prepared", Preparation(**plain(found.prepare)))


@pytest.mark.parametrize("form", ["{} Jan 2024", "2024年5月{}日", "5/{}/2024"])
def test_dates_are_features_of_the_calendar(form: str, tmp_path: Path) -> None:
    found = proposal(tmp_path, {"z": [form.format(row % 19 + 10) for row in ROWS], "y": X * 2 % 7})
    assert "dates; `time: z` would test on the latest rows" in found.prepare["column_types"]["z"].note
    assert "features: 1 number, 0 categorical, 1 of dates" in found.findings


@pytest.mark.parametrize("form", ["10:{}"])
def test_times_are_no_feature(form: str, tmp_path: Path) -> None:
    found = proposal(tmp_path, {"z": [form.format(row % 19 + 10) for row in ROWS], "y": X * 2 % 7})
    assert plain(found.prepare)["drop"] == ["z"]
    assert any(finding.startswith("left out: 'z': times") for finding in found.findings)


@pytest.mark.parametrize(
    "name", ["t.csv.gz", "t.csv.zip", "t.zip", "t.txt", "t.data", "t.jsonl", "split.json", "index.json"]
)
def test_tables_with_other_endings(name: str, tmp_path: Path) -> None:
    table, path = pd.DataFrame({"x": X, "y": ROWS % 2}), tmp_path / "in" / name
    path.parent.mkdir()
    (path.parent / "notes.md").touch()
    if name.endswith("json"):
        table.to_json(path, orient=path.stem)  # type: ignore[call-overload]
    elif name.endswith("jsonl"):
        table.to_json(path, orient="records", lines=True)
    elif name == "t.zip":
        table.to_csv(path, index=False, compression={"method": "zip", "archive_name": "t.csv"})
    else:
        table.to_csv(path, index=False)
    for source in (path, path.parent):
        found = propose(source, None)
        assert (found.files, plain(found.prepare)["target"]) == ([name], "y")
        assert found.findings[0].startswith(f"{name}: 120 rows, 2 columns")


def test_a_text_beside_a_table_is_no_table_and_a_competition_may_be_compressed(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": X, "felled": ROWS % 2})
    table.to_csv(tmp_path / "train.csv.gz", index=False)
    table[["x"]].to_csv(tmp_path / "Test.csv.zip", index=False)
    (tmp_path / "README.txt").write_text("about\n")
    found = propose(tmp_path, None)
    assert (found.files, plain(found.prepare)["target"]) == (["train.csv.gz"], "felled")
    assert "'Test.csv.zip' has no target: it is what to predict" in found.findings
