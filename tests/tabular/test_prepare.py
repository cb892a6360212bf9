import json
import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, RobustScaler, StandardScaler

from pipelines.parameters import checked
from src.core.errors import ConfigurationError, DataError
from src.tabular.data import load_split
from src.tabular.dialect import Reading
from src.tabular.prepare import Preparation, feature_names, learn_column, prepare
from src.tabular.preprocessing import Preprocessing, Target, transform
from src.tabular.reading import read_table

ROWS = 40
NUMBERS = [float(3 * row % 17) for row in range(ROWS)]
KINDS = ["brick", "wood", "stone", "brick"] * (ROWS // 4)
PRICES = [float(100_000 + 7_000 * (row % 11)) for row in range(ROWS)]
CLASSES = ["high", "low"] * (ROWS // 2)
# counted from 1, as the default settings split this many rows
TRAINING_ROW, HELD_OUT_ROW = 4, 5
SPLITS = ("train", "validation", "test")

Columns = dict[str, Sequence[Any]]
Array = NDArray[Any]


def csv_of(**columns: Sequence[Any]) -> str:
    rows = zip(*columns.values(), strict=True)
    lines = [",".join("NA" if cell is None else str(cell) for cell in row) for row in rows]
    return "\n".join([",".join(columns), *lines]) + "\n"


def changed(values: Sequence[Any], row: int, value: Any) -> list[Any]:
    """The values with another one in a row, counted from 1 as in messages."""
    copy = list(values)
    copy[row - 1] = value
    return copy


HOUSES: Columns = {"Area": NUMBERS, "Kind": KINDS, "Price": PRICES}
PLAIN = csv_of(**HOUSES)


def run(folder: Path, files: dict[str, str | bytes], **settings: Any) -> Path:
    """Prepare raw files in `folder`; the folder of the result."""
    (folder / "raw").mkdir(exist_ok=True)
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.encode()
        (folder / "raw" / name).write_bytes(data)
    prepare(folder / "raw", folder / "prepared", Preparation(**{"target": "Price", **settings}))
    return folder / "prepared"


def array(prepared: Path, name: str) -> Array:
    """The features or the target of a split."""
    split, part = name.split("_")
    return load_split(prepared, split)[["features", "target"].index(part)].numpy()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def learnt_in(prepared: Path) -> dict[str, Any]:
    return json.loads((prepared / "preprocessing.json").read_text(encoding="utf-8"))


def split_in(prepared: Path) -> dict[int, str]:
    frame = pd.read_csv(prepared / "split.csv")
    return dict(zip(frame["row"], frame["split"], strict=True))


def rows_of(prepared: Path, split: str) -> list[int]:
    """The rows of a split, counted from 0."""
    return [row - 1 for row, name in split_in(prepared).items() if name == split]


def learn(columns: Columns, training: int | None = None, **settings: Any) -> tuple[Preprocessing, Array]:
    """What is learnt from the first rows, or all, and the features of all rows."""
    table, path = pd.DataFrame(columns), Path("train.csv")
    rows = np.arange(training or len(table))
    chosen = Preparation(**{"target": "Price", "scale": "none", **settings})
    learnt = [learn_column(table, name, rows, path, chosen) for name in feature_names(table, chosen)]
    preprocessing = Preprocessing([found[0] for found in learnt if found], [Target("Price")])
    return preprocessing, transform(table, preprocessing, path, Counter())


def test_the_worked_example_of_three_columns(tmp_path: Path) -> None:
    path = tmp_path / "houses.csv"
    path.write_text("NumRooms,Alley,Price\nNA,Pave,127500\n2,NA,106000\n4,NA,178100\nNA,NA,140000\n")
    learnt, features = learn(dict(read_table(path)), impute="mean")
    assert learnt.features == ["NumRooms", "Alley_Pave", "Alley_nan"]
    assert features.tolist() == [[3, 1, 0], [2, 0, 1], [4, 0, 1], [3, 0, 1]]


def test_arrays_and_descriptions_are_written(tmp_path: Path) -> None:
    prepared = run(tmp_path, {"train.csv": PLAIN, "labels.json": '{"Area": {"en": "area"}}'})
    names = [f"{split}_{part}.npy" for split in SPLITS for part in ("numbers", "codes", "target")]
    assert names_in(prepared) == sorted([*names, "manifest.json", "preprocessing.json", "split.csv"])
    learnt = learnt_in(prepared)
    assert learnt["features"] == ["Area", "Kind_brick", "Kind_stone", "Kind_wood"]
    assert learnt["labels"] == {"Area": {"en": "area"}}
    for split, rows in [("train", 28), ("validation", 4), ("test", 8)]:
        features, target = array(prepared, f"{split}_features"), array(prepared, f"{split}_target")
        assert (features.shape, features.dtype) == ((rows, 4), np.float32)
        assert (target.shape, target.dtype) == ((rows, 1), np.float32)


@pytest.mark.parametrize("name", ["train.json", "train.xlsx"])
def test_every_format_is_prepared_alike(tmp_path: Path, name: str) -> None:
    columns = {"Area": changed(NUMBERS, 3, None), "Kind": changed(KINDS, 5, None), "Price": PRICES}
    expected = run(tmp_path, {"train.csv": csv_of(**columns)}).rename(tmp_path / "of_csv")
    frame = pd.DataFrame(columns, dtype=object)
    if name == "train.json":
        (tmp_path / "raw" / name).write_text(json.dumps(frame.to_dict("records")))
    else:
        frame.to_excel(tmp_path / "raw" / name, index=False)
    found = run(tmp_path, {}, train=name)
    for path in expected.iterdir():
        assert (found / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_size_of_the_chunks_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tmp_path, {"train.csv": PLAIN}).rename(tmp_path / "whole")
    monkeypatch.setattr("src.tabular.prepare.CHUNK_ROWS", 3)
    cut = run(tmp_path, {"train.csv": PLAIN})
    for path in whole.iterdir():
        assert (cut / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_target_the_id_and_dropped_columns_are_no_features(tmp_path: Path) -> None:
    columns = {"Id": range(ROWS), "Street": KINDS, **HOUSES}
    prepared = run(tmp_path, {"train.csv": csv_of(**columns)}, id="Id", drop=["Street", "Kind"])
    assert learnt_in(prepared)["features"] == ["Area"]
    assert learnt_in(prepared)["id"] == "Id"


def house(column: str, row: int, value: Any) -> dict[str, str | bytes]:
    """The files of HOUSES with another value in a row of a column."""
    return {"train.csv": csv_of(**HOUSES | {column: changed(HOUSES[column], row, value)})}


def classes(*names: Any) -> dict[str, str | bytes]:
    return {"train.csv": csv_of(**HOUSES | {"Price": names})}


def official(*rows: str, header: str = "Area,Kind,Price") -> dict[str, str | bytes]:
    return {"test.csv": "\n".join([header, *rows]) + "\n"}


TEST: dict[str, Any] = {"test": "test.csv"}
CLASSIFY: dict[str, Any] = {"task": "classification"}


def test_the_rows_of_the_cases_are_where_they_are_taken_to_be(tmp_path: Path) -> None:
    split = split_in(run(tmp_path, {"train.csv": PLAIN}))
    assert (split[TRAINING_ROW], split[HELD_OUT_ROW]) == ("train", "test")


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize(
    ("files", "settings", "complaint"),
    [
        ({}, {"train": "absent.csv"}, r"absent\.csv: there is no such file"),
        ({}, {"test": "absent.csv"}, r"absent\.csv: there is no such file"),
        ({"train.csv": ""}, {}, r"train\.csv: the file is empty"),
        ({"train.csv": "Area,Price\n"}, {}, r"train\.csv: there are no rows below the header"),
        ({"train.csv": "A,A,Price\n1,2,3\n"}, {}, r"train\.csv: the column 'A' appears more than once"),
        ({"train.csv": PLAIN + "5\n"}, {}, r"train\.csv: row 41 has 1 cells"),
        ({"train.csv": PLAIN + '5,"brick,1\n'}, {}, r"train\.csv: line 42: unexpected end of data"),
        ({"train.csv": b"Area,Price\n1,\xff\n"}, {}, r"train\.csv: not UTF-8 at byte 13"),
        ({"train.csv": "Area\n1\n2\n"}, {}, r"train\.csv: the needed column 'Price' is missing"),
        ({"train.csv": "Area,Price\n1,2\n2,3\n"}, {}, r"train\.csv: 2 rows are too few for the split"),
        # cells
        (
            house("Area", TRAINING_ROW, "large"),
            {},
            r"train\.csv: row 4, column 'Area': expected a number, found 'large'; .*`column_types`",
        ),
        (house("Area", HELD_OUT_ROW, "large"), {}, r"train\.csv: row 5, column 'Area': .*'large'"),
        ({}, {"column_types": {"Kind": "numeric"}}, r"csv: row \d+, column 'Kind': '\w+' is not a number"),
        (official("1,brick,2", "x,wood,3"), TEST, r"test\.csv: row 2, column 'Area': 'x' is not a number"),
        (house("Area", TRAINING_ROW, "inf"), {}, r"train\.csv: row 4, column 'Area': .*inf.* is not finite"),
        (house("Area", HELD_OUT_ROW, "-inf"), {}, r"train\.csv: row 5, column 'Area': .*-inf.* not finite"),
        (house("Price", 9, "inf"), {}, r"train\.csv: row 9, column 'Price': .*inf.* is not finite"),
        # too large for the arrays, then for the variance
        (house("Area", TRAINING_ROW, "1e39"), {"scale": "none"}, r"train\.csv: row 4, column 'Area'"),
        (house("Price", TRAINING_ROW, "1e39"), {}, r"train\.csv: row 4.*'Price'"),
        (house("Area", TRAINING_ROW, "1e200"), {}, r"train\.csv: row 4, column 'Area'"),
        # columns
        (official("1,brick", header="Area,Kind"), TEST, r"test\.csv: the needed column 'Price' is missing"),
        (
            official("brick,2", "wood,3", header="Kind,Price"),
            TEST,
            r"test\.csv: the needed column 'Area' is missing",
        ),
        ({}, {"id": "Id"}, r"train\.csv: the needed column 'Id' is missing"),
        ({}, {"drop": ["Zone"]}, r"train\.csv: the needed column 'Zone' is missing"),
        ({}, {"column_types": {"Zone": "categorical"}}, r"train\.csv: the needed column 'Zone' is missing"),
        (
            {"train.csv": csv_of(Area=[None] * ROWS, Price=PRICES)},
            {},
            r"train\.csv: expected a feature column, found only the target 'Price'",
        ),
        (
            {"train.csv": csv_of(A=[1, None] * 20, B=[None, 1] * 20, Price=PRICES)},
            {"impute": "drop"},
            r"train\.csv: `impute: drop` leaves no row",
        ),
        # targets
        (house("Price", 6, None), {}, r"train\.csv: row 6: the target 'Price' is missing"),
        (classes(*changed(CLASSES, 6, None)), CLASSIFY, r"csv: row 6: the target 'Price' is missing"),
        (official("1,brick,2", "2,brick,NA"), TEST, r"test\.csv: row 2: the target 'Price' is missing"),
        (house("Price", 7, "dear"), {}, r"train\.csv: row 7, column 'Price': 'dear' is not a number"),
        (
            house("Price", 8, 0),
            {"target_transform": "log"},
            r"train\.csv: row 8: the target 'Price' is 0; `target_transform: log`",
        ),
        (
            official("1,brick,-2.5"),
            TEST | {"target_transform": ["log", "standardize"]},
            r"test\.csv: row 1: the target 'Price' is -2\.5",
        ),
        # classes
        (
            classes(*changed(CLASSES, 6, "middle")),
            CLASSIFY,
            "different rows of each class, found 1 of 'middle'",
        ),
        (
            classes(*["low"] * ROWS),
            CLASSIFY,
            r"train\.csv: .*'Price': expected two classes or more, found only 'low'",
        ),
        (
            classes(*CLASSES) | official("1,brick,low", "2,brick,huge"),
            CLASSIFY | TEST,
            r"test\.csv: row 2: the class 'huge' of the target 'Price' has no training row",
        ),
    ],
)
def test_wrong_input_is_refused_and_nothing_is_written(
    tmp_path: Path, files: dict[str, str | bytes], settings: dict[str, Any], complaint: str
) -> None:
    (tmp_path / "older").mkdir()
    (tmp_path / "older" / "preprocessing.json").write_text("older")
    for older in (False, True):
        if older:
            (tmp_path / "older").rename(tmp_path / "prepared")
        before = {path: path.read_bytes() for path in (tmp_path / "prepared").rglob("*")}
        with pytest.raises(DataError, match=complaint):
            run(tmp_path, {"train.csv": PLAIN, **files}, **settings)
        assert {path: path.read_bytes() for path in (tmp_path / "prepared").rglob("*")} == before
        assert names_in(tmp_path) == (["prepared", "raw"] if older else ["older", "raw"])


@pytest.mark.parametrize("scale", ["none", "standard", "minmax", "robust"])
@pytest.mark.parametrize("impute", ["mean", "median", "most_frequent", "constant"])
def test_numbers_come_out_as_scikit_learn_makes_them(impute: Any, scale: Any) -> None:
    scalers = {
        "none": FunctionTransformer(),
        "standard": StandardScaler(),
        "minmax": MinMaxScaler(),
        "robust": RobustScaler(),
    }
    pipeline = make_pipeline(SimpleImputer(strategy=impute, fill_value=-5.0), scalers[scale])
    train = np.array([[1, 8], [np.nan, 2.5], [4, np.nan], [4, -100], [11, 7], [1, 7]])
    other = np.array([[np.nan, 1e3], [-3, np.nan]])
    table = pd.DataFrame(np.vstack([train, other]), columns=["Area", "Rooms"])
    _, features = learn(dict(table), training=6, impute=impute, impute_constant=-5.0, scale=scale)
    expected = np.vstack([pipeline.fit_transform(train), pipeline.transform(other)])
    np.testing.assert_allclose(features, expected, rtol=1e-6, atol=1e-6)


def test_a_missing_number_becomes_the_constant() -> None:
    _, features = learn({"Area": [1, None, 3]}, impute="constant", impute_constant=-7.5)
    assert features.tolist() == [[1], [-7.5], [3]]


@pytest.mark.parametrize("scale", ["none", "standard", "minmax", "robust"])
def test_a_constant_column_has_finite_values(scale: str) -> None:
    learnt, features = learn({"Area": [0.1] * 7, "Price": [1] * 7}, scale=scale)
    # a constant is 0 up to rounding wherever something is subtracted from it
    np.testing.assert_allclose(features, 0.1 if scale == "none" else 0, atol=1e-7)
    other = transform(pd.DataFrame({"Area": [5.0]}), learnt, Path("train.csv"), Counter())
    np.testing.assert_allclose(other, 5 if scale == "none" else 4.9, rtol=1e-6)


@pytest.mark.parametrize("scale", ["none", "standard", "minmax", "robust"])
@pytest.mark.parametrize("impute", ["mean", "median", "most_frequent", "constant"])
def test_nothing_that_is_missing_comes_out_missing(tmp_path: Path, impute: str, scale: str) -> None:
    holes = [None if row % 3 == 0 else value for row, value in enumerate(NUMBERS)]
    kinds = [None if row % 4 == 0 else kind for row, kind in enumerate(KINDS)]
    text = csv_of(Area=holes, Rooms=holes[::-1], Kind=kinds, Price=PRICES)
    prepared = run(tmp_path, {"train.csv": text}, impute=impute, scale=scale)
    assert learnt_in(prepared)["features"][-1] == "Kind_nan"
    for split in SPLITS:
        assert np.isfinite(array(prepared, f"{split}_features")).all()


def test_a_column_that_training_rows_lack_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train = csv_of(**HOUSES, Pool=[None] * ROWS)
    test = csv_of(Area=[1, 2], Kind=["brick", "wood"], Price=[3, 4], Pool=[5, 6])
    prepared = run(tmp_path, {"train.csv": train, "test.csv": test}, test="test.csv")
    message = "column 'Pool' is missing in every training row: left out"
    assert caplog.record_tuples == [("src.tabular.prepare", logging.WARNING, message)]
    assert learnt_in(prepared)["features"] == ["Area", "Kind_brick", "Kind_stone", "Kind_wood"]


def test_a_constant_column_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path, {"train.csv": csv_of(**HOUSES, Rooms=[3] * (ROWS - 1) + [None])})
    assert caplog.messages == ["column 'Rooms' has only one number in the training rows"]


def test_numbers_become_categories_where_the_settings_say_so(tmp_path: Path) -> None:
    codes = [["060", "60", "7"][row % 3] for row in range(ROWS)]
    text = csv_of(Code=codes, Price=PRICES)
    prepared = run(tmp_path, {"train.csv": text}, column_types={"Code": "categorical"})
    assert learnt_in(prepared)["features"] == ["Code_060", "Code_60", "Code_7"]
    rows = rows_of(prepared, "train")
    expected = [[float(codes[row] == code) for code in ("060", "60", "7")] for row in rows]
    assert array(prepared, "train_features").tolist() == expected


def test_few_numbers_among_texts_and_booleans_are_categories() -> None:
    kinds, booleans = ["1", "2", "b", "c"], [True, False] * 2
    learnt, _ = learn({"Kind": kinds, "Central": booleans, "Price": [1, 2, 3, 4]})
    assert learnt.features == ["Kind_1", "Kind_2", "Kind_b", "Kind_c", "Central_False", "Central_True"]


@pytest.mark.parametrize(
    ("minimum", "categories", "rare"),
    [
        (1, ["brick", "stone", "wood", None], []),
        (2, ["brick", "wood"], ["stone", None]),
        (5, ["brick"], ["stone", "wood", None]),
        (0.2, ["brick", "wood"], ["stone", None]),
        (0.31, ["brick"], ["stone", "wood", None]),
        (0.05, ["brick", "stone", "wood", None], []),
    ],
)
def test_rare_categories_share_a_column(
    minimum: float, categories: list[str | None], rare: list[str | None]
) -> None:
    kinds = ["brick"] * 5 + ["wood"] * 3 + ["stone", None]
    learnt, features = learn({"Kind": kinds}, min_frequency=minimum)
    (column,) = learnt.categorical
    assert (column.categories, column.rare) == (categories, rare)
    names = [f"Kind_{category or 'nan'}" for category in categories] + ["Kind_rare"] * bool(rare)
    assert learnt.features == names
    assert features.tolist() == [
        [float(kind == category) for category in categories] + [float(kind in rare)] * bool(rare)
        for kind in kinds
    ]


def test_what_is_typical_is_the_median_or_the_commonest_category() -> None:
    columns: Columns = {
        "Area": [1, 50, None, 3, 9],
        "Alley": ["Pave", None, None, "Dirt", None],
        "Kind": ["wood", "brick", "brick", "wood", "stone"],
    }
    learnt, _ = learn(columns)
    assert [column.typical for column in learnt.columns] == [6.0, None, "brick"]


def test_a_missing_category_is_a_category() -> None:
    learnt, features = learn({"Alley": ["Pave", None, "Dirt"]})
    assert learnt.features == ["Alley_Dirt", "Alley_Pave", "Alley_nan"]
    assert features.tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert learnt.columns[0].missing == 1


def test_a_category_column_is_read_alike_in_the_test_file(tmp_path: Path) -> None:
    # without a letter in it, the column of the test file alone would pass for numbers
    train = csv_of(Code=["A1", "007"] * 20, Price=PRICES)
    files: dict[str, str | bytes] = {"train.csv": train, "test.csv": csv_of(Code=["007"] * 2, Price=[3, 4])}
    prepared = run(tmp_path, files, test="test.csv")
    assert learnt_in(prepared)["features"] == ["Code_007", "Code_A1"]
    assert array(prepared, "test_features").tolist() == [[1, 0]] * 2


def test_very_many_categories_are_worth_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    learn({"Street": [f"street {number}" for number in range(60)]})
    assert caplog.messages == [
        "column 'Street' has 60 categories in 60 rows: consider `drop` or `min_frequency`"
    ]


def dropped(folder: Path) -> tuple[Path, list[int]]:
    """Prepared data with `impute: drop`, and the rows that are incomplete, counted from 0."""
    area, rooms = [*NUMBERS], [*NUMBERS[::-1]]
    for row in range(0, ROWS, 5):
        area[row] = None
        rooms[row + 2] = None
    text = csv_of(Area=area, Rooms=rooms, Kind=changed(KINDS, 2, None), Price=PRICES)
    prepared = run(folder, {"train.csv": text}, impute="drop", target_transform="standardize")
    return prepared, [row for row in range(ROWS) if row % 5 in (0, 2)]


def test_drop_leaves_incomplete_rows_out_of_every_split_and_of_all_that_is_learnt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = split_in(run(tmp_path, {"train.csv": PLAIN}))
    prepared, incomplete = dropped(tmp_path)
    # a missing category is no reason: it is a category of its own
    assert split_in(prepared) == {row: split for row, split in whole.items() if row - 1 not in incomplete}
    for split in SPLITS:
        rows = len(rows_of(prepared, split))
        assert [len(array(prepared, f"{split}_{part}")) for part in ("features", "target")] == [rows, rows]
    assert sum(int(re.findall(r"(\d+) incomplete rows left out", text)[0]) for text in caplog.messages) == 16

    kept = np.array(PRICES)[rows_of(prepared, "train")]
    target = learnt_in(prepared)["target"]
    assert (target["center"], target["scale"]) == pytest.approx((kept.mean(), kept.std()))
    numbers = array(prepared, "train_features")[:, :2]
    np.testing.assert_allclose(numbers.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(numbers.std(axis=0), 1, atol=1e-6)

    table = pd.DataFrame({"Area": [1, 2, None], "Rooms": 1, "Kind": None})
    with pytest.raises(DataError, match=r"^new\.csv: row 3, column 'Area': .*is missing"):
        transform(table, Preprocessing.load(prepared), Path("new.csv"), Counter())


@pytest.mark.parametrize("steps", ["none", "log", "standardize", ["log", "standardize"]])
def test_the_target_is_transformed_with_what_training_rows_teach(tmp_path: Path, steps: Any) -> None:
    prepared = run(tmp_path, {"train.csv": PLAIN}, target_transform=steps)
    values = np.array(PRICES)
    if "log" in steps:
        values = np.log(values)
    train = values[rows_of(prepared, "train")]
    center, scale = (train.mean(), train.std()) if "standardize" in steps else (0, 1)
    target = learnt_in(prepared)["target"]
    assert (target["center"], target["scale"]) == pytest.approx((center, scale))
    assert target["log"] == ("log" in steps)
    for split in SPLITS:
        expected = (values[rows_of(prepared, split)] - center) / scale
        np.testing.assert_allclose(array(prepared, f"{split}_target")[:, 0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("price", "steps"), [(0.1, "standardize"), (130_000, ["log", "standardize"])])
def test_a_constant_target_becomes_0(tmp_path: Path, price: float, steps: Any) -> None:
    text = csv_of(Area=NUMBERS, Price=[price] * ROWS)
    prepared = run(tmp_path, {"train.csv": text}, target_transform=steps)
    np.testing.assert_allclose(array(prepared, "train_target"), 0, atol=1e-6)


@pytest.mark.parametrize(("least", "expected"), [(1, True), (0.99, False)])
def test_it_is_noted_whether_targets_are_at_least_1(tmp_path: Path, least: float, expected: bool) -> None:
    prices = [least if row % 2 else 5 for row in range(ROWS)]
    prepared = run(tmp_path, {"train.csv": csv_of(Area=NUMBERS, Price=prices)})
    assert learnt_in(prepared)["target"]["at_least_one"] is expected


def test_classes_are_ordered_as_numbers_then_as_texts(tmp_path: Path) -> None:
    classes = ["b", "10", "2", "a", "-1.5"] * 8
    text = csv_of(Area=NUMBERS, Price=classes)
    prepared = run(tmp_path, {"train.csv": text}, task="classification", validation_share=0.25)
    ordered = learnt_in(prepared)["target"]["classes"]
    assert ordered == ["-1.5", "2", "10", "a", "b"]
    for split in SPLITS:
        target = array(prepared, f"{split}_target")
        assert (target.ndim, target.dtype) == (1, np.int64)
        assert [ordered[code] for code in target] == [classes[row] for row in rows_of(prepared, split)]


def test_classes_written_with_leading_zeros_stay_apart(tmp_path: Path) -> None:
    text = csv_of(Area=NUMBERS, Price=["01", "1"] * 20)
    prepared = run(tmp_path, {"train.csv": text}, task="classification")
    assert learnt_in(prepared)["target"]["classes"] == ["01", "1"]


def test_every_row_is_in_one_split_of_the_size_asked_for_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = csv_of(Area=range(100), Price=range(100))
    prepared = run(tmp_path, {"train.csv": text}, test_share=0.3, validation_share=0.2, scale="none")
    split = split_in(prepared)
    assert list(split) == list(range(1, 101))
    assert Counter(split.values()) == {"train": 56, "validation": 14, "test": 30}
    for name in SPLITS:
        for part in ("features", "target"):
            assert array(prepared, f"{name}_{part}")[:, 0].tolist() == rows_of(prepared, name)


def test_each_split_has_its_share_of_each_class(tmp_path: Path) -> None:
    classes = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    text = csv_of(Area=range(100), Price=classes)
    prepared = run(tmp_path, {"train.csv": text}, task="classification", validation_share=0.125)
    counts = {split: Counter(classes[row] for row in rows_of(prepared, split)) for split in SPLITS}
    assert counts == {
        "train": {"a": 42, "b": 21, "c": 7},
        "validation": {"a": 6, "b": 3, "c": 1},
        "test": {"a": 12, "b": 6, "c": 2},
    }


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_an_official_test_file_is_the_test_set_and_nothing_else(tmp_path: Path, task: Any) -> None:
    prices = [3, 4] if task == "regression" else ["low", "high"]
    columns = HOUSES if task == "regression" else HOUSES | {"Price": CLASSES}
    test = csv_of(Price=prices, Kind=["wood", "brick"], Area=[1000, 2000])
    files: dict[str, str | bytes] = {"train.csv": csv_of(**columns), "test.csv": test}
    prepared = run(tmp_path, files, test="test.csv", task=task, scale="none")
    assert array(prepared, "test_features").tolist() == [[1000, 0, 0, 1], [2000, 1, 0, 0]]
    target = array(prepared, "test_target")
    assert target.tolist() == ([[3], [4]] if task == "regression" else [1, 0])
    assert list(split_in(prepared)) == list(range(1, ROWS + 1))
    assert Counter(split_in(prepared).values()) == {"train": 36, "validation": 4}


def test_an_official_test_file_needs_no_column_that_is_dropped(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"train.csv": csv_of(**HOUSES | {"Buyer": KINDS}), "test.csv": PLAIN}
    prepared = run(tmp_path, files, test="test.csv", drop=["Buyer"])
    assert len(array(prepared, "test_features")) == ROWS


def test_the_rows_of_an_official_test_file_keep_their_numbers(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "train.csv": PLAIN,
        "test.csv": csv_of(Area=[1, None, 2, 3], Kind=["wood"] * 4, Price=[1, 2, 3, 4]),
    }
    prepared = run(tmp_path, files, test="test.csv", impute="drop")
    assert np.load(prepared / "test_rows.npy").tolist() == [1, 3, 4]


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_the_seed_decides_the_split(tmp_path: Path, task: Any) -> None:
    columns = HOUSES if task == "regression" else HOUSES | {"Price": CLASSES}
    splits = [split_in(run(tmp_path, {"train.csv": csv_of(**columns)}, task=task, seed=s)) for s in (1, 1, 2)]
    assert splits[0] == splits[1]
    assert splits[0] != splits[2]


@pytest.mark.parametrize(
    "settings",
    [
        {"impute": "mean", "scale": "standard", "min_frequency": 3},
        {"impute": "median", "scale": "robust", "min_frequency": 0.2},
        {"impute": "most_frequent", "scale": "minmax", "target_transform": ["log", "standardize"]},
        {"impute": "drop", "scale": "standard", "target_transform": "standardize"},
        {"column_types": {"Code": "categorical"}},
    ],
    ids=lambda settings: " ".join(map(str, settings.values())),
)
def test_held_out_rows_teach_nothing(tmp_path: Path, settings: dict[str, Any]) -> None:
    columns: dict[str, list[Any]] = {
        "Area": [None if row % 7 == 1 else value for row, value in enumerate(NUMBERS)],
        "Rooms": list(range(ROWS)),
        "Kind": [None if row % 9 == 0 else kind for row, kind in enumerate(KINDS)],
        "Central": [row % 3 == 0 for row in range(ROWS)],
        "Code": [row % 5 for row in range(ROWS)],
        "Price": list(PRICES),
    }
    split = split_in(run(tmp_path, {"train.csv": PLAIN}))
    before = run(tmp_path, {"train.csv": csv_of(**columns)}, **settings).rename(tmp_path / "before")
    for row in (row - 1 for row, name in split.items() if name != "train"):
        columns["Area"][row] = 1000 * NUMBERS[row] + 0.5
        columns["Rooms"][row] = -7.25 if row % 2 else 1e6
        columns["Kind"][row] = f"palace {row}"
        columns["Central"][row] = "perhaps" if row % 2 else None
        columns["Code"][row] = 1000 + row
        columns["Price"][row] = 0.5 + 1000 * PRICES[row]
    after = run(tmp_path, {"train.csv": csv_of(**columns)}, **settings)
    for path in before.glob("*.npy"):
        same = (after / path.name).read_bytes() == path.read_bytes()
        assert same == path.name.startswith("train_"), path.name
    assert (after / "preprocessing.json").read_bytes() == (before / "preprocessing.json").read_bytes()


def test_an_official_test_file_teaches_nothing(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"train.csv": PLAIN, "test.csv": PLAIN}
    before = run(tmp_path, files, test="test.csv").rename(tmp_path / "before")
    files["test.csv"] = csv_of(Area=[1e6, None], Kind=["palace", None], Price=[1e9, 1])
    after = run(tmp_path, files, test="test.csv")
    for name in (
        "preprocessing.json",
        "train_numbers.npy",
        "train_codes.npy",
        "train_target.npy",
        "split.csv",
    ):
        assert (after / name).read_bytes() == (before / name).read_bytes(), name


def test_settings_are_read_with_their_defaults() -> None:
    values = {"target": "Price", "target_transform": ["log"], "min_frequency": 0.1, "drop": ["Street"]}
    expected = Preparation(target="Price", target_transform=["log"], min_frequency=0.1, drop=["Street"])
    assert checked(Preparation, values, "houses.prepare") == expected


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"target": "Price", "taret": 1}, "taret"),
        ({"task": "regression"}, r"houses\.prepare\.target"),
        (None, r"houses\.prepare\.target"),
        ({"target": "Price", "seed": "one"}, r"houses\.prepare\.seed"),
        ({"target": "Price", "drop": "Street"}, r"houses\.prepare\.drop"),
        ({"target": "Price", "impute": "guess"}, r"houses\.prepare\.impute"),
        ({"target": "Price", "scale": "log"}, r"houses\.prepare\.scale"),
        ({"target": "Price", "target_transform": ["log", "square"]}, r"houses\.prepare\.target_transform"),
        (
            {"target": "Price", "column_types": {"Area": "words"}},
            r"section houses\.prepare: houses\.prepare\.column_types: found words, expected 'numeric', 'cat",
        ),
        (
            {"target": "Price", "column_types": {"Area": {"encod": "ordinal"}}},
            r"houses\.prepare\.column_types: there is no such key: encod; did you mean encode\?$",
        ),
        (
            {"target": "Price", "column_types": {"Sold": {"kind": "date", "parts": ["yeer"]}}},
            r"houses\.prepare\.column_types: found yeer, expected 'year', 'month', .*; did you mean year\?$",
        ),
        ({"target": "Price", "min_frequency": 0}, "min_frequency"),
        ({"target": "Price", "min_frequency": 2.5}, "min_frequency"),
        ({"target": "Price", "test_share": 1}, "test_share"),
        ({"target": "Price", "validation_share": -0.1}, "validation_share"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(values: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named) as caught:
        checked(Preparation, values, "houses.prepare")
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        *(({"folds": folds}, "fold") for folds in (1, -1)),
        *(({"folds": 3, "fold": fold}, "fold") for fold in (4, 0)),
        ({"folds": 3, "lags": 2}, "fold"),
        ({"lags": -1}, "lags"),
        ({"lags": 1, "test": "test.csv"}, "lags"),
    ],
)
def test_folds_and_lags_that_cannot_be_are_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"prepare\.{named}"):
        Preparation("y", **settings)


def test_folds_leave_the_official_test_part_alone(tmp_path: Path) -> None:
    files = {
        name: "x,y\n" + "".join(f"{row},{row}\n" for row in rows)
        for name, rows in (("train.csv", range(9)), ("test.csv", range(100, 104)))
    }
    seen = []
    for fold in (1, 2, 3):
        prepared = run(
            tmp_path,
            files,
            target="y",
            test="test.csv",
            scale="none",
            folds=3,
            fold=fold,
            validation_share=0.3,
        )
        seen += array(prepared, "test_target")[:, 0].tolist()
    assert sorted(seen) == list(range(9))


def test_folds_of_classes_keep_their_shares(tmp_path: Path) -> None:
    text = csv_of(x=range(40), y=["rare" if row % 5 == 0 else "common" for row in range(40)])
    for fold in (1, 4):
        prepared = run(tmp_path, {"train.csv": text}, **CLASSIFY, target="y", folds=4, fold=fold)
        assert np.bincount(array(prepared, "test_target")).tolist() == [8, 2]


def test_the_truth_of_the_sample_goes_along(tmp_path: Path) -> None:
    truth = '{"z": {"x": 1.0}, "y": {"x": 2.0, "bias": 1.0}}'
    text = csv_of(x=np.arange(20.0), y=2 * np.arange(20.0) + 1)
    prepared = run(tmp_path, {"truth.json": truth, "train.csv": text}, target="y")
    assert Preprocessing.load(prepared).truth == {"x": 2.0, "bias": 1.0}


# ------------------------------------------------------------------------------ files as people have them


def test_rows_without_a_target_are_counted_or_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files: dict[str, str | bytes] = {"train.csv": csv_of(**HOUSES | {"Price": [None, None, *PRICES[2:]]})}
    way = "row 1: the target 'Price' is missing in 2 of 40 rows; `missing_target: drop` leaves such rows out"
    with pytest.raises(DataError, match=way):
        run(tmp_path, files)
    prepared = run(tmp_path, files, missing_target="drop")
    assert sorted(split_in(prepared)) == list(range(3, ROWS + 1))
    assert np.isfinite(array(prepared, "train_target")).all()
    assert caplog.messages == [
        f"{tmp_path / 'raw' / 'train.csv'}: the target 'Price' is missing in 2 of 40 rows: left out"
    ]
    with pytest.raises(DataError, match=r"missing in 40 of 40 rows$"):
        run(tmp_path, {"train.csv": csv_of(**HOUSES | {"Price": [None] * ROWS})}, missing_target="drop")


def test_texts_that_differ_only_in_case_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    columns = HOUSES | {"Kind": ["Brick", "brick", "wood", "stone"] * 10, "Price": ["Low", "low"] * 20}
    run(tmp_path, {"train.csv": csv_of(**columns)}, task="classification")
    assert caplog.messages == [
        "the target 'Price' has texts that differ only in case: 'Low', 'low'",
        "column 'Kind' has texts that differ only in case: 'Brick', 'brick'",
    ]


@pytest.mark.parametrize(
    ("cells", "complaint"),
    [
        (
            [f"{number}%" for number in range(40)],
            r"'0%' may be the number 0; set `reading: {units: {Kind: '%'}}`",
        ),
        (
            [f"{number} kg" for number in range(40)],
            "units: {Kind: kg}.*or `column_types: {Kind: categorical}`",
        ),
        (['"1,200"', '"1,300"', '"13"', '"1"'] * 10, "'1,200' may be the number 1.2 or 1200; choose"),
        (
            ["none", "3", "4", "5"] * 10,
            "row 1, column 'Kind': expected a number, found 'none'; .*`missing` .10 of",
        ),
    ],
)
def test_numbers_that_are_written_otherwise_are_no_categories(
    tmp_path: Path, cells: list[str], complaint: str
) -> None:
    files: dict[str, str | bytes] = {"train.csv": csv_of(**HOUSES | {"Kind": cells})}
    with pytest.raises(DataError, match=complaint):
        run(tmp_path, files)
    prepared = run(tmp_path, files, column_types={"Kind": "categorical"})
    assert len(learnt_in(prepared)["features"]) > 3


def test_a_target_with_a_unit_is_refused_with_the_key(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"train.csv": csv_of(**HOUSES | {"Price": [f"${n}" for n in range(40)]})}
    with pytest.raises(
        DataError, match=r"column 'Price': '\$0' may be the number 0; set .*units: {Price: \$}"
    ):
        run(tmp_path, files)
    prepared = run(tmp_path, files, reading=Reading(units={"Price": "$"}))
    assert learnt_in(prepared)["reading"] == {"units": {"Price": "$"}}


def test_a_column_of_dates_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    days = [f"{1 + number % 28:02} Jan 2024" for number in range(ROWS)]
    run(tmp_path, {"train.csv": csv_of(**HOUSES | {"Kind": days})})
    (message,) = caplog.messages
    assert message.startswith("column 'Kind' holds dates, taken as ")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"lags": 1, "missing_target": "drop"}, "missing_target must be error for a series"),
        ({"id": "Price"}, "prepare.id and prepare.target are the same column: Price"),
        ({"reading": {"decimal": ";"}}, "reading.decimal"),
        ({"reading": {"comma": ","}}, "comma"),
        ({"reading": {"thousands": ".", "decimal": "."}}, "decimal and thousands are both"),
    ],
)
def test_settings_about_reading_are_checked(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        checked(Preparation, {"target": "Price", **settings}, "prepare")
