"""Tables in Excel workbooks."""

import logging
from collections.abc import Collection, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError
from zipfile import BadZipFile, ZipFile

import pandas as pd
from openpyxl import load_workbook
from openpyxl.utils import get_column_letter

from src.core.errors import DataError
from src.tabular.dialect import (
    HEAD,
    Reading,
    ReadingError,
    first_full_row,
    most_bytes,
)
from src.tabular.header import column_names, given_names

logger = logging.getLogger(__name__)


def read_workbook(
    path: Path, texts: Collection[str], missing: list[str], reading: Reading, ids: Collection[str]
) -> pd.DataFrame:
    """Read a sheet of an Excel workbook; the arguments are those of every reader of `read_table`."""
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
        header, filled = given_names(reading, len(header)), chain([first], filled)
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
    names = column_names(path, header, rows[:HEAD], valued, reading)
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
