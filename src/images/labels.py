"""A table of file names and labels beside picture files, instead of class folders."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.core.errors import DataError
from src.images.folders import PICTURES
from src.images.pictures import require_file

logger = logging.getLogger(__name__)

MOST_SHOWN = 3


def read_label_table(path: Path) -> pd.DataFrame:
    """Read a CSV file of labels: all cells are texts without spaces around them.

    Raises:
        DataError: the file is missing or no CSV file, or has no rows.
    """
    require_file(path)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig")
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {' '.join(str(error).split())}") from None
    if table.empty:
        raise DataError(f"{path}: no rows below the header")
    return table.apply(lambda column: column.str.strip()).rename(columns=str.strip)


def labelled_pictures(folder: Path, path: Path, file: str, label: str) -> tuple[list[Path], list[str]]:
    """The pictures that a table names, and their labels, in the order of the rows.

    Args:
        folder: with the pictures.
        path: a CSV file.
        file: the column of file names, relative to the folder; the ending may be missing.
        label: the column of labels.

    Raises:
        DataError: a column is missing; a row has no label, a picture that does not exist, or one of another
            row.
    """
    table = read_label_table(path)
    for column in (file, label):
        if column not in table.columns:
            raise DataError(
                f"{path}: there is no column '{column}', found {', '.join(table.columns)}; set prepare.file "
                "and prepare.label to the columns of file names and labels"
            )
    pictures = sorted(
        entry
        for entry in folder.rglob("*")
        if entry.suffix.lower() in PICTURES and entry.name[0] != "." and entry.is_file()
    )
    known: dict[str, list[Path]] = {}
    for picture in pictures:
        name = picture.relative_to(folder)
        for key in {name.as_posix(), name.with_suffix("").as_posix()}:
            known.setdefault(key, []).append(picture)
    found: dict[Path, int] = {}
    for row, (name, cell) in enumerate(zip(table[file], table[label], strict=True), 1):
        if not cell:
            raise DataError(f"{path}: row {row} has no '{label}'; write the label, or remove the row")
        matching = known.get(name, [])
        if len(matching) != 1:
            many = "is the name of several pictures" if matching else f"is no picture in {folder}"
            raise DataError(f"{path}: row {row}, '{name}' {many}; write the path below that folder")
        if matching[0] in found:
            raise DataError(f"{path}: rows {found[matching[0]]} and {row} are both of {matching[0].name}")
        found[matching[0]] = row
    if without := [picture for picture in pictures if picture not in found]:
        shown = ", ".join(picture.name for picture in without[:MOST_SHOWN])
        logger.warning(
            "%s: %d pictures have no row in %s and are left out: %s", folder, len(without), path.name, shown
        )
    return list(found), table[label].tolist()


def as_numbers(labels: list[str], path: Path, label: str) -> NDArray[np.float32]:
    """The labels as numbers (N,).

    Args:
        labels: in the order of the rows.
        path: of the table, and the name of its column, for errors.
        label: likewise.

    Raises:
        DataError: a label is no finite number.
    """
    numbers = pd.to_numeric(pd.Series(labels), errors="coerce").to_numpy(float)
    wrong = ~np.isfinite(numbers)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(f"{path}: row {row + 1}, column '{label}': '{labels[row]}', expected a number")
    return numbers.astype(np.float32)


def in_order(labels: list[str]) -> list[str]:
    """The different labels: whole numbers by their value, others by name."""
    different = set(labels)
    whole = all(label.removeprefix("-").isdecimal() for label in different)
    return sorted(different, key=(lambda label: (int(label), label)) if whole else None)
