"""Reading of texts with a class: tables of texts, JSON objects, or one folder of text files a class."""

import csv
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from src.core.csv_cells import csv_problem
from src.core.errors import ConfigurationError, DataError
from src.text.preprocessing import INVISIBLE
from src.text.reading import cut_lines, entries, is_hidden, opened, read_text, text_files, text_of

TABLES = (".csv", ".tsv")
DELIMITERS = {".csv": ",;\t", ".tsv": "\t"}
FOLDER_LABEL = "label"  # the name of the class where folders say it
MOST_NAMED = 8

Rows = list[tuple[str, str, str]]  # place, text, class
Header = Literal["first", "none"] | list[str]


@dataclass(frozen=True)
class Reading:
    """How the files of labelled texts are written.

    Args:
        encoding: of the files that are not UTF-8; None refuses them.
        header: of a table. first: the names of the columns are in the first line; none: there are no names,
            the columns are column_1, column_2, ...; or the list of the names.
        quotes: of a table, whether a cell may stand in double quotes; otherwise they are signs as others.
    """

    encoding: str | None = None
    header: Header = "first"
    quotes: bool = True


DEFAULT = Reading()


def class_folders(place: Path, besides: Collection[str | None] = ()) -> list[Path]:
    """The folders with .txt files in a folder, by name, but for those `besides`; empty if there is none."""
    if not place.is_dir():
        return []
    folders = [path for path in sorted(place.iterdir()) if path.is_dir() and not is_hidden(path)]
    folders = [path for path in folders if path.name not in besides]
    return [folder for folder in folders if any(is_text(path) for path in folder.iterdir())]


def is_text(path: Path) -> bool:
    """Whether a path has the name of a text file that is read."""
    return path.suffix.lower() == ".txt" and not is_hidden(path)


def labelled_files(place: Path) -> list[Path]:
    """The tables and JSON files of a folder, or the one file.

    Raises:
        DataError: there is none.
    """
    if not place.is_dir():
        return [place]
    kept = (*TABLES, ".json", ".jsonl")
    files = [path for path in text_files(place, also=TABLES) if path.suffix.lower() in kept]
    if not files:
        raise DataError(f"{place}: there is no {', '.join(kept)} file and no folder with .txt files in it")
    return files


def read_labelled(
    place: Path,
    text: str | None,
    label: str,
    reading: Reading = DEFAULT,
    besides: Collection[str | None] = (),
) -> tuple[Rows, int, int]:
    """Read texts and their classes, and leave those out that lack one of both.

    Args:
        place: a .csv, .tsv, .json or .jsonl file, a folder of such files, or a folder with one folder of
            .txt files a class, whose name is the class.
        text: the column or key of the text; None where folders are the classes.
        label: the column or key of the class.
        reading: how the files are written.
        besides: the names of folders that are no classes.

    Returns:
        Place, text and class of each document, file by file in the order of the names; the number of empty
        texts; and that of the others without a class.

    Raises:
        ConfigurationError: a file has no column of that name.
        DataError: a file cannot be read.
    """
    rows = list(labelled_rows(place, text, label, reading, besides, drop=True))
    kept = [row for row in rows if row[1] and row[2]]
    empty = sum(not row[1] for row in rows)
    return kept, empty, len(rows) - len(kept) - empty


def labelled_rows(
    place: Path,
    text: str | None,
    label: str,
    reading: Reading = DEFAULT,
    besides: Collection[str | None] = (),
    drop: bool = False,
) -> Iterator[tuple[str, str, str]]:
    """The rows one after the other, as `read_labelled` reads them, with those that it leaves out.

    Raises:
        DataError: also, unless `drop`, a text without a class; a text or class is "" where it is missing.
    """
    nothing = True
    for where, content, name in _all_rows(place, text, label, reading, besides):
        found = content.strip()
        if found and not name and not drop:
            raise DataError(
                f"{where}: the class '{label}' is missing; write it, or leave such rows out: "
                "prepare.missing_label: drop"
            )
        nothing = nothing and not (found and name)
        yield where, found, name
    if nothing:
        raise DataError(f"{place}: no text found" + " that has a class" * drop)


def _all_rows(
    place: Path, text: str | None, label: str, reading: Reading, besides: Collection[str | None]
) -> Iterator[tuple[str, str, str]]:
    folders = class_folders(place, besides)
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if is_text(path):
                yield str(path), read_text(path, reading.encoding), folder.name
    if folders:
        return
    if text is None:
        raise ConfigurationError("prepare.text: expected the column or key of the text, found null")
    for path in labelled_files(place):
        yield from _rows(path, text, label, reading)


def read_plain(place: Path, text: str | None, reading: Reading = DEFAULT) -> list[tuple[str, str]]:
    """Read texts without classes, to predict these.

    Args:
        place: a table or JSON file as `read_labelled` takes, a .txt file with a text a line, or a folder of
            .txt files with a text each.
        text: the column or key of the text.
        reading: how the files are written.

    Returns:
        The name of each text, the number of its row from 1 or its file, and the text. Empty lines of a .txt
        file are left out.

    Raises:
        ConfigurationError: a file has no column of that name.
        DataError: a file cannot be read, or there is no text.
    """
    if place.is_dir():
        files = [path for path in sorted(place.iterdir()) if is_text(path)]
        found = [(path.name, read_text(path, reading.encoding).strip()) for path in files]
    elif place.suffix.lower() == ".txt":
        lines = enumerate(cut_lines(read_text(place, reading.encoding)), 1)
        found = [(str(number), line.strip()) for number, line in lines if INVISIBLE.sub("", line).strip()]
    else:
        rows = _rows(place, text or "text", None, reading)
        found = [(str(number), row[1].strip()) for number, row in enumerate(rows, 1)]
    if not found:
        raise DataError(f"{place}: no text found")
    return found


def table_of(path: Path) -> bool:
    """Whether a path has the name of a table or JSON file."""
    return path.suffix.lower() in (*TABLES, ".json", ".jsonl") and not is_hidden(path)


def names_of(path: Path, reading: Reading = DEFAULT) -> list[str]:
    """The columns of a table, or the keys of the first JSON object; empty if the file has no row.

    Raises:
        DataError: it cannot be read.
    """
    return list(next(_records(path, reading), ("", dict[str, Any]()))[1])


def columns_of(path: Path, reading: Reading = DEFAULT) -> dict[str, list[str]]:
    """The cells of each column of a table, or of each key of JSON objects, as texts.

    Args:
        path: the file.
        reading: how it is written.

    Returns:
        By name; empty if the file has no row, or JSON that is no list of objects.

    Raises:
        DataError: it cannot be read.
    """
    columns: dict[str, list[str]] = {}
    if path.suffix.lower() not in TABLES:
        found = entries(path, reading.encoding)
        if not all(isinstance(entry, dict) for _, entry in found):
            return columns
    for _, row in _records(path, reading):
        for name, value in row.items():
            columns.setdefault(name, []).append("" if value is None else str(value))
    return columns


def _rows(path: Path, text: str, label: str | None, reading: Reading) -> Iterator[tuple[str, str, str]]:
    first = True
    for where, row in _records(path, reading):
        if first:
            for key, name in (("text", text), ("label", label)):
                if name is not None and name not in row:
                    known = list(row)
                    shown = ", ".join(known[:MOST_NAMED]) + (", ..." if len(known) > MOST_NAMED else "")
                    raise ConfigurationError(f"{path}: no column '{name}' (prepare.{key}); it has {shown}")
            first = False
        content = "" if row.get(text) is None else text_of(where, row[text])
        yield where, content, _class(where, row.get(label)) if label else ""
    if first:
        raise DataError(f"{path}: no row found")


def _class(where: str, value: Any) -> str:
    """The class as a text: a text, a whole number or a boolean."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool | int):
        return str(value)
    if isinstance(value, float) and value.is_integer():  # pandas' numbers beside a missing one
        return str(int(value))
    raise DataError(f"{where}: the class must be a text or a whole number, found {value!r}")


def _records(path: Path, reading: Reading) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a table, or the objects of a JSON file, each with its place."""
    suffix = path.suffix.lower()
    if suffix not in (*TABLES, ".json", ".jsonl"):
        raise DataError(f"{path}: expected a .csv, .tsv, .json or .jsonl file with a text and a class a row")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    if suffix not in TABLES:
        for where, entry in entries(path, reading.encoding):
            if not isinstance(entry, dict):
                raise DataError(f"{where}: expected an object with the text and its class")
            yield where, entry
        return
    with opened(path, reading.encoding) as file:
        first = file.readline()
        delimiter = max(DELIMITERS[suffix], key=first.count)
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if reading.quotes else csv.QUOTE_NONE
        lines = csv.reader(chain([first], file), delimiter=delimiter, quoting=quoting, strict=True)
        names: list[str] = []
        try:
            for cells in filter(None, lines):
                if not names:
                    names = _names(path, cells, reading.header)
                    if reading.header == "first":
                        continue
                where = f"{path}, line {lines.line_num}"
                if len(cells) != len(names):
                    source = "in `header`" if isinstance(reading.header, list) else "in the first row"
                    raise DataError(f"{where}: {len(cells)} fields, expected {len(names)} as {source}")
                yield where, dict(zip(names, cells, strict=True))
        except csv.Error as error:
            problem = csv_problem(error, "quotes: false")
            raise DataError(f"{path}, line {lines.line_num}: {problem}") from None


def _names(path: Path, first: list[str], header: Header) -> list[str]:
    """The names of the columns of a table with this first row."""
    if isinstance(header, list):
        return header
    if header == "none":
        return [f"column_{number}" for number in range(1, len(first) + 1)]
    names = [name.strip() for name in first]
    if len(set(names)) != len(names):
        raise DataError(f"{path}: two columns have the same name: {', '.join(names)}")
    return names
