"""Large CSV files, read in blocks by pyarrow, give what pandas gives for small ones."""

import gzip
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from src.core.errors import DataError
from src.preparation.splits import repeated
from src.tabular.blocks import UnusualError, csv_blocks, numbers_of
from src.tabular.dialect import DEFAULT, Reading
from src.tabular.prepare import Preparation, prepare
from src.tabular.values import MISSING, code_counts, first_rows

ROWS = 60
COLUMNS: dict[str, list[Any]] = {
    "whole": [row * 7 % 41 for row in range(ROWS)],
    "missing": [None if row % 5 == 2 else row % 13 for row in range(ROWS)],
    "fraction": [f"{row * 0.37:.2f}" for row in range(ROWS)],
    "long": [repr(float(np.sqrt(row))) for row in range(ROWS)],
    "exponent": [f"{row}e{row % 9 - 30}" for row in range(ROWS)],
    "zeros": ["-0" if row % 4 else "1" for row in range(ROWS)],
    "big": [2**53 + row for row in range(ROWS)],
    "code": [["07", "7", "A"][row % 3] for row in range(ROWS)],
    "kind": [["brick", "NA", "a stone, or two", 'said "so"'][row % 4] for row in range(ROWS)],
    "late": [row % 10 if row < 40 else f"x{row % 3}" for row in range(ROWS)],
    "lines": ["one\ntwo" if row % 2 else "three" for row in range(ROWS)],
    "truth": [["True", "False", "true"][row % 3] for row in range(ROWS)],
    "spaces": [["a", "a ", "b"][row % 3] for row in range(ROWS)],
    "empty": [None] * ROWS,
    "名称": [["红", "绿"][row % 2] for row in range(ROWS)],
    "price": [100 + row * 31 % 17 for row in range(ROWS)],
}
TABLE = pd.DataFrame(COLUMNS, dtype=object).to_csv(index=False)
SETTINGS: dict[str, Any] = {"target": "price", "column_types": {"late": "categorical", "code": "categorical"}}


def prepared(folder: Path, content: bytes, name: str = "train.csv", **settings: Any) -> dict[str, bytes]:
    """The prepared files of a table."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    prepare(folder, folder / "prepared", Preparation(train=name, **(SETTINGS | settings)))
    return {path.name: path.read_bytes() for path in (folder / "prepared").iterdir()}


def no_pandas(*_: Any) -> None:
    raise AssertionError("the table was read by pandas")


@pytest.fixture
def in_blocks(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Every CSV file is large, and pandas is not asked."""
    monkeypatch.setattr("src.tabular.reading.LARGE", 0)
    monkeypatch.setattr("src.tabular.reading._whole_table", no_pandas)
    return monkeypatch


VARIANTS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "plain": (TABLE.encode(), {}),
    "carriage returns": (TABLE.replace("\n", "\r\n").encode(), {}),
    "a mark": (TABLE.encode("utf-8-sig"), {}),
    "no last line end": (TABLE.encode().rstrip(b"\n"), {}),
    "blank lines": (TABLE.encode().replace(b"\n0,", b"\n\n\n0,"), {}),
    "gb18030": (TABLE.encode("gb18030"), {"reading": Reading(encoding="gb18030")}),
    "semicolons": (pd.DataFrame(COLUMNS, dtype=object).to_csv(index=False, sep=";").encode(), {}),
    "tabs": (pd.DataFrame(COLUMNS, dtype=object).to_csv(index=False, sep="\t").encode(), {}),
    "all quoted": (pd.DataFrame(COLUMNS, dtype=object).to_csv(index=False, quoting=1).encode(), {}),
    "title": (b"a title\n" + TABLE.encode(), {"reading": Reading(skip_rows=1)}),
    "decimal commas": (
        pd.DataFrame(COLUMNS, dtype=object).to_csv(index=False, sep=";").replace(".", ",").encode(),
        {"reading": Reading(decimal=",")},
    ),
    "classes": (TABLE.encode(), {"target": "kind", "task": "classification", "missing_target": "drop"}),
    "groups": (TABLE.encode(), {"group": "code"}),
    "complete rows": (TABLE.encode(), {"impute": "drop"}),
    "marks of missing cells": (TABLE.encode(), {"missing": ["", "NA", "10"]}),
    "copies": ((TABLE + TABLE.partition("\n")[2]).encode(), {}),
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("size", [50, 700, 1 << 20])
def test_blocks_give_the_bytes_of_pandas(
    name: str, size: int, tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    content, settings = VARIANTS[name]
    caplog.set_level(logging.WARNING)
    expected = prepared(tmp_path / "table", content, **settings)
    warnings = sorted(record.getMessage() for record in caplog.records)
    caplog.clear()
    patch: pytest.MonkeyPatch = request.getfixturevalue("in_blocks")
    patch.setattr("src.tabular.blocks.BLOCK_BYTES", size)
    assert prepared(tmp_path / "table", content, **settings) == expected
    assert sorted(record.getMessage() for record in caplog.records) == warnings


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_number_of_threads_changes_nothing(
    threads: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    expected = prepared(tmp_path, TABLE.encode())
    request.getfixturevalue("in_blocks").setattr("src.tabular.blocks.BLOCK_BYTES", 700)
    before = pa.cpu_count()
    pa.set_cpu_count(threads)
    try:
        assert prepared(tmp_path, TABLE.encode()) == expected
    finally:
        pa.set_cpu_count(before)


def test_a_compressed_table_is_read_in_blocks(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    expected = prepared(tmp_path, TABLE.encode())
    request.getfixturevalue("in_blocks")
    assert prepared(tmp_path, gzip.compress(TABLE.encode()), "train.csv.gz") == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,price\n" + "1,2\n" * 300 + "1,2,3\n", "row 301 has 3 cells, the header has 2"),
        ("a,price\n" + "1,2\n" * 300 + "1\n", "row 301 has 1 cells"),
        ("a,price\n" + "1,2\n" * 300 + "x,2\n", "row 301, column 'a': expected a number, found 'x'"),
        ("a,price\n" + "1,2\n" * 300 + "inf,2\n", "row 301, column 'a': 'inf' is not finite"),
        ("a,price\n" + "1,2\n" * 300 + "1e39,2\n", "row 301, column 'a': '1e[+]39' is too large"),
        ("a,price\n" + "1,2\n" * 300 + '"1,2\n', "line 302: unexpected end of data"),
        ("a,a,price\n" + "1,1,2\n" * 300, "the column 'a' appears more than once"),
        ("a,price\n" + "1,2\n" * 300 + "1.267,2\n", "row 301, column 'a': '1.267' may be the number"),
        ("a,price\n" + "1,2\n" * 300 + "é,2\n", "not UTF-8 at byte 1208"),
        ("a,price\n", "there are no rows below the header"),
    ],
)
def test_a_large_file_is_refused_as_a_small_one(
    content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.tabular.blocks.BLOCK_BYTES", 400)
    for size in (1 << 24, 0):
        monkeypatch.setattr("src.tabular.reading.LARGE", size)
        with pytest.raises(DataError, match=message):
            prepared(tmp_path, content.encode("latin-1"), column_types={})
        assert not (tmp_path / "prepared").exists()


@pytest.mark.parametrize(
    "content",
    [
        'a,b\n1, "x, y"\n',
        'a,b\n1,"x" \n',
        'a,b\n1,"x"y\n',
        'a,b\n1,5" pipe\n',
        'a,b\n1," x"\n',
        "a,b\n1,x\n   \n2,y\n",
        "a,b\n1,x\0\n",
        "a,b\n1,2\n3\n",
        "# a comment\na,b\n",
        "a,,b\n1,2,3\n",
    ],
)
def test_what_parsers_read_otherwise_is_left_to_pandas(content: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(content)
    with pytest.raises(UnusualError):
        list(csv_blocks(tmp_path / "rows.csv", ["a", "b"], MISSING, DEFAULT))


def test_quotes_of_every_plain_kind_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('a,b\n"x","y, ""z"""\n"",""""\n"one\ntwo",plain\n')
    (table,) = csv_blocks(path, ["a", "b"], ["NA"], DEFAULT)
    assert table.to_pydict() == {"a": ["x", "", "one\ntwo"], "b": ['y, "z"', '"', "plain"]}


def test_numbers_are_those_of_pandas(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    texts = [
        *(repr(float(number)) for number in generator.normal(size=300)),
        *(f"{number:.3g}" for number in generator.lognormal(sigma=40, size=300)),
        *(f"{number:.6f}" for number in generator.normal(scale=1e6, size=300)),
        *(str(number) for number in generator.integers(-(10**17), 10**17, size=300)),
        *("1.", ".5", "+3", "1E5", "00012", "4.35", "0.1", "123456789012345678.5", "1e22", "1e23"),
    ]
    for text in texts:
        (tmp_path / "x.csv").write_text(f"x\n{text}\n0.5\n")
        found = numbers_of(pa.array([text, "0.5"]))
        if found is not None:
            expected = pd.read_csv(tmp_path / "x.csv")["x"].to_numpy(dtype=np.float64)
            assert found.view(np.int64).tolist() == expected.view(np.int64).tolist(), text


@pytest.mark.parametrize("text", ["nan", "x", "1_000", "-0", "1,5", "0x1A", "True"])
def test_what_is_no_sure_number_stays_a_text(text: str) -> None:
    assert numbers_of(pa.array([*["1"] * 99, text])) is None


@pytest.mark.parametrize("rows_at_once", [1, 2, 3, 100])
def test_codes_are_counted_in_blocks(rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.tabular.values.ROWS_AT_ONCE", rows_at_once)
    codes = np.array([1, -1, 0, 1, 0, 1], dtype=np.int8)
    assert first_rows(codes, 3).tolist() == [2, 0, 6, 1]  # the third code is in no row; the last one is -1
    assert code_counts(codes, 3).tolist() == [2, 3, 0]


@pytest.mark.parametrize("rows_at_once", [1, 2, 100])
def test_equal_rows_are_found_in_blocks(rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.preparation.splits.ROWS_AT_ONCE", rows_at_once)
    table = pd.DataFrame({"x": [0.5, 1, 0.5, 1, 2], "kind": pd.Categorical(["a", "b", "a", "a", "b"])})
    assert repeated(table, ["x", "kind"])[0].tolist() == [0, 1, 0, 2, 3]
    assert repeated(table[1:], ["x", "kind"])[0].tolist() == [0, 1, 2, 3]
