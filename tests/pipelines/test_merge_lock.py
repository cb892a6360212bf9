"""Merges of dvc.lock by stage, in git repositories with the driver that `make setup` registers."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.merge_lock import merge
from src.core.errors import ConfigurationError

ROOT = Path(__file__).parents[2]


def block(name: str, read: str, digest: str, written: str) -> str:
    return (
        f"  {name}:\n    cmd: python -m {name}\n    deps:\n    - path: {read}\n      md5: {digest}\n"
        f"    outs:\n    - path: {written}\n      md5: {digest}0\n"
    )


def lock(line: str = "1", words: str = "1", report: str = "1", **more: str) -> str:
    """A dvc.lock of two tasks, whose results the report reads."""
    stages = [block("train@line", "data/line", line, "models/line")] if line else []
    stages += [block("train@words", "data/words", words, "models/words")] if words else []
    stages += [block(name, "data", digest, f"models/{name}") for name, digest in more.items()]
    stages += [block("report", "models", report, "report.html")] if report else []
    return "schema: '2.0'\nstages:\n" + "".join(stages)


def merged(folder: Path, base: str, ours: str, theirs: str) -> str:
    paths = [folder / name for name in ("base", "ours", "theirs")]
    for path, text in zip(paths, (base, ours, theirs), strict=True):
        path.write_text(text, encoding="utf-8", newline="")
    merge(*paths)
    return paths[1].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "expected"),
    [
        (lock(), lock(line="2"), lock(words="3"), lock(line="2", words="3")),
        (lock(), lock(), lock(words="3"), lock(words="3")),
        (lock(), lock(line="2"), lock(line="2"), lock(line="2")),
        (lock(), lock(line=""), lock(words="3"), lock(line="", words="3")),
        (lock(), lock(line="2"), lock(words=""), lock(line="2", words="")),
        # nothing depends on the report: no conflict
        (lock(), lock(line="2", report="2"), lock(words="3", report="3"), lock("2", "3", report="2")),
        # without a common version
        ("", lock(words=""), lock(words=""), lock(words="")),
    ],
)
def test_each_stage_is_that_of_the_side_that_has_changed_it(
    base: str, ours: str, theirs: str, expected: str, tmp_path: Path
) -> None:
    assert merged(tmp_path, base, ours, theirs) == expected


def test_stages_of_both_sides_are_added(tmp_path: Path) -> None:
    found = yaml.safe_load(merged(tmp_path, lock(), lock(mine="1"), lock(yours="2")))
    assert list(found["stages"]) == ["train@line", "train@words", "mine", "report", "yours"]


@pytest.mark.parametrize(("ours", "theirs"), [("2", "3"), ("", "3"), ("2", "")])
def test_a_stage_that_both_have_changed_is_a_conflict_and_keeps_our_version(
    ours: str, theirs: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="both branches have changed train@line; resolve"):
        merged(tmp_path, lock(), lock(ours), lock(theirs, words="4"))
    assert (tmp_path / "ours").read_text() == lock(ours, words="4")


@pytest.mark.parametrize(
    "wrong", ["<<<<<<< ours\n" + lock(), lock() + "=======\n", "schema: '3.0'\nstages:\n"]
)
def test_another_form_than_that_of_dvc_is_refused_and_nothing_is_written(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ours is kept, run: dvc repro"):
        merged(tmp_path, lock(), lock("2"), wrong)
    assert (tmp_path / "ours").read_text() == lock("2")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with the dvc.lock of this project, its attributes, and the driver of the Makefile."""
    for name in (".gitattributes", "dvc.lock"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    for name in ("src", "pipelines"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".gitignore").write_text("src\npipelines\n")
    (tmp_path / "metrics.json").write_text("{}\n")
    driver = re.search(r"git config (merge\.dvc-lock\.driver) '(.*)'", (ROOT / "Makefile").read_text())
    assert driver
    command = driver[2].replace("$(BIN)/python", shlex.quote(sys.executable))
    for arguments in (["init", "--quiet", "-b", "main"], ["config", driver[1], command]):
        assert git(tmp_path, *arguments).returncode == 0
    commit(tmp_path, "Start")
    return tmp_path


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    return subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True)


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    assert git(folder, "commit", "--quiet", "--message", message).returncode == 0


def change(folder: Path, stage: str, digest: str) -> None:
    """Give a stage and the report of dvc.lock other outputs, as `dvc repro` does after a change."""
    path = folder / "dvc.lock"
    text = path.read_text(encoding="utf-8")
    for name in (stage, "report"):
        start = text.index(f"\n  {name}:\n")
        place = text.index("    outs:\n", start)
        text = text[:place] + re.sub(r"md5: \w+", f"md5: {digest * 32}", text[place:], count=1)
    path.write_text(text, encoding="utf-8")


@pytest.mark.tasks("line", "words")
def test_git_merges_the_work_of_two_people_on_two_tasks(repository: Path) -> None:
    git(repository, "switch", "--quiet", "-c", "other")
    change(repository, "train@line", "a")
    commit(repository, "Another line")
    git(repository, "switch", "--quiet", "main")
    change(repository, "train@words", "b")
    commit(repository, "Other words")
    done = git(repository, "merge", "other", "--no-edit")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "dvc.lock was merged by stage; now run: dvc repro" in done.stdout + done.stderr
    stages = yaml.safe_load((repository / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    assert stages["train@line"]["outs"][0]["md5"] == "a" * 32 + ".dir"
    assert stages["train@words"]["outs"][0]["md5"] == "b" * 32 + ".dir"
    before = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    assert stages.keys() == before.keys()


@pytest.mark.tasks("line", "spiral")
def test_git_stops_where_two_people_have_changed_one_task(repository: Path) -> None:
    git(repository, "switch", "--quiet", "-c", "other")
    change(repository, "train@line", "a")
    change(repository, "train@spiral", "c")
    commit(repository, "Another line")
    git(repository, "switch", "--quiet", "main")
    change(repository, "train@line", "b")
    commit(repository, "A third line")
    done = git(repository, "merge", "other")
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "error: dvc.lock: both branches have changed train@line;" in said
    assert "CONFLICT (content): Merge conflict in dvc.lock" in said
    stages = yaml.safe_load((repository / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    assert stages["train@line"]["outs"][0]["md5"] == "b" * 32 + ".dir"
    assert stages["train@spiral"]["outs"][0]["md5"] == "c" * 32 + ".dir"
