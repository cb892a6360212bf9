import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.utils.data import DataLoader, IterableDataset

from src.core.errors import (
    ConfigurationError,
    DataError,
    IntegrityError,
    LockstepError,
    NonFiniteError,
    ResourceError,
    exit_with_message,
    reported_error,
)
from tests.support import ended

ROOT = Path(__file__).parents[2]


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
        (MemoryError(), 6, "out of memory"),
        (MemoryError("8 GB"), 6, "out of memory: 8 GB"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 6, "[Errno 12] Cannot allocate memory"),
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
    assert ended(raising(error)) == code
    assert capsys.readouterr() == ("", f"error: {message}\n")


def test_an_error_that_a_library_wrapped_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
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

    assert ended(wrapping) == 2
    assert capsys.readouterr() == ("", "error: dropout: 1.5\n")
    with pytest.raises(TypeError, match="no subtype"):
        exit_with_message(hiding)


@pytest.mark.parametrize("fill", [torch.empty, np.empty])
def test_memory_that_a_library_is_refused_is_reported(
    fill: Callable[[int], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(fill, 10**15) == 6
    assert re.match("error: out of memory: .*allocate", capsys.readouterr().err)


class Killed(IterableDataset[int]):
    """Ends its worker as the kernel does when memory is short."""

    def __iter__(self) -> Iterator[int]:
        os.kill(os.getpid(), signal.SIGKILL)
        yield 0


@pytest.mark.unix
def test_a_killed_worker_of_a_loader_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(lambda: list(DataLoader(Killed(), num_workers=1))) == 6
    assert re.match(r"error: DataLoader worker \(pid.*num_workers", capsys.readouterr().err)


@pytest.mark.parametrize("name", ["OutOfMemoryError", "Surprise"])
def test_memory_of_an_accelerator_is_known_by_its_name(name: str) -> None:
    error = type(name, (RuntimeError,), {})("CUDA out of memory. Tried to allocate 8 GiB")
    assert torch.OutOfMemoryError.__name__ == "OutOfMemoryError"
    reported = reported_error(error)
    assert (type(reported) is ResourceError) == (name == "OutOfMemoryError")


def save_with_torch(path: Path) -> None:
    with path.open("wb") as file:
        torch.save(torch.zeros(100_000), file)


SAVERS: dict[str, Callable[[Path], None]] = {
    "NumPy": lambda path: np.save(path, np.zeros(100_000)),
    "PyTorch": save_with_torch,
    "safetensors": lambda path: save_file({"x": torch.zeros(100_000)}, path),
    "pandas": lambda path: pd.DataFrame({"x": range(100_000)}).to_csv(path),
    "Pillow": lambda path: Image.effect_noise((500, 500), 50.0).save(path),
}


@pytest.mark.unix
@pytest.mark.parametrize("library", SAVERS)
def test_a_full_disk_is_reported_by_every_library(library: str, tmp_path: Path) -> None:
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most))
    try:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - each library has its own
            SAVERS[library](tmp_path / "file.png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert type(reported_error(caught.value)) is ResourceError


@pytest.mark.unix
@pytest.mark.usefixtures("settings_of_the_process")
def test_interruption_ends_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "interrupted\n")
    os.kill(os.getpid(), signal.SIGINT)  # a second one while the process ends


FULL = OSError(errno.ENOSPC, "full")
BUGS = [ValueError("a bug"), FileNotFoundError(errno.ENOENT, "a bug")]


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        *((error, True) for error in (DataError("a.csv"), FULL, MemoryError())),
        *((bug, False) for bug in BUGS),
    ],
    ids=repr,
)
def test_traceback_is_shown_when_asked_for_and_of_mistakes_of_the_program(
    error: Exception, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if asked:
        monkeypatch.setenv("LOCKSTEP_TRACEBACK", "1")
    with pytest.raises(type(error)) as caught:
        exit_with_message(raising(error))
    assert caught.value is error


@pytest.mark.parametrize("code", [0, 2])
def test_an_exit_stays_as_it_is(code: int) -> None:
    assert ended(raising(SystemExit(code))) == code


def test_success_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    main = mock.Mock()
    exit_with_message(main)
    main.assert_called_once_with()
    assert capsys.readouterr() == ("", "")


def test_each_kind_has_a_code_of_its_own() -> None:
    codes = [kind.exit_code for kind in LockstepError.__subclasses__()]
    assert len(set(codes)) == len(codes)
    assert not {0, 1} & set(codes)


def test_control_characters_of_a_message_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise DataError("column 'a\x1b[31m\u202e\udc80春\tb'")

    with pytest.raises(SystemExit):
        exit_with_message(main)
    assert capsys.readouterr().err == "error: column 'a\\x1b[31m\\u202e\\udc80春 b'\n"


def test_a_traceback_can_be_switched_off_by_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ConfigurationError("a key")

    for value in ("0", ""):
        monkeypatch.setenv("LOCKSTEP_TRACEBACK", value)
        with pytest.raises(SystemExit, match="2"):
            exit_with_message(fail)
        assert capsys.readouterr().err == "error: a key\n"
    monkeypatch.setenv("LOCKSTEP_TRACEBACK", "1")
    with pytest.raises(ConfigurationError):
        exit_with_message(fail)


@pytest.mark.unix  # elsewhere a folder in use cannot be removed
def test_a_folder_that_is_removed_under_a_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def record() -> None:
        Path("runs/line/0123456789ab/history.csv").write_text("epoch\n")

    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    assert ended(lambda: exit_with_message(record)) == 6
    assert capsys.readouterr().err == ("error: runs/line/0123456789ab was removed while the command ran\n")
    Path("runs/line/0123456789ab").mkdir(parents=True)
    with pytest.raises(FileNotFoundError):  # a mistake of the program
        exit_with_message(Path("runs/line/0123456789ab/run.json").read_text)
    shutil.rmtree(tmp_path / "project")
    assert ended(lambda: exit_with_message(record)) == 6
    assert capsys.readouterr().err == "error: the working folder was removed while the command ran\n"


@pytest.mark.unix
def test_a_command_in_a_removed_folder_ends_with_one_line(tmp_path: Path) -> None:
    program = "import os; os.rmdir(os.getcwd()); import src.cli"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == "error: the working folder does not exist any longer; cd into the project\n"


def test_output_that_nobody_reads_or_that_cannot_be_encoded() -> None:
    code = "from src.core.errors import exit_with_message\nexit_with_message(lambda: print('x' * 100_000))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == "error: nobody reads the output any longer (broken pipe)\n"
    assert process.wait() == 141
    code = "from src.core.errors import exit_with_message\nexit_with_message(lambda: print('诗'))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, rb"\u8bd7")
