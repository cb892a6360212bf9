"""The columns of a table that names pictures: their files, labels and groups, for a proposal."""

import re
from collections import Counter
from pathlib import Path
from typing import Literal

import pandas as pd

from src.core.errors import ConfigurationError, DataError
from src.images.folders import split_of
from src.images.labels import as_composed, list_of, marks_of, read_label_table
from src.preparation.names import COUNT_NAME, LABEL_NAME
from src.preparation.proposals import listed

LABEL_NAMES = ("label", "class", "target", "y", "labels", "tags")
LISTS = ("labels", "tags")  # columns whose labels may be separated by spaces
SEPARATORS = (";", "|", ",", " ")
GROUP = re.compile(r"(?i).*(_|\b)(id|no|name|patient|subject|person|identity|lesion|case|study|group|site)")
UNNAMED = "Unnamed: "  # pandas' name of a column without one, such as the index that it writes
ROWS_LOOKED_AT = 10
MOST_CLASSES = 50  # that are whole numbers
MOST_NAMED_CLASSES, LEAST_EACH = 200, 5  # in a column with the name of a label

Task = Literal["regression", "classification"]


def table_of_names(tables: list[Path], pictures: list[Path]) -> tuple[Path, pd.DataFrame, str] | None:
    """The first table with a column of file names and another one, that column; those of a test part last."""
    if not pictures:
        return None
    order = {"train": 0, None: 1, "test": 2}
    for path in sorted(tables, key=lambda path: order[split_of(path.name)]):
        try:
            table = read_label_table(path)
        except DataError:  # reported if no other table is found
            continue
        file = _file_column(table, pictures)
        if file is not None and other_columns(table, file):
            return path, table, file
    return None


def other_columns(table: pd.DataFrame, file: str) -> list[str]:
    """The columns beside that of the file names."""
    return [name for name in table.columns if name != file and not name.startswith(UNNAMED)]


def group_findings(table: pd.DataFrame, columns: list[str]) -> list[str]:
    """A finding for columns that may name the person or thing of several pictures."""
    found = [name for name in columns if GROUP.fullmatch(name) and 1 < table[name].nunique() < len(table)]
    if not found:
        return []
    return [
        f"{listed(found)} may name what several pictures are of: with `group` such pictures stay in one part "
        "of the split"
    ]


def _file_column(table: pd.DataFrame, pictures: list[Path]) -> str | None:
    """The column of file names: one of whole names, else one of names without their ending."""
    some = table.head(ROWS_LOOKED_AT)

    def names(column: str, known: set[str]) -> bool:
        cells = some[column]
        return len(set(cells)) == len(some) > 1 and all(
            as_composed(Path(cell).name) in known for cell in cells
        )

    whole, bare = ({as_composed(getattr(entry, part)) for entry in pictures} for part in ("name", "stem"))
    columns = [column for column in table.columns if names(column, whole)]
    if not columns:  # numbers of rows may look like such names: the index that pandas writes comes last
        columns = [column for column in table.columns if names(column, bare) and table[column].is_unique]
        columns.sort(key=lambda column: column.startswith(UNNAMED))
    return columns[0] if columns else None


def folder_of(cells: pd.Series, path: Path, pictures: list[Path]) -> Path:
    """The folder, beside or below a table, in which all pictures of a column of file names are.

    If they are in several ones, each under a name that no other picture has, it is the folder of the table.

    Raises:
        DataError: there is no such folder, or there are several.
    """
    home, first = path.parent, as_composed(cells.iloc[0])
    names = dict[str, Path]()
    for entry in pictures:
        below = entry.relative_to(home)
        for name in (below.as_posix(), below.with_suffix("").as_posix()):
            names[as_composed(name)] = entry
    # what stands before the first cell in the path of a picture, "" or "train/", and the folder
    starts = {
        name.removesuffix(first): entry.parents[len(Path(first).parts) - 1]
        for name, entry in names.items()
        if f"/{name}".endswith(f"/{first}")
    }
    if not starts:
        raise DataError(
            f"{path}: row 1, column '{cells.name}': '{first}' is no picture in {home} or below; write the "
            "path below that folder"
        )
    whole = [start for start in starts if all(start + as_composed(cell) in names for cell in cells)]
    if not whole and _have_names_of_their_own(cells, pictures):
        return home
    found = sorted(whole or starts)
    if len(found) > 1:  # the same names for training and test
        found = [start for start in found if "train" in map(split_of, Path(start).parts)] or found
    if len(found) > 1:
        raise DataError(
            f"{path}: column '{cells.name}' names pictures of several folders: {listed(found)}; call the one "
            "for training train, or move the others away"
        )
    return starts[found[0]]


def _have_names_of_their_own(cells: pd.Series, pictures: list[Path]) -> bool:
    """Whether each cell is the name, with or without its ending, of exactly one picture in any folder."""
    names = Counter(as_composed(name) for entry in pictures for name in {entry.name, entry.stem})
    return all(names[as_composed(cell)] == 1 for cell in cells)


def label_columns(
    table: pd.DataFrame, columns: list[str], path: Path, target: str | None
) -> tuple[str | list[str], str | None]:
    """The column of labels, or several ones with 0 and 1, and the separator of several labels an image.

    Args:
        table: all cells are texts.
        columns: those that may have labels.
        path: of the table.
        target: the column that the user has named, or several with commas between.

    Raises:
        ConfigurationError: it cannot be told, or there is no such column.
    """
    usual = [column for column in columns if column.lower() in LABEL_NAMES]
    names = usual[:1] or columns
    if target is not None:  # the name of a column may have a comma
        names = [target] if target in columns else [name.strip() for name in target.split(",")]
    for name in names:
        if name not in columns:
            raise ConfigurationError(
                f"--target: {path} has no column '{name}'; name one of {listed(columns)}"
            )
    if len(names) > 1:
        marks = marks_of(table[names])
        if not table[names].isin(marks).all(axis=None):
            raise ConfigurationError(
                f"--target: {path} has several columns of labels; name one of {listed(columns)}, or several "
                "whose cells are 0 and 1"
            )
        return [name for name in names if (table[name] == marks[1]).any()], SEPARATORS[0]
    label = names[0]
    for separator in SEPARATORS if label.lower() in LISTS else SEPARATORS[:-1]:
        if _are_lists(table[label], separator):
            return label, separator
    return label, None


def _are_lists(cells: pd.Series, separator: str) -> bool:
    """Whether cells are lists of labels: most parts come back in other lists, unlike those of a class name.

    `tench, Tinca tinca` repeats as a whole. In a column called tags or labels half of the parts are enough.
    """
    different = {cell: list_of(cell, separator) for cell in cells}
    parts = {part for cell, found in different.items() if separator in cell for part in found}
    rows = Counter(part for cell in cells for part in different[cell])
    lists = Counter(part for found in different.values() for part in set(found))
    again = sum(lists[part] > 1 for part in parts)
    by_name = str(cells.name).lower() in LISTS and 2 * again == len(parts)
    come_back = bool(parts) and (2 * again > len(parts) or by_name)
    return come_back and min(rows.values()) > 1 and len(rows) <= MOST_CLASSES


def task_of(labels: pd.Series, name: str, task: Task | None) -> tuple[Task, list[str]]:
    """What labels are, and a finding if it is a guess.

    Texts are classes, numbers with a fraction quantities. Whole numbers are classes up to 50 of them, unless
    the column has the name of a count, or up to 200 if it has that of a label and each has 5 pictures on
    average.

    Raises:
        ConfigurationError: texts for a regression.
    """
    numbers = pd.to_numeric(labels, errors="coerce")
    if numbers.isna().any():
        if task == "regression":
            raise ConfigurationError(
                f"--task: regression needs numbers, '{name}' has {labels[numbers.isna()].iloc[0]!r}"
            )
        return "classification", []
    if task:
        return task, []
    if (numbers % 1 != 0).any():
        return "regression", []
    distinct = numbers.nunique()
    if LABEL_NAME.fullmatch(name):
        most = max(MOST_CLASSES, min(MOST_NAMED_CLASSES, len(labels) // LEAST_EACH))
    else:
        most = 2 if COUNT_NAME.fullmatch(name) else MOST_CLASSES
    found: Task = "classification" if distinct <= most else "regression"
    other = "regression" if found == "classification" else "classification"
    if distinct <= 2:
        return found, []
    return found, [
        f"{found}: a guess, as '{name}' has {distinct:,} whole numbers; the other way: --task {other}"
    ]
