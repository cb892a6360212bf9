"""Files and folders that are replaced by a rename: readers see the old or the new version, never a part."""

import errno
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TextIO

from filelock import FileLock

from src.core.errors import LockedError, ResourceError

logger = logging.getLogger(__name__)

# the answers of file systems without flock, such as some of Lustre and NFS
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}

try:
    import fcntl
except ImportError:  # on Windows, which has no such locks
    fcntl = None  # type: ignore[assignment]


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `folder` when the block ends without an error.

    The new folder has the same parent, so that a rename is enough. After an error it is removed and `folder`
    is unchanged.

    Where `folder` is a link to a folder, that folder is replaced.

    Raises:
        ResourceError: `folder` is a file.
        LockedError: another process is writing it, for example a stage whose `dvc` was killed.
    """
    if folder.is_symlink():
        folder = folder.resolve()
    if folder.exists() and not folder.is_dir():
        raise ResourceError(f"{folder} is a file, but a folder is written there; move it elsewhere")
    partial = folder.with_name(f".{folder.name}.partial")
    older = folder.with_name(f".{folder.name}.older")
    if partial.exists():
        os.close(_claim(partial, folder))  # its writer was killed
        shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    claim = _claim(partial, folder)
    if older.exists() and not folder.exists():  # a kill came between the two renames
        older.rename(folder)
    shutil.rmtree(older, ignore_errors=True)
    try:
        yield partial
        if folder.exists():
            _set_aside(folder, older)
        partial.rename(folder)
    finally:
        if older.exists() and not folder.exists():
            older.rename(folder)
        shutil.rmtree(older, ignore_errors=True)
        shutil.rmtree(partial, ignore_errors=True)
        os.close(claim)


def _set_aside(folder: Path, older: Path) -> None:
    """Rename a folder; copy and remove one of a container's image, which overlayfs cannot rename."""
    try:
        folder.rename(older)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copytree(folder, older, symlinks=True)
        shutil.rmtree(folder)


def _claim(partial: Path, target: Path) -> int:
    """Lock a file or folder until the descriptor is closed or the process ends."""
    if fcntl is None:
        return os.open(os.devnull, os.O_RDONLY)
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise _locked(target) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            os.close(descriptor)
            raise
        warn_of_no_lock(str(error.strerror))
    return descriptor


def is_claimed(partial: Path) -> bool:
    """Whether a process is writing a file or folder of a temporary name; False where there are no locks."""
    try:
        os.close(_claim(partial, partial))
    except LockedError:
        return True
    return False


def _locked(target: Path) -> LockedError:
    return LockedError(f"another process is writing {target}; wait for it to end, or end it")


@contextmanager
def locked(path: Path, seconds: float = -1) -> Iterator[None]:
    """Hold the lock of a file; without one, after a warning, where the file system has no locks.

    Args:
        path: of the file.
        seconds: to wait for it at most; below 0 for any time.

    Raises:
        Timeout: of filelock: another process holds it.
    """
    lock = FileLock(path, timeout=seconds, fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError as error:  # Timeout is one, of another number
        if error.errno not in NO_LOCKS:
            raise
        warn_of_no_lock(str(error.strerror))
    try:
        yield
    finally:
        lock.release()


@cache
def warn_of_no_lock(reason: str) -> None:
    """Say once that the file system has no locks, so that a second writer would not be noticed."""
    logger.warning("the file system has no locks (%s): start no second command with the same output", reason)


@contextmanager
def file_written_whole(path: Path) -> Iterator[TextIO]:
    """Yield an empty file (UTF-8) that replaces `path` when the block ends without an error.

    Missing parent folders are made; after an error they are removed again.

    Raises:
        LockedError: another process is writing it.
    """
    partial = path.with_name(f".{path.name}.partial")
    missing = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial.touch()
    claim = _claim(partial, path)
    try:
        # the claim may have come when the first writer had just given the file its name
        if fcntl and not (partial.exists() and os.path.samestat(os.fstat(claim), partial.stat())):
            raise _locked(path)
        try:
            with partial.open("w", encoding="utf-8", newline="") as file:
                yield file
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            with suppress(OSError):  # another process may have put something there
                for parent in missing:
                    parent.rmdir()
            raise
    finally:
        os.close(claim)
