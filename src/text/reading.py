"""Reading of raw texts: .txt, .json and .jsonl files into documents."""

import re
from codecs import getincrementaldecoder
from collections.abc import Collection, Iterator
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from src.core.documents import parsed_json
from src.core.encodings import guess_encoding
from src.core.errors import DataError

Unit = Literal["line", "paragraph", "file"]

SUFFIXES = (".txt", ".json", ".jsonl")
OTHERS = ("SOURCE.json", "labels.json")  # of the project, beside the raw files
TABLES = (".csv", ".tsv", ".xlsx", ".xls", ".parquet")
BLANK_LINES = re.compile(r"\n\s*\n")
CHECKED_AT_ONCE = 1 << 20  # bytes
SHOWN = 12  # characters of a text in an error


def is_hidden(path: Path) -> bool:
    """Whether a file or folder is hidden, as those that macOS puts into archives, or one of the project."""
    return path.name.startswith(".") or path.name in OTHERS


def text_files(place: Path, also: Collection[str] = ()) -> list[Path]:
    """The files with texts of a folder, by suffix and name, or the one file.

    Hidden files and files of other kinds are left out.

    Args:
        place: the folder or file.
        also: further suffixes to accept.

    Raises:
        DataError: there is none, or one is no regular file.
    """
    suffixes = (*SUFFIXES, *also)
    if not place.is_dir():
        files = [place]
    else:
        files = [path for path in sorted(place.iterdir()) if not is_hidden(path) and not path.is_dir()]
        others = [path for path in files if path.suffix.lower() not in suffixes]
        files = [path for suffix in suffixes for path in files if path.suffix.lower() == suffix]
        if not files and len(others) == 1:
            files = others  # the error names it
    if not files:
        raise DataError(f"{place}: there is no {', '.join(SUFFIXES)} file in it; folders in it are not read")
    for path in files:
        suffix = path.suffix.lower()
        if suffix in TABLES and suffix not in also:
            raise DataError(
                f"{path}: a table; texts without classes are {', '.join(SUFFIXES)} files. To classify texts, "
                "name the columns of a .csv or .tsv file: prepare.text and prepare.label"
            )
        if suffix not in suffixes:
            raise DataError(f"{path}: expected one of {', '.join(SUFFIXES)}; save the text as .txt (UTF-8)")
        if not path.is_file():
            raise DataError(f"{path}: not a regular file")
    return files


def read_documents(
    place: Path, encoding: str | None = None, document: Unit = "line"
) -> tuple[list[str], int]:
    """Read the documents of a file or folder.

    A .json file is a list and a .jsonl file has one entry a line: a text, or an object with `text`, or with
    `paragraphs` as in the chinese-poetry collection, a list of strings that are joined.

    Args:
        place: the file or folder.
        encoding: of the files that are not UTF-8; None refuses them.
        document: what is one document of a .txt file: a line, the lines between two blank lines, or the file.

    Returns:
        The documents, file by file in the order of the names, and the number of empty ones, which are
        skipped.

    Raises:
        DataError: there is no such file, or one is empty, of another encoding, has a NUL, or is JSON of
            another form.
    """
    found = list(documents_of(place, encoding, document))
    kept = [text for text in found if text]
    return kept, len(found) - len(kept)


def documents_of(place: Path, encoding: str | None = None, document: Unit = "line") -> Iterator[str]:
    """The documents one after the other, as `read_documents` reads them; empty ones are empty texts.

    Lines and the entries of a .jsonl file are read one at a time.
    """
    for path in text_files(place):
        nothing = True
        for part in _documents_of_file(path, encoding, document):
            text = part.strip()
            nothing = nothing and not text
            yield text
        if nothing:
            raise DataError(f"{path}: no text found")


def _documents_of_file(path: Path, encoding: str | None, document: Unit) -> Iterator[str]:
    if path.suffix.lower() != ".txt":
        yield from (text_of(where, entry) for where, entry in entries(path, encoding))
    elif document == "file":
        yield "\n".join(cut_lines(read_text(path, encoding)))
    elif document == "line":
        yield from lines_of(path, encoding)
    else:
        lines: list[str] = []
        for line in chain(lines_of(path, encoding), [""]):
            if line.strip():
                lines.append(line)
            elif lines:
                yield "\n".join(lines)
                lines = []


def cut_lines(text: str) -> list[str]:
    r"""The lines of a text, cut at \n, \r\n and \r; str.splitlines also cuts at form feeds, U+2028, ..."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def lines_of(path: Path, encoding: str | None = None) -> Iterator[str]:
    """The lines of a text file, one at a time, as `cut_lines` has them.

    Raises:
        DataError: as `read_text`.
    """
    with opened(path, encoding) as file:
        for line in file:
            yield line.rstrip("\r\n")


def opened(path: Path, encoding: str | None = None) -> TextIOWrapper:
    """Open a text file, which is checked as a whole before, to read it line by line.

    Raises:
        DataError: as `read_text`.
    """
    if _is_utf8(path):
        return path.open(encoding="utf-8-sig", newline="")
    read_text(path, encoding)
    return path.open(encoding=encoding, newline="")


def _is_utf8(path: Path) -> bool:
    decoder = getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        while block := file.read(CHECKED_AT_ONCE):
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                return False
            if b"\0" in block:
                return False
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def read_text(path: Path, encoding: str | None = None) -> str:
    """Read a file as UTF-8, or else in another encoding.

    Raises:
        DataError: it is neither, or no regular file; the message proposes an encoding if one fits the whole
            file.
    """
    content = _content(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text, problem = "", f"not UTF-8 at byte {error.start} (0x{content[error.start]:02x})"
    else:
        if "\0" not in text:
            return text
        problem = f"found NUL at byte {content.index(0)}"
    if encoding is not None:
        try:
            text = content.decode(encoding)
        except UnicodeError as error:
            raise DataError(f"{path}: {problem}, and not {encoding}: {error}") from None
        if "\0" in text:
            raise DataError(f"{path}: read as {encoding} it has a NUL, expected a text file")
        return text
    guess = guess_encoding(content)
    if "\0" in text or guess is None:
        raise DataError(
            f"{path}: {problem}, expected a text file in UTF-8; for another encoding set prepare.encoding, "
            "such as gb18030, or utf-16-le for UTF-16 without a mark"
        )
    start = "".join(content.decode(guess).split())[:SHOWN]
    raise DataError(
        f"{path}: {problem}; it looks like {guess} ('{start}'): set prepare.encoding: {guess}, or for "
        f"predict --data.encoding={guess}, or convert it: iconv -f {guess} -t utf-8"
    )


def _content(path: Path) -> bytes:
    """The bytes of a regular file; of a pipe or a device they may never end."""
    if not path.is_file():
        raise DataError(f"{path}: {'not a regular file' if path.exists() else 'there is no such file'}")
    return path.read_bytes()


def encoding_of(files: list[Path]) -> str | None:
    """The likely encoding of the first file that is not UTF-8; None if all are, or none fits."""
    for file in files:
        guess = guess_encoding(_content(file))
        if guess not in ("utf-8", "utf-8-sig"):
            return guess
    return None


def entries(path: Path, encoding: str | None = None) -> Iterator[tuple[str, Any]]:
    """The entries of a .json or .jsonl file, each with its place.

    Raises:
        DataError: it is not JSON, or no list, or as `read_text`.
    """
    if path.suffix.lower() == ".jsonl":
        with opened(path, encoding) as file:
            file.reconfigure(newline="\n")
            for number, line in enumerate(file, 1):
                if line.strip():
                    where = f"{path}, line {number}"
                    yield where, _json(where, line)
        return
    content = _json(str(path), read_text(path, encoding))
    if not isinstance(content, list):
        raise DataError(f"{path}: expected a list of texts or objects")
    for number, entry in enumerate(content, 1):
        yield f"{path}, entry {number}", entry


def _json(where: str, text: str) -> Any:
    try:
        return parsed_json(text)
    except ValueError as error:
        raise DataError(f"{where}: not JSON: {error}") from None


def text_of(where: str, entry: Any) -> str:
    """The text of an entry: itself, its key `text`, or its `paragraphs` joined.

    Raises:
        DataError: it has another form.
    """
    if isinstance(entry, dict):
        entry = entry.get("paragraphs", entry.get("text"))
    if isinstance(entry, list) and all(isinstance(part, str) for part in entry):
        return "".join(entry)
    if isinstance(entry, str):
        return entry
    raise DataError(
        f"{where}: expected a text, or an object with `text`, a string, or `paragraphs`, a list of strings"
    )
