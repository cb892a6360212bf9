"""Reading of raw tables: CSV, Excel and JSON files into data frames, columns into numbers and texts."""

import codecs
import csv
import json
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.core.errors import DataError

DELIMITERS = ",;\t|"
LARGEST = float(np.finfo(np.float32).max)
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")


def read_table(
    path: Path, text_columns: Collection[str] = (), missing: Collection[str] = MISSING
) -> pd.DataFrame:
    """Read a raw table in the format of its suffix: .csv, .tsv, .json or .xlsx.

    Args:
        path: the file. CSV may use any of DELIMITERS; JSON is a list of objects, one per row; of an Excel
            workbook the first sheet is read.
        text_columns: columns to keep as text (`007` stays `007`).
        missing: the texts of cells without a value.

    Returns:
        One row per record, in the order of the file, with the index 0, 1, ...

    Raises:
        DataError: the file does not exist or has no rows, a column name appears twice, or a row has more or
            fewer cells than the header.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    readers = {".csv": _read_csv, ".json": _read_json, ".xlsx": _read_excel, ".tsv": _read_csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: expected one of {', '.join(readers)}")
    try:
        table = reader(path, text_columns, list(missing))
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 at byte {_first_wrong_byte(path)}") from None
    if table.empty:
        raise DataError(f"{path}: there are no rows below the header")
    return table


def _first_wrong_byte(path: Path) -> int:
    """The offset of the first byte that is not UTF-8; pandas reports it relative to its buffer."""
    decoder, done = codecs.getincrementaldecoder("utf-8")(), 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            held = len(decoder.getstate()[0])  # bytes of a character split between two blocks
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                return done - held + error.start
            done += len(block)
    return done - len(decoder.getstate()[0])


def _read_csv(path: Path, text_columns: Collection[str], missing: list[str]) -> pd.DataFrame:
    header, _ = _checked_header(path)

    def read(columns: list[str] | None, text: Collection[str]) -> pd.DataFrame:
        return pd.read_csv(
            path,
            sep=delimiter_of(path),
            usecols=columns,
            dtype={name: object for name in text if name in header},
            keep_default_na=False,
            na_values=missing,
            low_memory=False,
            encoding="utf-8-sig",
        )

    table = read(None, text_columns)
    # pandas reads True, TRUE and true as one value; categories are texts, so read such columns again as text
    booleans = [name for name in table.columns if _holds_booleans(table[name])]
    if booleans:
        table[booleans] = read(booleans, booleans)[booleans]
    return table


def delimiter_of(path: Path) -> str:
    """The delimiter of a CSV file: the one of DELIMITERS that splits its header into most columns."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(filter(str.strip, file), "")
    return max(DELIMITERS, key=lambda sign: len(next(csv.reader([header], delimiter=sign), [])))


def table_chunks(
    path: Path, numbers: Collection[str], texts: Collection[str], missing: Collection[str], size: int
) -> tuple[int, Iterator[pd.DataFrame]]:
    """Read columns of a raw table in chunks; CSV files are never held in memory as a whole.

    Args:
        path: as for `read_table`.
        numbers: the columns of numbers.
        texts: the columns to keep as text.
        missing: the texts of cells without a value.
        size: rows of a chunk.

    Returns:
        The number of rows of the table, and the chunks; their index counts the rows of the file from 0. From
        the first chunk on in which a column of `numbers` holds a text, all columns are text.

    Raises:
        DataError: as `read_table`, or a column is missing.
    """
    if path.suffix.lower() not in (".csv", ".tsv") or not path.is_file():
        table = read_table(path, texts, missing)
        require_columns(table, [*texts, *numbers], path)
        starts = range(0, len(table), size)
        return len(table), (table.iloc[start : start + size] for start in starts)
    try:
        header, rows = _checked_header(path)
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 at byte {_first_wrong_byte(path)}") from None
    if not rows:
        raise DataError(f"{path}: there are no rows below the header")
    require_columns(pd.DataFrame(columns=header), [*texts, *numbers], path)
    return rows, _csv_chunks(path, numbers, texts, list(missing), size)


def _csv_chunks(
    path: Path, numbers: Collection[str], texts: Collection[str], missing: list[str], size: int
) -> Iterator[pd.DataFrame]:
    def read(texts: Collection[str]) -> Iterator[pd.DataFrame]:
        return pd.read_csv(
            path,
            sep=delimiter_of(path),
            usecols=[*numbers, *texts],
            # not "category": pandas converts categories to numbers where all of a chunk look like numbers
            dtype=dict.fromkeys(texts, object),
            keep_default_na=False,
            na_values=missing,
            low_memory=False,
            encoding="utf-8-sig",
            chunksize=size,
        )

    done = 0
    for chunk in read(texts):
        if not all(is_numeric(chunk[name]) for name in numbers):
            break
        yield chunk
        done += len(chunk)
    else:
        return
    # as text, so that an error message can quote the cell: pandas reads True, TRUE and true as one value
    yield from (chunk for chunk in read([*texts, *numbers]) if chunk.index[0] >= done)


def _checked_header(path: Path) -> tuple[list[str], int]:
    """Count the cells of each row of a CSV file; return the column names and the number of rows."""
    number = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=delimiter_of(path), strict=True)
        try:
            filled = filter(None, rows)  # pandas skips blank lines too
            header = next(filled, [])
            if not header:
                raise DataError(f"{path}: the file is empty")
            for number, row in enumerate(filled, start=1):
                if len(row) != len(header):
                    raise DataError(
                        f"{path}: row {number} has {len(row)} cells, the header has {len(header)}"
                    )
        except csv.Error as error:
            raise DataError(f"{path}: line {rows.line_num}: {error}") from None
    _refuse_doubled(path, header)
    return header, number


def _refuse_doubled(path: Path, names: list[str]) -> None:
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise DataError(f"{path}: the column '{doubled[0]}' appears more than once")


def _holds_booleans(column: "pd.Series[Any]") -> bool:
    if column.dtype == bool:
        return True
    return column.dtype == object and bool(column.map(lambda value: isinstance(value, bool)).any())


def _read_excel(path: Path, text_columns: Collection[str], missing: list[str]) -> pd.DataFrame:
    try:
        cells = pd.read_excel(path, header=None, dtype=object, keep_default_na=False)
    except (ValueError, KeyError, BadZipFile) as error:
        raise DataError(f"{path}: not an Excel workbook: {error}") from None
    if cells.empty:
        raise DataError(f"{path}: the first sheet is empty")
    header = [str(name) for name in cells.iloc[0]]
    _refuse_doubled(path, header)
    table = cells.iloc[1:].set_axis(header, axis=1).reset_index(drop=True)
    return _typed(table, text_columns, missing)


def _read_json(path: Path, text_columns: Collection[str], missing: list[str]) -> pd.DataFrame:
    def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _refuse_doubled(path, [name for name, _ in pairs])
        return dict(pairs)

    try:
        records = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=object_of)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: invalid JSON: {error}") from None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DataError(f"{path}: expected a list of objects, one per row")
    return _typed(pd.DataFrame(records, dtype=object), text_columns, missing)


def _typed(table: pd.DataFrame, text_columns: Collection[str], missing: list[str]) -> pd.DataFrame:
    """Convert the cells of Excel and JSON to the values that the same table in CSV would have."""
    table = table.mask(table.isna() | table.map(_as_text).isin(missing), np.nan)
    for name in table.columns:
        column = table[name]
        numbers = column.dropna().map(lambda value: type(value) in (int, float)).all()
        if name in text_columns or not numbers:
            table[name] = column.map(_as_text, na_action="ignore")
        else:
            table[name] = pd.to_numeric(column)
    return table


def _as_text(value: Any) -> str:
    """A cell as text; 60.0 becomes 60, since Excel and JSON do not distinguish them."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


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
    refuse_cells(column, np.abs(values) > LARGEST, path, "is too large for 32-bit numbers")
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
    """Convert a column (rows,) to the texts of categories (rows,), None where the cell is missing."""
    if is_numeric(column):
        column = column.astype(object).map(_as_text, na_action="ignore")
    elif pd.api.types.infer_dtype(column, skipna=True) != "string":
        column = column.astype(object).map(str, na_action="ignore")
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
