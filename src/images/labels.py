"""A table of file names and labels beside picture files, instead of class folders."""

import logging
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.core.errors import DataError
from src.images.csv_files import encoding_error, require_csv
from src.images.folders import PICTURES, require_utf8

logger = logging.getLogger(__name__)

MOST_SHOWN = 3
# how cells say that a picture has not, and has, a label
MARKS = (("0", "1"), ("0.0", "1.0"), ("-1", "1"), ("False", "True"), ("false", "true"))


def read_label_table(path: Path) -> pd.DataFrame:
    """Read a CSV file of labels: all cells are texts without spaces around them.

    Raises:
        DataError: the file is missing or no CSV file, a row is longer than the header, or there is no row.
    """
    try:
        require_csv(path)
        table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise encoding_error(path) from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise DataError(f"{path}: {' '.join(str(error).split())}") from None
    if table.empty:
        raise DataError(f"{path}: no rows below the header")
    return table.apply(lambda column: column.str.strip()).rename(columns=str.strip)


def labelled_pictures(
    folder: Path, path: Path, file: str, label: str, drop: bool = False
) -> tuple[list[Path], pd.Series]:
    """The pictures that a table names, and their labels, in the order of the rows.

    Args:
        folder: with the pictures.
        path: a CSV file.
        file: the column of file names, relative to the folder; the ending may be missing, and the subfolder
            if no other picture has the name.
        label: the column of labels.
        drop: leave rows without a label out.

    Returns:
        The pictures (N,), and their labels (N,), whose index has the numbers of the rows from 1.

    Raises:
        DataError: as `named_pictures`; a row has no label, or no row has one.
    """
    paths, table = named_pictures(folder, path, file, [label])
    labels = table[label].set_axis(range(1, len(table) + 1))
    present = labels != ""
    if not present.any():
        raise DataError(f"{path}: no row has a '{label}'")
    if not present.all() and not drop:
        raise DataError(
            f"{path}: row {present.idxmin()} has no '{label}'; write it, or leave such rows out: "
            "prepare.missing_label: drop"
        )
    return [picture for picture, kept in zip(paths, present, strict=True) if kept], labels[present]


def marked_pictures(
    folder: Path, path: Path, file: str, label: str | list[str], separator: str
) -> tuple[list[Path], list[str], NDArray[np.uint8]]:
    """The pictures that a table names, all labels, and which of them each picture has.

    Args:
        folder: with the pictures.
        path: a CSV file.
        file: the column of file names, as for `labelled_pictures`.
        label: a column of lists of labels, empty for none; or the columns of the labels, whose cells are one
            pair of `MARKS`.
        separator: between the labels of a list.

    Returns:
        The pictures (N,), the names of the labels (K,), and 1 for each label of a picture (N, K).

    Raises:
        DataError: as `named_pictures`; a cell that is no mark; fewer than two labels, or one of no
            picture.
    """
    columns = [label] if isinstance(label, str) else label
    paths, table = named_pictures(folder, path, file, columns)
    if isinstance(label, str):
        lists = [list_of(cell, separator) for cell in table[label]]
        names = in_order([name for each in lists for name in each])
        marks = np.array([[name in each for name in names] for each in map(set, lists)])
    else:
        names = columns
        no, yes = marks_of(table[columns])
        for column in columns:
            wrong = ~table[column].isin((no, yes))
            if wrong.any():
                row = int(wrong.to_numpy().argmax())
                found = table[column].iloc[row]
                raise DataError(
                    f"{path}: row {row + 1}, column '{column}': '{found}', expected {no} or {yes}"
                )
        marks = (table[columns] == yes).to_numpy()
    if len(names) < 2:
        raise DataError(
            f"{path}: {len(names)} labels in {', '.join(columns)}, expected at least two; "
            f"prepare.separator is '{separator}'"
        )
    for number, name in enumerate(names):
        if not marks[:, number].any():
            raise DataError(f"{path}: no picture has the label '{name}'; leave it out of prepare.label")
    return paths, names, marks.astype(np.uint8)


def marks_of(table: pd.DataFrame) -> tuple[str, str]:
    """The pair of `MARKS` that most cells of a table have."""
    return max(MARKS, key=lambda pair: int(table.isin(pair).to_numpy().sum()))


def as_composed(name: str) -> str:
    """A name with each letter and its accent as one character; some systems write two in file names."""
    return unicodedata.normalize("NFC", name)


def list_of(cell: str, separator: str) -> list[str]:
    """The labels in a cell, without spaces around them and empty ones."""
    return [part.strip() for part in cell.split(separator) if part.strip()]


def named_pictures(
    folder: Path, path: Path, file: str, columns: list[str]
) -> tuple[list[Path], pd.DataFrame]:
    """The pictures that a table names, and the table, in the order of its rows.

    Args:
        folder: with the pictures.
        path: a CSV file.
        file: the column of file names, as for `labelled_pictures`.
        columns: of labels.

    Raises:
        DataError: a column is missing; a row has a picture that does not exist, or one of another row.
    """
    table = read_label_table(path)
    for column in (file, *columns):
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
    composed: dict[str, list[Path]] = {}
    elsewhere: dict[str, list[Path]] = {}
    for picture in pictures:
        require_utf8(picture)
        name = picture.relative_to(folder)
        for key in {name.as_posix(), name.with_suffix("").as_posix()}:
            known.setdefault(key, []).append(picture)
            composed.setdefault(as_composed(key), []).append(picture)
        for key in {name.name, name.stem}:
            elsewhere.setdefault(as_composed(key), []).append(picture)
    found: dict[Path, int] = {}
    for row, name in enumerate(table[file], 1):
        key = as_composed(name)
        matching = known.get(name) or composed.get(key) or elsewhere.get(key, [])
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
    return list(found), table


def groups_of_rows(path: Path, group: str) -> NDArray[np.object_]:
    """What stands in a column of groups (all rows,).

    Raises:
        DataError: there is no such column, or an empty cell in it.
    """
    table = read_label_table(path)
    if group not in table.columns:
        known = ", ".join(table.columns)
        raise DataError(f"{path}: there is no column '{group}', found {known}; correct prepare.group")
    missing = (table[group] == "").to_numpy()
    if missing.any():
        raise DataError(f"{path}: row {missing.argmax() + 1}: the group '{group}' is missing")
    return table[group].to_numpy(dtype=object)


def as_numbers(labels: pd.Series, path: Path, label: str) -> NDArray[np.float32]:
    """The labels as numbers (N,).

    Args:
        labels: as `labelled_pictures` returns them.
        path: of the table, and the name of its column, for errors.
        label: likewise.

    Raises:
        DataError: a label is no finite number.
    """
    numbers = pd.to_numeric(labels, errors="coerce").to_numpy(float)
    wrong = ~np.isfinite(numbers)
    if wrong.any():
        first = int(wrong.argmax())
        row, found = labels.index[first], labels.iloc[first]
        raise DataError(f"{path}: row {row}, column '{label}': '{found}', expected a number")
    return numbers.astype(np.float32)


def in_order(labels: Iterable[str]) -> list[str]:
    """The different labels: whole numbers by their value, others by name."""
    different = set(labels)
    whole = all(label.removeprefix("-").isdecimal() for label in different)
    return sorted(different, key=(lambda label: (int(label), label)) if whole else None)
