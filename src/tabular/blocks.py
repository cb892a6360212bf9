"""CSV files in blocks of rows, cut into cells by pyarrow.

It takes a fifth of the time of Python's csv module and pandas, and its memory is that of one block. A block
has the cells that `read_table` gives; a file of which that is not sure raises `UnusualError`.
"""

import codecs
import io
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from csv import Error as CsvError
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute, csv

from src.core.encodings import MARKS
from src.tabular.dialect import (
    HEAD,
    SEPARATOR_LINE,
    Reading,
    csv_rows,
    delimiter_of,
    layout_keys,
    open_bytes,
    table_lines,
)
from src.tabular.header import column_names, given_names

BLOCK_BYTES = 1 << 21
MOST_ROW = 1 << 20  # bytes; beyond that a quote is missing
EXACT_DIGITS = 15  # pandas and pyarrow read shorter texts as the same number: the nearest
LARGEST_WHOLE = 2.0**53  # up to which float64 holds each whole number

Numbers = NDArray[np.float64]
Item = TypeVar("Item")


class UnusualError(Exception):
    """A file that is left to pandas, since pyarrow may read it otherwise."""


def csv_head(path: Path, reading: Reading) -> tuple[list[str], str]:
    """The names of the columns of a CSV file, and its delimiter.

    Raises:
        UnusualError: the first rows are not plain, or the keys leave out lines below them.
        DataError: as `read_table`.
    """
    delimiter = delimiter_of(path, reading)
    if reading.comment or reading.footer or not reading.quotes or not delimiter.isascii() or delimiter == " ":
        raise UnusualError
    rows = filter(None, csv_rows(table_lines(path, reading), delimiter, reading))
    try:
        first = next(rows, [])
        header = first if reading.header == "first" else given_names(reading, len(first))
        head = list(islice(rows, HEAD))
    except CsvError:
        raise UnusualError from None
    if not first or "" in header[1:] or any(len(row) != len(header) for row in head):
        raise UnusualError
    if len(header) == 1 and layout_keys(path, reading):
        raise UnusualError
    return column_names(path, header, head, (), reading), delimiter


def csv_blocks(
    path: Path,
    columns: Collection[str],
    missing: Sequence[str],
    reading: Reading,
    ids: Collection[str] = (),
) -> Iterator[pa.Table]:
    """Read columns of a CSV file.

    Args:
        path: the file.
        columns: their names.
        missing: the texts of cells without a value, which become null.
        reading: how the file holds the table.
        ids: the columns whose cells always have a value.

    Yields:
        Texts; each column of a block is one array.

    Raises:
        UnusualError: pyarrow refuses a row, or pandas may read a cell otherwise.
        DataError: as `read_table`.
    """
    names, delimiter = csv_head(path, reading)
    nulls = pa.array(missing, pa.string())
    for block in _row_blocks(path, reading):
        at_start = _has_starting_spaces(block, delimiter)
        if not block.strip(b"\n"):
            continue
        try:
            table = _texts(block, names, delimiter, columns, missing)
            if any(table[name].null_count for name in ids):
                as_written = _texts(block, names, delimiter, ids, None)
                for name in ids:
                    table = table.set_column(table.column_names.index(name), name, as_written[name])
        except pa.ArrowInvalid:  # a row of another length, or a text that is not UTF-8
            raise UnusualError from None
        if at_start:
            for index, column in enumerate(table.columns):
                trimmed = compute.utf8_ltrim(column, " ")
                if table.column_names[index] not in ids:
                    trimmed = compute.if_else(compute.is_in(trimmed, nulls), None, trimmed)
                table = table.set_column(index, table.field(index), trimmed)
        yield table


def _has_starting_spaces(block: bytes, delimiter: str) -> bool:
    """Whether a cell of a block may begin with a space.

    Raises:
        UnusualError: pandas may read a cell of the block otherwise than pyarrow.
    """
    at_start, at_end = _edge_spaces(block, delimiter)
    if (
        b"\0" in block
        or (at_start and at_end and re.search(rb"(?:^|\n) +\n", block))
        or (b'"' in block and not _plainly_quoted(block, delimiter))
    ):
        raise UnusualError
    return at_start


def _texts(
    block: bytes,
    names: list[str],
    delimiter: str,
    columns: Collection[str],
    missing: Sequence[str] | None,
) -> pa.Table:
    """Columns of a block, as texts; null where `missing` has the text, never if it is None."""
    return csv.read_csv(
        pa.py_buffer(block),
        csv.ReadOptions(column_names=names, block_size=len(block) + 1, use_threads=False),
        csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=list(columns),
            strings_can_be_null=missing is not None,
            null_values=missing,
        ),
    )


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items; a thread makes the next one while the last is used."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = pool.submit(next, items, None)
            yield item


def of_rows(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Blocks of a table, cut anew so that all but the last have this number of rows."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        while sum(len(part) for part in held) >= rows:
            joined = pa.concat_tables(held)
            yield joined[:rows]
            held = [joined[rows:]]
    if sum(len(part) for part in held):
        yield pa.concat_tables(held)


def _row_blocks(path: Path, reading: Reading) -> Iterator[bytes]:
    """Blocks of whole rows as UTF-8, each line ended by a line feed; without the header."""
    with open_bytes(path) as file:
        head = file.peek(4)
        encoding = next((name for mark, name in MARKS.items() if head.startswith(mark)), reading.encoding)
        decoder = None
        if encoding == "utf-8-sig":
            file.read(len(codecs.BOM_UTF8))
        elif encoding != "utf-8":
            decoder = codecs.getincrementaldecoder(encoding)()
        rest, begun = b"", False
        while True:
            read = file.read(BLOCK_BYTES)
            if decoder:
                read = decoder.decode(read, final=not read).encode()
            text = rest + read if read else rest + b"\n" * (not rest.endswith(b"\n"))
            end = _last_row_end(text) if read else len(text)
            block, rest = text[:end], text[end:]
            if len(rest) > BLOCK_BYTES + MOST_ROW:
                raise UnusualError
            if b"\r" in block:
                block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            if not begun and (start := _header_end(block, reading)) is None:
                rest = block + rest  # the header ends in a later block
                block = b""
            elif not begun:
                block, begun = block[start:], True
            if block:
                yield block
            if not read:
                break
    if not begun:
        raise UnusualError


def _last_row_end(text: bytes) -> int:
    """Where the last whole row ends: at a line feed with an even number of quotes before it."""
    end = text.rfind(b"\n") + 1
    quotes = text.count(b'"', 0, end)
    while end and quotes % 2:
        start = text.rfind(b"\n", 0, end - 1) + 1
        quotes -= text.count(b'"', start, end)
        end = start
    return end


def _header_end(block: bytes, reading: Reading) -> int | None:
    """Where the rows of the first block begin; None where the header is not in it."""
    lines = io.BytesIO(block)
    start, skipped = 0, -1
    while line := lines.readline():
        skipped += 1
        said = not skipped and SEPARATOR_LINE.fullmatch(line.decode(errors="replace"))
        skipped -= bool(said)
        if not said and skipped >= reading.skip_rows and line.strip(b" \n"):
            if reading.header == "first" and line.count(b'"') % 2:
                raise UnusualError
            return lines.tell() if reading.header == "first" else start
        start = lines.tell()
    return None


def _edge_spaces(block: bytes, delimiter: str) -> tuple[bool, bool]:
    """Whether a cell begins with a space, and whether a line ends with one."""
    signs = np.frombuffer(block, dtype=np.uint8)
    spaces = np.flatnonzero(signs == ord(" "))
    before, after = signs[spaces - 1], signs[np.minimum(spaces + 1, len(signs) - 1)]
    at_start = np.isin(before, [ord(delimiter), ord("\n")]).any()  # before the first is the last line feed
    return bool(at_start), bool((after == ord("\n")).any())


def _plainly_quoted(block: bytes, delimiter: str) -> bool:
    """Whether every quote begins or ends a cell, or is doubled within one: then all parsers agree."""
    signs = np.frombuffer(b"\n" + block, dtype=np.uint8)
    quotes = np.flatnonzero(signs == ord('"'))
    if len(quotes) % 2:
        return False
    opening, closing = quotes[::2], quotes[1::2]
    edges = [ord(delimiter), ord("\n")]
    doubled = np.zeros(len(opening), dtype=bool)  # the second one of two within a cell
    doubled[1:] = opening[1:] == closing[:-1] + 1
    begins = np.isin(signs[opening - 1], edges) & (signs[opening + 1] != ord(" "))
    ends = np.isin(signs[closing + 1], edges)
    return bool((begins | doubled).all() and (ends[:-1] | doubled[1:]).all() and ends[-1:].all())


def numbers_of(texts: pa.Array, missing_numbers: Collection[float] = ()) -> Numbers | None:
    """The numbers that pandas reads in texts (rows,), NaN where null; None if that is not sure.

    Args:
        texts: the cells.
        missing_numbers: the numbers that stand for no value.

    Raises:
        UnusualError: a cell is one of `missing_numbers` in another notation, such as -999.0.
    """
    if texts.null_count == len(texts):
        return np.full(len(texts), np.nan)
    try:
        compute.cast(texts[:64], pa.float64())  # pyarrow looks at all texts before it says no
        values = _long_numbers(texts) if _is_long(texts) else compute.cast(texts, pa.float64())
    except pa.ArrowInvalid:
        return None
    if values is None:
        return None
    numbers: Numbers = values if isinstance(values, np.ndarray) else values.to_numpy(zero_copy_only=False)
    size = np.abs(numbers)
    with np.errstate(invalid="ignore"):
        if not isinstance(values, np.ndarray) and ((size > 0) & (size < 1e-11) | (size > 1e15)).any():
            return _checked(_long_numbers(texts), texts)
    if len(missing_numbers) and np.isin(numbers, list(missing_numbers)).any():
        raise UnusualError
    return _checked(numbers, texts)


def _checked(numbers: Numbers | None, texts: pa.Array) -> Numbers | None:
    """The numbers, unless a text is nan or -0, which is 0 in a column of whole numbers."""
    if numbers is None or np.count_nonzero(np.isnan(numbers)) != texts.null_count:
        return None
    return None if (np.signbit(numbers) & (numbers == 0)).any() else numbers


def _is_long(texts: pa.Array) -> bool:
    return compute.max(compute.binary_length(texts)).as_py() > EXACT_DIGITS


def _long_numbers(texts: pa.Array) -> Numbers | None:
    """Numbers of many digits as pandas reads them, not always to the nearest number of 64 bits."""
    lines = compute.binary_join_element_wise(compute.fill_null(texts, ""), "", "\n")
    column = pd.read_csv(
        io.BytesIO(characters_of(lines)),
        header=None,
        names=["x"],
        sep="\x01",
        quoting=3,
        skip_blank_lines=False,
        keep_default_na=False,
        na_values=[""],
        low_memory=False,
    )["x"]
    if len(column) != len(texts) or column.dtype not in (np.dtype(np.int64), np.dtype(np.float64)):
        return None
    if column.dtype == np.int64 and (column.abs() > LARGEST_WHOLE).any():
        return None
    return column.to_numpy(dtype=np.float64)


def characters_of(texts: pa.Array) -> memoryview:
    """The texts as UTF-8, one after the other."""
    _, offsets, characters = texts.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return memoryview(characters)[ends[0] : ends[-1]] if characters else memoryview(b"")
