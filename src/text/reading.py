"""Reading of raw texts: .txt, .json and .jsonl files into documents."""

import re
from collections.abc import Collection, Iterator
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
    documents: list[str] = []
    empty = 0
    for path in text_files(place):
        text = read_text(path, encoding)
        if path.suffix.lower() == ".txt":
            parts = _parts(text, document)
        else:
            parts = [text_of(where, entry) for where, entry in entries(path, text)]
        found = [part.strip() for part in parts]
        kept = [part for part in found if part]
        if not kept:
            raise DataError(f"{path}: no text found")
        documents += kept
        empty += len(found) - len(kept)
    return documents, empty


def _parts(text: str, document: Unit) -> list[str]:
    lines = text.splitlines()
    if document == "line":
        return lines
    whole = "\n".join(lines).strip()
    return [whole] if document == "file" else BLANK_LINES.split(whole)


def read_text(path: Path, encoding: str | None = None) -> str:
    """Read a file as UTF-8, or else in another encoding.

    Raises:
        DataError: it is neither; the message proposes an encoding if one fits the whole file.
    """
    content = path.read_bytes()
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
        f"{path}: {problem}; it looks like {guess} ('{start}'): set prepare.encoding: {guess}, or convert "
        f"it: iconv -f {guess} -t utf-8"
    )


def encoding_of(files: list[Path]) -> str | None:
    """The likely encoding of the first file that is not UTF-8; None if all are, or none fits."""
    for file in files:
        guess = guess_encoding(file.read_bytes())
        if guess not in ("utf-8", "utf-8-sig"):
            return guess
    return None


def entries(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    """The entries of a .json or .jsonl file, each with its place.

    Raises:
        DataError: it is not JSON, or no list.
    """
    if path.suffix.lower() == ".jsonl":
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                where = f"{path}, line {number}"
                yield where, _json(where, line)
        return
    content = _json(str(path), text)
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
