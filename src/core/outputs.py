"""What a command may replace: nothing that this project has not written."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from src.core.digests import content_digest
from src.core.errors import ConfigurationError
from src.core.paths import MODELS, PREDICTIONS, PREPARED, RAW, REPORTS

LONGEST_NAME = 243  # bytes; the file beside it, which is written first, has 12 more of the usual 255
ANY_WRITE_BIT = 0o222
CLUTTER = (".DS_Store", "Thumbs.db", "desktop.ini")  # of file managers


def check_output(path: Path, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """Refuse a file that a user names as an output and that must not be written.

    A file that exists is replaced only below predictions/ or with `overwrite`, and never if it is an input,
    a link, read-only, or not a regular file.

    Args:
        path: of the output.
        overwrite: replace a file that exists.
        inputs: what the command reads.

    Raises:
        ConfigurationError: the output is refused.
    """
    if len(path.name.encode(errors="surrogateescape")) > LONGEST_NAME:
        raise ConfigurationError(
            f"the output's name is longer than {LONGEST_NAME} bytes: {path.name[:40]}..."
        )
    if path.is_symlink():
        raise ConfigurationError(f"{path} is a link to {path.readlink()}; name a file as the output")
    if path.is_dir() or not path.name:
        raise ConfigurationError(f"'{path}' is a folder; name a file as the output")
    if not path.exists():
        return
    if not path.is_file():
        raise ConfigurationError(f"{path} is not a regular file; name another output")
    if any(one.exists() and path.samefile(one) for one in inputs):
        raise ConfigurationError(f"{path} is the input, too; name another output")
    if not path.stat().st_mode & ANY_WRITE_BIT:
        raise ConfigurationError(f"{path} is read-only; name another output")
    if not (overwrite or path.resolve().is_relative_to(PREDICTIONS.resolve())):
        raise ConfigurationError(f"{path} exists; name another output, or add --overwrite true to replace it")


def check_source(task: str, source: Path, names: Iterable[str]) -> None:
    """Refuse raw data in a folder that the stages of their task replace.

    Args:
        task: the name of the task.
        source: the folder that holds the raw data.
        names: the files or folders of it to use; none for all.

    Raises:
        ConfigurationError: the source is, holds or lies in such a folder.
    """
    used = [(source / name).resolve() for name in names] or [source.resolve()]
    for written in (parent / task for parent in (RAW, PREPARED, MODELS, REPORTS)):
        whole = written.resolve()
        if any(path.is_relative_to(whole) or whole.is_relative_to(path) for path in used):
            raise ConfigurationError(
                f"{task}.source: {source} and {written} overlap, which `dvc repro` replaces as a whole; "
                "keep the raw data in a folder of your own"
            )


def require_ours(folder: Path, written: Mapping[str, str | None]) -> None:
    """Refuse to replace a folder that holds something else than what this project has written.

    Args:
        folder: which may not exist.
        written: the names of what lies in it, with sha256 where a change is to be noticed.

    Raises:
        ConfigurationError: there is another file, or a changed one.
    """
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name in CLUTTER:
            continue
        if path.name in written:
            digest = written[path.name]
            if digest is None or content_digest(path) == digest:
                continue
            found = "was changed since it was written"
        else:
            found = "was not written by this project"
        raise ConfigurationError(
            f"{path} {found}, and {folder} is replaced as a whole; copy what is yours to another place, "
            f"then remove {folder}"
        )
