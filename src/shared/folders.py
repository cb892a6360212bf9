"""Folders that appear whole or not at all, and the places every part of the pipeline agrees on."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, TextIO

from src.shared.errors import ConfigurationError

RAW = Path("data/raw")
PREPARED = Path("data/prepared")
SAMPLES = Path("data/samples")
MODELS = Path("models")
REPORTS = Path("reports")
RUNS = Path("runs")
LOCK = Path("requirements.lock")
RECORD = "run.json"  # of a training, in its folder below runs/


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `folder` when the block ends without an error.

    The new folder lies beside the old one, so that a rename is enough; after an error it is removed
    and `folder` is as it was.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    older = folder.with_name(f".{folder.name}.older")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if older.exists() and not folder.exists():  # a kill came between the two renames
        older.rename(folder)
    shutil.rmtree(older, ignore_errors=True)
    try:
        yield partial
        if folder.exists():
            folder.rename(older)
        partial.rename(folder)
    finally:
        if older.exists() and not folder.exists():
            older.rename(folder)
        shutil.rmtree(older, ignore_errors=True)
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def file_written_whole(path: Path) -> Iterator[TextIO]:
    """Yield an empty file (UTF-8) that takes the place of `path` when the block ends without an error."""
    partial = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """The sha256 of a file, as 64 hexadecimal digits."""
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def folder_digest(folder: Path, pattern: str = "*") -> str:
    """One sha256 over the names and contents of the files below `folder`, whatever the listing order."""
    lines = [
        f"{path.relative_to(folder).as_posix()} {file_digest(path)}\n"
        for path in sorted(folder.rglob(pattern))
        if path.is_file()
    ]
    return sha256("".join(lines).encode()).hexdigest()


def read_preprocessing(folder: Path) -> dict[str, Any]:
    """The content of preprocessing.json in data/prepared/<task> or models/<task>.

    Args:
        folder: where it lies.

    Raises:
        ConfigurationError: it is not there.
    """
    path = folder / "preprocessing.json"
    if not path.is_file():
        raise ConfigurationError(f"{path} is not here; run: dvc repro prepare@{folder.name}")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
