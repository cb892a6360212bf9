import errno
from collections.abc import Callable
from typing import Any

import pytest

from src.shared.errors import (
    ConfigurationError,
    DataError,
    IntegrityError,
    LockstepError,
    NonFiniteError,
    ResourceError,
    exit_with_message,
)


def raising(error: BaseException) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (LockstepError("something"), 1, "something"),
        (ConfigurationError("model.depth: no such key"), 2, "model.depth: no such key"),
        (DataError("a.csv: row 3"), 3, "a.csv: row 3"),
        (IntegrityError("a.csv: sha256"), 4, "a.csv: sha256"),
        (NonFiniteError("the loss"), 5, "the loss"),
        (ResourceError("no answer"), 6, "no answer"),
        (MemoryError(), 6, "MemoryError"),
        (MemoryError("8 GB"), 6, "8 GB"),
        (
            OSError(errno.ENOSPC, "No space left on device", "a.npy"),
            6,
            "[Errno 28] No space left on device: 'a.npy'",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "models"),
            6,
            "[Errno 13] Permission denied: 'models'",
        ),
        (OSError(errno.EROFS, "Read-only file system"), 6, "[Errno 30] Read-only file system"),
        (DataError("two\n  lines\tand a tab"), 3, "two lines and a tab"),
        (DataError(""), 3, "DataError"),
    ],
    ids=repr,
)
def test_each_kind_has_its_exit_code_and_one_line(
    error: Exception, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        exit_with_message(raising(error))
    assert stopped.value.code == code
    assert capsys.readouterr() == ("", f"error: {message}\n")


def test_an_error_that_a_library_wrapped_is_told_as_itself(capsys: pytest.CaptureFixture[str]) -> None:
    def wrapping() -> None:
        try:
            raise ConfigurationError("dropout: 1.5")
        except ConfigurationError as error:
            raise ValueError("does not validate") from error

    def hiding() -> None:
        try:
            wrapping()
        except ValueError:
            raise TypeError("no subtype") from None

    for main in (wrapping, hiding):
        with pytest.raises(SystemExit) as stopped:
            exit_with_message(main)
        assert stopped.value.code == 2
        assert capsys.readouterr() == ("", "error: dropout: 1.5\n")


def test_interruption_ends_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        exit_with_message(raising(KeyboardInterrupt()))
    assert stopped.value.code == 130
    assert capsys.readouterr() == ("", "interrupted\n")


@pytest.mark.parametrize(
    "error", [DataError("a.csv"), OSError(errno.ENOSPC, "full"), MemoryError()], ids=repr
)
def test_traceback_is_shown_when_asked_for(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCKSTEP_TRACEBACK", "1")
    with pytest.raises(type(error)) as caught:
        exit_with_message(raising(error))
    assert caught.value is error


@pytest.mark.parametrize("error", [ValueError("a bug"), FileNotFoundError(errno.ENOENT, "a bug")], ids=repr)
def test_a_mistake_of_the_program_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        exit_with_message(raising(error))
    assert caught.value is error


@pytest.mark.parametrize("code", [0, 2])
def test_an_exit_stays_as_it_is(code: int) -> None:
    with pytest.raises(SystemExit) as stopped:
        exit_with_message(raising(SystemExit(code)))
    assert stopped.value.code == code


def test_success_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    done: list[Any] = []
    exit_with_message(lambda: done.append(1))
    assert done == [1]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", LockstepError.__subclasses__())
def test_kinds_have_codes_of_their_own(kind: type[LockstepError]) -> None:
    codes = [other.exit_code for other in LockstepError.__subclasses__()]
    assert codes.count(kind.exit_code) == 1
    assert kind.exit_code not in (0, 1)
