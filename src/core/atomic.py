"""Files and folders that are replaced as a whole, by a rename, or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from src.core.errors import LockedError

try:
    import fcntl
except ImportError:  # on Windows, where a folder cannot be held this way
    fcntl = None  # type: ignore[assignment]


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `folder` when the block ends without an error.

    The new folder lies beside the old one, so that a rename is enough; after an error it is removed
    and `folder` is as it was.

    Raises:
        LockedError: another process is writing it. A stage whose DVC was killed lives on while the next DVC
            starts it once more; what two had filled together would be whole for neither.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    older = folder.with_name(f".{folder.name}.older")
    if partial.exists():
        os.close(_claim(partial, folder))  # nobody's: what filled it was killed
        shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    claim = _claim(partial, folder)
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
        os.close(claim)


def _claim(partial: Path, folder: Path) -> int:
    """Hold a folder until the descriptor is closed or the process ends, however it ends."""
    if fcntl is None:
        return os.open(os.devnull, os.O_RDONLY)
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise LockedError(f"another process is writing {folder}; wait for it to end, or end it") from None
    return descriptor


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
