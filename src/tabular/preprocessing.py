"""Raw tables in, number arrays out: reading CSV, Excel and JSON, and the learnt transformation.

`preprocessing.json` is all that the transformation needs, so that training data and the raw rows of a
prediction go through the same code. Nothing is learnt here; that is `prepare.py`.
"""

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

CHUNK_ROWS = 50_000
DELIMITERS = ",;\t|"
LARGEST = float(np.finfo(np.float32).max)
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")


def read_table(
    path: Path, text_columns: Collection[str] = (), missing: Collection[str] = MISSING
) -> pd.DataFrame:
    """Read a raw table; the ending .csv, .json, .xlsx or .tsv says how.

    Args:
        path: the file; `delimiter_of` finds what cuts the rows of CSV. JSON is a list of objects, one a row;
            Excel is the first sheet.
        text_columns: columns to keep as the text that the file holds (`007` stays `007`).
        missing: cell texts that mean "no value".

    Returns:
        One row a record in the file's order, row labels 0, 1, ...

    Raises:
        DataError: no file, no rows, a doubled column, or a row of another length than the header.
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
    """Where a file stops being UTF-8; the reader's own error counts from the start of its buffer."""
    decoder, done = codecs.getincrementaldecoder("utf-8")(), 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            held = len(decoder.getstate()[0])  # the start of a character that the last block ended in
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
    # pandas reads True, TRUE and true as one value; the text decides here, so read those again.
    booleans = [name for name in table.columns if _holds_booleans(table[name])]
    if booleans:
        table[booleans] = read(booleans, booleans)[booleans]
    return table


def delimiter_of(path: Path) -> str:
    """The one of comma, semicolon, tab and bar that cuts the header of a CSV file into most columns."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(filter(str.strip, file), "")
    return max(DELIMITERS, key=lambda sign: len(next(csv.reader([header], delimiter=sign), [])))


def table_chunks(
    path: Path, numbers: Collection[str], texts: Collection[str], missing: Collection[str], size: int
) -> tuple[int, Iterator[pd.DataFrame]]:
    """Read some columns of a raw table, of CSV files a bounded number of rows at a time.

    Args:
        path: as for `read_table`.
        numbers: the columns that should hold numbers.
        texts: the columns to keep as the text that the file holds.
        missing: cell texts that mean "no value".
        size: rows of a chunk.

    Returns:
        How many rows the table has, and the chunks; the index counts the rows of the file from 0. Where a
        number column holds something else, it is text from that chunk on.

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
            # not "category": pandas makes numbers of categories where all of a chunk look like them
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
    # pandas reads True, TRUE and true as one value; the text decides, and can be named
    yield from (chunk for chunk in read([*texts, *numbers]) if chunk.index[0] >= done)


def _checked_header(path: Path) -> tuple[list[str], int]:
    """The column names of a CSV file and its number of rows, after a pass that counts the cells of each."""
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
        raise DataError(f"{path}: the column '{doubled[0]}' stands there more than once")


def _holds_booleans(column: "pd.Series[Any]") -> bool:
    if column.dtype == bool:
        return True
    return column.dtype == object and bool(column.map(lambda value: isinstance(value, bool)).any())


def _read_excel(path: Path, text_columns: Collection[str], missing: list[str]) -> pd.DataFrame:
    try:
        cells = pd.read_excel(path, header=None, dtype=object, keep_default_na=False)
    except (ValueError, KeyError, BadZipFile) as error:
        raise DataError(f"{path}: no Excel workbook: {error}") from None
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
        raise DataError(f"{path}: no JSON: {error}") from None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DataError(f"{path}: expected a list of objects, one a row")
    return _typed(pd.DataFrame(records, dtype=object), text_columns, missing)


def _typed(table: pd.DataFrame, text_columns: Collection[str], missing: list[str]) -> pd.DataFrame:
    """Give the untyped cells of Excel and JSON the same values that their CSV would have."""
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
    """A cell as text: 60.0 is the category 60, as Excel and JSON write whole numbers either way."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


def is_numeric(column: "pd.Series[Any]") -> bool:
    """Whether pandas read every cell of the column as a number."""
    return pd.api.types.is_numeric_dtype(column) and column.dtype != bool


def numeric_values(column: "pd.Series[Any]", path: Path) -> NDArray[np.float64]:
    """A column as numbers, NaN where missing.

    Args:
        column: shape (rows,); its index counts the rows of the file from 0.

    Raises:
        DataError: a cell is text, or infinite; the row is named, counted from 1 below the header.
    """
    numbers = pd.to_numeric(column, errors="coerce")
    values = numbers.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    _refuse_row(column, np.isnan(values) & column.notna().to_numpy(), path, "is not a number")
    _refuse_row(column, np.isinf(values), path, "is not finite")
    _refuse_row(column, np.abs(values) > LARGEST, path, "is too large for 32-bit numbers")
    return values


def _refuse_row(column: "pd.Series[Any]", wrong: NDArray[np.bool_], path: Path, complaint: str) -> None:
    if wrong.any():
        position = int(wrong.argmax())
        raise DataError(
            f"{path}: row {column.index[position] + 1}, column '{column.name}': "
            f"{str(column.iloc[position])!r} {complaint}"
        )


def text_values(column: "pd.Series[Any]") -> NDArray[np.object_]:
    """A column as category texts, None where missing; shape (rows,)."""
    if is_numeric(column):
        column = column.astype(object).map(_as_text, na_action="ignore")
    elif pd.api.types.infer_dtype(column, skipna=True) != "string":
        column = column.astype(object).map(str, na_action="ignore")
    texts = column.to_numpy(dtype=object, copy=True)
    texts[column.isna().to_numpy()] = None
    return texts


def feature_names(preprocessing: dict[str, Any]) -> list[str]:
    """The names of the features, in the order of the array's columns."""
    names: list[str] = []
    for column in preprocessing["columns"]:
        if column["kind"] == "numeric":
            names.append(column["name"])
            continue
        for category in column["categories"]:
            names.append(f"{column['name']}_{'nan' if category is None else category}")
        if column["rare"]:
            names.append(f"{column['name']}_rare")
    return names


def transform(
    table: pd.DataFrame, preprocessing: dict[str, Any], path: Path, unseen: Counter[str]
) -> NDArray[np.float32]:
    """Apply the learnt transformation to raw rows.

    Args:
        table: raw rows; further columns and another order of columns do not matter.
        preprocessing: the content of preprocessing.json.
        path: where the rows come from, for error messages.
        unseen: counts, by column, the cells whose category training never saw (all zeros).

    Returns:
        Features of shape (rows, features), in the order of `feature_names`.

    Raises:
        DataError: a needed column is missing, or a number column holds text, infinity or, under
            `impute: drop`, nothing.
    """
    require_columns(table, [column["name"] for column in preprocessing["columns"]], path)
    features = np.zeros((len(table), len(feature_names(preprocessing))), dtype=np.float32)
    position = 0
    for column in preprocessing["columns"]:
        raw = table[column["name"]]
        if column["kind"] == "numeric":
            values = numeric_values(raw, path)
            if column["fill"] is None:
                _refuse_row(raw, np.isnan(values), path, "is missing, and `impute: drop` fills nothing")
            else:
                values[np.isnan(values)] = column["fill"]
            features[:, position] = (values - column["center"]) / column["scale"]
            position += 1
        else:
            position = _one_hot(text_values(raw), column, features, position, unseen)
    return features


def _one_hot(
    texts: NDArray[np.object_],
    column: dict[str, Any],
    features: NDArray[np.float32],
    position: int,
    unseen: Counter[str],
) -> int:
    """Write the ones of a categorical column from `position` on; return the position behind it."""
    codes = {category: code for code, category in enumerate(column["categories"])}
    codes |= dict.fromkeys(column["rare"], len(column["categories"]))
    known = [category for category in codes if category is not None]
    # an index looks up a million cells in C; its answer for an unknown text is -1, the last entry
    lookup = np.array([codes[category] for category in known] + [-1], dtype=np.int64)
    code_of_row = lookup[pd.Index(known, dtype=object).get_indexer(texts)]
    if None in codes:
        code_of_row[pd.isna(texts)] = codes[None]
    rows = np.flatnonzero(code_of_row >= 0)
    features[rows, position + code_of_row[rows]] = 1
    if len(rows) < len(texts):
        unseen[column["name"]] += len(texts) - len(rows)
    return position + len(column["categories"]) + bool(column["rare"])


def require_columns(table: pd.DataFrame, names: Collection[str], path: Path) -> None:
    """Raise DataError for the first of `names` that the table lacks."""
    for name in names:
        if name not in table.columns:
            raise DataError(f"{path}: the needed column '{name}' is missing")


def with_lags(table: pd.DataFrame, name: str, lags: int) -> pd.DataFrame:
    """The table with `<name>_1`, `<name>_2`, ...: a column's values one row before, two rows before, ..."""
    if not lags:
        return table
    return table.assign(**{f"{name}_{lag}": table[name].shift(lag) for lag in range(1, lags + 1)})


def chunks(table: pd.DataFrame, rows: NDArray[np.int64]) -> Iterator[pd.DataFrame]:
    """The given rows of a table, in their order, a bounded number at a time."""
    for start in range(0, len(rows), CHUNK_ROWS):
        yield table.iloc[rows[start : start + CHUNK_ROWS]]
