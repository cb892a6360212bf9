"""A table of any size on disk, one column at a time in memory.

A block of rows is cut into columns, and each column of it is appended to a temporary file: numbers as
float64, texts as codes with the dictionary of the block. A column is read from there as `read_table` gives
it. So the memory of a preparation is that of a block and a column, however many of both there are.
"""

import logging
import math
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute

from src.core.errors import DataError
from src.tabular.blocks import ahead, characters_of, numbers_of
from src.tabular.dialect import Reading
from src.tabular.sources import Source
from src.tabular.values import (
    ROWS_AT_ONCE,
    cell_text,
    first_rows,
    is_numeric,
    may_have_groups,
    number_or_none,
    refuse_ambiguous,
    typed_cells,
)

logger = logging.getLogger(__name__)

# a number whose point cannot stand between groups of three digits
NO_GROUPS = r"^[-+]?\d+\.(\d{1,2}|\d{4,})$"


class _Texts:
    """The texts of a block's column: codes (rows,), -1 where missing, and their dictionary."""

    def __init__(self, codes: NDArray[np.int32], dictionary: pa.Array) -> None:
        self.codes = codes
        self.dictionary = dictionary

    @classmethod
    def of(cls, texts: pa.Array) -> "_Texts":
        encoded = texts.dictionary_encode()
        codes = compute.fill_null(encoded.indices, -1).to_numpy()
        return cls(codes, encoded.dictionary)


Part = NDArray[np.float64] | _Texts | None  # of a column in a block; None where no cell has a value
# of a part: its rows, and where its numbers, or its codes and the ends and characters of its texts, are
Place = tuple[int, Sequence["Stretch"]]


class Stretch(NamedTuple):
    """Where an array is in a temporary file."""

    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class TemporaryArrays:
    """Arrays in a temporary file, which the system removes when the process ends.

    Args:
        folder: where the file is made.
    """

    def __init__(self, folder: Path) -> None:
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it lives as long as the arrays
        self.end = 0

    def append(self, array: NDArray[Any]) -> Stretch:
        """Append an array."""
        stretch = Stretch(self.end, array.shape, array.dtype)
        self.file.seek(self.end)
        if array.size:
            self.end += self.file.write(np.ascontiguousarray(array).data.cast("B"))
        return stretch

    def read(self, stretch: Stretch, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Read the rows from `start` to `stop` of an array."""
        rows, *others = stretch.shape
        stop = rows if stop is None else min(stop, rows)
        width = math.prod(others) * stretch.dtype.itemsize
        self.file.seek(stretch.start + start * width)
        content = self.file.read((stop - start) * width)
        return np.frombuffer(content, dtype=stretch.dtype).reshape(stop - start, *others)


class ColumnFile:
    """The columns of the blocks of a table in a temporary file.

    Args:
        folder: where the file is made.
    """

    def __init__(self, folder: Path) -> None:
        self.arrays = TemporaryArrays(folder)
        self.places: dict[str, list[Place]] = {}

    def append(self, name: str, part: Part, rows: int) -> None:
        """Append a column of a block."""
        stretches = []
        if isinstance(part, _Texts):
            ends = np.cumsum(compute.binary_length(part.dictionary).to_numpy(), dtype=np.int32)
            letters = np.frombuffer(characters_of(part.dictionary), dtype=np.uint8)
            stretches = [self.arrays.append(array) for array in (part.codes, ends, letters)]
        elif part is not None:
            stretches = [self.arrays.append(part)]
        self.places.setdefault(name, []).append((rows, stretches))

    def has_texts(self, name: str) -> bool:
        """Whether a cell of a column is kept as a text."""
        return any(len(stretches) > 1 for _, stretches in self.places[name])

    def parts(self, name: str) -> Iterator[tuple[int, Part]]:
        """The rows of each block, and its part of a column."""
        for rows, stretches in self.places[name]:
            arrays = [self.arrays.read(stretch) for stretch in stretches]
            if len(arrays) < 2:
                yield rows, arrays[0] if arrays else None
            else:
                codes, ends, letters = arrays
                offsets = np.concatenate([np.zeros(1, dtype=np.int32), ends])
                buffers = [None, pa.py_buffer(offsets), pa.py_buffer(letters)]
                yield rows, _Texts(codes, pa.Array.from_buffers(pa.string(), len(ends), buffers))


class StoredTable:
    """A raw table on disk; `table[name]` reads a column as `read_table` gives it, texts as categories.

    Args:
        path: of the raw file, for messages.
        columns: the names.
        texts: the columns that stay texts.
        missing: the texts of cells without a value.
        reading: how numbers are written.
        folder: of the temporary file.
        ids: the columns of texts whose cells always have a value.
    """

    def __init__(
        self,
        path: Path,
        columns: list[str],
        texts: Collection[str],
        missing: Collection[str],
        reading: Reading,
        folder: Path,
        ids: Collection[str] = (),
    ) -> None:
        self.path = path
        self.columns = columns
        self.texts = texts
        self.missing = missing
        self.reading = reading
        self.ids = ids
        self.rows = 0
        self.file = ColumnFile(folder)

    def __len__(self) -> int:
        return self.rows

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> "pd.Series[Any]":
        if self.file.has_texts(name):
            return self._text_column(name)
        column: Any = np.empty(self.rows)
        start = 0
        for rows, part in self.file.parts(name):
            column[start : start + rows] = np.nan if part is None else part
            start += rows
        return pd.Series(column, name=name, copy=False)

    def frame(self) -> pd.DataFrame:
        """The whole table in memory, texts as objects."""
        columns = {name: self[name] for name in self.columns}
        return pd.DataFrame(
            {
                name: column.astype(object) if isinstance(column.dtype, pd.CategoricalDtype) else column
                for name, column in columns.items()
            }
        )

    def texts_of(self, name: str) -> tuple[NDArray[np.int32], "pd.Series[Any]"]:
        """The codes of a column (rows,), -1 where missing, and its different texts by their first rows.

        The texts are in the order of their codes; a missing cell is the last of them.
        """
        codes, distinct = _unified(self.file.parts(name), self.rows)
        first = first_rows(codes, len(distinct))
        count = len(first) if first[-1] < self.rows else len(distinct)
        few = pd.Series([*distinct, np.nan][:count], index=first[:count], dtype=object, name=name)
        return codes, few

    def _text_column(self, name: str) -> "pd.Series[Any]":
        codes, few = self.texts_of(name)
        as_text = name in self.texts
        missing = () if name in self.ids else self.missing
        typed = typed_cells(few.sort_index(), as_text, missing, self.reading, self.path)[few.index]
        if is_numeric(typed):
            return pd.Series(typed.to_numpy()[codes], name=name, copy=False)
        renumbered, categories = pd.factorize(typed)
        found = np.empty(len(codes), np.min_scalar_type(-len(categories) - 1))
        numbers = np.append(renumbered, -1).astype(found.dtype)
        for start in range(0, len(codes), ROWS_AT_ONCE):
            found[start : start + ROWS_AT_ONCE] = numbers[codes[start : start + ROWS_AT_ONCE]]
        return pd.Series(pd.Categorical.from_codes(found, categories), name=name, copy=False)


def _unified(parts: Iterable[tuple[int, Part]], rows: int) -> tuple[NDArray[np.int32], list[str]]:
    """The codes of all blocks by one dictionary (rows,), -1 where missing, and its texts as they appear."""
    numbers: dict[str, int] = {}
    codes = np.full(rows, -1, dtype=np.int32)
    start = 0
    for count, part in parts:
        if isinstance(part, _Texts):
            known = [numbers.setdefault(text, len(numbers)) for text in part.dictionary.to_pylist()]
            codes[start : start + count] = np.array([*known, -1], dtype=np.int32)[part.codes]
        start += count
    return codes, list(numbers)


def stored_table(
    path: Path,
    source: Source,
    texts: Collection[str],
    missing: Collection[str],
    reading: Reading,
    folder: Path,
    ids: Collection[str] = (),
) -> StoredTable:
    """Read a table into columns on the disk.

    Args:
        path: of the table, for messages.
        source: its blocks.
        texts: columns to keep as text.
        missing: the texts of cells without a value.
        reading: how the file holds the table.
        folder: of the temporary file.
        ids: columns to keep as text whose cells always have a value.

    Raises:
        UnusualError: the file is not plain enough.
        DataError: as `read_table`.
    """
    columns = source.columns
    texts = [*texts, *ids]
    table = StoredTable(path, columns, texts, missing, reading, folder, ids)
    marks = _numbers_among(missing)
    as_text = set(texts) if reading.plain else set(columns)
    has_numbers, has_texts, spaced, ungrouped = set[str](), set[str](), set[str](), set[str]()
    for block in ahead(source.blocks(columns)):
        for name, cells in zip(columns, map(only_chunk, block.columns), strict=True):
            part: Part = None
            if cells.type == pa.float64() and name not in texts:
                part = native_numbers(cells, marks)
                ungrouped.add(name)
            elif cells.null_count < len(cells):
                numbers = None if name in as_text or name in has_texts else numbers_of(cells, marks)
                part = _Texts.of(written(cells)) if numbers is None else numbers
            if isinstance(part, _Texts):
                has_texts.add(name)
                if name not in spaced and _has_spaces(part.dictionary):
                    spaced.add(name)
            elif part is not None and not np.isnan(part).all():
                has_numbers.add(name)
                if name not in ungrouped and _has_no_groups(cells, part):
                    ungrouped.add(name)
            table.file.append(name, part, len(cells))
        table.rows += block.num_rows
    if not table.rows:
        raise DataError(f"{path}: there are no rows below the header")
    mixed = has_numbers & has_texts
    unsure = has_numbers - has_texts - ungrouped if reading.plain and reading.decimal is None else set[str]()
    grouped = {name for name in unsure if may_have_groups(table[name])}
    if mixed or grouped:  # a column of which a later cell is a text stays a text in all rows
        numbers_kept = {name: table.file.places[name] for name in grouped}
        table.file.places |= {name: [] for name in mixed | grouped}
        again = [name for name in columns if name in mixed | grouped]
        for block in ahead(source.blocks(again)):
            for name, cells in zip(again, map(only_chunk, block.columns), strict=True):
                part = _Texts.of(written(cells))
                table.file.append(name, part, len(cells))
                if name not in spaced and _has_spaces(part.dictionary):
                    spaced.add(name)
        for name in grouped:
            refuse_ambiguous(table.texts_of(name)[1].sort_index(), path)
        table.file.places |= numbers_kept
    if spaced and reading.strip:
        shown = ", ".join(repr(name) for name in columns if name in spaced)
        logger.warning("%s: spaces around cells left out: %s", path, shown)
    return table


def _numbers_among(missing: Iterable[str]) -> list[float]:
    """The numbers that stand for no value."""
    return [number for text in missing if (number := number_or_none(text)) is not None]


def native_numbers(cells: pa.Array, marks: Sequence[float]) -> NDArray[np.float64]:
    """The numbers of a file that has numbers (rows,), NaN where missing or one of the marks."""
    numbers: NDArray[np.float64] = cells.to_numpy(zero_copy_only=False)
    return np.where(np.isin(numbers, marks), np.nan, numbers) if marks else numbers


def written(cells: pa.Array) -> pa.Array:
    """The texts of cells, numbers as a CSV file would have them."""
    if cells.type != pa.float64():
        return cells
    return pa.array(cells.to_pandas().map(cell_text, na_action="ignore"), pa.string(), from_pandas=True)


def typed_block(
    block: pa.Table,
    numbers: Collection[str],
    missing: Sequence[str],
    reading: Reading,
    ids: Collection[str],
    path: Path,
    start: int,
) -> pd.DataFrame:
    """Give the cells of a block the values that `read_table` gives.

    Args:
        block: of texts.
        numbers: the columns of numbers; the others are texts, as categories of pandas.
        missing: the texts of cells without a value.
        reading: how numbers are written.
        ids: the columns whose cells always have a value.
        path: of the table, for messages.
        start: the number of rows above the block.
    """
    index = pd.RangeIndex(start, start + len(block))
    marks = _numbers_among(missing)
    columns: dict[str, Any] = {}
    for name, cells in zip(block.column_names, map(only_chunk, block.columns), strict=True):
        if name in numbers and cells.type == pa.float64():
            columns[name] = native_numbers(cells, marks)
            continue
        found = numbers_of(cells, marks) if name in numbers and reading.plain else None
        if found is not None:
            columns[name] = found
            continue
        cells = written(cells)
        if name in ids and not _has_spaces(cells):
            columns[name] = cells.to_numpy(zero_copy_only=False)
            continue
        part = _Texts.of(cells)
        texts = part.dictionary.to_pylist()
        if name not in [*numbers, *ids] and all(text == text.strip() for text in texts):
            columns[name] = pd.Categorical.from_codes(part.codes, pd.Index(texts, dtype=object))
            continue
        column = pd.Series(np.array([*texts, np.nan], dtype=object)[part.codes], index=index, name=name)
        columns[name] = typed_cells(
            column, name not in numbers, () if name in ids else missing, reading, path
        )
    return pd.DataFrame(columns, index=index, copy=False)


def only_chunk(column: pa.ChunkedArray) -> pa.Array:
    """A column of a block as one array."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _has_spaces(texts: pa.Array) -> bool:
    return bool(compute.any(compute.not_equal(texts, compute.utf8_trim_whitespace(texts))).as_py())


def _has_no_groups(texts: pa.Array, numbers: NDArray[np.float64]) -> bool:
    """Whether the point of a number cannot stand between groups of three digits."""
    if (np.isnan(numbers) | (numbers == np.floor(numbers))).all():
        return False
    return any(
        compute.any(compute.match_substring_regex(part, NO_GROUPS)).as_py() for part in (texts[:256], texts)
    )
