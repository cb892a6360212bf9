"""Tables of one or several files as blocks of rows: CSV, Parquet and Feather files, folders and patterns."""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
from pyarrow import compute, feather, parquet

from src.core.errors import DataError
from src.tabular.blocks import LARGEST_WHOLE, UnusualError, csv_blocks, csv_head
from src.tabular.dialect import Reading
from src.tabular.header import refuse_doubled

ARROW_ENDINGS = (".parquet", ".feather", ".arrow")
BLOCK_ROWS = 1 << 15

Blocks = Iterator[pa.Table]


class Source(NamedTuple):
    """A table; another process can have it, too.

    Args:
        columns: the names.
        blocks: reads columns of these names; each is of numbers (float64) or texts.
        parts: the tables of which it is made, one below the other; none if it is one file.
        size: of the parts in bytes.
        strict: whether UnusualError is raised for a number that pandas may read otherwise, as pandas can read
            the whole table.
    """

    columns: list[str]
    blocks: Callable[[Sequence[str]], Blocks]
    parts: tuple["Source", ...] = ()
    size: int = 0
    strict: bool = False


def part_files(path: Path) -> list[Path] | None:
    """The files of a table in several parts, a folder or a pattern such as `parts/*.csv`; None for one file.

    Raises:
        DataError: there is no file, or a folder in the folder.
    """
    if path.is_dir():
        parts = sorted(part for part in path.iterdir() if part.name[0] not in "._")
        if folders := [part.name for part in parts if part.is_dir()]:
            raise DataError(f"{path}: expected the files of one table, found the folder '{folders[0]}'")
    elif set(path.name) & set("*?[") and not path.exists():
        parts = sorted(part for part in path.parent.glob(path.name) if part.is_file())
    else:
        return None
    if not parts:
        raise DataError(f"{path}: there is no file of a table")
    return parts


def csv_source(path: Path, missing: Sequence[str], reading: Reading, ids: Collection[str] = ()) -> Source:
    """A CSV file.

    Raises:
        UnusualError: it is not plain enough for pyarrow.
    """
    columns, _ = csv_head(path, reading)
    present = [name for name in ids if name in columns]
    return Source(columns, partial(_csv_blocks, path, missing, reading, present), strict=True)


def _csv_blocks(
    path: Path, missing: Sequence[str], reading: Reading, ids: Sequence[str], names: Sequence[str]
) -> Blocks:
    return csv_blocks(path, names, missing, reading, [name for name in ids if name in names])


def arrow_source(path: Path, missing: Sequence[str], ids: Collection[str] = ()) -> Source:
    """A Parquet or Feather file.

    Raises:
        DataError: it is none, or a column has other cells than numbers, texts, truth values and times.
    """
    columns = [name for name in _arrow_file(path).names if not name.startswith("__index_level_")]
    refuse_doubled(path, columns)
    return Source(columns, partial(_arrow_blocks, path, missing, ids))


def _arrow_file(path: Path) -> "_ParquetFile | _FeatherFile":
    parquet_file = path.suffix.lower() == ".parquet"
    try:
        return _ParquetFile(path) if parquet_file else _FeatherFile(path)
    except (pa.ArrowException, OSError) as error:
        kind = "Parquet" if parquet_file else "Feather"
        raise DataError(f"{path}: not a {kind} file: {str(error).splitlines()[0]}") from None


def _arrow_blocks(path: Path, missing: Sequence[str], ids: Collection[str], names: Sequence[str]) -> Blocks:
    nulls = pa.array(missing, pa.string())
    for table in _arrow_file(path).blocks(list(names)):
        cells = [_plain(table[name].combine_chunks(), name, path) for name in names]
        yield pa.table(
            [
                _marked(column, nulls) if name not in ids else column
                for name, column in zip(names, cells, strict=True)
            ],
            names=list(names),
        )


class _ParquetFile:
    def __init__(self, path: Path) -> None:
        self.file = parquet.ParquetFile(path)
        self.names = self.file.schema_arrow.names

    def blocks(self, names: list[str]) -> Blocks:
        for batch in self.file.iter_batches(batch_size=BLOCK_ROWS, columns=names):
            yield pa.table(batch).select(names)


class _FeatherFile:
    def __init__(self, path: Path) -> None:
        try:
            self.file = pa.ipc.open_file(pa.memory_map(str(path)))
        except pa.ArrowInvalid:
            self.table = feather.read_table(path)  # the first version has one block
            self.file = None
        self.names = self.file.schema.names if self.file else self.table.column_names

    def blocks(self, names: list[str]) -> Blocks:
        if self.file is None:
            yield self.table.select(names)
            return
        for number in range(self.file.num_record_batches):
            batch = pa.table(self.file.get_batch(number)).select(names)
            for start in range(0, len(batch), BLOCK_ROWS):
                yield batch[start : start + BLOCK_ROWS]


def _plain(column: Any, name: str, path: Path) -> pa.Array:
    """A column of a block as float64, or as the texts that a CSV file would have."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind, is_type = array.type, pa.types
    if is_type.is_integer(kind):
        beyond = compute.max(compute.abs(array.cast(pa.float64(), safe=False))).as_py()
        return array.cast(pa.string() if (beyond or 0) > LARGEST_WHOLE else pa.float64())
    if is_type.is_floating(kind) or is_type.is_decimal(kind) or is_type.is_null(kind):
        numbers = array.cast(pa.float64())
        return compute.if_else(compute.is_nan(numbers), None, numbers)
    if is_type.is_boolean(kind):
        return compute.if_else(array, "True", "False")
    if is_type.is_timestamp(kind) or is_type.is_date(kind) or is_type.is_time(kind):
        return pa.array(array.to_pandas().map(str, na_action="ignore"), pa.string(), from_pandas=True)
    if is_type.is_string(kind) or is_type.is_large_string(kind) or is_type.is_string_view(kind):
        return array.cast(pa.string())
    raise DataError(
        f"{path}: column '{name}': expected numbers, texts, truth values or times, found {kind}; leave it "
        "out of the file"
    )


def _marked(column: pa.Array, nulls: pa.Array) -> pa.Array:
    """A column in which the marks of missing cells are null."""
    if column.type != pa.string() or not len(nulls):
        return column
    return compute.if_else(compute.is_in(column, nulls), None, column)


def with_fallback(source: Source, other: Source) -> Source:
    """A CSV file that is read otherwise from the first block on that is not plain enough."""
    return Source(source.columns, partial(_blocks_or_others, source, other))


def _blocks_or_others(source: Source, other: Source, names: Sequence[str]) -> Blocks:
    done = 0
    try:
        for block in source.blocks(names):
            yield block
            done += len(block)
    except UnusualError:
        for block in other.blocks(names):
            yield block[done:]


def text_source(columns: Sequence[str], read: Callable[[], pd.DataFrame]) -> Source:
    """A table that is read as a whole, all its cells as texts."""
    return Source(list(columns), partial(_text_blocks, read))


def _text_blocks(read: Callable[[], pd.DataFrame], names: Sequence[str]) -> Blocks:
    table = read()
    yield pa.table({name: pa.array(table[name], pa.string(), from_pandas=True) for name in names})


def joined(parts: Sequence[Path], sources: Sequence[Source]) -> Source:
    """The parts of a table, one below the other.

    Raises:
        DataError: a part has other columns than the first.
    """
    columns = sources[0].columns
    for part, source in zip(parts, sources, strict=True):
        if other := sorted(set(columns) ^ set(source.columns)):
            place = "no" if other[0] in columns else "a"
            raise DataError(f"{part}: it has {place} column '{other[0]}', unlike {parts[0].name}")
    size = sum(part.stat().st_size for part in parts)
    return Source(columns, partial(_blocks_of_all, sources), tuple(sources), size)


def _blocks_of_all(sources: Sequence[Source], names: Sequence[str]) -> Blocks:
    return chain.from_iterable(one.blocks(names) for one in sources)
