"""Of a proposal for a table: the file of a folder, and how its cells are read."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.core.errors import DataError
from src.preparation.proposals import listed
from src.tabular.dialect import Reading
from src.tabular.notation import missing_mark, plain_number
from src.tabular.reading import CSV_ENDINGS, EXCEL_ENDINGS, JSON_ENDINGS, read_table
from src.tabular.sources import ARROW_ENDINGS
from src.tabular.values import MISSING, is_numeric, plain_texts, text_counts

ENDINGS = (".csv", ".tsv", ".xlsx", ".json")
# taken from a folder that has none of ENDINGS; .txt may be a text about the data
MORE_ENDINGS = (*CSV_ENDINGS, *JSON_ENDINGS, *EXCEL_ENDINGS, *ARROW_ENDINGS)
COMPRESSED = (".gz", ".zst", ".zip")
SUBMISSION = re.compile(r"(?i:.*submission)")
# further texts of cells without a value, beside MISSING
UNKNOWN = {"?", "-", "--", ".", "#N/A", "N.A.", "n/a", "n.a.", "none", "None", "NONE", "unknown", "Unknown"}
DECIMAL_COMMA = re.compile(r"-?\d+,\d+")
LEADING_ZERO = re.compile(r"0\d+")

MOST_NUMBER_CLASSES = 20
MOST_CODES = 50
LEAST_ROWS_EACH = 5
MOST_STRAY = 3
MOSTLY = 0.9


def _name_and_ending(file: Path) -> tuple[str, str]:
    """The name and the ending of a table in lower case, `train` and `.csv` of Train.CSV.gz."""
    inner = file.with_suffix("") if file.suffix.lower() in COMPRESSED else file
    return inner.stem.lower(), inner.suffix.lower() or file.suffix.lower()


def _tables(folder: Path) -> list[Path]:
    """The tables of a folder: the usual ones, else those with another ending."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    usual = [file for file in files if _name_and_ending(file)[1] in ENDINGS]
    return usual or [file for file in files if _name_and_ending(file)[1] in (*MORE_ENDINGS, ".zip")]


def table_file(path: Path) -> Path:
    """The table at a path: the file itself, or train.csv or the only table of a folder.

    Raises:
        DataError: the folder has none, or several.
    """
    if path.is_file():
        return path
    tables = _tables(path)
    tables = [file for file in tables if not SUBMISSION.fullmatch(_name_and_ending(file)[0])] or tables
    train = [file for file in tables if _name_and_ending(file)[0] == "train"]
    found = train or tables
    if len(found) != 1:
        names = f"several ({listed([file.name for file in found])}): name one" if found else "none"
        raise DataError(
            f"{path}: expected one table ({', '.join(MORE_ENDINGS)}; .gz, .zst, .zip) or train.csv, "
            f"found {names}"
        )
    return found[0]


def test_file(file: Path) -> Path | None:
    """The table test.csv beside train.csv, in any spelling."""
    if _name_and_ending(file)[0] != "train":
        return None
    return next((other for other in _tables(file.parent) if _name_and_ending(other)[0] == "test"), None)


def submission_columns(file: Path) -> list[str]:
    """The columns of a sample submission beside the table: the id and the predictions; none without one."""
    samples = [other for other in _tables(file.parent) if SUBMISSION.fullmatch(_name_and_ending(other)[0])]
    return list(map(str, read_table(samples[0]).columns)) if samples else []


def read_again(
    file: Path, table: pd.DataFrame, targets: list[str], reading: Reading
) -> tuple[pd.DataFrame, list[str]]:
    """Read a table again, with codes such as 007 as text, and find the texts of cells without a value."""
    unknown, classes = set[str](), set[str]()
    for name in table.columns:
        if not is_numeric(table[name]):
            found = _unknown_texts(table[name], reading, name in targets)
            unknown |= found
            values = set(text_counts(table[name]).index)
            if name in targets and len(values) <= MOST_NUMBER_CLASSES:
                classes |= values - found
    unknown |= _infinite_texts(file, table, reading)
    unknown -= classes  # `missing` applies to all columns
    missing = [*MISSING, *sorted(unknown)]
    if unknown or reading.units:
        table = read_table(file, missing=missing, reading=reading)
    whole = [name for name in table.columns if is_numeric(table[name]) and is_whole(table[name])]
    texts = read_table(file, whole, missing, reading)
    codes = [name for name in whole if any(map(LEADING_ZERO.fullmatch, text_counts(texts[name]).index))]
    return read_table(file, codes, missing, reading) if codes else table, sorted(unknown)


def _infinite_texts(file: Path, table: pd.DataFrame, reading: Reading) -> set[str]:
    """The texts of numbers that are not finite, such as `inf`: the preparation would refuse them."""
    infinite = {
        name: np.isinf(table[name].to_numpy(dtype=np.float64, na_value=np.nan))
        for name in table.columns
        if is_numeric(table[name])
    }
    infinite = {name: rows for name, rows in infinite.items() if rows.any()}
    if not infinite:
        return set()
    texts = read_table(file, list(infinite), MISSING, reading)
    return {text for name, rows in infinite.items() for text in texts.loc[rows, name]}


def _unknown_texts(column: "pd.Series[Any]", reading: Reading, is_target: bool) -> set[str]:
    """The texts of cells without a value.

    They are a few texts without a digit among numbers; among other texts only `?`. In a target of few values
    each text may be a class.
    """
    counts = _plain_counts(column, reading)
    are_words = _words(counts.index)
    few_words, cells, words = counts[are_words].sum(), counts.sum(), set(counts.index[are_words])
    if few_words < cells and words <= UNKNOWN:
        return words
    if is_target and len(counts) <= MOST_NUMBER_CLASSES:
        return words & {"?"}
    if mark := missing_mark(counts.to_dict()):
        return {mark}
    few = few_words < (1 - MOSTLY) * cells and len(words) <= MOST_STRAY
    return words if few and not any(map(_has_digit, words)) else words & {"?"}


def _plain_counts(column: "pd.Series[Any]", reading: Reading) -> "pd.Series[int]":
    """How many cells have each text, as `text_counts`, of texts as `plain_texts` gives them."""
    counts = text_counts(column)
    texts = plain_texts(pd.Series(counts.index, name=column.name, dtype=object), reading)
    return counts.groupby(texts.to_numpy(), sort=False).sum()


def _has_digit(text: str) -> bool:
    return any(map(str.isdigit, text))


def _words(texts: Iterable[str]) -> NDArray[np.bool_]:
    """Which texts (N,) are no numbers."""
    return np.array([plain_number(text.strip()) is None for text in texts], dtype=bool)


def marked_number(column: "pd.Series[Any]") -> str | None:
    """The first text with a digit, such as `3+`, among a few whole numbers; None for other columns."""
    if is_numeric(column):
        return None
    counts = text_counts(column)
    texts: NDArray[Any] = counts.index.to_numpy(dtype=object)
    if len(texts) > min(MOST_CODES, counts.sum() / LEAST_ROWS_EACH):
        return None
    words = _words(texts)
    plain = all(re.fullmatch(r"\d+", text) for text in texts[~words])
    marked = plain and words.any() and not words.all() and all(map(_has_digit, texts[words]))
    return str(texts[words][0]) if marked else None


def is_whole(column: "pd.Series[Any]") -> bool:
    """Whether all numbers of a column are whole."""
    return bool((column.dropna() % 1 == 0).all())


def refuse_mistyped(column: "pd.Series[Any]", file: Path, reading: Reading) -> None:
    """Refuse a column of numbers that pandas has read as texts."""
    if is_numeric(column) or marked_number(column):
        return
    counts = _plain_counts(column, reading)
    commas = np.array([bool(DECIMAL_COMMA.fullmatch(text)) for text in counts.index], dtype=bool)
    words = _words(counts.index)
    wrong, why = None, ""
    if counts[commas].sum() > MOSTLY / 2 * counts.sum():
        wrong, why = commas, "is a number with a comma: --reading '{decimal: \",\"}'"
    elif 0 < counts[words].sum() < (1 - MOSTLY) * counts.sum():
        wrong, why = words, "is a text among numbers; correct it, or leave the cell empty"
    if wrong is not None:
        texts, found = plain_texts(column, reading), counts.index[wrong][0]
        row = texts.index[int((texts == found).to_numpy().argmax())] + 1
        raise DataError(f"{file}: row {row}, column '{column.name}': {found!r} {why}")
