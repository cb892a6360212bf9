"""What new_task proposes about ids, groups, copies, doubtful targets and folders of a competition."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.core.errors import ConfigurationError, DataError
from src.preparation.proposals import plain
from src.tabular.prepare import Preparation, prepare
from src.tabular.propose import Task, propose

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
    for task, loss in (("regression", "smooth_l1"), ("classification", "cross_entropy")):
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


def test_a_class_of_one_row_is_left_out_where_two_others_remain(tmp_path: Path) -> None:
    found = proposal(tmp_path, {"y": ["c", *("ab"[row % 2] for row in ROWS[1:])]})
    assert plain(found.prepare)["drop_rare_classes"] == 2
    assert "left out: 'c': classes of one row; see `drop_rare_classes`" in found.findings


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


def test_keys_that_are_often_varied_are_written_out(tmp_path: Path) -> None:
    prepared = plain(proposal(tmp_path, {"y": X * 2 % 7}).prepare)
    usual = {"impute", "scale", "min_frequency", "test_share", "validation_share", "seed", "target_transform"}
    assert usual <= set(prepared)
