"""Raw rows -> predictions, in chunks of any size."""

import json
import logging
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from src.core.errors import ConfigurationError, DataError
from src.tabular.data import load_split
from src.tabular.dialect import Reading
from src.tabular.model import TabularModel
from src.tabular.predict import _in_memory, csv_lines, predict_rows, read_rows, write_predictions
from src.tabular.prepare import Preparation, prepare
from src.tabular.preprocessing import Preprocessing, Target, places, transform
from src.training.networks import MLP

PREPARED = Path("data/prepared/houses")
SIZES = (1, 2, 3, 8192)


def split_rows(split: str) -> list[int]:
    """The raw rows of a split, counted from 0."""
    frame = pd.read_csv(PREPARED / "split.csv")
    return (frame.loc[frame["split"] == split, "row"] - 1).tolist()


def write_rows(table: pd.DataFrame, name: str) -> Path:
    path = Path(name)
    if path.suffix == ".csv":
        table.to_csv(path, index=False, na_rep="NA")
    elif path.suffix == ".json":
        records = table.astype(object).where(table.notna(), None).to_dict("records")
        path.write_text(json.dumps(records))
    else:
        table.to_excel(path, index=False)
    return path


def features_of(path: Path) -> Tensor:
    learnt = Preprocessing.load(PREPARED)
    _, tables = read_rows(path, learnt)
    return torch.from_numpy(np.concatenate([transform(table, learnt, path, Counter()) for table in tables]))


def model(**changes: Any) -> tuple[TabularModel, Preprocessing]:
    """A model with the weights of a seed, and its preprocessing."""
    learnt = replace(Preprocessing.load(PREPARED), **changes)
    torch.manual_seed(0)
    loss = "mse" if learnt.target.classes is None else "cross_entropy"
    return TabularModel(learnt, partial(MLP, hidden_sizes=[4]), loss=loss).eval(), learnt  # type: ignore[arg-type]


def predicted(path: Path, output: str = "out/predictions.csv", **changes: Any) -> str:
    """The file of predictions for a file of raw rows."""
    count = write_predictions(*model(**changes), path, Path(output))
    text = Path(output).read_text(encoding="utf-8")
    assert text.count("\n") == count + 1
    return text


# --------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize("size", [2, 8192])
@pytest.mark.parametrize("name", ["new.csv", "new.json", "new.xlsx"])
def test_raw_rows_become_the_features_that_preparing_gave_them(
    name: str, size: int, houses: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.tabular.predict.ROWS_AT_ONCE", size)
    rows = houses.iloc[split_rows("test")]
    # no target, one column more, another order
    rows = rows.assign(Extra="x")[["Kind", "Extra", "Code", "Id", "Area"]]
    assert torch.equal(features_of(write_rows(rows, name)), load_split(PREPARED, "test")[0])


def test_the_example_of_a_request_is_read_as_the_typical_row(tmp_path: Path) -> None:
    rows = range(60)
    table = pd.DataFrame(
        {
            "share": [f"{row % 20},5%" for row in rows],
            "size": [["S", "M", "L", "M"][row % 4] for row in rows],
            "sold": [["yes", "no", "yes"][row % 3] for row in rows],
            "y": [f"{row * 7 % 31},25" for row in rows],
        }
    )
    table.to_csv(tmp_path / "train.csv", index=False, sep=";")
    settings = Preparation(
        target="y",
        reading=Reading(decimal=",", units={"share": "%"}),
        column_types={"size": {"kind": "ordered", "order": ["S", "M", "L"]}, "sold": "boolean"},
    )
    prepare(tmp_path, tmp_path / "prepared", settings)
    learnt = Preprocessing.load(tmp_path / "prepared")
    (row,) = _in_memory(pd.DataFrame([json.loads(json.dumps(learnt.example))]), learnt)
    found = transform(row, learnt, Path("row"), Counter())
    assert [column.shown(found[:, place])[0] for column, place in places(learnt.columns)] == [
        f"{learnt.columns[0].typical:.4g}",
        "M",
        "yes",
    ]


def test_a_column_of_codes_is_read_as_text_even_where_all_look_like_numbers(houses: pd.DataFrame) -> None:
    rows = houses[houses["Code"] == "07"].head(2)
    position = Preprocessing.load(PREPARED).features.index("Code_07")
    assert features_of(write_rows(rows, "new.csv"))[:, position].tolist() == [1, 1]


# in chunks of two: codes that look like numbers and one that does not, numbers whole and with a fraction, and
# chunks in which all is missing
MIXED = """Id,Area,Code,Kind,Price
007,1,07,brick,1
8,2,7,wood,2

0x9,NA,NA,NA,NA
0x9,,,,
 NA ,1e2,A,True,3
NA,2.5,7.0,true,4
012,3,B,glass,5
"""


def test_the_size_of_a_chunk_changes_nothing(
    houses: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Path("mixed.csv").write_text(MIXED)
    texts = []
    for size in SIZES:
        monkeypatch.setattr("src.tabular.predict.ROWS_AT_ONCE", size)
        caplog.clear()
        texts.append(predicted(Path("mixed.csv")))
        (record,) = caplog.record_tuples
        assert record[:2] == ("src.tabular.predict", logging.WARNING)
        assert record[2].endswith("never seen in training, ignored: Code (3), Kind (3)")
    assert len(set(texts)) == 1
    ids = [line.split(",")[0] for line in texts[0].splitlines()]
    assert ids == ["Id", "007", "8", "0x9", "0x9", "NA", "NA", "012"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("cell", "complaint"),
    [("large", "'large' is not a number"), ("TRUE", "'TRUE' is not a number"), ("-inf", "is not finite")],
)
def test_a_wrong_cell_is_named_by_its_row_and_nothing_is_written(
    cell: str, complaint: str, size: int, houses: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.tabular.predict.ROWS_AT_ONCE", size)
    Path("new.csv").write_text(MIXED.replace("012,3,", f"012,{cell},"))
    with pytest.raises(DataError, match=rf"new\.csv: row 7, column 'Area': .*{complaint}"):
        predicted(Path("new.csv"))
    assert not Path("out").exists()


@pytest.mark.parametrize("size", [2, 8192])
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (MIXED.replace("Area", "Space"), "the needed column 'Area' is missing"),
        (MIXED.replace("Id", "Number"), "the needed column 'Id' is missing"),
        (MIXED.replace("012,3", "012;3"), "row 7 has 4 cells, the header has 5"),
        (MIXED.replace("glass", "glass,new"), "row 7 has 6 cells, the header has 5"),
        (MIXED.splitlines()[0] + "\n", "there are no rows below the header"),
        ("", "the file is empty"),
        ("<html>\n<p>no table\n", "the needed column 'Id' is missing"),
    ],
)
def test_what_is_no_table_of_such_rows_is_refused(
    text: str, complaint: str, size: int, houses: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.tabular.predict.ROWS_AT_ONCE", size)
    Path("new.csv").write_text(text)
    with pytest.raises(DataError, match=rf"new\.csv: ({complaint})"):
        predicted(Path("new.csv"))


@pytest.mark.parametrize("offset", [3, (1 << 20) - 1, (1 << 20) + 3])
def test_bytes_that_are_no_text_are_refused_by_their_place(offset: int, houses: pd.DataFrame) -> None:
    lines = b"Id,Area\n" + b"1,2\n" * 400_000
    # an umlaut across the border of two blocks is none of them
    Path("new.csv").write_bytes(lines[:offset] + b"\xff" + lines[offset:])
    with pytest.raises(DataError, match=rf"new\.csv: not UTF-8 at byte {offset}[;,]"):
        predicted(Path("new.csv"))


# -------------------------------------------------------------------------------------- predictions


def test_predictions_are_those_of_the_network_beside_their_id(houses: pd.DataFrame) -> None:
    rows = houses.iloc[split_rows("test")]
    network, _ = model()
    with torch.inference_mode():
        expected = network.predict(network(load_split(PREPARED, "test")[0])).numpy()
    text = predicted(write_rows(rows, "new.csv"))
    frame = pd.DataFrame({"Id": rows["Id"], "Price": expected})
    assert text == frame.to_csv(index=False, lineterminator="\n")
    assert [path.name for path in Path("out").iterdir()] == ["predictions.csv"]


@pytest.mark.parametrize(
    ("table", "quick"),
    [
        ({"Id": ["7", "a b", "é"], "price": [0.001, 121234.56, 999999.0]}, True),
        ({"row": [1, 2, 3], "rain": ["no", "yes", "no"], "probability": [0.5, 1, 0.6]}, True),
        ({"row": [1, 2, 3], "price": [1e6, -2.0, 0.0]}, False),
        ({"Id": ["7", 'a "b"', "c,d"], "price": [1.0, 2.0, 3.0]}, False),
        ({"Id": ["7", None, "e\nf"], "price": [0.1, 0.2, 0.3]}, False),
    ],
)
def test_lines_are_those_that_pandas_writes(table: dict[str, Any], quick: bool) -> None:
    frame = pd.DataFrame(table)
    numbers = frame.select_dtypes("float").columns
    frame[numbers] = frame[numbers].astype(np.float32)
    lines = csv_lines(frame)
    assert (lines is not None) is quick
    assert lines in (None, frame.to_csv(index=False, header=False, lineterminator="\n"))


@pytest.mark.parametrize("cells", [[1.0, 2.5], [True, False]])
def test_cells_that_pyarrow_writes_otherwise_are_left_to_pandas(cells: list[Any]) -> None:
    assert csv_lines(pd.DataFrame({"row": [1, 2], "price": cells})) is None


def test_an_older_file_of_predictions_is_replaced(houses: pd.DataFrame) -> None:
    Path("out").mkdir()
    Path("out/predictions.csv").write_text("older, and longer than what comes after it\n" * 9)
    assert predicted(write_rows(houses.head(1), "new.csv")).startswith("Id,Price\n000,")


def test_predictions_are_numbered_where_rows_have_no_id(
    houses: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.tabular.predict.ROWS_AT_ONCE", 2)
    rows = write_rows(houses.head(3).drop(columns="Id"), "new.csv")
    lines = predicted(rows, id=None).splitlines()
    assert [line.split(",")[0] for line in lines] == ["row", "1", "2", "3"]


@pytest.mark.usefixtures("houses")
def test_intervals_are_columns_of_the_predictions(houses: pd.DataFrame) -> None:
    learnt = Preprocessing.load(PREPARED)
    quantity = TabularModel(learnt, partial(MLP, hidden_sizes=[4]), interval=0.9).eval()
    quantity.margin.fill_(0.5)  # type: ignore[union-attr]
    write_predictions(quantity, learnt, write_rows(houses, "rows.csv"), Path("out.csv"))
    found = pd.read_csv("out.csv")
    assert list(found) == ["Id", "Price", "lower", "upper"]
    half = 0.5 * learnt.target.scale
    assert (found["upper"] - found["Price"]).tolist() == pytest.approx([half] * 100, rel=1e-4)
    assert (found["Price"] - found["lower"]).tolist() == pytest.approx([half] * 100, rel=1e-4)


def test_the_class_of_a_prediction_is_that_of_the_threshold(houses: pd.DataFrame) -> None:
    changes = {"targets": [Target("Sold", ["no", "yes"])]}
    plain, learnt = model(**changes)
    path = write_rows(houses, "rows.csv")
    with torch.inference_mode():
        probabilities = plain.predict(plain(features_of(path)))
    threshold = probabilities[:, 1].median().item()
    decided = TabularModel(
        learnt, partial(MLP, hidden_sizes=[4]), "cross_entropy", threshold={"yes": threshold}
    ).eval()
    decided.network.load_state_dict(plain.network.state_dict())
    write_predictions(decided, learnt, path, Path("out.csv"))
    found = pd.read_csv("out.csv")
    yes = (probabilities[:, 1] >= threshold).tolist()
    assert 0 < sum(yes) < 100
    assert found["Sold"].tolist() == ["yes" if each else "no" for each in yes]
    assert found["probability"].tolist() == pytest.approx(
        [row[each] for row, each in zip(probabilities.tolist(), map(int, yes), strict=True)], abs=1e-6
    )


def test_predicted_classes_are_written_with_their_probability(houses: pd.DataFrame) -> None:
    classes = ["2", "10", "old, or very old"]
    target = Target("Style", classes)
    text = predicted(write_rows(houses.head(20), "new.csv"), targets=[target])
    frame = pd.read_csv("out/predictions.csv", dtype=str)
    network, _ = model(targets=[target])
    with torch.inference_mode():
        expected = network.predict(network(features_of(Path("new.csv"))))
    likeliest, codes = expected.max(dim=1)
    assert text.startswith("Id,Style,probability\n")
    assert frame["Style"].tolist() == [classes[code] for code in codes]
    assert frame["probability"].astype(np.float32).tolist() == likeliest.tolist()


@pytest.mark.parametrize("names", [None, ["Number", "Sold?"]], ids=["own names", "a submission"])
def test_the_probabilities_of_all_classes_are_written_on_wish(
    names: list[str] | None, houses: pd.DataFrame
) -> None:
    network, learnt = model(targets=[Target("Style", ["2", "10", "lower"])])
    learnt = replace(learnt, prediction_columns=names)
    path = write_rows(houses.head(20), "new.csv")
    write_predictions(network, learnt, path, Path("out.csv"), all_probabilities=True)
    with torch.inference_mode():
        expected = network.predict(network(features_of(path)))
    found = pd.read_csv("out.csv")
    first = names or ["Id", "Style", "probability"]
    assert list(found) == [*first, "probability_2", "probability_10", "probability_lower"]
    np.testing.assert_allclose(found.iloc[:, -3:], expected, atol=1e-6)
    same = predict_rows(network, learnt, houses.head(20), all_probabilities=True)
    np.testing.assert_allclose(same.iloc[:, -3:], found.iloc[:, -3:], atol=1e-6)


@pytest.mark.usefixtures("houses")
def test_a_quantity_has_no_probabilities(houses: pd.DataFrame) -> None:
    network, learnt = model()
    with pytest.raises(ConfigurationError, match="all_probabilities: 'Price' is a quantity"):
        write_predictions(
            network, learnt, write_rows(houses, "rows.csv"), Path("out.csv"), all_probabilities=True
        )
    assert not Path("out.csv").exists()


# ------------------------------------------------------------------------------ files as people have them


def trained(columns: dict[str, list[Any]], name: str = "train.csv", **settings: Any) -> str:
    """Prepare a table in the current folder; the predictions of a model for it as CSV."""
    Path("raw").mkdir(exist_ok=True)
    raw = write_rows(pd.DataFrame(columns, dtype=object), f"raw/{name}")
    prepare(Path("raw"), PREPARED, Preparation(train=name, **settings))
    return predicted(raw)


NUMBERS = [float(number * 7 % 19) for number in range(30)]


@pytest.mark.parametrize("ending", [".csv", ".json", ".xlsx"])
def test_codes_with_a_point_are_those_without(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    codes = ["1.0", "2.0", "3.0", "NA", "007"] * 6
    types: dict[str, Any] = {"zone": "categorical"}
    trained({"zone": codes, "y": NUMBERS}, target="y", column_types=types)
    new = pd.DataFrame({"zone": ["1", "2", "3", "NA", "007"]})
    whole = features_of(write_rows(new.replace({"1": 1, "2": 2, "3": 3}), f"new{ending}"))
    assert (
        whole.tolist() == features_of(write_rows(new.replace({"1": "1.0", "3": "3.00"}), "new.csv")).tolist()
    )
    assert whole.sum(dim=1).tolist() == [1, 1, 1, 1, 1]
    assert not caplog.records


@pytest.mark.parametrize(
    ("target", "identifier", "names"),
    [
        ("probability", None, "row,probability,probability_"),
        ("row", None, "row_,row,probability"),
        ("y", "probability", "probability,y,probability_"),
    ],
)
def test_no_column_of_the_predictions_replaces_another(
    target: str, identifier: str | None, names: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    columns: dict[str, list[Any]] = {"x": NUMBERS, target: ["a", "b", "b"] * 10}
    if identifier:
        columns[identifier] = [f"r{number}" for number in range(30)]
    lines = trained(columns, target=target, id=identifier, task="classification").splitlines()
    assert lines[0] == names
    assert {len(line.split(",")) for line in lines} == {3}


def test_a_nameless_index_is_a_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    columns = {"": [f"r{number}" for number in range(30)], "x": NUMBERS, "y": NUMBERS}
    lines = trained(columns, target="y", id="Unnamed: 0").splitlines()
    assert lines[0] == "Unnamed: 0,y"
    assert lines[1].startswith("r0,")


def test_a_column_of_unseen_categories_alone_is_named_with_those_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    trained({"flag": ["True", "False"] * 15, "y": NUMBERS}, target="y")
    predicted(write_rows(pd.DataFrame({"flag": ["true", "false"]}), "new.csv"))
    assert caplog.messages == [
        "new.csv: no cell of column 'flag' is a category of training ('False', 'True', ...): "
        "predicted without it"
    ]


def test_predictions_read_their_input_as_training_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("raw").mkdir()
    rows = [f"{number % 9},5;a{number % 3};{number}" for number in range(40)]
    Path("raw/train.csv").write_text("\n".join(rows))
    reading = Reading(decimal=",", header="none")
    prepare(Path("raw"), PREPARED, Preparation(target="column_3", reading=reading))
    learnt = Preprocessing.load(PREPARED)
    assert learnt.reading == Reading(decimal=",", header=["column_1", "column_2", "column_3"])
    assert [column.name for column in learnt.numeric] == ["column_1"]
    whole = features_of(Path("raw/train.csv"))
    assert not caplog.records
    Path("new.csv").write_text("\n".join(row.rpartition(";")[0] for row in rows))
    assert features_of(Path("new.csv")).tolist() == whole.tolist()
    assert caplog.messages == ["new.csv: 1 column fewer than training: taken as the others than 'column_3'"]


def test_ids_classes_and_names_that_a_spreadsheet_would_compute_are_escaped_on_wish(
    houses: pd.DataFrame,
) -> None:
    rows = houses.head(2).assign(Id=["=HYPERLINK(1)", "-7"])
    path = write_rows(rows, "new.csv")
    target = Target("@kind", ["+1", "+1 "])
    write_predictions(*model(targets=[target]), path, Path("plain.csv"))
    write_predictions(*model(targets=[target]), path, Path("escaped.csv"), escape_formulas=True)
    plain, escaped = (pd.read_csv(name, dtype=str) for name in ("plain.csv", "escaped.csv"))
    assert plain["Id"].tolist() == ["=HYPERLINK(1)", "-7"]
    assert escaped["Id"].tolist() == ["'=HYPERLINK(1)", "'-7"]
    assert escaped["'@kind"].tolist() == [f"'{one}" for one in plain["@kind"]]
    assert escaped["probability"].tolist() == plain["probability"].tolist()


@pytest.mark.usefixtures("houses")
def test_marks_of_missing_cells_apply_to_numbers_of_a_dataframe() -> None:
    network, learnt = model(missing=["", "-999"])
    table = pd.DataFrame({"Id": ["1", "2"], "Area": [-999.0, 3.5], "Code": ["A", "A"], "Kind": ["brick"] * 2})
    table.to_csv("rows.csv", index=False)
    from_file, from_memory = (predict_rows(network, learnt, rows) for rows in ("rows.csv", table))
    assert from_file["Price"].tolist() == from_memory["Price"].tolist()
