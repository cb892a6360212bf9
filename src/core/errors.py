"""Errors a user can mend, each kind with its exit code, and the one place that reports them."""

import errno
import os
import re
import signal
import sys
from collections.abc import Callable

TRACEBACK_VARIABLE = "LOCKSTEP_TRACEBACK"


class LockstepError(Exception):
    """An error whose message names the cause and the way out. Never raised itself."""

    exit_code = 1


class ConfigurationError(LockstepError):
    """A parameter or configuration key that cannot be used."""

    exit_code = 2


class DataError(LockstepError):
    """Raw or prepared data that cannot be used; the message names the file and the row or column."""

    exit_code = 3


class IntegrityError(LockstepError):
    """A file whose content is not what its digest promises."""

    exit_code = 4


class NonFiniteError(LockstepError):
    """A loss that became NaN or infinite."""

    exit_code = 5


class ResourceError(LockstepError):
    """No space, no permission, no memory or no answer from a server."""

    exit_code = 6


class LockedError(LockstepError):
    """Another process is at work on the same results."""

    exit_code = 7


RESOURCE_ERRNOS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.EEXIST, errno.ENOTDIR),  # a file stands where a folder should be
}


def exit_with_message(main: Callable[[], object]) -> None:
    """Run `main`; end with one line and the exit code of the error's kind instead of a traceback.

    The traceback is shown when the environment variable LOCKSTEP_TRACEBACK is set.
    """
    try:
        main()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process ends now, a second Ctrl-C changes nothing
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        reported = reported_error(error)
        if reported is None or os.environ.get(TRACEBACK_VARIABLE):
            raise
        message = " ".join(str(reported).split()) or type(reported).__name__
        print(f"error: {message}", file=sys.stderr)
        sys.exit(reported.exit_code)


def reported_error(error: BaseException | None) -> LockstepError | None:
    """The error to tell: the first of the chain that a user can mend, one of resources as a ResourceError.

    A class that refuses its arguments does so inside jsonargparse, which wraps the error in its own. What
    was raised `from None` hides what came before it.
    """
    while error is not None:
        if isinstance(error, LockstepError):
            return error
        if _out_of_memory(error):
            return ResourceError(f"out of memory: {error}".removesuffix(": "))
        if _out_of_space(error) or getattr(error, "errno", None) in RESOURCE_ERRNOS:
            return ResourceError(str(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def _out_of_memory(error: BaseException) -> bool:
    """Whether memory was refused; PyTorch's errors are known by their names, so that it is not imported."""
    refused_to_torch = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or refused_to_torch


def _out_of_space(error: BaseException) -> bool:
    """Whether a file could not be written, as NumPy and what is written in Rust (safetensors) tell it."""
    if isinstance(error, OSError) and error.errno is None:
        return re.fullmatch(r"\d+ requested and \d+ written", str(error)) is not None
    told = re.search(r"\(os error (\d+)\)", str(error))
    return told is not None and int(told[1]) in RESOURCE_ERRNOS
