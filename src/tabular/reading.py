"""Reading of raw tables: CSV, Excel and JSON files into data frames."""

import csv
import logging
import math
import tempfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pandas as pd

from src.core.csv_cells import csv_problem
from src.core.errors import DataError
from src.preparation.proposals import count, listed
from src.tabular.blocks import UnusualError, ahead, of_rows
from src.tabular.column_files import typed_block
from src.tabular.dialect import (
    DEFAULT,
    HEAD,
    LinesFile,
    Reading,
    ReadingError,
    csv_rows,
    delimiter_of,
    format_of,
    layout_keys,
    refusing_damage,
    table_lines,
)
from src.tabular.header import column_names, given_names
from src.tabular.json_tables import read_json_table
from src.tabular.sources import (
    ARROW_ENDINGS,
    Source,
    arrow_source,
    csv_source,
    joined,
    part_files,
    text_source,
    with_fallback,
)
from src.tabular.stored_table import StoredTable, stored_table
from src.tabular.values import (
    MISSING,
    holds_booleans,
    is_numeric,
    may_have_groups,
    refuse_ambiguous,
    refuse_other_notation,
    require_columns,
    typed_cells,
)
from src.tabular.workbook import read_workbook

logger = logging.getLogger(__name__)

CSV_ENDINGS = (".csv", ".tsv", ".txt", ".data", ".dat")
JSON_ENDINGS = (".json", ".jsonl", ".ndjson")
EXCEL_ENDINGS = (".xlsx", ".xlsm")
CONVERSIONS = {
    ".xls": "save it as .xlsx",
    ".ods": "save it as .xlsx",
}
LARGE = 1 << 24  # bytes of a file that is read in blocks
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
            object per row or per column, or one of pandas' other forms; Parquet (.parquet), Feather
            (.feather, .arrow) or a workbook (.xlsx). CSV and JSON may be compressed (.gz, .zst, .zip). Or a
            folder or pattern of files with the same columns, which are one table in the order of their names.
        text_columns: columns to keep as text (`007` stays `007`).
        missing: the texts of cells without a value.
        reading: how the file holds the table.
        ids: columns to keep as text whose cells always have a value.

    Returns:
        One row per record, in the order of the file, with the index 0, 1, ...; texts are objects or, of a
        table that is read in blocks, categories.

    Raises:
        ReadingError: other keys of `reading` would read the file.
        DataError: the file does not exist or has no rows, a column name appears twice, or a row has more or
            fewer cells than the header.
    """
    table = open_table(path, text_columns, missing, reading, ids, Path(tempfile.gettempdir()))
    return table.frame() if isinstance(table, StoredTable) else table


def _whole_table(
    path: Path, texts: Collection[str], missing: Collection[str], reading: Reading, ids: Collection[str]
) -> pd.DataFrame:
    """Read a file as a whole; the arguments are those of `read_table`."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    kind = format_of(path)
    readers = {
        **dict.fromkeys(CSV_ENDINGS, _read_csv),
        **dict.fromkeys(JSON_ENDINGS, read_json_table),
        **(dict.fromkeys(EXCEL_ENDINGS, read_workbook) if kind == path.suffix.lower() else {}),
    }
    if kind not in readers:
        way = CONVERSIONS.get(kind, "save it as CSV")
        raise DataError(f"{path}: expected one of {', '.join([*readers, *ARROW_ENDINGS])}; {way}")
    texts = [*texts, *ids]
    table = refusing_damage(path, lambda: readers[kind](path, texts, list(missing), reading, ids))
    return typed_table(table, texts, missing, reading, ids, path)


def open_table(
    path: Path,
    text_columns: Collection[str],
    missing: Collection[str],
    reading: Reading,
    ids: Collection[str],
    folder: Path,
) -> pd.DataFrame | StoredTable:
    """Read a raw table as `read_table`, but a large one, Parquet, Feather and parts into columns on the disk.

    Args:
        path: as for `read_table`; the other arguments likewise.
        text_columns: likewise.
        missing: likewise.
        reading: likewise.
        ids: likewise.
        folder: of the temporary file.

    Raises:
        DataError: as `read_table`.
    """
    with suppress(UnusualError):
        if (source := _source(path, list(missing), reading, ids, LARGE)) is not None:
            table: StoredTable = refusing_damage(
                path, lambda: stored_table(path, source, text_columns, missing, reading, folder, ids)
            )
            return table
    return _whole_table(path, text_columns, missing, reading, ids)


def _source(
    path: Path, missing: list[str], reading: Reading, ids: Collection[str], large: float = math.inf
) -> Source | None:
    """A table that is read in blocks: in parts, in Parquet or Feather files, or a CSV file of `large` bytes.

    Raises:
        UnusualError: a large CSV file is not plain enough.
    """
    if (parts := part_files(path)) is not None:
        return joined(parts, [_part_source(part, missing, reading, ids) for part in parts])
    if path.is_file() and path.suffix.lower() in ARROW_ENDINGS:
        return arrow_source(path, missing, ids)
    if path.is_file() and path.stat().st_size >= large and format_of(path) in CSV_ENDINGS:
        source: Source = refusing_damage(path, lambda: csv_source(path, missing, reading, ids))
        return source
    return None


def _part_source(path: Path, missing: list[str], reading: Reading, ids: Collection[str]) -> Source:
    """One file of several, of any format."""

    def as_texts(columns: list[str]) -> Source:
        return text_source(columns, partial(_whole_table, path, columns, missing, reading, ids))

    with suppress(UnusualError):
        source = _source(path, missing, reading, ids, large=0)
        if source is not None:
            return with_fallback(source, as_texts(source.columns))
    return as_texts(list(map(str, _whole_table(path, (), missing, reading, ids).columns)))


def typed_table(
    table: pd.DataFrame,
    texts: Collection[str],
    missing: Collection[str],
    reading: Reading,
    ids: Collection[str],
    path: Path,
) -> pd.DataFrame:
    """Give the cells of a table the values that they have in every format.

    Args:
        table: as it was read; its columns are replaced.
        texts: columns to keep as text, those of `ids` among them.
        missing: the texts of cells without a value.
        reading: how numbers are written.
        ids: columns whose cells always have a value.
        path: the source of the table, for messages.

    Raises:
        DataError: there are no rows, or the points of a column may stand between groups of three digits.
    """
    if table.empty:
        raise DataError(f"{path}: there are no rows below the header")
    stripped = []
    for name in table.columns:
        column = typed_cells(table[name], name in texts, () if name in ids else missing, reading, path)
        if column is not table[name]:
            changed = any(isinstance(cell, str) and cell != cell.strip() for cell in table[name].unique())
            stripped += [name] if changed else []
            table[name] = column
    if stripped and reading.strip:
        logger.warning("%s: spaces around cells left out: %s", path, ", ".join(map(repr, stripped)))
    return table


def _read_csv(
    path: Path, texts: Collection[str], missing: list[str], reading: Reading, ids: Collection[str]
) -> pd.DataFrame:
    names, rows = _csv_layout(path, reading)

    def read(columns: list[str], texts: Collection[str]) -> pd.DataFrame:
        found: pd.DataFrame = _pandas_csv(path, names, columns, texts, missing, reading, ids)
        _refuse_other_rows(path, len(found), rows)
        return found

    table = read(names, texts if reading.plain else names)
    # pandas reads True, TRUE and true as one value; categories are texts, so read such columns again as text
    again = [name for name in names if holds_booleans(table[name])]
    if reading.decimal is None:
        again += [name for name in names if may_have_groups(table[name])]
    if again:
        as_text = read(again, again)
        for name in again:
            refuse_ambiguous(as_text[name], path)
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
        next(filter(None, csv_rows(lines, delimiter, reading)))
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
        skipinitialspace=delimiter != "\t",  # as csv_rows counts them
        quoting=reading.quoting,
        low_memory=False,
        **options,
    )


def _refuse_other_rows(path: Path, found: int, counted: int) -> None:
    """Refuse a CSV file of which pandas reads another number of rows than were counted."""
    if found != counted:
        raise DataError(f"{path}: {counted} rows, but pandas reads {found}; look for quotes within cells")


def table_chunks(
    path: Path,
    numbers: Collection[str],
    texts: Collection[str],
    missing: Collection[str],
    size: int,
    reading: Reading = DEFAULT,
    ids: Collection[str] = (),
) -> tuple[int | None, Iterator[pd.DataFrame]]:
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
        The number of rows of the table, None for a large one, and the chunks; their index counts the rows of
        the file from 0. A column of `numbers` that holds a text is one of texts.

    Raises:
        DataError: as `read_table`, or a column is missing.
    """
    needed = [*ids, *texts, *numbers]
    with suppress(UnusualError):
        if (source := _source(path, list(missing), reading, ids, LARGE)) is not None:
            require_columns(pd.DataFrame(columns=source.columns), needed, path)
            return None, _block_chunks(path, source, numbers, texts, list(missing), size, reading, ids)
    return _pandas_chunks(path, numbers, texts, missing, size, reading, ids)


def _block_chunks(
    path: Path,
    source: Source,
    numbers: Collection[str],
    texts: Collection[str],
    missing: list[str],
    size: int,
    reading: Reading,
    ids: Collection[str],
) -> Iterator[pd.DataFrame]:
    def typed() -> Iterator[pd.DataFrame]:
        start = 0
        for block in of_rows(source.blocks([*ids, *texts, *numbers]), size):
            yield typed_block(block, numbers, missing, reading, ids, path, start)
            start += len(block)

    done = 0
    try:
        for chunk in ahead(typed()):
            yield chunk
            done += len(chunk)
        if not done:
            raise DataError(f"{path}: there are no rows below the header")
    except UnusualError:
        _, chunks = _pandas_chunks(path, numbers, texts, missing, size, reading, ids)
        yield from (chunk for chunk in chunks if chunk.index[0] >= done)


def _pandas_chunks(
    path: Path,
    numbers: Collection[str],
    texts: Collection[str],
    missing: Collection[str],
    size: int,
    reading: Reading,
    ids: Collection[str],
) -> tuple[int, Iterator[pd.DataFrame]]:
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
    return rows, _csv_chunks(path, names, rows, numbers, texts, list(missing), size, reading, ids)


def _csv_chunks(
    path: Path,
    names: list[str],
    rows: int,
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
            name: typed_cells(chunk[name], name not in numbers, () if name in ids else missing, reading, path)
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
            _refuse_other_rows(path, done, rows)
            return
    # as text, so that an error message can quote the cell: pandas reads True, TRUE and true as one value
    for chunk in read([*ids, *texts, *numbers]):
        if chunk.index[0] >= done:
            yield typed(chunk)
            done += len(chunk)
    _refuse_other_rows(path, done, rows)


def _csv_layout(path: Path, reading: Reading) -> tuple[list[str], int]:
    """Count the cells of each row of a CSV file; return the column names and the number of rows."""
    below: list[str] = []
    rows = csv_rows(table_lines(path, reading, below), delimiter_of(path, reading), reading)
    number = 0
    try:
        filled: Iterator[list[str]] = filter(None, rows)  # pandas skips blank lines too
        first = next(filled, [])
        if not first:
            raise DataError(f"{path}: the file is empty")
        header = first
        if reading.header != "first":
            header, filled = given_names(reading, len(first)), chain([first], filled)
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
        problem = csv_problem(error, "reading: {quotes: false}")
        raise DataError(f"{path}: line {getattr(rows, 'line_num', 0)}: {problem}") from None
    if len(header) == 1 and (found := layout_keys(path, reading)):
        raise ReadingError(f"{path}: the header has one column, but {found[0]}", found[1])
    names = column_names(path, header, head, valued, reading)
    if below:
        logger.warning(
            "%s: left out below the rows: %s", path, "; ".join(repr(line.strip()) for line in below)
        )
    return names, number


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


def without_targets(path: Path, reading: Reading, targets: Collection[str]) -> Reading:
    """The reading of a file without a header that may lack the targets: then it has fewer columns."""
    names = reading.header
    if not isinstance(names, list) or not path.is_file() or format_of(path) not in CSV_ENDINGS:
        return reading
    first = refusing_damage(
        path, lambda: next(csv_rows(table_lines(path, reading), delimiter_of(path, reading), reading), [])
    )
    others = [name for name in names if name not in targets]
    if len(first) != len(others) or len(others) == len(names):
        return reading
    fewer = count(len(names) - len(others), "column")
    logger.warning("%s: %s fewer than training: taken as the others than %s", path, fewer, listed([*targets]))
    return replace(reading, header=others)


def found_reading(path: Path, start: Reading = DEFAULT) -> tuple[Reading, list[str], pd.DataFrame]:
    """Find the keys of `Reading` that a table needs, and read it with them.

    Args:
        path: the table.
        start: the keys that are known; they stay as they are.

    Returns:
        The keys; for each of them that was found what was seen; the table, with columns of units as text.

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
                    refuse_other_notation(table[name].drop_duplicates(), path, reading)
            return reading, seen, table
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
