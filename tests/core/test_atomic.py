import errno
import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from filelock import Timeout

from src.core.atomic import locked, warn_of_no_lock, written_whole
from src.core.digests import file_digest, folder_digest
from src.core.errors import LockedError

ROOT = Path(__file__).parents[2]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_new_folder_appears_with_its_parents_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"
    with written_whole(target) as folder:
        (folder / "a.txt").write_text("a")
        assert not target.exists()
    assert contents(tmp_path) == {"deep/folder/a.txt": b"a"}


def test_a_folder_of_a_containers_image_is_replaced_though_it_cannot_be_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old.txt").write_text("old")
    image, rename = target.stat().st_ino, Path.rename

    def of_overlayfs(self: Path, other: Path) -> Path:
        if self.stat().st_ino == image:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", of_overlayfs)
    with pytest.raises(KeyError), written_whole(target):
        raise KeyError
    assert contents(tmp_path) == {"folder/old.txt": b"old"}
    with written_whole(target) as folder:
        (folder / "new.txt").write_text("new")
    assert contents(tmp_path) == {"folder/new.txt": b"new"}


def test_older_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    (target / "inner").mkdir(parents=True)
    (target / "inner" / "old.txt").write_text("old")
    with written_whole(target) as folder:
        (folder / "new.txt").write_text("new")
        assert contents(target) == {"inner/old.txt": b"old"}
    assert contents(tmp_path) == {"folder/new.txt": b"new"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def write(target: Path, error: type[BaseException] | None = None) -> None:
    with written_whole(target) as folder:
        (folder / "new.txt").write_text("new")
        if error is not None:
            raise error


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A folder that has been written before."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/old.txt").write_text("old")
    return tmp_path / "folder"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_older_folder_stays_after_an_error(older: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        write(older, error)
    assert contents(older.parent) == {"folder/old.txt": b"old"}
    assert list(older.parent.iterdir()) == [older]


def test_no_folder_is_left_when_the_first_writing_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "folder", KeyboardInterrupt)
    assert list(tmp_path.iterdir()) == []


def test_older_folder_stays_when_the_new_one_cannot_take_its_place(
    older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = mock.Mock(side_effect=PermissionError(errno.EACCES, "Permission denied"))
    monkeypatch.setattr(Path, "rename", refused)
    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(PermissionError):
        write(older)
    assert contents(older) == {"old.txt": b"old"}


def test_older_folder_comes_back_when_its_replacement_was_killed(
    older: Path, python: Callable[..., Any]
) -> None:
    program = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from src.core.atomic import written_whole
rename = Path.rename
def killed(self, other):
    if (self / "new.txt").exists():
        os._exit(9)
    return rename(self, other)
Path.rename = killed
with written_whole(Path("folder")) as folder:
    (folder / "new.txt").write_text("new")
"""
    assert python("-c", program, cwd=older.parent).returncode == 9
    with pytest.raises(KeyboardInterrupt):
        write(older, KeyboardInterrupt)
    assert contents(older.parent) == {"folder/old.txt": b"old"}


def test_rest_of_a_killed_run_does_not_get_into_the_folder(tmp_path: Path) -> None:
    # the next writer uses the folder that a killed one has left
    with written_whole(tmp_path / "folder") as folder:
        partial = folder
    partial.mkdir()
    (partial / "rest.txt").write_text("rest")
    with written_whole(tmp_path / "folder") as folder:
        assert list(folder.iterdir()) == []
        (folder / "new.txt").write_text("new")
    assert contents(tmp_path) == {"folder/new.txt": b"new"}


def test_file_digest_is_the_sha256(tmp_path: Path) -> None:
    for content in (b"", b"abc", bytes(range(256)) * 5000):
        (tmp_path / "file").write_bytes(content)
        assert file_digest(tmp_path / "file") == hashlib.sha256(content).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    for name in ("b.txt", "a.txt", "inner/c.txt"):
        (folder / name).write_text(name)
    return folder


def test_folder_digest_does_not_depend_on_place_or_order(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "elsewhere" / "copy"
    (other / "inner").mkdir(parents=True)
    for name in ("inner/c.txt", "a.txt", "b.txt"):
        (other / name).write_text(name)
    digest = folder_digest(folder)
    assert folder_digest(other) == digest
    listed = Path.rglob

    def reversed_listing(self: Path, pattern: str) -> Iterator[Path]:
        return iter(sorted(listed(self, pattern), reverse=True))

    monkeypatch.setattr(Path, "rglob", reversed_listing)
    assert folder_digest(folder) == digest


def test_folder_digest_changes_with_names_and_contents(folder: Path) -> None:
    digests = [folder_digest(folder)]
    (folder / "a.txt").write_text("other")
    digests.append(folder_digest(folder))
    (folder / "a.txt").rename(folder / "d.txt")
    digests.append(folder_digest(folder))
    (folder / "inner" / "c.txt").rename(folder / "c.txt")
    digests.append(folder_digest(folder))
    (folder / "e.txt").touch()
    digests.append(folder_digest(folder))
    (folder / "e.txt").unlink()
    assert folder_digest(folder) == digests[3]
    assert len(set(digests)) == 5


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be held on Windows")
def test_a_second_writer_is_refused_and_the_first_ends_whole(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    with written_whole(folder) as partial:
        (partial / "first.txt").write_text("1")
        with pytest.raises(LockedError, match="another process is writing"), written_whole(folder):
            pass
        (partial / "last.txt").write_text("2")
    assert sorted(path.name for path in folder.iterdir()) == ["first.txt", "last.txt"]
    with written_whole(folder):  # the lock is released
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_of_the_file_system_a_block_runs_after_a_warning(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fcntl = pytest.importorskip("fcntl")
    with locked(tmp_path / "lock"), pytest.raises(Timeout), locked(tmp_path / "lock", 0):
        pass
    warn_of_no_lock.cache_clear()
    monkeypatch.setattr(fcntl, "flock", mock.Mock(side_effect=OSError(number, "unlikely")))
    with locked(tmp_path / "lock"):
        assert "unlikely" in caplog.text
