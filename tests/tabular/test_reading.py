import json
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from src.core.errors import DataError
from src.tabular.reading import delimiter_of, read_table
from src.tabular.values import text_values

# one table in the three formats: whole numbers, fractions, text and booleans, each with a missing cell
RECORDS = [
    {"Rooms": 3, "Area": 60.5, "Alley": "Pave", "Central": True},
    {"Rooms": None, "Area": 72.0, "Alley": "NA", "Central": False},
    {"Rooms": 4, "Area": None, "Alley": "Dirt", "Central": None},
    {"Rooms": 2, "Area": 1e-3, "Alley": "Sand", "Central": True},
]
AS_CSV = "Rooms,Area,Alley,Central\n3,60.5,Pave,True\n,72,NA,False\n4,,Dirt,\n2,0.001,Sand,True\n"


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_records(path: Path, records: list[dict[str, Any]]) -> Path:
    if path.suffix == ".json":
        return write(path, json.dumps(records))
    frame = pd.DataFrame(records, dtype=object)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_excel(path, index=False)
    return path


def cells(table: pd.DataFrame) -> dict[str, list[Any]]:
    """Columns as lists, None where a cell is missing."""
    return {
        name: [None if missing else value for value, missing in zip(column, column.isna(), strict=True)]
        for name, column in table.items()
    }


EXPECTED_CELLS = {
    "Rooms": [3, None, 4, 2],
    "Area": [60.5, 72, None, 0.001],
    "Alley": ["Pave", None, "Dirt", "Sand"],
    "Central": ["True", "False", None, "True"],
}


@pytest.mark.parametrize("ending", [".csv", ".CSV", ".json", ".xlsx"])
def test_every_format_gives_the_same_table(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows{ending}"
    table = read_table(write(path, AS_CSV) if ending in {".csv", ".CSV"} else write_records(path, RECORDS))
    assert cells(table) == EXPECTED_CELLS
    assert table.index.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_csv_may_have_a_byte_order_mark_and_other_line_ends(tmp_path: Path, start: bytes, end: str) -> None:
    path = write(tmp_path / "rows.csv", start + AS_CSV.replace("\n", end).encode())
    assert cells(read_table(path)) == EXPECTED_CELLS


@pytest.mark.parametrize(("name", "delimiter"), [("rows.csv", ";"), ("rows.csv", "|"), ("rows.tsv", "\t")])
def test_csv_may_be_cut_by_other_signs_than_commas(tmp_path: Path, name: str, delimiter: str) -> None:
    path = write(tmp_path / name, AS_CSV.replace(",", delimiter))
    assert cells(read_table(path)) == EXPECTED_CELLS


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [("a,b", ","), ("a;b,c;d", ";"), ('"a;b;c",d', ","), ("a;b,c", ","), ("\na\tb", "\t"), ("a", ",")],
)
def test_the_header_says_what_cuts_the_rows(tmp_path: Path, header: str, delimiter: str) -> None:
    assert delimiter_of(write(tmp_path / "rows.csv", f"{header}\n1,2;3;4;5\n")) == delimiter


def test_json_may_have_a_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.json", b"\xef\xbb\xbf" + json.dumps(RECORDS).encode())
    assert cells(read_table(path)) == EXPECTED_CELLS


def test_a_key_that_a_json_object_lacks_is_a_missing_cell(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.json", '[{"Rooms": 3}, {"Alley": "Pave"}]')
    assert cells(read_table(path)) == {"Rooms": [3, None], "Alley": [None, "Pave"]}


def test_booleans_in_csv_stay_the_text_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", "Central,Heated,Rooms\nTrue,true,1\nFALSE,false,2\nNA,True,3\n")
    assert cells(read_table(path)) == {
        "Central": ["True", "FALSE", None],
        "Heated": ["true", "false", "True"],
        "Rooms": [1, 2, 3],
    }


@pytest.mark.parametrize("ending", [".csv", ".json", ".xlsx"])
def test_text_columns_keep_leading_zeros(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows{ending}"
    write_records(path, [{"Zone": "007", "Rooms": 7}, {"Zone": "10", "Rooms": 10}, {"Zone": "NA"}])
    table = read_table(path, text_columns=["Zone", "not in the file"])
    assert cells(table) == {"Zone": ["007", "10", None], "Rooms": [7, 10, None]}


@pytest.mark.parametrize("ending", [".json", ".xlsx"])
def test_numbers_in_text_columns_read_as_csv_writes_them(tmp_path: Path, ending: str) -> None:
    path = write_records(tmp_path / f"rows{ending}", [{"Zone": 60.0}, {"Zone": 7}, {"Zone": 1.5}])
    assert read_table(path, text_columns=["Zone"])["Zone"].tolist() == ["60", "7", "1.5"]


@pytest.mark.parametrize("ending", [".csv", ".json", ".xlsx"])
def test_the_texts_that_mean_missing_are_a_choice(tmp_path: Path, ending: str) -> None:
    path = write_records(tmp_path / f"rows{ending}", [{"a": "none", "b": "NA"}, {"a": "x", "b": "y"}])
    assert cells(read_table(path, missing=["none"])) == {"a": [None, "x"], "b": ["NA", "y"]}


@pytest.mark.parametrize("ending", [".csv", ".json", ".xlsx"])
def test_a_number_can_mean_missing_in_every_format(tmp_path: Path, ending: str) -> None:
    path = write_records(tmp_path / f"rows{ending}", [{"Area": 60}, {"Area": -999}, {"Area": 72}])
    assert cells(read_table(path, missing=["-999"])) == {"Area": [60, None, 72]}


def test_a_csv_column_without_a_name_does_not_stop_the_reading(tmp_path: Path) -> None:
    # what a data frame writes by default: its row labels, without a name
    path = write(tmp_path / "rows.csv", ",Area,Rooms\n0,60,3\n1,72,4\n")
    table = read_table(path)
    assert table["Area"].tolist() == [60, 72]
    assert table["Rooms"].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("rows.csv", "", "the file is empty"),
        ("rows.csv", "a,b\n", "no rows below the header"),
        ("rows.csv", "a,b,a\n1,2,3\n", "column 'a' appears more than once"),
        ("rows.csv", "a,b\n1,2\n3\n", "row 2 has 1 cells, the header has 2"),
        ("rows.csv", "a,b\n1,2\n3,4,5\n", "row 2 has 3 cells, the header has 2"),
        ("rows.csv", 'a,b\n1,"2\n3,4\n', "line 3: unexpected end of data"),
        ("rows.csv", b"a,b\n1,2\n3,\xe9\n", "not UTF-8 at byte 10"),
        ("rows.json", "[]", "no rows below the header"),
        ("rows.json", '[{"a": 1, "a": 2}]', "column 'a' appears more than once"),
        ("rows.json", '{"a": 1}', "expected a list of objects"),
        ("rows.json", "[1, 2]", "expected a list of objects"),
        ("rows.json", '[{"a": 1}', "invalid JSON: .*line 1 column 10"),
        ("rows.json", b'[{"a": "\xe9"}]', "not UTF-8 at byte 8"),
        ("rows.xlsx", "no workbook", "not an Excel workbook"),
        ("rows.xlsx", b"PK\x03\x04 cut short", "not an Excel workbook"),
        # the start of a workbook of the older kind
        (
            "rows.xls",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000),
            "not an Excel workbook|expected one of",
        ),
        ("rows.doc", "a,b\n1,2\n", r"expected one of \.csv, .*\.json"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(
    tmp_path: Path, name: str, content: str | bytes, complaint: str
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: .*({complaint})"):
        read_table(path)


def test_data_errors_have_exit_code_3() -> None:
    assert DataError.exit_code == 3


@pytest.mark.parametrize("name", ["rows.csv", "rows.json", "rows.xlsx"])
def test_a_missing_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"{re.escape(name)}: there is no such file"):
        read_table(tmp_path / name)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([], "sheet .* is empty"),
        ([["Area", "Rooms"]], "no rows below the header"),
        ([["Area", "Area"], [1, 2]], "'Area' appears more than once"),
    ],
)
def test_a_sheet_without_rows_or_with_a_doubled_column_is_refused(
    tmp_path: Path, rows: list[list[Any]], complaint: str
) -> None:
    path = tmp_path / "rows.xlsx"
    pd.DataFrame(rows).to_excel(path, index=False, header=False)
    with pytest.raises(DataError, match=rf"rows\.xlsx: .*{complaint}"):
        read_table(path)


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
def test_the_offset_of_a_wrong_byte_counts_from_the_start_of_a_large_file(
    tmp_path: Path, start: bytes
) -> None:
    # far beyond what a text reader decodes at once
    content = start + b"a,b\n" + b"1,2\n" * 10_000 + b"\xe9,2\n"
    path = write(tmp_path / "rows.csv", content)
    with pytest.raises(DataError, match=rf"rows\.csv: not UTF-8 at byte {content.index(0xE9)};"):
        read_table(path)


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (pd.Series([60, 7]), ["60", "7"]),
        (pd.Series([60.0, math.nan, 1.5]), ["60", None, "1.5"]),
        (pd.Series(["007", None]), ["007", None]),
        (pd.Series(["60", 60], dtype=object), ["60", "60"]),
    ],
)
def test_categories_are_texts_and_none(column: "pd.Series[Any]", texts: list[str | None]) -> None:
    assert text_values(column).tolist() == texts
