"""The names of the columns of a raw table."""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from src.core.errors import DataError
from src.tabular.dialect import (
    Reading,
    ReadingError,
)
from src.tabular.notation import plain_number
from src.tabular.values import MISSING, cell_text


def given_names(reading: Reading, cells: int) -> list[str]:
    """The names of the columns of a file without a header."""
    if isinstance(reading.header, list):
        return reading.header
    return [f"column_{number}" for number in range(1, cells + 1)]


def column_names(
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
    names = [cell_text(name).strip() if reading.strip else cell_text(name) for name in header]
    if reading.header == "first":
        _refuse_data_as_header(path, names, rows)
        if nameless := [index for index in valued if index]:  # the first may hold the labels of the rows
            place = (
                f"{path}: column {nameless[0] + 1} has values, but no name in the header ({names[0]!r}, ...)"
            )
            below = [cell_text(cell) for cell in rows[0]] if rows else []
            if all(below) and all(plain_number(name) is None for name in below):
                raise ReadingError(
                    f"{place}: a title or merged cells above the names", {"skip_rows": reading.skip_rows + 1}
                )
            raise DataError(f"{place}; name it, or remove it")
    return complete_names(path, names)


def complete_names(path: Path, names: list[str]) -> list[str]:
    """The names, with that of pandas for an empty one; refuses a name that appears twice."""
    names = [name or f"Unnamed: {index}" for index, name in enumerate(names)]
    refuse_doubled(path, names)
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
        column = [cell_text(row[index]).strip() for row in rows if index < len(row)]
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


def refuse_doubled(path: Path, names: list[str]) -> None:
    """Raise DataError if a name appears twice."""
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise DataError(f"{path}: the column '{doubled[0]}' appears more than once")
