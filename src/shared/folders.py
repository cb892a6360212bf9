"""Folders that appear whole or not at all, and the places every part of the pipeline agrees on."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

RAW = Path("data/raw")
PREPARED = Path("data/prepared")
SAMPLES = Path("data/samples")
MODELS = Path("models")
REPORTS = Path("reports")
RUNS = Path("runs")


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `folder` when the block ends without an error.

    The new folder lies beside the old one, so that a rename is enough; after an error it is removed
    and `folder` is as it was.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def file_digest(path: Path) -> str:
    """The sha256 of a file, as 64 hexadecimal digits."""
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def folder_digest(folder: Path) -> str:
    """One sha256 over the names and contents of all files below `folder`, whatever the listing order."""
    lines = [
        f"{path.relative_to(folder).as_posix()} {file_digest(path)}\n"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    return sha256("".join(lines).encode()).hexdigest()
