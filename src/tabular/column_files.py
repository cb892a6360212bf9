"""The columns of blocks of rows: their numbers and texts, in temporary files and in data frames."""

import math
import os
import tempfile
from array import array as integers
from collections.abc import Collection, Iterable, Iterator, Sequence
from multiprocessing import reduction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute

from src.tabular.blocks import characters_of, numbers_of
from src.tabular.dialect import Reading
from src.tabular.values import cell_text, number_or_none, typed_cells


class Texts:
    """The texts of a block's column: codes (rows,), -1 where missing, and their dictionary."""

    def __init__(self, codes: NDArray[np.int32], dictionary: pa.Array) -> None:
        self.codes = codes
        self.dictionary = dictionary

    @classmethod
    def of(cls, texts: pa.Array) -> "Texts":
        """Give the texts of a column numbers, in the order in which they occur first."""
        encoded = texts.dictionary_encode()
        codes = compute.fill_null(encoded.indices, -1).to_numpy()
        return cls(codes, encoded.dictionary)


Part = NDArray[np.float64] | Texts | None  # of a column in a block; None where no cell has a value


class Stretch(NamedTuple):
    """Where an array is in a temporary file."""

    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Place(NamedTuple):
    """Where a column of a block is.

    Args:
        rows: of the block.
        file: the number of the file.
        start: of its numbers, or of the codes of its texts; -1 where no cell has a value.
        texts: the number of different texts, whose ends are after the codes; -1 of numbers.
        letters: the bytes of these texts, which are after their ends.
    """

    rows: int
    file: int
    start: int = -1
    texts: int = -1
    letters: int = 0


class Places:
    """The places of a column, one for each block, in 40 bytes each: a large table has more than 100,000."""

    def __init__(self) -> None:
        self.numbers = integers("q")

    def __iter__(self) -> Iterator[Place]:
        return map(Place._make, zip(*[iter(self.numbers)] * len(Place._fields), strict=True))

    def append(self, place: Place) -> None:
        """Append a place."""
        self.numbers.extend(place)

    def extend(self, below: "Places") -> None:
        """Append the places of the blocks below."""
        self.numbers.extend(below.numbers)


class TemporaryArrays:
    """Arrays in a temporary file, which the system removes when the last process that has it ends.

    A process that is started with it writes to the same file; only one process may do so at a time.

    Args:
        folder: where the file is made.
        file: one that there is already, without a buffer, which would not see what another process writes.
    """

    def __init__(self, folder: Path, file: Any = None) -> None:
        self.file: Any = file
        if file is None:
            self.file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - as long as the arrays
        self.end = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"file": reduction.DupFd(self.file.fileno()), "end": self.end}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.file, self.end = os.fdopen(state["file"].detach(), "r+b", buffering=0), state["end"]

    def append(self, array: NDArray[Any]) -> Stretch:
        """Append an array."""
        stretch = Stretch(self.end, array.shape, array.dtype)
        self.file.seek(self.end)
        left = np.ascontiguousarray(array).data.cast("B") if array.size else memoryview(b"")
        while left:
            written = self.file.write(left)
            self.end += written
            left = left[written:]
        return stretch

    def read(self, stretch: Stretch, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Read the rows from `start` to `stop` of an array."""
        rows, *others = stretch.shape
        stop = rows if stop is None else min(stop, rows)
        array = np.empty((stop - start, *others), stretch.dtype)
        self.file.seek(stretch.start + start * math.prod(others) * stretch.dtype.itemsize)
        left = array.data.cast("B") if array.size else memoryview(b"")
        while left:
            left = left[self.file.readinto(left) :]
        return array


def append_part(arrays: TemporaryArrays, part: Part, rows: int, file: int) -> Place:
    """Append a column of a block to the arrays of the file of a number."""
    start = arrays.end
    if part is None:
        return Place(rows, file)
    if not isinstance(part, Texts):
        arrays.append(part)
        return Place(rows, file, start)
    ends = np.cumsum(compute.binary_length(part.dictionary).to_numpy(), dtype=np.int32)
    letters = np.frombuffer(characters_of(part.dictionary), dtype=np.uint8)
    for one in (part.codes, ends, letters):
        arrays.append(one)
    return Place(rows, file, start, len(ends), len(letters))


class ColumnFiles:
    """The columns of the blocks of a table in temporary files.

    Args:
        folder: where the files are made.
        number: of files.
    """

    def __init__(self, folder: Path, number: int = 1) -> None:
        self.files = [TemporaryArrays(folder) for _ in range(number)]
        self.places: dict[str, Places] = {}

    def has_texts(self, name: str) -> bool:
        """Whether a cell of a column is kept as a text."""
        return any(place.texts >= 0 for place in self.places[name])

    def parts(self, name: str) -> Iterator[tuple[int, Part]]:
        """The rows of each block, and its part of a column."""
        for place in self.places[name]:
            yield place.rows, self._part(place) if place.start >= 0 else None

    def _part(self, place: Place) -> Part:
        read = self.files[place.file].read
        if place.texts < 0:
            return read(Stretch(place.start, (place.rows,), np.dtype(np.float64)))
        code_type = np.dtype(np.int32)
        ends_start = place.start + place.rows * code_type.itemsize
        codes = read(Stretch(place.start, (place.rows,), code_type))
        ends = read(Stretch(ends_start, (place.texts,), code_type))
        letters = read(
            Stretch(ends_start + place.texts * code_type.itemsize, (place.letters,), np.dtype(np.uint8))
        )
        offsets = np.concatenate([np.zeros(1, dtype=np.int32), ends])
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(letters)]
        return Texts(codes, pa.Array.from_buffers(pa.string(), len(ends), buffers))


def numbers_among(missing: Iterable[str]) -> list[float]:
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
    marks = numbers_among(missing)
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
        if name in ids and not has_spaces(cells):
            columns[name] = cells.to_numpy(zero_copy_only=False)
            continue
        part = Texts.of(cells)
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


def has_spaces(texts: pa.Array) -> bool:
    """Whether a text begins or ends with a space."""
    return bool(compute.any(compute.not_equal(texts, compute.utf8_trim_whitespace(texts))).as_py())
