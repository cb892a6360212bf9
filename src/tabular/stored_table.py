"""A table of any size on disk, one column at a time in memory.

A block of rows is cut into columns, and each column of it is appended to a temporary file: numbers as
float64, texts as codes with the dictionary of the block. A column is read from there as `read_table` gives
it. So the memory of a preparation is that of a block and a column, however many of both there are.

The files of a table in several parts are read by as many processes as there are processors, or by the nodes
of a Ray cluster if RAY_ADDRESS names one, to several temporary files. What is found in them is put together
in the order of their names, so that the number of processes and of machines changes nothing.
"""

import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from logging.handlers import QueueHandler
from multiprocessing import get_context
from pathlib import Path
from queue import SimpleQueue
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute

from src.core import cluster
from src.core.errors import DataError
from src.core.processes import helpers, processors
from src.tabular.blocks import UnusualError, ahead, numbers_of
from src.tabular.column_files import (
    ColumnFiles,
    Part,
    Places,
    TemporaryArrays,
    Texts,
    append_part,
    has_spaces,
    native_numbers,
    numbers_among,
    only_chunk,
    written,
)
from src.tabular.dialect import Reading
from src.tabular.sources import Source
from src.tabular.values import (
    ROWS_AT_ONCE,
    first_rows,
    is_numeric,
    may_have_groups,
    refuse_ambiguous,
    typed_cells,
)

logger = logging.getLogger(__name__)

SIDE_BY_SIDE = 1 << 26  # bytes of a table whose parts are worth starting processes, which takes a second
FILES = 256  # that the nodes of a cluster write a table to; a process may not have many more open
# a number whose point cannot stand between groups of three digits
NO_GROUPS = r"^[-+]?\d+\.(\d{1,2}|\d{4,})$"


class StoredTable:
    """A raw table on disk; `table[name]` reads a column as `read_table` gives it, texts as categories.

    Args:
        path: of the raw file, for messages.
        columns: the names.
        texts: the columns that stay texts.
        missing: the texts of cells without a value.
        reading: how numbers are written.
        ids: the columns of texts whose cells always have a value.
        files: of the columns.
    """

    def __init__(
        self,
        path: Path,
        columns: list[str],
        texts: Collection[str],
        missing: Collection[str],
        reading: Reading,
        ids: Collection[str],
        files: ColumnFiles,
    ) -> None:
        self.path = path
        self.columns = columns
        self.texts = texts
        self.missing = missing
        self.reading = reading
        self.ids = ids
        self.rows = 0
        self.files = files

    def __len__(self) -> int:
        return self.rows

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> "pd.Series[Any]":
        if self.files.has_texts(name):
            return self._text_column(name)
        column: Any = np.empty(self.rows)
        start = 0
        for rows, part in self.files.parts(name):
            column[start : start + rows] = np.nan if part is None else part
            start += rows
        return pd.Series(column, name=name, copy=False)

    def frame(self) -> pd.DataFrame:
        """The whole table in memory, texts as categories."""
        return pd.DataFrame({name: self[name] for name in self.columns}, copy=False)

    def texts_of(self, name: str) -> tuple[NDArray[np.int32], "pd.Series[Any]"]:
        """The codes of a column (rows,), -1 where missing, and its different texts by their first rows.

        The texts are in the order of their codes; a missing cell is the last of them.
        """
        codes, distinct = _unified(self.files.parts(name), self.rows)
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
            if self.reading.plain:  # in another notation, such as -999.0
                typed = typed.mask(typed.isin(numbers_among(missing)))
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
        if isinstance(part, Texts):
            known = [numbers.setdefault(text, len(numbers)) for text in part.dictionary.to_pylist()]
            codes[start : start + count] = np.array([*known, -1], dtype=np.int32)[part.codes]
        start += count
    return codes, list(numbers)


@dataclass(frozen=True)
class CellRules:
    """Which cells are kept as texts, and which have no value.

    Args:
        texts: the columns that stay texts.
        untried: the columns of a file of texts in which numbers are not looked for.
        marks: the numbers that stand for no value.
        strict: whether UnusualError is raised for a mark in another notation, such as -999.0.
    """

    texts: frozenset[str]
    untried: frozenset[str]
    marks: list[float]
    strict: bool = False


@dataclass
class Stored:
    """What was found in blocks that were stored.

    Args:
        rows: their number.
        places: of the columns, one for each block.
        numbers: the columns with a number.
        texts: the columns with a text.
        spaced: the columns with spaces around a text.
        ungrouped: the columns with a number whose point cannot stand between groups of digits.
    """

    rows: int = 0
    places: dict[str, Places] = field(default_factory=dict)
    numbers: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    spaced: set[str] = field(default_factory=set)
    ungrouped: set[str] = field(default_factory=set)

    def add(self, below: "Stored") -> None:
        """Put what was found in the blocks below to it."""
        self.rows += below.rows
        for name, places in below.places.items():
            self.places.setdefault(name, Places()).extend(places)
        for kind in ("numbers", "texts", "spaced", "ungrouped"):
            getattr(self, kind).update(getattr(below, kind))


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
        folder: of the temporary files.
        ids: columns to keep as text whose cells always have a value.

    Raises:
        UnusualError: the file is not plain enough.
        DataError: as `read_table`.
        ResourceError: a process that reads parts was ended from outside.
    """
    columns = source.columns
    texts = [*texts, *ids]
    untried = frozenset(texts if reading.plain else columns)
    rules = CellRules(frozenset(texts), untried, numbers_among(missing), source.strict)
    address = os.environ.get(cluster.ADDRESS) if source.size >= SIDE_BY_SIDE else None
    files = ColumnFiles(folder, 0 if address else _processes_for(source))
    table = StoredTable(path, columns, texts, missing, reading, ids, files)
    reader = _cluster_reader(address, source, files, folder) if address else _reader(source, files)
    with reader as read:
        found = read(columns, rules)
        if not found.rows:
            raise DataError(f"{path}: there are no rows below the header")
        table.rows, files.places = found.rows, found.places
        mixed = found.numbers & found.texts
        unsure = set[str]()
        if reading.plain and reading.decimal is None:
            unsure = found.numbers - found.texts - found.ungrouped
        grouped = {name for name in unsure if may_have_groups(table[name])}
        if mixed or grouped:  # a column of which a later cell is a text stays a text in all rows
            again = [name for name in columns if name in mixed | grouped]
            as_texts = read(again, CellRules(frozenset(again), frozenset(again), []))
            numbers_kept = {name: files.places[name] for name in grouped}
            files.places |= as_texts.places
            for name in grouped:
                refuse_ambiguous(table.texts_of(name)[1].sort_index(), path)
            files.places |= numbers_kept
            found.spaced |= as_texts.spaced
    if found.spaced and reading.strip:
        shown = ", ".join(repr(name) for name in columns if name in found.spaced)
        logger.warning("%s: spaces around cells left out: %s", path, shown)
    return table


def _processes_for(source: Source) -> int:
    """The number of processes that read a table."""
    # on Windows a process cannot have a temporary file of another
    if source.size < SIDE_BY_SIDE or os.name != "posix":
        return 1
    return min(processors(), len(source.parts))


Read = Callable[[Sequence[str], CellRules], Stored]


@contextmanager
def _reader(source: Source, files: ColumnFiles) -> Iterator[Read]:
    """Reads columns of all parts of a table; as many processes do so as there are files."""
    parts = source.parts or (source,)
    if len(files.files) == 1:
        arrays = files.files[0]
        yield lambda columns, rules: _put_together(_store(part, columns, rules, arrays, 0) for part in parts)
        return
    numbers = get_context("spawn").SimpleQueue()
    for number in range(len(files.files)):
        numbers.put(number)
    with helpers(len(files.files), "reads a table", _begin, files.files, numbers) as pool:
        yield lambda columns, rules: _put_together(
            map(_with_messages, pool.map(_store_there, parts, repeat(columns), repeat(rules)))
        )


@contextmanager
def _cluster_reader(address: str, source: Source, files: ColumnFiles, folder: Path) -> Iterator[Read]:
    """Reads columns of all parts of a table on the nodes of a cluster, which write to files of `folder`."""
    groups = _groups(source.parts, FILES)
    with (
        TemporaryDirectory(dir=folder.absolute()) as place,
        cluster.tasks(address, "read a table") as results,
    ):

        def read(columns: Sequence[str], rules: CellRules) -> Stored:
            found = []
            numbers = range(len(files.files), len(files.files) + len(groups))
            every = repeat(columns), repeat(rules), numbers, repeat(place)
            for name, answer in results(_store_apart, groups, *every):
                found.append(_with_messages(answer))
                file = Path(name).open("rb", buffering=0)  # noqa: SIM115 - as long as the table
                files.files.append(TemporaryArrays(folder, file))
            return _put_together(found)

        yield read


def _groups(parts: Sequence[Source], most: int) -> list[Sequence[Source]]:
    """At most so many groups of parts, which follow one another."""
    size = -(-len(parts) // most)
    return [parts[start : start + size] for start in range(0, len(parts), size)]


def _put_together(found: Iterable[Stored]) -> Stored:
    stored = Stored()
    for one in found:
        stored.add(one)
    return stored


def _store(
    source: Source, columns: Sequence[str], rules: CellRules, arrays: TemporaryArrays, number: int
) -> Stored:
    """Append columns of a table to the file of this number."""
    found = Stored(places={name: Places() for name in columns})
    for block in ahead(source.blocks(columns)):
        for name, cells in zip(columns, map(only_chunk, block.columns), strict=True):
            part = _part(name, cells, rules, found)
            found.places[name].append(append_part(arrays, part, len(cells), number))
        found.rows += block.num_rows
    return found


def _part(name: str, cells: pa.Array, rules: CellRules, found: Stored) -> Part:
    """The numbers or texts of a column of a block; adds to what was found in the blocks above."""
    numbers = None
    if cells.type == pa.float64() and name not in rules.texts:
        found.ungrouped.add(name)
        numbers = native_numbers(cells, rules.marks)
    elif cells.null_count == len(cells):
        return None
    elif name not in rules.untried and name not in found.texts:
        try:
            numbers = numbers_of(cells, rules.marks)
        except UnusualError:
            if rules.strict:
                raise
    if numbers is None:
        texts = Texts.of(written(cells))
        found.texts.add(name)
        if name not in found.spaced and has_spaces(texts.dictionary):
            found.spaced.add(name)
        return texts
    if not np.isnan(numbers).all():
        found.numbers.add(name)
        if name not in found.ungrouped and _has_no_groups(cells, numbers):
            found.ungrouped.add(name)
    return numbers


_file: tuple[TemporaryArrays, int]  # of a process that helps, and its number


def _begin(files: list[TemporaryArrays], numbers: Any) -> None:
    global _file
    number = numbers.get()
    _file = files[number], number
    pa.set_cpu_count(1)  # there is a process for each processor


def _store_there(
    source: Source, columns: Sequence[str], rules: CellRules
) -> tuple[Stored, list[logging.LogRecord]]:
    """What was found, and the messages for the process that has this one's help."""
    return _recorded(lambda: _store(source, columns, rules, *_file))


def _store_apart(
    sources: Sequence[Source], columns: Sequence[str], rules: CellRules, number: int, place: str
) -> tuple[str, tuple[Stored, list[logging.LogRecord]]]:
    """The new file that columns of tables were written to, and what `_store_there` answers."""
    pa.set_cpu_count(1)
    with NamedTemporaryFile(dir=place, buffering=0, delete=False) as file:
        arrays = TemporaryArrays(Path(place), file)
        answer = _recorded(
            lambda: _put_together(_store(source, columns, rules, arrays, number) for source in sources)
        )
    return file.name, answer


def _recorded(store: Callable[[], Stored]) -> tuple[Stored, list[logging.LogRecord]]:
    messages: SimpleQueue[logging.LogRecord] = SimpleQueue()
    logging.getLogger().handlers = [QueueHandler(messages)]
    found = store()
    return found, [messages.get() for _ in range(messages.qsize())]


def _with_messages(answer: tuple[Stored, list[logging.LogRecord]]) -> Stored:
    found, messages = answer
    for message in messages:
        logging.getLogger(message.name).handle(message)
    return found


def _has_no_groups(texts: pa.Array, numbers: NDArray[np.float64]) -> bool:
    """Whether the point of a number cannot stand between groups of three digits."""
    if (np.isnan(numbers) | (numbers == np.floor(numbers))).all():
        return False
    return any(
        compute.any(compute.match_substring_regex(part, NO_GROUPS)).as_py() for part in (texts[:256], texts)
    )
