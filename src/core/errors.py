"""Errors that a user can correct, each class with its exit code, and the function that reports them."""

import errno
import io
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

TRACEBACK_VARIABLE = "LOCKSTEP_TRACEBACK"
RUNS = Path("runs")  # as in paths.py, which imports this module


class LockstepError(Exception):
    """Base class. The message of an error names the cause and the remedy."""

    exit_code = 1


class ConfigurationError(LockstepError):
    """A parameter or configuration key that cannot be used."""

    exit_code = 2


class DataError(LockstepError):
    """Raw or prepared data that cannot be used; the message names the file and the row or column."""

    exit_code = 3


class IntegrityError(LockstepError):
    """A file whose content does not match its digest."""

    exit_code = 4


class NonFiniteError(LockstepError):
    """A loss that became NaN or infinite."""

    exit_code = 5


class ResourceError(LockstepError):
    """Disk space, memory, a permission or the answer of a server is missing."""

    exit_code = 6


class LockedError(LockstepError):
    """Another process is writing this folder.

    This happens when `dvc` was killed but its stage is still running and a second `dvc repro` starts the same
    stage.
    """

    exit_code = 7


KILLED_WORKER = re.compile(r"DataLoader worker .*(killed by signal|exited unexpectedly)")
RESOURCE_ERRNOS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.EEXIST, errno.ENOTDIR),  # a file has the name of the folder
    errno.ENAMETOOLONG,
}

WRITTEN_IN_PART = re.compile(r"\d+ requested and \d+ written")  # an OSError of NumPy, without its reason


def exit_with_message(main: Callable[[], object]) -> None:
    """Run `main`; end with one line and the exit code of the error's kind instead of a traceback.

    The traceback is shown when the environment variable LOCKSTEP_TRACEBACK is set, and not 0.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what its encoding cannot write must not end the command
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            main()
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process ends now, a second Ctrl-C changes nothing
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # Python flushes the output once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print("error: nobody reads the output any longer (broken pipe)", file=sys.stderr)
        sys.exit(141)
    except Exception as error:
        reported = reported_error(error)
        if reported is None or os.environ.get(TRACEBACK_VARIABLE, "0") not in ("", "0"):
            raise
        message = printable(" ".join(str(reported).split())) or type(reported).__name__
        print(f"error: {message}", file=sys.stderr)
        sys.exit(reported.exit_code)


def printable(text: str) -> str:
    r"""A text whose control and other invisible characters are escapes such as \x1b."""
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape", "surrogatepass").decode()
        for sign in text
    )


def reported_error(error: BaseException | None) -> LockstepError | None:
    """Return the first LockstepError of a chain of exceptions, or None.

    Exceptions about memory, killed loader workers, disk space, permissions and removed folders count as
    ResourceError. The chain
    matters because jsonargparse wraps the errors of the classes that it instantiates. `raise ... from None`
    ends it.
    """
    while error is not None:
        if isinstance(error, LockstepError):
            return error
        if _out_of_memory(error):
            return ResourceError(f"out of memory: {error}".removesuffix(": "))
        if isinstance(error, RuntimeError) and KILLED_WORKER.match(str(error)):
            return ResourceError(f"{error}; if memory is short, take fewer num_workers")
        if isinstance(error, OSError) and WRITTEN_IN_PART.fullmatch(str(error)):
            return ResourceError(f"the disk is full, or files may not be that large: {error}")
        if _out_of_space(error) or getattr(error, "errno", None) in RESOURCE_ERRNOS:
            return ResourceError(str(error))
        if folder := _removed_folder(error):
            return ResourceError(f"{folder} was removed while the command ran")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def _removed_folder(error: BaseException) -> str:
    """The folder whose removal made a file impossible to find; empty if that is not the reason."""
    if not isinstance(error, FileNotFoundError):
        return ""
    try:
        Path.cwd()
    except FileNotFoundError:
        return "the working folder"
    folder = Path(str(error.filename)).parent
    return str(folder) if folder.is_relative_to(RUNS) and not folder.exists() else ""


def _out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out. PyTorch's errors are recognised by name, so that it is not imported."""
    refused_to_torch = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or refused_to_torch


def _out_of_space(error: BaseException) -> bool:
    """Whether a file could not be written, from the messages of Rust libraries (safetensors)."""
    told = re.search(r"\(os error (\d+)\)", str(error))
    return told is not None and int(told[1]) in RESOURCE_ERRNOS
