"""Errors a user can mend, each kind with its exit code, and the one place that reports them."""

import errno
import os
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
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
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
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        reported = reported_error(error)
        if reported is None or os.environ.get(TRACEBACK_VARIABLE):
            raise
        message = " ".join(str(reported).split()) or type(reported).__name__
        print(f"error: {message}", file=sys.stderr)
        sys.exit(reported.exit_code if isinstance(reported, LockstepError) else ResourceError.exit_code)


def reported_error(error: BaseException | None) -> BaseException | None:
    """The error to tell: the first of the chain that a user can mend.

    A class that refuses its arguments does so inside jsonargparse, which wraps the error in its own.
    """
    while error is not None:
        out_of_resources = getattr(error, "errno", None) in RESOURCE_ERRNOS
        if isinstance(error, LockstepError | MemoryError) or out_of_resources:
            return error
        error = error.__cause__ or error.__context__
    return None
