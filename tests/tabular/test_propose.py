from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from src.core.errors import ConfigurationError, DataError
from src.preparation.proposals import plain
from src.tabular.propose import propose
from src.tabular.values import MISSING

ROWS = range(60)
COLUMNS: dict[str, list[Any]] = {
    "x": [row % 13 + 0.5 for row in ROWS],
    "price": [100 + row % 31 for row in ROWS],
}


@pytest.fixture(autouse=True, params=["as a whole", "in blocks"])
def reading_of_files(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are read as small and as large ones: the proposal is the same."""
    if request.param == "in blocks":
        monkeypatch.setattr("src.tabular.reading.LARGE", 0)


def proposed(folder: Path, columns: dict[str, list[Any]], target: str | None = None) -> dict[str, Any]:
    """The section `prepare` for a table of some columns."""
    path = folder / "table.csv"
    pd.DataFrame(COLUMNS | columns).to_csv(path, index=False)
    return plain(propose(path, target).prepare)


@pytest.mark.parametrize(
    ("columns", "target", "found"),
    [
        ({}, None, ("price", "regression")),
        ({"z": [row % 3 for row in ROWS]}, "z", ("z", "classification")),
        ({"z": [row % 30 for row in ROWS]}, "z", ("z", "regression")),
        ({"z": [row % 3 + 0.5 for row in ROWS]}, "z", ("z", "regression")),
        ({"z": [row % 2 + 0.5 for row in ROWS]}, "z", ("z", "classification")),
        ({"z": ["no" if row % 3 else "yes" for row in ROWS]}, "z", ("z", "classification")),
        ({"z": [row % 3 == 0 for row in ROWS]}, "z", ("z", "classification")),
        ({"Label": [row % 3 for row in ROWS], "z": list(ROWS)}, None, ("Label", "classification")),
    ],
)
def test_the_target_and_what_it_is(
    columns: dict[str, list[Any]], target: str | None, found: tuple[str, str], tmp_path: Path
) -> None:
    prepare = proposed(tmp_path, columns, target)
    assert (prepare["target"], prepare["task"]) == found


@pytest.mark.parametrize(
    ("name", "values", "key", "found"),
    [
        ("house_id", [9 * row % 61 for row in ROWS], "id", "house_id"),
        ("t", list(ROWS), "id", "t"),
        ("z", [7 * row % 1009 for row in ROWS], "id", None),
        ("z", [row + 0.25 for row in ROWS], "id", None),
        ("z", [f"name {row}" for row in ROWS], "id", "z"),
        ("z", [f"name {row % 40}" for row in ROWS], "drop", ["z"]),
        ("z", [f"name {row % 4}" for row in ROWS], "drop", None),
        ("z", [None] * len(ROWS), "drop", ["z"]),
        ("z", [5] * len(ROWS), "drop", ["z"]),
        ("z", [5, *[None] * (len(ROWS) - 1)], "drop", None),
        ("z", [f"2024-01-{row % 28 + 1:02}" for row in ROWS], "column_types", {"z": "date"}),
        ("z", [f"{row % 28 + 1}.1.2024 10:30" for row in ROWS], "column_types", {"z": "date"}),
        ("z", [20190101 + row % 28 for row in ROWS], "column_types", {"z": "date"}),
        ("z", [None, *[20190101 + row % 28 for row in ROWS[1:]]], "column_types", {"z": "date"}),
        ("z", [20190101 + row % 40 for row in ROWS], "column_types", None),
        (
            "z",
            [f"{row % 28 + 1}/1/2024" for row in ROWS],
            "column_types",
            {"z": {"kind": "date", "day_first": True}},
        ),
        (
            "z",
            [f"1/{row % 28 + 1}/2024" for row in ROWS],
            "column_types",
            {"z": {"kind": "date", "day_first": False}},
        ),
        ("z", [f"1/{row % 9 + 1}/2024" for row in ROWS], "drop", ["z"]),
        ("z", [f"{row % 24}:30" for row in ROWS], "drop", ["z"]),
        ("z", ["Yes" if row % 3 else "No" for row in ROWS], "column_types", {"z": "boolean"}),
        ("z", ["Yes" if row % 3 else "Perhaps" for row in ROWS], "column_types", None),
        (
            "z",
            [["Low", "High", "Medium"][row % 3] for row in ROWS],
            "column_types",
            {"z": {"kind": "ordered", "order": ["Low", "Medium", "High"]}},
        ),
        (
            "z",
            [["critical", "low", "high"][row % 3] for row in ROWS],
            "column_types",
            {"z": {"kind": "ordered", "order": ["low", "high", "critical"]}},
        ),
        ("z", [["red", "high", "low"][row % 3] for row in ROWS], "column_types", None),
        (
            "z",
            [f"the {row}th of many long sentences about the state of a house" for row in ROWS],
            "column_types",
            {"z": "text"},
        ),
        (
            "subject",  # of a message, not a person's name
            [f"the {row}th of many long sentences about the state of a house" for row in ROWS],
            "column_types",
            {"subject": "text"},
        ),
        ("subject", [f"Aleksandra-Maria {row} von Hohenstein-Oberfranken" for row in ROWS], "id", "subject"),
        ("z", [f"{row:064x}" for row in ROWS], "id", "z"),
        ("split", ["test" if row % 5 else "Train" for row in ROWS], "split_column", "split"),
        ("split", ["left" if row % 5 else "train" for row in ROWS], "split_column", None),
        ("zip", [row % 5 for row in ROWS], "column_types", {"zip": "categorical"}),
        ("zip", [row % 2 for row in ROWS], "column_types", None),
        ("z", [row % 5 for row in ROWS], "column_types", None),
        ("z", [f"{row % 5:03}" for row in ROWS], "column_types", {"z": "categorical"}),
        ("z", ["?", *ROWS[1:]], "missing", [*MISSING, "?"]),
        ("z", ["none", "unknown", *ROWS[2:]], "missing", [*MISSING, "none", "unknown"]),
        ("z", [*ROWS[2:], "not seen", "not seen"], "missing", [*MISSING, "not seen"]),
        ("z", [f"{row}" if row % 3 else f"A{row}" for row in ROWS], "missing", None),
        ("z", ["none" if row % 2 else "some" for row in ROWS], "missing", None),
        ("z", ["none" if row % 2 else "some" for row in ROWS], "min_frequency", 10),
        ("z", [1.5 * row for row in ROWS], "min_frequency", 1),
    ],
)
def test_what_becomes_of_a_column(name: str, values: list[Any], key: str, found: Any, tmp_path: Path) -> None:
    assert proposed(tmp_path, {name: values}).get(key) == found


def test_a_row_number_is_learnt_from_where_there_is_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "line.csv"
    pd.DataFrame({"x": ROWS, "y": [2.5 * row + row % 2 for row in ROWS]}).to_csv(path, index=False)
    assert "id" not in propose(path, None).prepare


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([2.0**row for row in range(60)], ["log", "standardize"]),
        ([2.0**row - 1 for row in range(60)], "standardize"),
        ([100.0 + row for row in range(60)], "standardize"),
    ],
)
def test_the_logarithm_of_a_skewed_positive_target(values: list[float], found: Any, tmp_path: Path) -> None:
    assert proposed(tmp_path, {"price": values})["target_transform"] == found


def test_unbalanced_classes_are_told(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    pd.DataFrame({"x": COLUMNS["x"], "sick": [row % 10 == 0 for row in ROWS]}).to_csv(path, index=False)
    assert any("90% of the rows are 'False'" in finding for finding in propose(path, "sick").findings)


@pytest.mark.parametrize(("with_target", "test"), [(True, "test.csv"), (False, None)])
def test_an_official_test_part_has_the_target(with_target: bool, test: str | None, tmp_path: Path) -> None:
    table = pd.DataFrame(COLUMNS)
    table.to_csv(tmp_path / "train.csv", index=False)
    (table if with_target else table[["x"]]).to_csv(tmp_path / "test.csv", index=False)
    proposal = propose(tmp_path, None)
    assert proposal.prepare.get("test", (None,))[0] == test
    assert proposal.files == ["train.csv", *([test] if test else [])]


@pytest.mark.parametrize("ending", ["json", "xlsx", "tsv"])
def test_other_kinds_of_tables(ending: str, tmp_path: Path) -> None:
    path, table = tmp_path / f"table.{ending}", pd.DataFrame(COLUMNS)
    if ending == "json":
        table.to_json(path, orient="records")
    elif ending == "xlsx":
        table.to_excel(path, index=False)
    else:
        table.to_csv(path, index=False, sep="\t")
    proposal = propose(tmp_path, None)
    assert proposal.files == [path.name]
    assert plain(proposal.prepare)["target_transform"] == "standardize"


def configuration(folder: Path, times: int) -> Any:
    """The configuration that is proposed for a table of 60 rows, each repeated."""
    table = pd.DataFrame({name: values * times for name, values in COLUMNS.items()})
    table.to_csv(folder / "t.csv", index=False)
    return plain(propose(folder / "t.csv", None).configuration)


def test_more_rows_have_larger_batches(tmp_path: Path) -> None:
    found = [configuration(tmp_path, times)["data"] for times in (1, 30, 100)]
    assert [data["init_args"]["batch_size"] for data in found] == [16, 128, 256]
    assert {data["class_path"] for data in found} == {"src.tabular.data.FoldedData"}


def test_a_large_table_has_one_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = configuration(tmp_path, 500)
    assert small["model"]["class_path"] == "src.tabular.ensemble.TabularEnsemble"
    monkeypatch.setattr("src.tabular.proposed_training.MOST_CELLS", 60 * 500 * len(COLUMNS))
    large = configuration(tmp_path, 500)
    assert large["model"]["class_path"] == "src.tabular.model.TabularModel"
    assert large["data"]["init_args"]["batch_size"] == 256
    assert large["model"]["init_args"]["network"]["init_args"]["hidden_sizes"] == [256, 128]


def test_groups_are_not_cut_into_folds(tmp_path: Path) -> None:
    table = pd.DataFrame({name: values * 2 for name, values in COLUMNS.items()})
    table["patient"] = [f"P{row // 4}" for row in range(len(table))]
    table.to_csv(tmp_path / "t.csv", index=False)
    found = propose(tmp_path / "t.csv", "price")
    assert "group" in found.prepare
    assert plain(found.configuration)["data"]["class_path"] == "src.tabular.data.TabularData"


@pytest.mark.parametrize(
    ("values", "error", "told"),
    [
        ([f"text {row}" for row in ROWS], ConfigurationError, "60 texts in 60 rows are too many for classes"),
        ([*ROWS[4:], "a", "b", "c", "d"], DataError, "row 57, column 'z': 'a' is a text among numbers"),
        (["1,5", *["2,5"] * 59], DataError, "row 1, column 'x': '0.5' is no number with `reading`"),
    ],
)
def test_targets_that_are_none(values: list[Any], error: type[Exception], told: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=told):
        proposed(tmp_path, {"z": values}, "z")


@pytest.mark.parametrize(
    ("target", "times", "found"),
    [
        ([row % 31 + 0.5 for row in ROWS], 1, {"interval": 0.9}),
        (["a" if row % 3 else "b" for row in ROWS], 10, {}),
        (["no" if row % 10 else "yes" for row in ROWS], 10, {"threshold": "f1"}),
        # six rows are too few to learn a class from: weights would let them decide everything
        (["no" if row % 10 else "yes" for row in ROWS], 1, {}),
        (["no" if row % 10 else f"yes {row % 20}" for row in ROWS], 10, {"class_weights": "auto"}),
    ],
)
def test_decisions_where_they_make_sense(
    target: list[Any], times: int, found: dict[str, Any], tmp_path: Path
) -> None:
    rows = pd.DataFrame({"x": range(60 * times), "z": target * times})
    rows.to_csv(tmp_path / "t.csv", index=False)
    proposal = propose(tmp_path / "t.csv", "z")
    keys = plain(proposal.configuration)["model"]["init_args"]
    decisions = ("interval", "threshold", "class_weights", "calibrate")
    assert {name: keys[name] for name in decisions if name in keys} == found
    for name, value in found.items():
        assert any(finding.startswith(f"{name}: {value}: ") for finding in proposal.findings)


def test_one_network_of_classes_is_calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.tabular.proposed_training.MOST_CELLS", 10)
    pd.DataFrame({"x": ROWS, "z": ["a", "b", "b"] * 20}).to_csv(tmp_path / "t.csv", index=False)
    assert plain(propose(tmp_path / "t.csv", "z").configuration)["model"]["init_args"]["calibrate"] is True
