"""Tables in Parquet and Feather files, in compressed files, and in several files."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from src.core.errors import DataError
from src.tabular.prepare import Preparation, prepare
from src.tabular.reading import read_table, table_chunks

ROWS = 48
TABLE = pd.DataFrame(
    {
        "rooms": [row * 5 % 7 for row in range(ROWS)],
        "area": [None if row % 6 == 1 else row * 1.25 for row in range(ROWS)],
        "code": [["07", "7", "A"][row % 3] for row in range(ROWS)],
        "kind": [[None, "brick", "NA", "wood"][row % 4] for row in range(ROWS)],
        "central": [row % 2 == 0 for row in range(ROWS)],
        "digits": [str(row % 5) for row in range(ROWS)],
        "price": [100.5 + row % 9 for row in range(ROWS)],
    }
)
SETTINGS: dict[str, Any] = {
    "target": "price",
    "column_types": {"code": "categorical", "rooms": "categorical"},
}


def prepared(folder: Path, train: str, **settings: Any) -> dict[str, bytes]:
    """The prepared files of the table `train` in a folder."""
    prepare(folder, folder / "prepared", Preparation(train=train, **(SETTINGS | settings)))
    return {path.name: path.read_bytes() for path in (folder / "prepared").iterdir()}


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, bytes]:
    """The prepared files of the table as CSV."""
    TABLE.to_csv(tmp_path / "train.csv", index=False)
    return prepared(tmp_path, "train.csv")


def write(path: Path, table: pd.DataFrame) -> None:
    """Write a table in the format of the ending."""
    if path.suffix == ".parquet":
        table.to_parquet(path, row_group_size=10)
    elif path.suffix == ".feather":
        table.reset_index(drop=True).to_feather(path)
    elif path.suffix == ".zst":
        path.write_bytes(pa.compress(table.to_csv(index=False).encode(), codec="zstd", asbytes=True))
    elif path.suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_csv(path, index=False)


@pytest.mark.parametrize("large", [0, 1 << 24])
@pytest.mark.parametrize(
    "name", ["train.parquet", "train.feather", "train.csv.zst", "train.csv.gz", "train.jsonl"]
)
def test_every_format_is_prepared_alike(
    name: str, large: int, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.tabular.reading.LARGE", large)
    monkeypatch.setattr("src.tabular.sources.BLOCK_ROWS", 7)
    write(tmp_path / name, TABLE)
    assert prepared(tmp_path, name) == expected


@pytest.mark.parametrize("endings", [[".csv"] * 3, [".parquet"] * 3, [".csv", ".parquet", ".jsonl"]])
@pytest.mark.parametrize("train", ["parts", "parts/*"])
def test_the_parts_of_a_folder_are_one_table(
    endings: list[str], train: str, expected: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "parts").mkdir()
    for number, ending in enumerate(endings):
        # the columns of a part have an order of their own
        part = TABLE.iloc[16 * number : 16 * (number + 1), :: -1 if number == 1 else 1]
        write(tmp_path / "parts" / f"part_{number}{ending}", part)
    if train == "parts":
        (tmp_path / "parts" / "_SUCCESS").write_text("")
    assert prepared(tmp_path, train) == expected


def test_a_part_that_pyarrow_may_read_otherwise_is_read_by_pandas(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,a\n2,b\n")
    (tmp_path / "b.csv").write_text('x,y\n3, "c, d"\n')
    table = read_table(tmp_path / "*.csv")
    assert table["x"].tolist() == [1, 2, 3]
    assert table["y"].tolist() == ["a", "b", "c, d"]


def test_a_column_with_a_text_in_one_part_is_text_in_all(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n07\n8\n")
    (tmp_path / "b.csv").write_text("x\nA\n")
    assert read_table(tmp_path / "*.csv")["x"].tolist() == ["07", "8", "A"]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([["1", "-999.0"], ["-999", "2.5"]], [1, None, None, 2.5]),
        ([["a", "b"], ["-999.0", "5"]], ["a", "b", "-999.0", "5"]),
    ],
)
def test_a_mark_of_missing_cells_in_another_notation(
    parts: list[list[str]], expected: list[Any], tmp_path: Path
) -> None:
    for number, cells in enumerate(parts):
        lines = ["x,y", *(f"{cell},0" for cell in cells)]
        (tmp_path / f"{number}.csv").write_text("\n".join(lines) + "\n")
    found = read_table(tmp_path / "*.csv", missing=["-999"])["x"]
    assert found.astype(object).where(found.notna(), None).tolist() == expected


def test_a_prediction_reads_parts_in_chunks(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for number in range(3):
        write(tmp_path / "parts" / f"{number}.parquet", TABLE.iloc[16 * number : 16 * (number + 1)])
    _, chunks = table_chunks(tmp_path / "parts", ["area", "digits"], ["rooms", "kind"], ["NA"], 20)
    found = list(chunks)
    assert [chunk.index.tolist() for chunk in found] == [[*range(20)], [*range(20, 40)], [*range(40, 48)]]
    table = pd.concat([chunk.astype(object) for chunk in found])
    assert table["rooms"].tolist() == [str(rooms) for rooms in TABLE["rooms"]]
    assert table["digits"].tolist() == [row % 5 for row in range(ROWS)]
    assert table["kind"].isna().sum() == 24
    assert table["area"].isna().sum() == 8


@pytest.mark.parametrize("name", ["rows.parquet", "*.csv"])
def test_marks_of_missing_cells_do_not_apply_to_ids(name: str, tmp_path: Path) -> None:
    write(tmp_path / name.replace("*", "rows"), pd.DataFrame({"id": ["NA", "7"], "kind": ["NA", "b"]}))
    table = read_table(tmp_path / name, ids=["id"])
    assert table["id"].tolist() == ["NA", "7"]
    assert table["kind"].isna().tolist() == [True, False]


def test_cells_of_parquet_are_those_of_csv(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "day": pd.to_datetime(["2024-01-05", "2024-02-06"]),
            "moment": pd.to_datetime(["2024-01-05 10:30", "2024-02-06 00:00"]),
            "big": [2**60, 2**60 + 1],
            "kind": pd.Categorical(["a", "b"]),
            "small": pd.array([1, None], dtype="Int8"),
        },
        index=["u", "v"],
    )
    table.to_parquet(tmp_path / "rows.parquet")
    found = read_table(tmp_path / "rows.parquet")
    assert list(found.columns) == list(table.columns)
    assert found["day"].tolist() == ["2024-01-05 00:00:00", "2024-02-06 00:00:00"]
    assert found["moment"].tolist() == ["2024-01-05 10:30:00", "2024-02-06 00:00:00"]
    assert found["big"].tolist() == [2**60, 2**60 + 1]
    assert found["kind"].tolist() == ["a", "b"]
    assert found["small"].iloc[0] == 1
    assert found["small"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("files", "name", "message"),
    [
        ({}, "parts", "there is no such file"),
        ({}, "*.csv", "there is no file of a table"),
        ({"parts/_SUCCESS": ""}, "parts", "there is no file of a table"),
        ({"parts/a.csv": "x\n1\n", "parts/deep/b.csv": "x\n1\n"}, "parts", "found the folder 'deep'"),
        (
            {"a.csv": "x,y\n1,2\n", "b.csv": "x,z\n1,2\n"},
            "*.csv",
            "b.csv: it has no column 'y', unlike a.csv",
        ),
        ({"a.csv": "x\n1\n", "b.csv": "x,z\n1,2\n"}, "*.csv", "b.csv: it has a column 'z', unlike a.csv"),
        ({"rows.parquet": "x"}, "rows.parquet", "rows.parquet: not a Parquet file"),
        ({"rows.feather": "x"}, "rows.feather", "rows.feather: not a Feather file"),
        ({"rows.csv.zst": "x"}, "rows.csv.zst", "not a whole compressed file"),
    ],
)
def test_what_is_no_table_is_refused(files: dict[str, str], name: str, message: str, tmp_path: Path) -> None:
    for file, content in files.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(content)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / name)


def test_a_list_in_a_cell_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"x": [[1], [2]]}).to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(DataError, match="column 'x': expected numbers, texts, truth values or times"):
        read_table(tmp_path / "rows.parquet")


def test_texts_of_json_lines_may_have_other_signs_of_a_lines_end(tmp_path: Path) -> None:
    text = "a\u2028b\u2029c\u0085d"
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"x": "{text}", "y": 1}}\n{{"x": "e", "y": 2}}\n', encoding="utf-8")
    assert read_table(path)["x"].tolist() == [text, "e"]


def test_json_lines_may_have_one_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"x": "a", "y": 1}\n', encoding="utf-8")
    table = read_table(path)
    assert table.columns.tolist() == ["x", "y"]
    assert len(table) == 1
