"""Files as people have them: what is read, what is refused, and with which keys."""

import gzip
import io
import json
import logging
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import openpyxl
import pytest

from src.core.encodings import guess_encoding
from src.core.errors import ConfigurationError, DataError
from src.tabular import dialect
from src.tabular.dialect import Reading, ReadingError
from src.tabular.reading import found_reading, read_table, table_chunks

SEVEN = "".join(f"{number},{number % 3}\n" for number in range(7))


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def cells(path: Path, **settings: Any) -> dict[str, list[Any]]:
    """The columns of a table as lists; the same columns come from its chunks."""
    table = read_table(path, **settings)
    return {str(name): column.tolist() for name, column in table.items()}


def workbook(path: Path, **sheets: list[list[Any]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def zipped(**files: str) -> bytes:
    content = io.BytesIO()
    with ZipFile(content, "w", ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name.replace("_", "."), text)
    return content.getvalue()


# ------------------------------------------------------------------------------------------- cells


def test_spaces_around_cells_and_names_are_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "rows.csv", 'a, kind \n1, "x, y"\n 2, z\nNA ,z \n')
    table = read_table(path)
    assert table["a"].tolist()[:2] == [1, 2]
    assert table["a"].isna().tolist() == [False, False, True]
    assert table["kind"].tolist() == ["x, y", "z", "z"]
    assert [record[2] for record in caplog.record_tuples] == [
        f"{path}: spaces around cells left out: 'a', 'kind'"
    ]
    assert read_table(path, reading=Reading(strip=False))["kind "].tolist()[2] == "z "


@pytest.mark.parametrize(
    ("text", "keys", "values"),
    [
        ("x;y\n1,5;2\n2;3\n", {"decimal": ","}, [1.5, 2]),
        ("x;y\n1.234,5;2\n950;3\n", {"decimal": ",", "thousands": "."}, [1234.5, 950]),
        ("x;y\n1.267;2\n950;3\n", {"thousands": "."}, [1267, 950]),
        ("x;y\n1.267;2\n950;3\n", {"decimal": "."}, [1.267, 950]),
        ("x;y\n1,267;2\n950;3\n", {"thousands": ","}, [1267, 950]),
        ("x;y\n12 345;2\n950;3\n", {"thousands": " "}, [12345, 950]),
        ("x;y\n12'345;2\n950;3\n", {"thousands": "'"}, [12345, 950]),
        ("x;y\n37%;2\n-3 %;3\n", {"units": {"x": "%"}}, [37, -3]),
        ("x;y\n$1,200;2\n$950;3\n", {"units": {"x": "$"}, "thousands": ","}, [1200, 950]),
    ],
)
@pytest.mark.parametrize("ending", [".csv", ".json"])
def test_numbers_as_other_countries_write_them(
    tmp_path: Path, text: str, keys: dict[str, Any], values: list[float], ending: str
) -> None:
    names, *rows = [line.split(";") for line in text.splitlines()]
    as_json = json.dumps([dict(zip(names, row, strict=True)) for row in rows])
    path = write(tmp_path / f"rows{ending}", text if ending == ".csv" else as_json)
    reading = Reading(**keys)
    assert read_table(path, reading=reading)["x"].tolist() == values
    for size in (1, 9):
        _, chunks = table_chunks(path, ["x"], ["y"], [""], size, reading)
        assert [value for chunk in chunks for value in chunk["x"]] == values


@pytest.mark.parametrize("ending", [".csv", ".json"])
def test_points_that_may_be_thousands_are_refused_with_both_readings(tmp_path: Path, ending: str) -> None:
    text = "x\n1.267\n950\n" if ending == ".csv" else '[{"x": "1.267"}, {"x": "950"}]'
    path = write(tmp_path / f"rows{ending}", text)
    with pytest.raises(ReadingError, match=r"column 'x': '1\.267' may be the number 1.267 or 1267") as caught:
        read_table(path)
    assert caught.value.keys == ({"decimal": "."}, {"decimal": ",", "thousands": "."})


def test_a_cell_without_the_unit_of_its_column_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", "x,y\n37%,2\n0.4,3\n")
    with pytest.raises(DataError, match=r"row 2, column 'x': '0\.4' is no number with '%'"):
        read_table(path, reading=Reading(units={"x": "%"}))


@pytest.mark.parametrize("large", [1 << 24, 0], ids=["as a whole", "in blocks"])
def test_a_quote_after_a_space_takes_no_rows_of_a_file_cut_by_tabs(
    tmp_path: Path, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.tabular.reading.LARGE", large)
    path = write(tmp_path / "rows.tsv", 'x\tkind\n1\t "a\n2\tb\n 3\t c"\nNA\td\n')
    table = read_table(path)
    assert table["kind"].tolist() == ['"a', "b", 'c"', "d"]
    assert table["x"].tolist()[:3] == [1, 2, 3]
    for size in (1, 9):
        _, chunks = table_chunks(path, ["x"], ["kind"], ["NA"], size)
        assert [text for chunk in chunks for text in chunk["kind"]] == ['"a', "b", 'c"', "d"]


def test_a_file_of_which_pandas_reads_fewer_rows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "rows.csv", "x\n1\n2\n")
    monkeypatch.setattr("src.tabular.reading._csv_layout", lambda *_: (["x"], 3))
    with pytest.raises(DataError, match=r"rows\.csv: 3 rows, but pandas reads 2"):
        read_table(path)
    _, chunks = table_chunks(path, ["x"], [], [""], 1)
    with pytest.raises(DataError, match="3 rows, but pandas reads 2"):
        list(chunks)


def test_a_number_of_json_needs_no_unit_but_percent(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.json", '[{"x": 37, "y": 0.37}, {"x": "38 kg", "y": "38%"}]')
    assert read_table(path, reading=Reading(units={"x": "kg"}))["x"].tolist() == [37, 38]
    with pytest.raises(DataError, match=r"row 1, column 'y': '0\.37' is no number with '%'"):
        read_table(path, reading=Reading(units={"y": "%"}))
    path = write(tmp_path / "wrong.json", '[{"x": 37}, {"x": 36}, {"x": "38 lb"}]')
    with pytest.raises(DataError, match=r"row 3, column 'x': '38 lb' is no number with 'kg'"):
        read_table(path, reading=Reading(units={"x": "kg"}))


def test_a_cell_may_be_longer_than_pythons_limit(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", f'x,kind\n1,"{"long, " * 40_000}"\n2,short\n')
    assert read_table(path)["kind"].map(len).tolist() == [240_000 - 1, 5]


@pytest.mark.parametrize("large", [1 << 24, 0], ids=["as a whole", "in blocks"])
def test_one_column_of_decimal_commas_has_no_title(
    tmp_path: Path, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.tabular.reading.LARGE", large)
    path = write(tmp_path / "rows.csv", "area\n" + "".join(f"{number},5\n" for number in range(9)))
    reading = Reading(decimal=",")
    assert cells(path, reading=reading) == {"area": [number + 0.5 for number in range(9)]}
    _, chunks = table_chunks(path, ["area"], [], [""], 4, reading)
    assert sum(len(chunk) for chunk in chunks) == 9
    spaced = write(tmp_path / "spaced.csv", "area\n1 200\n1 300\n900\n1 100\n")
    assert cells(spaced, reading=Reading(thousands=" "))["area"] == [1200, 1300, 900, 1100]


@pytest.mark.parametrize("large", [1 << 24, 0], ids=["as a whole", "in blocks"])
def test_quotes_may_be_signs_of_the_cells(
    tmp_path: Path, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.tabular.reading.LARGE", large)
    path = write(tmp_path / "rows.csv", 'x,kind\n1,"a" b\n2,5"\n\n3,"c\n')
    with pytest.raises(
        DataError, match=r"line 2: .* a quote may be missing; .* `reading: \{quotes: false\}`"
    ):
        read_table(path)
    reading = Reading(quotes=False)
    assert cells(path, reading=reading) == {"x": [1, 2, 3], "kind": ['"a" b', '5"', '"c']}
    _, chunks = table_chunks(path, ["x"], ["kind"], [""], 2, reading)
    assert [text for chunk in chunks for text in chunk["kind"]] == ['"a" b', '5"', '"c']


def test_numbers_as_text_are_those_of_the_csv(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    numbers = [
        f"{number:.{digits}f}"
        for number, digits in zip(generator.uniform(-1e6, 1e6, 300), [*range(1, 16)] * 20, strict=True)
    ]
    as_csv = write(tmp_path / "rows.csv", "x,y\n" + "".join(f"{number},1\n" for number in numbers))
    expected = cells(as_csv)
    as_json = write(tmp_path / "rows.json", json.dumps([{"x": number, "y": "1"} for number in numbers]))
    assert cells(as_json) == expected
    as_excel = workbook(tmp_path / "rows.xlsx", Rows=[["x", "y"], *([number, "1"] for number in numbers)])
    assert cells(as_excel) == expected
    assert cells(as_csv, reading=Reading(thousands=",")) == expected


def test_missing_marks_do_not_apply_to_ids(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", "code,x\nNA,1\nnull,NA\n,3\n")
    assert read_table(path, ids=["code"])["code"].tolist() == ["NA", "null", ""]
    _, chunks = table_chunks(path, ["x"], [], ["NA", ""], 2, ids=["code"])
    assert [text for chunk in chunks for text in chunk["code"]] == ["NA", "null", ""]


# ------------------------------------------------------------------------------------------- layout

LAYOUTS: dict[str, tuple[str, str | bytes, dict[str, Any], str]] = {
    "title": ("a.csv", "Report\nx,y\n" + SEVEN, {"skip_rows": 1}, "line 2 is the first with 2 cells"),
    "title, blank": ("a.csv", "Report\n\nx;y\n1;2\n3;4\n", {"skip_rows": 2}, "line 3 is the first"),
    "title of empty cells": (
        "a.csv",
        "Report,\nx,y\n" + SEVEN,
        {"skip_rows": 1},
        "column 2 has values, but no",
    ),
    "comment": ("a.csv", "# mine\nx,y\n" + SEVEN, {"comment": "#"}, "line 1 begins with '#'"),
    "footer": ("a.csv", "x,y\n" + SEVEN + "Total\n", {"footer": 1}, "row 8 has 1 cells.*'Total'"),
    "spaces": ("a.data", "x  y\n1  2\n3 4\n5 6\n", {"delimiter": " "}, "spaces cut the lines into 2 cells"),
    "no header": (
        "a.csv",
        "1.5,a\n2,b\n3,a\n",
        {"header": "none"},
        r"the first line \(1.5, a, ...\) has values",
    ),
    "no header, texts": ("a.csv", "p,x\np,y\ne,x\ne,y\n", {"header": "none"}, "has values, not names"),
    "gb18030": (
        "a.csv",
        "名字,价格\n张三,1\n李四,2\n".encode("gbk"),
        {"encoding": "gb18030"},
        "all of it is gb",
    ),
    "big5": (
        "a.csv",
        "名字,價格\n張三,1\n李四,2\n".encode("big5"),
        {"encoding": "big5"},
        "all of it is big5",
    ),
    "cp1252": ("a.csv", "Größe,Prénom\n1,Zoë\n2,x\n".encode("cp1252"), {"encoding": "cp1252"}, "is cp1252"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_refused_with_the_key_that_reads_it(tmp_path: Path, name: str) -> None:
    ending, content, keys, message = LAYOUTS[name]
    path = write(tmp_path / ending, content)
    with pytest.raises(ReadingError, match=rf"{ending}: .*{message}.*set `reading: ") as caught:
        read_table(path)
    assert caught.value.keys == (keys,)
    table = read_table(path, reading=Reading(**keys))
    assert table.shape[1] == 2
    assert len(table) >= 2
    reading, seen, _ = found_reading(path)
    assert (reading, len(seen)) == (Reading(**keys), 1)


def test_a_comment_within_a_cell_is_none(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", '# mine\nx,y\n1,"a\n# b\n\n"\n# more\n\n2,c\n')
    assert cells(path, reading=Reading(comment="#", strip=False)) == {"x": [1, 2], "y": ["a\n# b\n\n", "c"]}


@pytest.mark.parametrize(
    ("content", "table"),
    [
        (",x,y\n0,1,2\n1,3,4\n", {"Unnamed: 0": [0, 1], "x": [1, 3], "y": [2, 4]}),
        ('"",x\n"r1",1\n"r2",3\n', {"Unnamed: 0": ["r1", "r2"], "x": [1, 3]}),
        ("sep=;\nx;y\n1;2\n", {"x": [1], "y": [2]}),
        ("x,y,\n1,2\n3,4\n", {"x": [1, 3], "y": [2, 4]}),  # a comma after the header alone
        ("1990,1991,c\n0.5,1.5,a\n2,3,b\n", {"1990": [0.5, 2], "1991": [1.5, 3], "c": ["a", "b"]}),
        ("x,y\n1,2\n3,4\n".encode("utf-16"), {"x": [1, 3], "y": [2, 4]}),
        ("x,y\r1,2\r\r5,3\r", {"x": [1, 5], "y": [2, 3]}),
    ],
)
def test_what_needs_no_key(tmp_path: Path, content: str | bytes, table: dict[str, list[Any]]) -> None:
    path = write(tmp_path / "rows.csv", content)
    assert cells(path) == table
    names = list(table)
    _, chunks = table_chunks(path, names[1:2], names[:1], [""], 1)
    assert [value for chunk in chunks for value in chunk[names[1]]] == table[names[1]]


def test_an_empty_cell_after_a_lone_carriage_return_stays_in_its_column(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "rows.csv", "x,y\n1,2\n\r,3\n4,5\n"))
    assert table["y"].tolist() == [2, 3, 5]
    assert table["x"].isna().tolist() == [False, True, False]


def test_names_for_a_file_without_them(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.data", "1,2\n3,4\n")
    assert cells(path, reading=Reading(header=["u", "v"])) == {"u": [1, 3], "v": [2, 4]}
    assert cells(path, reading=Reading(header="none")) == {"column_1": [1, 3], "column_2": [2, 4]}
    with pytest.raises(DataError, match=r"row 1 has 2 cells, `reading\.header` has 3"):
        read_table(path, reading=Reading(header=["u", "v", "w"]))


def test_bytes_without_a_plausible_encoding() -> None:
    assert guess_encoding(b"1,\x81\x00\xff") is None
    assert guess_encoding(b"1,\xff,2") is None  # a letter alone between digits


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"encoding": "klingon"}, "no encoding 'klingon'"),
        ({"encoding": "hex"}, "no encoding 'hex'"),
        ({"delimiter": "::"}, "delimiter must be one sign"),
        ({"decimal": ",", "thousands": ","}, "decimal and thousands are both ','"),
        ({"skip_rows": -1}, "at least 0: -1"),
        ({"comment": ""}, "comment must be a sign"),
        ({"units": {"x": ""}}, "the unit of a column is empty"),
        ({"header": ["a", "a"]}, "a name appears more than once"),
    ],
)
def test_bad_keys_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"prepare.reading.*{message}"):
        Reading(**keys)


# ------------------------------------------------------------------------------------------- formats

TABLE = {"x": [1, 2], "y": ["a", "b"]}
RECORDS = '[{"x": 1, "y": "a"}, {"x": 2, "y": "b"}]'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv.gz", gzip.compress(b"x,y\n1,a\n2,b\n", mtime=0)),
        ("rows.zip", zipped(rows_csv="x,y\n1,a\n2,b\n")),
        ("rows.zip", zipped(rows_json=RECORDS)),
        ("rows.txt", "x\ty\n1\ta\n2\tb\n"),
        ("rows.data", "x;y\n1;a\n2;b\n"),
        ("rows.jsonl", '{"x": 1, "y": "a"}\n{"x": "2", "y": "b"}\n'),
        ("rows.json", '{"x": 1, "y": "a"}\n{"x": 2, "y": "b"}'),
        ("rows.json", '{"x": [1, 2], "y": ["a", "b"]}'),
        ("rows.json", '{"x": {"0": 1, "1": 2}, "y": {"0": "a", "1": "b"}}'),
        ("rows.json", '{"columns": ["x", "y"], "index": [0, 1], "data": [[1, "a"], [2, "b"]]}'),
        ("rows.json", f'{{"status": "ok", "data": {RECORDS}}}'),
    ],
)
def test_formats_that_hold_the_same_table(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert cells(write(tmp_path / name, content)) == TABLE


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv.gz", gzip.compress(b"x,y\n1,a\n", mtime=0)[:-9], "not a whole compressed file"),
        ("rows.csv.gz", b"x,y\n1,a\n", "not a whole compressed file"),
        ("rows.zip", b"x,y\n1,a\n", "not a zip archive"),
        ("rows.zip", zipped(a_csv="x", b_csv="x"), r"expected one table.* found 2 files \(a.csv, b.csv\)"),
        ("rows.zip", zipped(a_png="x"), "expected one of"),
        ("rows.parquet", b"PAR1", "not a Parquet file"),
        ("rows.xls", b"", "save it as .xlsx"),
        ("rows.json", "[" * 100_000, "unusable JSON: .*recursion"),
        ("rows.json", f'[{{"x": {"9" * 5000}}}]', "unusable JSON: Exceeds the limit"),
        (
            "rows.json",
            f'[{{"x": 1}}, {{"x": {"9" * 400}}}]',
            "row 2, column 'x': '9+' is too large for 32-bit",
        ),
        ("rows.json", '[{"x": "\\ud800"}]', "unusable JSON: .*surrogates"),
        (
            "rows.json",
            '[{"x": 1}, {"x": [1]}]',
            "row 2, column 'x': expected a number or a text, found a list",
        ),
        ("rows.json", '{"x": [1, 2], "y": [1]}', "unusable JSON: .*same length"),
        ("rows.json", '{"x": {"a": 1}, "y": {"b": 1}}', "found an object of another form"),
    ],
)
def test_formats_that_are_refused(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"{name}: .*{message}"):
        read_table(write(tmp_path / name, content))


@pytest.mark.parametrize("name", ["rows.csv.gz", "rows.zip", "rows.xlsx"])
def test_a_small_file_may_not_fill_the_memory(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialect, "ALWAYS_ALLOWED", 1 << 20)
    monkeypatch.setattr(dialect, "MOST_GROWTH", 100)
    text = "x,y\n" + "1,2\n" * (1 << 20)
    content = gzip.compress(text.encode()) if name.endswith("gz") else zipped(a_csv=text)
    with pytest.raises(DataError, match=rf"{name}: its content is larger than 1 MiB"):
        read_table(write(tmp_path / name, content))


# ---------------------------------------------------------------------------------------- workbooks

ROWS: list[list[Any]] = [["x", "y"], [1, "a"], [2, "b"], [3, "a"]]


def test_a_cell_in_the_last_corner_of_a_sheet_takes_no_memory(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in ROWS:
        book.worksheets[0].append(row)
    book.worksheets[0]["XFD1048576"] = 1
    book.save(tmp_path / "rows.xlsx")
    with pytest.raises(
        DataError, match="row 1048576 of the sheet 'Sheet' has a cell in column XFD, the names"
    ):
        read_table(tmp_path / "rows.xlsx")


def test_a_title_above_the_names_of_a_sheet(tmp_path: Path) -> None:
    path = workbook(tmp_path / "rows.xlsx", Rows=[["Report"], [], *ROWS])
    with pytest.raises(
        ReadingError, match=r"row 3 .* a title above the header; set `reading: {skip_rows: 2}`"
    ):
        read_table(path)
    assert cells(path, reading=Reading(skip_rows=2, footer=1)) == {"x": [1, 2], "y": ["a", "b"]}


def test_merged_cells_above_the_names(tmp_path: Path) -> None:
    path = workbook(tmp_path / "rows.xlsx", Rows=[["size", None, "kind"], ["w", "h", "k"], [1, 2, "a"]])
    with pytest.raises(ReadingError, match=r"column 2 has values, but no name .*skip_rows: 1"):
        read_table(path)


def test_the_table_on_the_second_sheet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = workbook(tmp_path / "rows.xlsx", About=[["by me"]], Data=ROWS)
    with pytest.raises(ReadingError, match=r"first sheet 'About' has no table, .*`reading: {sheet: Data}`"):
        read_table(path)
    assert cells(path, reading=Reading(sheet="Data"))["x"] == [1, 2, 3]
    with pytest.raises(DataError, match=r"no sheet 'data' \(`reading.sheet`\), only \['About', 'Data'\]"):
        read_table(path, reading=Reading(sheet="data"))
    assert not caplog.records
    read_table(workbook(tmp_path / "two.xlsx", One=ROWS, Two=ROWS))
    assert caplog.record_tuples[-1][1:] == (
        logging.WARNING,
        f"{tmp_path / 'two.xlsx'}: sheet 'One' is read, not Two; key: `reading.sheet`",
    )


def test_a_formula_that_no_program_has_calculated_is_refused(tmp_path: Path) -> None:
    path = workbook(tmp_path / "rows.xlsx", Rows=[["x", "y"], [1, 2], [2, "=A3*2"]])
    with pytest.raises(
        DataError, match=r"cell B3 of the sheet 'Rows': the formula '=A3\*2' has no value yet"
    ):
        read_table(path)
