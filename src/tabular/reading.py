"""Reading of raw tables: CSV, Excel and JSON files into data frames, columns into numbers and texts."""

import csv
import json
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError
from zipfile import BadZipFile, ZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from openpyxl import load_workbook
from openpyxl.utils import get_column_letter

from src.core.errors import DataError
from src.tabular.dialect import (
    DEFAULT,
    HEAD,
    LinesFile,
    Reading,
    ReadingError,
    csv_rows,
    delimiter_of,
    first_full_row,
    format_of,
    layout_keys,
    most_bytes,
    open_text,
    refusing_damage,
    table_lines,
)
from src.tabular.notation import code_text, notations, plain_number

logger = logging.getLogger(__name__)

CSV_ENDINGS = (".csv", ".tsv", ".txt", ".data", ".dat")
JSON_ENDINGS = (".json", ".jsonl", ".ndjson")
EXCEL_ENDINGS = (".xlsx", ".xlsm")
CONVERSIONS = {
    ".xls": "save it as .xlsx",
    ".ods": "save it as .xlsx",
    ".parquet": "save it as CSV: with pyarrow, pandas.read_parquet(...).to_csv(..., index=False)",
    ".feather": "save it as CSV: with pyarrow, pandas.read_feather(...).to_csv(..., index=False)",
}
TOO_LARGE = "is too large for 32-bit numbers"
LARGEST = float(np.finfo(np.float32).max)
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
FEW_LINES = 5  # the most lines of a footer
MOST_KEYS = 50  # that are looked for one after the other


def read_table(
    path: Path,
    text_columns: Collection[str] = (),
    missing: Collection[str] = MISSING,
    reading: Reading = DEFAULT,
    ids: Collection[str] = (),
) -> pd.DataFrame:
    """Read a raw table in the format of its ending.

    Args:
        path: the file: CSV (.csv, .tsv, .txt, .data, .dat) with any of DELIMITERS; JSON (.json, .jsonl), one
            object per row or per column, or one of pandas' other forms; or a workbook (.xlsx). CSV and JSON
            may be compressed (.gz, .zip).
        text_columns: columns to keep as text (`007` stays `007`).
        missing: the texts of cells without a value.
        reading: how the file holds the table.
        ids: columns to keep as text whose cells always have a value.

    Returns:
        One row per record, in the order of the file, with the index 0, 1, ...

    Raises:
        ReadingError: other keys of `reading` would read the file.
        DataError: the file does not exist or has no rows, a column name appears twice, or a row has more or
            fewer cells than the header.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    kind = format_of(path)
    readers = {
        **dict.fromkeys(CSV_ENDINGS, _read_csv),
        **dict.fromkeys(JSON_ENDINGS, _read_json),
        **(dict.fromkeys(EXCEL_ENDINGS, _read_excel) if kind == path.suffix.lower() else {}),
    }
    if kind not in readers:
        way = CONVERSIONS.get(kind, "save it as CSV")
        raise DataError(f"{path}: expected one of {', '.join(readers)}; {way}")
    texts = [*text_columns, *ids]
    table = refusing_damage(path, lambda: readers[kind](path, texts, list(missing), reading, ids))
    if table.empty:
        raise DataError(f"{path}: there are no rows below the header")
    stripped = []
    for name in table.columns:
        column = _typed(table[name], name in texts, () if name in ids else missing, reading, path)
        if column is not table[name]:
            changed = table[name].map(lambda cell: isinstance(cell, str) and cell != cell.strip()).any()
            stripped += [name] if changed else []
            table[name] = column
    if stripped and reading.strip:
        logger.warning("%s: spaces around cells left out: %s", path, ", ".join(map(repr, stripped)))
    return table


def _read_csv(
    path: Path, texts: Collection[str], missing: list[str], reading: Reading, ids: Collection[str]
) -> pd.DataFrame:
    names, _ = _csv_layout(path, reading)

    def read(columns: list[str], texts: Collection[str]) -> pd.DataFrame:
        return _pandas_csv(path, names, columns, texts, missing, reading, ids)

    table = read(names, texts if reading.plain else names)
    # pandas reads True, TRUE and true as one value; categories are texts, so read such columns again as text
    again = [name for name in names if _holds_booleans(table[name])]
    if reading.decimal is None:
        again += [name for name in names if _may_have_groups(table[name])]
    if again:
        as_text = read(again, again)
        for name in again:
            _refuse_ambiguous(as_text[name], path)
            if not is_numeric(table[name]):
                table[name] = as_text[name]
    return table


def _pandas_csv(
    path: Path,
    names: list[str],
    columns: list[str],
    texts: Collection[str],
    missing: list[str],
    reading: Reading,
    ids: Collection[str],
    **options: Any,
) -> Any:
    """Read columns of a CSV file by pandas, whose rows have been counted."""
    delimiter = delimiter_of(path, reading)
    lines = table_lines(path, reading)
    if reading.header == "first":
        next(filter(None, csv_rows(lines, delimiter)))
    return pd.read_csv(
        LinesFile(lines),  # type: ignore[call-overload]
        sep=r"\s+" if delimiter == " " else delimiter,
        header=None,
        names=names,
        index_col=False,
        usecols=columns,
        # not "category": pandas converts categories to numbers where all of a chunk look like numbers
        dtype={name: object for name in texts if name in columns},
        keep_default_na=False,
        na_values={name: [] if name in ids else missing for name in columns},
        skipinitialspace=True,
        low_memory=False,
        **options,
    )


def table_chunks(
    path: Path,
    numbers: Collection[str],
    texts: Collection[str],
    missing: Collection[str],
    size: int,
    reading: Reading = DEFAULT,
    ids: Collection[str] = (),
) -> tuple[int, Iterator[pd.DataFrame]]:
    """Read columns of a raw table in chunks; CSV files are never held in memory as a whole.

    Args:
        path: as for `read_table`.
        numbers: the columns of numbers.
        texts: the columns to keep as text.
        missing: the texts of cells without a value.
        size: rows of a chunk.
        reading: as for `read_table`.
        ids: as for `read_table`.

    Returns:
        The number of rows of the table, and the chunks; their index counts the rows of the file from 0. A
        column of `numbers` that holds a text is one of texts.

    Raises:
        DataError: as `read_table`, or a column is missing.
    """
    needed = [*ids, *texts, *numbers]
    if not path.is_file() or format_of(path) not in CSV_ENDINGS:
        table = read_table(path, texts, missing, reading, ids)
        require_columns(table, needed, path)
        starts = range(0, len(table), size)
        return len(table), (table.iloc[start : start + size] for start in starts)
    names, rows = refusing_damage(path, lambda: _csv_layout(path, reading))
    if not rows:
        raise DataError(f"{path}: there are no rows below the header")
    require_columns(pd.DataFrame(columns=names), needed, path)
    return rows, _csv_chunks(path, names, numbers, texts, list(missing), size, reading, ids)


def _csv_chunks(
    path: Path,
    names: list[str],
    numbers: Collection[str],
    texts: Collection[str],
    missing: list[str],
    size: int,
    reading: Reading,
    ids: Collection[str],
) -> Iterator[pd.DataFrame]:
    def read(as_text: Collection[str]) -> Iterator[pd.DataFrame]:
        columns = [*ids, *texts, *numbers]
        chunks: Iterator[pd.DataFrame] = _pandas_csv(
            path, names, columns, as_text, missing, reading, ids, chunksize=size
        )
        return chunks

    def typed(chunk: pd.DataFrame) -> pd.DataFrame:
        columns = {
            name: _typed(chunk[name], name not in numbers, () if name in ids else missing, reading, path)
            for name in chunk.columns
        }
        return pd.DataFrame(columns)

    done = 0
    if reading.plain:
        for chunk in read([*ids, *texts]):
            if not all(is_numeric(chunk[name]) for name in numbers):
                break
            yield typed(chunk)
            done += len(chunk)
        else:
            return
    # as text, so that an error message can quote the cell: pandas reads True, TRUE and true as one value
    yield from (typed(chunk) for chunk in read([*ids, *texts, *numbers]) if chunk.index[0] >= done)


def _csv_layout(path: Path, reading: Reading) -> tuple[list[str], int]:
    """Count the cells of each row of a CSV file; return the column names and the number of rows."""
    below: list[str] = []
    rows = csv_rows(table_lines(path, reading, below), delimiter_of(path, reading))
    number = 0
    try:
        filled: Iterator[list[str]] = filter(None, rows)  # pandas skips blank lines too
        first = next(filled, [])
        if not first:
            raise DataError(f"{path}: the file is empty")
        header = first
        if reading.header != "first":
            header, filled = _given_names(reading, len(first)), chain([first], filled)
        head = list(islice(filled, HEAD))
        if header[-1] == "" and head and all(len(row) == len(header) - 1 for row in head):
            header = header[:-1]  # a comma at the end of the header alone
        valued = set[int]()
        for number, row in enumerate(chain(head, filled), start=1):
            if len(row) != len(header):
                raise _uneven(
                    path, reading, number, row, header, sum(1 for _ in filled) if number > 1 else -1
                )
            if "" in header:
                valued.update(index for index, cell in enumerate(row) if not header[index] and cell.strip())
    except csv.Error as error:
        raise DataError(f"{path}: line {getattr(rows, 'line_num', 0)}: {error}") from None
    if len(header) == 1 and (found := layout_keys(path, reading)):
        raise ReadingError(f"{path}: the header has one column, but {found[0]}", found[1])
    names = _names(path, header, head, valued, reading)
    if below:
        logger.warning(
            "%s: left out below the rows: %s", path, "; ".join(repr(line.strip()) for line in below)
        )
    return names, number


def _given_names(reading: Reading, cells: int) -> list[str]:
    """The names of the columns of a file without a header."""
    if isinstance(reading.header, list):
        return reading.header
    return [f"column_{number}" for number in range(1, cells + 1)]


def _uneven(
    path: Path, reading: Reading, number: int, row: list[str], header: list[str], rest: int
) -> DataError:
    """The error of a row with more or fewer cells than the header; `rest` rows follow."""
    message = f"{path}: row {number} has {len(row)} cells, the header has {len(header)}"
    if isinstance(reading.header, list):
        return DataError(message.replace("the header has", "`reading.header` has"))
    short = len(row) < len(header)
    if short and 0 <= rest < FEW_LINES and reading.header == "first" and number > FEW_LINES:
        last = ", ".join(row)[:40]
        return ReadingError(f"{message}; if it is a footer ({last!r})", {"footer": reading.footer + rest + 1})
    if found := layout_keys(path, reading):
        return ReadingError(f"{message}; {found[0]}", found[1])
    return DataError(message)


def _names(
    path: Path, header: Sequence[Any], rows: list[Any], valued: Collection[int], reading: Reading
) -> list[str]:
    """The names of the columns from the cells of a header.

    Args:
        path: the file, for error messages.
        header: the cells; the name of an empty one is that of pandas, `Unnamed: 0`.
        rows: the first rows.
        valued: the columns without a name that have a value.
        reading: how the file is read.
    """
    names = [_as_text(name).strip() if reading.strip else _as_text(name) for name in header]
    if reading.header == "first":
        _refuse_data_as_header(path, names, rows)
        if nameless := [index for index in valued if index]:  # the first may hold the labels of the rows
            place = (
                f"{path}: column {nameless[0] + 1} has values, but no name in the header ({names[0]!r}, ...)"
            )
            below = [_as_text(cell) for cell in rows[0]] if rows else []
            if all(below) and all(plain_number(name) is None for name in below):
                raise ReadingError(
                    f"{place}: a title or merged cells above the names", {"skip_rows": reading.skip_rows + 1}
                )
            raise DataError(f"{place}; name it, or remove it")
    return _complete_names(path, names)


def _complete_names(path: Path, names: list[str]) -> list[str]:
    """The names, with that of pandas for an empty one; refuses a name that appears twice."""
    names = [name or f"Unnamed: {index}" for index, name in enumerate(names)]
    _refuse_doubled(path, names)
    return names


def _refuse_data_as_header(path: Path, header: list[str], rows: list[Any]) -> None:
    """Raise ReadingError if the first line has the values of a row: then the file has no header.

    It does if all columns of numbers have a number there and, to tell it from a header of years, one of them
    is a fraction or the same as another, or the cell of a column of texts occurs below. Without a column of
    numbers, most texts must occur below.
    """
    numbers: list[str] = []
    texts = repeated = 0
    for index, cell in enumerate(header):
        column = [_as_text(row[index]).strip() for row in rows if index < len(row)]
        column = [text for text in column if text not in MISSING]
        if not column:
            continue
        if all(plain_number(text) is not None for text in column):
            if plain_number(cell) is None:
                return
            numbers.append(cell)
        else:
            texts, repeated = texts + 1, repeated + (cell in column)
    shown = any(not cell.lstrip("+-").isdigit() for cell in numbers) or len(set(numbers)) < len(numbers)
    if (numbers and (shown or repeated)) or (not numbers and texts > 1 and repeated > texts / 2):
        first = ", ".join(header[:3])
        raise ReadingError(f"{path}: the first line ({first}, ...) has values, not names", {"header": "none"})


def _refuse_doubled(path: Path, names: list[str]) -> None:
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise DataError(f"{path}: the column '{doubled[0]}' appears more than once")


def _holds_booleans(column: "pd.Series[Any]") -> bool:
    if column.dtype == bool:
        return True
    return column.dtype == object and bool(column.map(lambda value: isinstance(value, bool)).any())


def _may_have_groups(column: "pd.Series[Any]") -> bool:
    """Whether the points of a column of numbers may stand between groups of three digits."""
    if not pd.api.types.is_float_dtype(column):
        return False
    values = column.dropna().abs().to_numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        whole, thousandths = values % 1 == 0, values * 1000
        grouped = np.isclose(thousandths, np.round(thousandths), rtol=0, atol=1e-6)
    return bool(whole.any() and not whole.all() and grouped.all() and values.max() < 1000)


def _refuse_ambiguous(column: "pd.Series[Any]", path: Path) -> None:
    found = notations(column.dropna().astype(str).unique())
    if len(found) > 1:
        raise _notation_error(column, path, found)


def _notation_error(column: "pd.Series[Any]", path: Path, found: list[Any]) -> ReadingError:
    texts = column.dropna().astype(str)
    row = texts.index[int((texts.str.strip() == found[0].example).to_numpy().argmax())] + 1
    values = " or ".join(f"{notation.value:.15g}" for notation in found)
    return ReadingError(
        f"{path}: row {row}, column '{column.name}': {found[0].example!r} may be the number {values}",
        *(notation.keys(str(column.name)) for notation in found),
    )


def without_target(path: Path, reading: Reading, target: str) -> Reading:
    """The reading of a file without a header that may lack the target: then it has one column fewer."""
    names = reading.header
    if not isinstance(names, list) or not path.is_file() or format_of(path) not in CSV_ENDINGS:
        return reading
    first = refusing_damage(
        path, lambda: next(csv_rows(table_lines(path, reading), delimiter_of(path, reading)), [])
    )
    if target not in names or len(first) != len(names) - 1:
        return reading
    logger.warning("%s: one column fewer than training: taken as the others than '%s'", path, target)
    return replace(reading, header=[name for name in names if name != target])


def plain_texts(column: "pd.Series[Any]", reading: Reading) -> "pd.Series[Any]":
    """The texts of the cells with a value, numbers among them rewritten with a decimal point and no unit."""
    texts = column.dropna().astype(str)
    if reading.plain:
        return texts
    unit = reading.units.get(str(column.name), "")
    return texts.map(lambda text: plain_number(text, reading.decimal_sign, reading.thousands, unit) or text)


def refuse_other_notation(column: "pd.Series[Any]", path: Path, reading: Reading = DEFAULT) -> None:
    """Refuse a column of texts that are numbers with a unit or in another country's notation.

    Args:
        column: shape (rows,); its index counts the rows of the file from 0.
        path: the file, for error messages.
        reading: the keys by which the column is no column of numbers.

    Raises:
        ReadingError: with the keys of `reading` for it.
        DataError: they are plain numbers, but `reading` says that the file writes them otherwise.
    """
    texts = column.dropna().astype(str)
    if found := notations(texts.unique()):
        unit = reading.units.get(str(column.name), "")
        known = plain_number(found[0].example, reading.decimal_sign, reading.thousands, unit) is not None
        if not known or (len(found) > 1 and reading.decimal is None and reading.thousands is None):
            raise _notation_error(column, path, found)
    if len(texts) and all(plain_number(text) is not None for text in texts.unique()):
        raise DataError(
            f"{path}: row {texts.index[0] + 1}, column '{column.name}': {texts.iloc[0]!r} is no number with "
            "`reading`, as other columns need it; write all numbers alike, or set `column_types`"
        )


def found_reading(path: Path, start: Reading = DEFAULT) -> tuple[Reading, list[str]]:
    """Find the keys of `Reading` that a table needs.

    Args:
        path: the table.
        start: the keys that are known; they stay as they are.

    Returns:
        The keys, and for each of them that was found what was seen.

    Raises:
        ReadingError: several values of a key would do, or two columns need different ones.
        DataError: the table cannot be read.
    """
    reading, seen = start, list[str]()
    while True:
        try:
            # columns with a unit as text: their marks of missing cells are not known yet
            table = read_table(path, reading.units, reading=reading)
            for name in table.columns:
                if not is_numeric(table[name]) and name not in reading.units:
                    refuse_other_notation(table[name], path, reading)
            return reading, seen
        except ReadingError as error:
            if len(error.keys) != 1 or len(seen) > MOST_KEYS or _contradicts(reading, error.keys[0]):
                raise
            keys = error.keys[0] | {"units": reading.units | error.keys[0].get("units", {})}
            reading = replace(reading, **keys)
            seen.append(error.found.removeprefix(f"{path}: "))


def _contradicts(reading: Reading, keys: dict[str, Any]) -> bool:
    """Whether keys have another value than the reading has already; lines to leave out may get more."""
    known = reading.changes()
    if reading.thousands:
        known["decimal"] = reading.decimal_sign
    fixed = [name for name in keys if name in known and name not in ("units", "skip_rows", "footer")]
    return any(keys[name] != known[name] for name in fixed)


def _read_excel(
    path: Path, texts: Collection[str], missing: list[str], reading: Reading, ids: Collection[str]
) -> pd.DataFrame:
    try:
        with ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > most_bytes(path):
                raise DataError(f"{path}: its content is larger than {most_bytes(path) >> 20} MiB unpacked")
        with path.open("rb") as file:
            sheet = _chosen_sheet(path, load_workbook(file, read_only=True, data_only=True), reading)
            table = _sheet_table(path, sheet, reading)
            if table.isna().any(axis=None):
                _refuse_formulas(path, sheet, load_workbook(file, read_only=True)[sheet.title])
    except (ValueError, KeyError, IndexError, BadZipFile, ParseError) as error:
        raise DataError(f"{path}: not an Excel workbook: {error}") from None
    return table


def _chosen_sheet(path: Path, workbook: Any, reading: Reading) -> Any:
    """The sheet of a workbook that holds the table."""
    sheets = {sheet.title: sheet for sheet in workbook.worksheets}
    if reading.sheet is not None:
        if reading.sheet not in sheets:
            raise DataError(
                f"{path}: there is no sheet {reading.sheet!r} (`reading.sheet`), only {[*sheets]}"
            )
        return sheets[reading.sheet]
    first, *others = sheets
    filled = [title for title in others if _width(sheets[title]) > 1]
    if filled and _width(sheets[first]) < 2:
        message = (
            f"{path}: the first sheet {first!r} has no table, {', '.join(map(repr, filled))} may have one"
        )
        raise ReadingError(message, *({"sheet": title} for title in filled))
    if filled:
        logger.warning("%s: sheet %r is read, not %s; key: `reading.sheet`", path, first, ", ".join(filled))
    return sheets[first]


def _sheet_rows(sheet: Any) -> Iterator[list[Any]]:
    """The cells of each row of a sheet, without the empty ones after the last value."""
    sheet.reset_dimensions()  # a file may claim, or its one stray cell stretch, a size beyond all memory
    for row in sheet.rows:
        cells = list(row)
        while cells and cells[-1].value is None:
            cells.pop()
        yield cells


def _width(sheet: Any) -> int:
    """The most cells in the first rows of a sheet."""
    return max(map(len, islice(_sheet_rows(sheet), HEAD)), default=0)


def _sheet_table(path: Path, sheet: Any, reading: Reading) -> pd.DataFrame:
    """The table of a sheet."""
    numbered = islice(enumerate(_sheet_rows(sheet), start=1), reading.skip_rows, None)
    filled: Iterator[tuple[int, list[Any]]] = (row for row in numbered if row[1])
    first = next(filled, None)
    if first is None:
        raise DataError(f"{path}: the sheet '{sheet.title}' is empty")
    header = [cell.value for cell in first[1]]
    if reading.header != "first":
        header, filled = _given_names(reading, len(header)), chain([first], filled)
    rows: list[list[Any]] = []
    for number, cells in filled:
        if len(cells) > len(header):
            counts = [len(row) for row in islice(_sheet_rows(sheet), HEAD)]
            start = first_full_row(counts)
            message = f"{path}: row {number} of the sheet '{sheet.title}' has a cell in column "
            message += f"{get_column_letter(len(cells))}, the names end at {get_column_letter(len(header))}"
            if start > reading.skip_rows and reading.header == "first":
                raise ReadingError(f"{message}: a title above the header", {"skip_rows": start})
            raise DataError(f"{message}; name the column, or empty the cell")
        rows.append([_excel_value(cell) for cell in cells] + [None] * (len(header) - len(cells)))
    rows = rows[: len(rows) - reading.footer]
    valued = {
        index
        for index, name in enumerate(header)
        if name is None and any(row[index] is not None for row in rows)
    }
    names = _names(path, header, rows[:HEAD], valued, reading)
    return pd.DataFrame(rows, columns=names, dtype=object)


def _excel_value(cell: Any) -> Any:
    """The value of a cell; whole numbers as int, None for an error such as #N/A."""
    if cell.data_type == "e":
        return None
    whole = isinstance(cell.value, float) and cell.value.is_integer()
    return int(cell.value) if whole else cell.value


def _refuse_formulas(path: Path, values: Any, formulas: Any) -> None:
    """Refuse formulas whose value no program has calculated yet."""
    formulas.reset_dimensions()
    for row, written in zip(values.rows, formulas.rows, strict=True):
        for cell, formula in zip(row, written, strict=True):
            # the value of a formula that gives an empty text is None, too, with another type
            if formula.data_type == "f" and cell.value is None and cell.data_type == "n":
                raise DataError(
                    f"{path}: cell {formula.coordinate} of the sheet '{values.title}': the formula "
                    f"'{formula.value}' has no value yet; open the file in Excel or LibreOffice and save it"
                )


def _read_json(
    path: Path, texts: Collection[str], missing: list[str], reading: Reading, ids: Collection[str]
) -> pd.DataFrame:
    def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _refuse_doubled(path, [name for name, _ in pairs])
        return dict(pairs)

    with open_text(path, reading) as file:
        text = file.read()
    try:
        content = _json_content(text, object_of)
        table = _json_table(content)
        if table is not None and re.search(r"\\ud[89a-f]", text, re.I):
            "".join(map(str, [*table.columns, *table.to_numpy().ravel()])).encode()
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: invalid JSON: {error}") from None
    except (RecursionError, ValueError) as error:  # too deep, too many digits, or half of a character
        raise DataError(f"{path}: unusable JSON: {str(error)[:200]}") from None
    if table is None:
        raise DataError(
            f"{path}: expected a list of objects, one per row, or an object of columns, found "
            f"{'an object' if isinstance(content, dict) else 'a list'} of another form"
        )
    for name in table.columns:
        nested = table[name].map(lambda cell: isinstance(cell, dict | list)).to_numpy()
        if nested.any():
            raise DataError(
                f"{path}: row {nested.argmax() + 1}, column '{name}': expected a number or a text, found "
                f"{'an object' if isinstance(table[name].iloc[nested.argmax()], dict) else 'a list'}"
            )
    names = [str(name).strip() if reading.strip else str(name) for name in table.columns]
    return table.set_axis(_complete_names(path, names), axis=1)


def _json_content(text: str, object_of: Any) -> Any:
    """The document, or the list of the documents if there is one on each line (JSON Lines)."""
    try:
        return json.loads(text, object_pairs_hook=object_of)
    except json.JSONDecodeError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if not error.msg.startswith("Extra data") or len(lines) < 2:
            raise
    return [json.loads(line, object_pairs_hook=object_of) for line in lines]


def _json_table(content: Any) -> pd.DataFrame | None:
    """The table of a JSON document; None if it has none of these forms.

    A list of objects, one per row, alone or as the one list of objects in an object; an object with a list,
    or with an object of row labels, for each column; an object of numbered rows; pandas' form `split`.
    """
    if isinstance(content, list):
        if not all(isinstance(record, dict) for record in content):
            return None
        return pd.DataFrame(content, dtype=object)
    if not isinstance(content, dict) or not content:
        return None
    if {"columns", "data"} <= content.keys() <= {"columns", "data", "index"}:
        return pd.DataFrame(content["data"], columns=content["columns"], dtype=object)
    values = list(content.values())
    if all(isinstance(value, dict) for value in values):
        labels = values[0].keys()
        if all(value.keys() == labels for value in values) and all(map(str.isdigit, labels)):
            return pd.DataFrame({name: list(value.values()) for name, value in content.items()}, dtype=object)
        if all(value.keys() == labels for value in values) and all(map(str.isdigit, content)):
            return pd.DataFrame(values, dtype=object)
        return None
    records = [value for value in values if isinstance(value, list) and value and isinstance(value[0], dict)]
    if len(records) == 1 and all(isinstance(record, dict) for record in records[0]):
        return pd.DataFrame(records[0], dtype=object)
    if all(isinstance(value, list) for value in values) and not records:
        return pd.DataFrame(content, dtype=object)
    return None


def _typed(
    column: "pd.Series[Any]", as_text: bool, missing: Collection[str], reading: Reading, path: Path
) -> "pd.Series[Any]":
    """Convert the cells of a column to the values that they have in every format.

    Spaces at their ends and the marks of missing cells go; texts become numbers if all of them are numbers,
    and other cells become texts. A column that needs no change is returned as it is.
    """
    unit = reading.units.get(str(column.name), "")
    if is_numeric(column) and not as_text and not unit:
        return column
    if isinstance(column.dtype, pd.StringDtype):  # of a CSV file, often with few different texts
        few = column.drop_duplicates().astype(object)
        typed = _typed(few, as_text, missing, reading, path)
        return column if typed is few else column.map(dict(zip(few, typed, strict=True)))
    texts = column.map(_as_text, na_action="ignore").astype(object)
    if reading.strip:
        texts = texts.map(str.strip, na_action="ignore")
    texts = texts.mask(texts.isna() | texts.isin(list(missing)), np.nan)
    if not as_text:
        numbers = _numbers(column, texts, unit, reading, path)
        if numbers is not None:
            return numbers
    return column if texts.equals(column.astype(object)) else texts


def _numbers(
    cells: "pd.Series[Any]", texts: "pd.Series[Any]", unit: str, reading: Reading, path: Path
) -> "pd.Series[Any] | None":
    """The numbers of a column; None if a cell is no number.

    Raises:
        ReadingError: the points of the column may stand between groups of three digits.
        DataError: a cell lacks the unit of its column.
    """
    native = cells.map(type).isin([int, float]) & texts.notna()
    if unit:
        native &= False
    written = texts[~native]
    if reading.plain:
        plain = written
    else:
        plain = written.map(
            lambda text: plain_number(text, reading.decimal_sign, reading.thousands, unit), na_action="ignore"
        )
        if unit:
            refuse_cells(
                texts, (written.notna() & plain.isna()).to_numpy(), path, f"is no number with {unit!r}"
            )
    try:
        numbers = pd.to_numeric(cells.where(native, plain.reindex(cells.index)), errors="coerce")
    except OverflowError:
        beyond = native & cells.where(native, 0).map(lambda number: abs(number) > LARGEST)
        refuse_cells(cells.map(lambda cell: str(cell)[:20]), beyond.to_numpy(), path, TOO_LARGE)
        raise
    if (numbers.isna() & texts.notna()).any() or not is_numeric(numbers):
        return None
    if reading.decimal is None and reading.plain:
        _refuse_ambiguous(written, path)
    return numbers


def _as_text(value: Any) -> str:
    """A cell as text; 60.0 becomes 60, since Excel and JSON do not distinguish them."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value)


def is_numeric(column: "pd.Series[Any]") -> bool:
    """Whether pandas has read every cell of the column as a number."""
    return pd.api.types.is_numeric_dtype(column) and column.dtype != bool


def numeric_values(column: "pd.Series[Any]", path: Path) -> NDArray[np.float64]:
    """Convert a column to numbers.

    Args:
        column: shape (rows,); its index counts the rows of the file from 0.
        path: the file, for error messages.

    Returns:
        Shape (rows,), NaN where the cell is missing.

    Raises:
        DataError: a cell is text, infinite or beyond float32; the message has its row, counted from 1.
    """
    numbers = pd.to_numeric(column, errors="coerce")
    values = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    refuse_cells(column, np.isnan(values) & column.notna().to_numpy(), path, "is not a number")
    refuse_cells(column, np.isinf(values), path, "is not finite")
    refuse_cells(column, np.abs(values) > LARGEST, path, TOO_LARGE)
    return values


def refuse_cells(column: "pd.Series[Any]", wrong: NDArray[np.bool_], path: Path, complaint: str) -> None:
    """Raise DataError for the first cell of a column that `wrong` (rows,) marks."""
    if wrong.any():
        position = int(wrong.argmax())
        raise DataError(
            f"{path}: row {column.index[position] + 1}, column '{column.name}': "
            f"{str(column.iloc[position])!r} {complaint}"
        )


def text_values(column: "pd.Series[Any]") -> NDArray[np.object_]:
    """Convert a column (rows,) to the texts of categories (rows,), None where the cell is missing.

    A whole number is the same category in every file, `3` and `3.0` alike.
    """
    if is_numeric(column):
        column = column.astype(object).map(_as_text, na_action="ignore")
    else:
        codes, distinct = pd.factorize(column.astype(object).map(str, na_action="ignore"))
        column = pd.Series([code_text(text) for text in distinct], dtype=object).reindex(codes)
    texts, missing = column.to_numpy(dtype=object), column.isna().to_numpy()
    if missing.any():
        texts = texts.copy()
        texts[missing] = None
    return texts


def require_columns(table: pd.DataFrame, names: Collection[str], path: Path) -> None:
    """Raise DataError if the table lacks a column of `names`."""
    for name in names:
        if name not in table.columns:
            raise DataError(f"{path}: the needed column '{name}' is missing")


def with_lags(table: pd.DataFrame, name: str, lags: int) -> pd.DataFrame:
    """Add columns `<name>_1`, `<name>_2`, ...: the values of a column one row before, two rows before, ..."""
    if not lags:
        return table
    return table.assign(**{f"{name}_{lag}": table[name].shift(lag) for lag in range(1, lags + 1)})
