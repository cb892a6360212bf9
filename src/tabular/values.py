"""The cells of a raw table as numbers and texts, whatever the format of the file is."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.core.errors import DataError
from src.tabular.dialect import (
    DEFAULT,
    Reading,
    ReadingError,
)
from src.tabular.notation import code_text, notations, plain_number

TOO_LARGE = "is too large for 32-bit numbers"
LARGEST = float(np.finfo(np.float32).max)
ROWS_AT_ONCE = 1 << 20
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")


def holds_booleans(column: "pd.Series[Any]") -> bool:
    """Whether pandas has read a cell as True or False."""
    if column.dtype == bool:
        return True
    return column.dtype == object and bool(column.map(lambda value: isinstance(value, bool)).any())


def may_have_groups(column: "pd.Series[Any]") -> bool:
    """Whether the points of a column of numbers may stand between groups of three digits."""
    if not pd.api.types.is_float_dtype(column):
        return False
    any_whole, all_whole = False, True
    cells = column.to_numpy()
    for start in range(0, len(cells), ROWS_AT_ONCE):
        values = np.abs(cells[start : start + ROWS_AT_ONCE])
        values = values[~np.isnan(values)]
        thousandths = values * 1000
        if not ((values < 1000) & np.isclose(thousandths, np.round(thousandths), rtol=0, atol=1e-6)).all():
            return False
        whole = values == np.floor(values)
        any_whole, all_whole = any_whole | whole.any(), all_whole & whole.all()
    return bool(any_whole and not all_whole)


def number_or_none(text: str) -> float | None:
    """The number that a text is; None for other texts and nan."""
    try:
        number = float(text)
    except ValueError:
        return None
    return None if np.isnan(number) else number


def refuse_ambiguous(column: "pd.Series[Any]", path: Path) -> None:
    """Raise ReadingError if the points of a column of numbers may stand between groups of three digits."""
    found = notations(column.dropna().astype(str).unique())
    if len(found) > 1:
        raise _notation_error(column, path, found)


def _notation_error(column: "pd.Series[Any]", path: Path, found: list[Any]) -> ReadingError:
    texts = column.dropna().astype(str)
    row = texts.index[int((texts.str.strip() == found[0].example).to_numpy().argmax())] + 1
    values = " or ".join(f"{notation.value:.15g}" for notation in found)
    return ReadingError(
        f"{path}: row {row}, column '{column.name}': {found[0].example!r} may be the number {values}",
        *(notation.keys(str(column.name)) for notation in found),
    )


def plain_texts(column: "pd.Series[Any]", reading: Reading) -> "pd.Series[Any]":
    """The texts of the cells with a value, numbers among them rewritten with a decimal point and no unit."""
    texts = column.dropna().astype(str)
    if reading.plain:
        return texts
    unit = reading.units.get(str(column.name), "")
    return texts.map(lambda text: plain_number(text, reading.decimal_sign, reading.thousands, unit) or text)


def refuse_other_notation(column: "pd.Series[Any]", path: Path, reading: Reading = DEFAULT) -> None:
    """Refuse a column of texts that are numbers with a unit or in another country's notation.

    Args:
        column: shape (rows,); its index counts the rows of the file from 0.
        path: the file, for error messages.
        reading: the keys by which the column is no column of numbers.

    Raises:
        ReadingError: with the keys of `reading` for it.
        DataError: they are plain numbers, but `reading` says that the file writes them otherwise.
    """
    texts = column.dropna().astype(str)
    if found := notations(texts.unique()):
        unit = reading.units.get(str(column.name), "")
        known = plain_number(found[0].example, reading.decimal_sign, reading.thousands, unit) is not None
        if not known or (len(found) > 1 and reading.decimal is None and reading.thousands is None):
            raise _notation_error(column, path, found)
    if len(texts) and all(plain_number(text) is not None for text in texts.unique()):
        raise DataError(
            f"{path}: row {texts.index[0] + 1}, column '{column.name}': {texts.iloc[0]!r} is no number with "
            "`reading`, as other columns need it; write all numbers alike, or set `column_types`"
        )


def refuse_no_numbers(column: "pd.Series[Any]", path: Path, reading: Reading) -> None:
    """Raise DataError for the first cell of a column that is no number as `reading` has them."""
    unit = reading.units.get(str(column.name), "")

    def is_other(cell: Any) -> bool:
        return isinstance(cell, str) and (
            plain_number(cell, reading.decimal_sign, reading.thousands, unit) is None
        )

    refuse_cells(column, column.astype(object).map(is_other).to_numpy(dtype=bool), path, "is not a number")


def typed_cells(
    column: "pd.Series[Any]", as_text: bool, missing: Collection[str], reading: Reading, path: Path
) -> "pd.Series[Any]":
    """Convert the cells of a column to the values that they have in every format.

    Spaces at their ends and the marks of missing cells go; texts become numbers if all of them are numbers,
    and other cells become texts. A column that needs no change is returned as it is.
    """
    unit = reading.units.get(str(column.name), "")
    if is_numeric(column) and not as_text and not unit:
        return column
    if isinstance(column.dtype, pd.StringDtype):  # of a CSV file, often with few different texts
        few = column.drop_duplicates().astype(object)
        typed = typed_cells(few, as_text, missing, reading, path)
        return column if typed is few else column.map(dict(zip(few, typed, strict=True)))
    texts = column.map(cell_text, na_action="ignore").astype(object)
    if reading.strip:
        texts = texts.map(str.strip, na_action="ignore")
    texts = texts.mask(texts.isna() | texts.isin(list(missing)), np.nan)
    if not as_text:
        numbers = _numbers(column, texts, unit, reading, path)
        if numbers is not None:
            return numbers
    return column if texts.equals(column.astype(object)) else texts


def _numbers(
    cells: "pd.Series[Any]", texts: "pd.Series[Any]", unit: str, reading: Reading, path: Path
) -> "pd.Series[Any] | None":
    """The numbers of a column; None if a cell is no number.

    Raises:
        ReadingError: the points of the column may stand between groups of three digits.
        DataError: a cell lacks the unit of its column.
    """
    native = cells.map(type).isin([int, float]) & texts.notna()
    if unit == "%":  # 0.37 of a spreadsheet may be shown as 37%
        native &= False
    written = texts[~native]
    if reading.plain:
        plain = written
    else:
        plain = written.map(
            lambda text: plain_number(text, reading.decimal_sign, reading.thousands, unit), na_action="ignore"
        )
        if unit:
            wrong = (written.notna() & plain.isna()).to_numpy()
            refuse_cells(written, wrong, path, f"is no number with {unit!r}")
    try:
        numbers = pd.to_numeric(cells.where(native, plain.reindex(cells.index)), errors="coerce")
    except OverflowError:
        beyond = native & cells.where(native, 0).map(lambda number: abs(number) > LARGEST)
        refuse_cells(cells.map(lambda cell: str(cell)[:20]), beyond.to_numpy(), path, TOO_LARGE)
        raise
    if (numbers.isna() & texts.notna()).any() or not is_numeric(numbers):
        return None
    if reading.decimal is None and reading.plain:
        refuse_ambiguous(written, path)
    return numbers


def cell_text(value: Any) -> str:
    """A cell as text; 60.0 becomes 60, since Excel and JSON do not distinguish them."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value)


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
    if column.dtype == np.float64:
        values = column.to_numpy()
        lowest, highest = np.fmin.reduce(values, initial=0), np.fmax.reduce(values, initial=0)
        if lowest >= -LARGEST and highest <= LARGEST:
            return values
    numbers = pd.to_numeric(column, errors="coerce")
    values = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    refuse_cells(column, np.isnan(values) & column.notna().to_numpy(), path, "is not a number")
    refuse_cells(column, np.isinf(values), path, "is not finite")
    refuse_cells(column, np.abs(values) > LARGEST, path, TOO_LARGE)
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
    """Convert a column (rows,) to the texts of categories (rows,), None where the cell is missing.

    A whole number is the same category in every file, `3` and `3.0` alike.
    """
    if is_numeric(column):
        column = column.astype(object).map(cell_text, na_action="ignore")
    else:
        codes, distinct = pd.factorize(column.astype(object).map(str, na_action="ignore"))
        column = pd.Series([code_text(text) for text in distinct], dtype=object).reindex(codes)
    texts, missing = column.to_numpy(dtype=object), column.isna().to_numpy()
    if missing.any():
        texts = texts.copy()
        texts[missing] = None
    return texts


def category_values(column: "pd.Series[Any]") -> NDArray[np.object_] | pd.Categorical:
    """Convert a column (rows,) as `text_values`; one of pandas' categories stays one."""
    cells: Any = column.array
    if not isinstance(cells, pd.Categorical):
        return text_values(column)
    texts = [code_text(str(text)) for text in cells.categories]
    if texts == list(cells.categories):
        return cells
    number = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    codes = np.array([*(number[text] for text in texts), -1])[cells.codes]
    return pd.Categorical.from_codes(codes, pd.Index(list(number), dtype=object))


def take_rows(values: Any, rows: NDArray[np.integer]) -> Any:
    """The values of some rows, as `values[rows]`, which copies all 32-bit numbers of rows to 64 bits."""
    if not isinstance(values, np.ndarray):  # categories of pandas
        return values[rows]
    taken = np.empty((len(rows), *values.shape[1:]), values.dtype)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        block = slice(start, start + ROWS_AT_ONCE)
        taken[block] = values[rows[block]]
    return taken


def text_counts(column: "pd.Series[Any]") -> "pd.Series[int]":
    """How many cells have each text, by the text; texts are in the order of their first rows.

    Missing cells are left out. It looks at different values only, which are few in a column of categories.
    """
    counts = column.value_counts(sort=False)
    counts = counts[counts > 0]  # pandas counts categories without a row, too
    return counts.groupby(counts.index.astype(str).to_numpy(dtype=object), sort=False).sum()


def first_rows(codes: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """The first row of each code (count + 1,) of codes (rows,) from -1 on: that of -1 is the last.

    A code that is in no row has the number of rows.
    """
    first = np.full(count + 1, len(codes))
    for stop in range(len(codes), 0, -ROWS_AT_ONCE):
        start = max(stop - ROWS_AT_ONCE, 0)
        first[codes[start:stop][::-1]] = np.arange(start, stop)[::-1]
    return first


def code_counts(codes: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """How many rows have each code (count,), of codes (rows,) from -1 on; that of -1 is left out."""
    found = np.zeros(count + 1, dtype=np.int64)
    for start in range(0, len(codes), ROWS_AT_ONCE):
        found += np.bincount(codes[start : start + ROWS_AT_ONCE].astype(np.int64) + 1, minlength=count + 1)
    return found[1:]


def require_columns(table: Any, names: Collection[str], path: Path) -> None:
    """Raise DataError if the table lacks a column of `names`."""
    for name in names:
        if name not in table.columns:
            raise DataError(f"{path}: the needed column '{name}' is missing")


def with_lags(table: pd.DataFrame, name: str, lags: int) -> pd.DataFrame:
    """Add columns `<name>_1`, `<name>_2`, ...: the values of a column one row before, two rows before, ..."""
    if not lags:
        return table
    return table.assign(**{f"{name}_{lag}": table[name].shift(lag) for lag in range(1, lags + 1)})
