"""The text of CSV and JSON files: compression, encoding, and the lines that hold the table."""

import codecs
import csv
import gzip
import io
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile, ZipFile, ZipInfo

import pyarrow as pa
import yaml

from src.core.encodings import MARKS, guess_encoding
from src.core.errors import ConfigurationError, DataError

DELIMITERS = ",;\t|"
# how much larger than the file its content may be; a table that ends beyond both was made to fill the memory
MOST_GROWTH, ALWAYS_ALLOWED = 200, 1 << 28
HEAD = 200  # lines or rows that are looked at for the form of a table
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.I)
COMMENTS = ("#", "%", "//")


@dataclass(frozen=True)
class Reading:
    """How a raw file holds its table: the section `<task>.prepare.reading` of params.yaml.

    Predictions read their input alike.

    Args:
        encoding: of a text file, such as gb18030 or cp1252. A byte order mark goes before it.
        delimiter: the sign between the cells of a row; `" "` stands for any number of spaces and tabs. null
            takes the one of `,;|` and tab that cuts the header into most columns.
        decimal: the sign before the fraction of a number, `.` or `,`. null is a point, unless the points of a
            column may as well stand between groups of three digits: then the column is refused.
        thousands: the sign between groups of three digits: `,`, `.`, `'` or a space.
        units: by column, the text before or after every number, such as `%`, `kg` or `$`.
        header: first: the names are in the first line; none: there are no names, the columns are column_1,
            column_2, ...; or the list of the names of a file without them.
        skip_rows: the number of lines, or rows of a sheet, above the header.
        footer: the number of lines, or rows of a sheet, below the last row.
        comment: the sign that begins lines which are no rows.
        sheet: the name of the sheet of a workbook; null is the first.
        strip: leave out spaces at both ends of cells and names.
        quotes: whether a cell of a CSV file may stand in double quotes; false: they are signs as others.

    Raises:
        ConfigurationError: a value is out of range, or two of them exclude each other.
    """

    encoding: str = "utf-8"
    delimiter: str | None = None
    decimal: Literal[".", ","] | None = None
    thousands: Literal[",", ".", " ", "'"] | None = None
    units: dict[str, str] = field(default_factory=dict)
    header: Literal["first", "none"] | list[str] = "first"
    skip_rows: int = 0
    footer: int = 0
    comment: str | None = None
    sheet: str | None = None
    strip: bool = True
    quotes: bool = True

    def __post_init__(self) -> None:
        try:
            codecs.decode(b"", self.encoding)
            known = isinstance(codecs.decode(b"", self.encoding), str)
        except LookupError:
            known = False
        if not known:
            raise ConfigurationError(f"prepare.reading.encoding: there is no encoding {self.encoding!r}")
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise ConfigurationError(f"prepare.reading.delimiter must be one sign: {self.delimiter!r}")
        if self.thousands and self.thousands == self.decimal_sign:
            raise ConfigurationError(f"prepare.reading: decimal and thousands are both {self.thousands!r}")
        if min(self.skip_rows, self.footer) < 0:
            raise ConfigurationError(
                f"prepare.reading.skip_rows and footer must be at least 0: {self.skip_rows}, {self.footer}"
            )
        if self.comment == "":
            raise ConfigurationError("prepare.reading.comment must be a sign, or null: ''")
        if not all(self.units.values()):
            raise ConfigurationError("prepare.reading.units: the unit of a column is empty")
        if isinstance(self.header, list) and len(set(self.header)) != len(self.header):
            raise ConfigurationError("prepare.reading.header: a name appears more than once")

    @property
    def decimal_sign(self) -> str:
        """The sign before the fraction of a number."""
        return self.decimal or ("," if self.thousands == "." else ".")

    @property
    def plain(self) -> bool:
        """Whether numbers are written as pandas reads them."""
        return self.decimal_sign == "." and not self.thousands and not self.units

    @property
    def quoting(self) -> Literal[0, 3]:
        """`quotes` as an option of csv and pandas."""
        return csv.QUOTE_MINIMAL if self.quotes else csv.QUOTE_NONE

    def changes(self) -> dict[str, Any]:
        """The keys that do not have their default."""
        default = asdict(Reading())
        return {name: value for name, value in asdict(self).items() if value != default[name]}


DEFAULT = Reading()


class ReadingError(DataError):
    """A table that other keys of `Reading` may read.

    Args:
        message: what was found.
        keys: the keys of `prepare.reading` that read the file; several where only the user can choose.
    """

    def __init__(self, message: str, *keys: dict[str, Any]) -> None:
        self.found = message
        ways = " or ".join(f"`reading: {as_flow(way)}`" for way in keys)
        super().__init__(f"{message}; {'choose' if len(keys) > 1 else 'set'} {ways} in `prepare`")
        self.keys = keys

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process gets the same error."""
        return type(self), (self.found, *self.keys)


def as_flow(value: Any) -> str:
    """A value as YAML in one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.strip().removesuffix("\n...")


class _Bounded(io.RawIOBase):
    """A stream that ends with an error when it gets longer than `most` bytes."""

    def __init__(self, source: Any, most: int, path: Path) -> None:
        self.source, self.most, self.left, self.path = source, most, most, path

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            count: int = self.source.readinto(buffer)
        except OSError as error:
            if error.errno is not None:
                raise
            raise zlib.error(str(error)) from None  # of pyarrow
        self.left -= count
        if self.left < 0:
            raise DataError(
                f"{self.path}: its content is larger than {self.most >> 20} MiB, far beyond its size"
            )
        return count

    def close(self) -> None:
        self.source.close()
        super().close()


def most_bytes(path: Path) -> int:
    """The largest content of a compressed file that is read."""
    return max(ALWAYS_ALLOWED, MOST_GROWTH * path.stat().st_size)


def _member(path: Path, archive: ZipFile) -> ZipInfo:
    """The one table in an archive."""
    members = [
        member
        for member in archive.infolist()
        if not member.is_dir() and not member.filename.startswith("__MACOSX/")
    ]
    if len(members) != 1:
        names = ", ".join(member.filename for member in members[:3])
        raise DataError(
            f"{path}: expected one table in the archive, found {len(members)} files ({names}); unpack it"
        )
    if members[0].flag_bits & 1:
        raise DataError(f"{path}: {members[0].filename} has a password; unpack it")
    return members[0]


def format_of(path: Path) -> str:
    """The ending of a table in lower case, such as .csv; of a compressed one that of its content."""
    if path.suffix.lower() in (".gz", ".zst"):
        return path.with_suffix("").suffix.lower()
    if path.suffix.lower() == ".zip":
        try:
            with ZipFile(path) as archive:
                return Path(_member(path, archive).filename).suffix.lower()
        except BadZipFile as error:
            raise DataError(f"{path}: not a zip archive: {error}") from None
    return path.suffix.lower()


def open_bytes(path: Path) -> io.BufferedReader:
    """Open a table, decompressed."""
    source: Any
    if path.suffix.lower() == ".gz":
        source = gzip.open(path)  # noqa: SIM115 - closed with the stream that is returned
    elif path.suffix.lower() == ".zst":
        source = pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")
    elif path.suffix.lower() == ".zip":
        with ZipFile(path) as archive:
            source = archive.open(_member(path, archive))
    else:
        return path.open("rb")
    return io.BufferedReader(_Bounded(source, most_bytes(path), path))


def open_text(path: Path, reading: Reading) -> io.TextIOWrapper:
    """Open a table as text, decompressed; all line ends become a line feed."""
    file = open_bytes(path)
    head = file.peek(4)
    encoding = next((name for mark, name in MARKS.items() if head.startswith(mark)), reading.encoding)
    return io.TextIOWrapper(file, encoding=encoding)


def refusing_damage(path: Path, read: Callable[[], Any]) -> Any:
    """Call `read`, with what it says of a damaged or wrongly decoded file as DataError."""
    try:
        return read()
    except UnicodeDecodeError as error:
        raise _not_decoded(path, error) from None
    except (EOFError, zlib.error, gzip.BadGzipFile, BadZipFile) as error:
        raise DataError(f"{path}: not a whole compressed file: {error}; fetch it again") from None


def _not_decoded(path: Path, error: UnicodeDecodeError) -> DataError:
    with open_bytes(path) as file:
        offset = first_wrong_byte(file, error.encoding)
        file.seek(0)
        content = file.read(ALWAYS_ALLOWED)
    message = f"{path}: not {error.encoding.upper().removesuffix('-SIG')} at byte {offset}"
    if (encoding := guess_encoding(content)) and encoding != error.encoding:
        return ReadingError(f"{message}, but all of it is {encoding}", {"encoding": encoding})
    return DataError(
        f"{message}; save the table as UTF-8, or name its encoding: `reading: {{encoding: ...}}`"
    )


def first_wrong_byte(file: io.BufferedReader, encoding: str) -> int:
    """The offset of the first byte that cannot be decoded; readers report it relative to their buffer."""
    decoder, done = codecs.getincrementaldecoder(encoding)(), 0
    while block := file.read(1 << 20):
        held = len(decoder.getstate()[0])  # bytes of a character split between two blocks
        try:
            decoder.decode(block)
        except UnicodeDecodeError as error:
            return done - held + error.start
        done += len(block)
    return done - len(decoder.getstate()[0])


def table_lines(path: Path, reading: Reading, below: list[str] | None = None) -> Iterator[str]:
    """The lines of a table: without blank ones and those that the keys leave out.

    Args:
        path: a file of text.
        reading: its keys.
        below: gets the lines of the footer at the end.
    """
    with open_text(path, reading) as file:
        first = file.readline()
        said = SEPARATOR_LINE.fullmatch(first)  # as Excel writes and understands it
        lines = islice(file if said else chain([first], file), reading.skip_rows, None)
        held: deque[str] = deque()
        quoted = False  # whether the line begins within a cell
        for line in lines:
            comment = reading.comment is not None and line.startswith(reading.comment)
            if not quoted and (comment or not line.strip(" \n")):
                continue
            quoted ^= reading.quotes and line.count('"') % 2 == 1
            held.append(line)
            if len(held) > reading.footer:
                yield held.popleft()
        if below is not None:
            below.extend(held)


def delimiter_of(path: Path, reading: Reading = DEFAULT) -> str:
    """The sign between the cells of a CSV file.

    It is that of `reading`, or that of a line `sep=;`, or the one of DELIMITERS that splits the header into
    most columns.
    """
    if reading.delimiter:
        return reading.delimiter
    with open_text(path, reading) as file:
        said = SEPARATOR_LINE.fullmatch(file.readline())
    if said:
        return said[1]
    header = next(table_lines(path, reading), "")
    decimal = reading.decimal or ""
    signs = DELIMITERS.replace(decimal, "")  # 0,5;1 has two cells, not 0 and 5;1

    def cells(sign: str) -> int:
        return len(next(csv.reader([header], delimiter=sign, quoting=reading.quoting), []))

    best = max(signs, key=cells)
    if cells(best) < 2 and decimal in DELIMITERS:  # "0,5",1
        best = max([best, *decimal], key=cells)
    return best


def csv_rows(lines: Iterator[str], delimiter: str, reading: Reading) -> Iterator[list[str]]:
    """The cells of the rows of a CSV file; strict about quotes."""
    if delimiter == " ":
        lines = (line.expandtabs(1).strip() for line in lines)
    spaces = delimiter != "\t"
    return csv.reader(
        lines, delimiter=delimiter, skipinitialspace=spaces, quoting=reading.quoting, strict=True
    )


class LinesFile:
    """Lines as a file for pandas."""

    def __init__(self, lines: Iterator[str]) -> None:
        self.lines = lines

    def __iter__(self) -> Iterator[str]:
        return self.lines

    def read(self, size: int = -1) -> str:
        """Read whole lines, up to the first that ends beyond `size` characters."""
        parts, length = [], 0
        for line in self.lines:
            parts.append(line)
            length += len(line)
            if 0 <= size <= length:
                break
        return "".join(parts)


def first_full_row(counts: Sequence[int]) -> int:
    """The first row from which on all have the cells of the last one; 0 if that is no table.

    Args:
        counts: the number of cells of the first rows of a file.
    """
    filled = [count for count in counts if count]
    if len(filled) < 3 or filled[-1] < 2 or filled[-2] != filled[-1]:
        return 0
    start = len(counts)
    while start and counts[start - 1] in (0, filled[-1]):
        start -= 1
    while not counts[start]:
        start += 1
    return start


def layout_keys(path: Path, reading: Reading) -> tuple[str, dict[str, Any]] | None:
    """What stands above the header or cuts the rows of a CSV file, and the keys for it; None if unknown."""
    with open_text(path, reading) as file:
        head = [line.rstrip("\n") for line in islice(file, HEAD)]
    head = head[:-1] if len(head) == HEAD else head  # the last one may be in the middle of a row
    first = next((line for line in head if line.strip()), "")
    if mark := next((mark for mark in COMMENTS if first.startswith(mark)), None):
        return f"line 1 begins with {mark!r}", {"comment": mark}
    of_numbers = (reading.decimal_sign, reading.thousands)
    signs = [sign for sign in (*DELIMITERS, " ") if sign not in of_numbers]
    signs = [reading.delimiter] if reading.delimiter else signs
    for sign in signs:
        try:
            rows = (csv_rows(iter([line] if line.strip() else []), sign, reading) for line in head)
            counts = [len(next(cells, [])) for cells in rows]
        except csv.Error:
            continue
        start = first_full_row(counts)
        width = counts[start] if start or first_full_row([0, *counts]) else 0
        keys = {"skip_rows": start} if start else {}
        if sign == " " and width > 1:
            return f"spaces cut the lines into {width} cells", {"delimiter": " ", **keys}
        if start:
            return f"line {start + 1} is the first with {width} cells: a title above the header", keys
    return None
