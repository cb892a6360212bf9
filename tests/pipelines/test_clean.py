"""`pipelines.clean`: what it lists, what it removes, and above all what it keeps."""

import json
import os
import time
from pathlib import Path

import pytest

from pipelines.clean import HOUR, clean, main, newest, size_of
from src.core.atomic import written_whole
from src.core.code import run_digest
from src.core.errors import ConfigurationError
from tests.conftest import git
from tests.support import ended

CONFIGURATION = {"task": "line", "model": {"class_path": "src.tabular.model.TabularModel"}}
PRESENT, PAST = run_digest(CONFIGURATION, "data"), "0123456789ab"
RUN = json.dumps({"configuration": CONFIGURATION, "provenance": {"prepared_sha256": "data"}})


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").touch()
    return tmp_path


def written(*paths: str, hours: float = 2, text: str = "x" * 100) -> None:
    """Write files that are some hours old."""
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    past = time.time() - hours * HOUR
    for path in sorted(Path().rglob("*")):
        if newest(path) > past:
            os.utime(path, (past, past), follow_symlinks=False)


def left() -> set[str]:
    return {path.as_posix() for path in Path().rglob("*") if path.is_file()}


def cell(name: str, run: str, *more: str) -> None:
    written(f"runs/cells/{name}/runs/line/{run}/run.json", text=RUN)
    written(f"runs/cells/{name}/models/line/manifest.json", *(f"runs/cells/{name}/{path}" for path in more))


def test_nothing_is_removed_without_yes(capsys: pytest.CaptureFixture[str]) -> None:
    cell("old", PAST)
    before = left()
    clean()
    assert left() == before
    lines = capsys.readouterr().out.splitlines()
    assert f"runs/cells/old: {100 + len(RUN)} bytes, of other code, in no study" in lines
    assert any(
        line.startswith("nothing was removed; to remove: python -m pipelines.clean --yes") for line in lines
    )


def test_cells_of_other_code_go_unless_a_study_names_them_or_they_have_not_ended(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cell("old", PAST)
    cell("named", PAST)
    cell("current", PRESENT)
    cell("unfinished", PAST, f"runs/line/{PAST}/last.ckpt")
    written("runs/cells/diverged/diverged.txt")
    written("runs/cells/damaged/runs/line/x/run.json", text="{")
    written("runs/studies/losses.txt", text="named\tmse, seed 1\nother\tmae, seed 1\n")
    before = left()
    clean(yes=True)
    assert {path.split("/")[2] for path in before - left()} == {"old"}
    assert f"removed: {100 + len(RUN)} bytes" in capsys.readouterr().out


def test_data_of_studies_go_with_the_last_cell_that_uses_them() -> None:
    for name in ("used", "unused", "of_old"):
        written(f"runs/prepared/line/{name}/manifest.json")
    for name, run, data in (("old", PAST, "of_old"), ("current", PRESENT, "used")):
        cell(name, run)
        link = Path("runs/cells", name, "data/prepared/line")
        link.parent.mkdir(parents=True)
        link.symlink_to(Path("../../../../prepared/line", data))
    written()
    clean(yes=True)
    assert [path.name for path in sorted(Path("runs/prepared/line").iterdir())] == ["used"]
    assert [path.name for path in sorted(Path("runs/cells").iterdir())] == ["current"]


def test_runs_are_kept_unless_an_age_is_given_and_then_only_ended_ones_go() -> None:
    written("runs/line/ended/run.json", "runs/line/ended/history.csv", hours=49)
    written("runs/line/unfinished/run.json", "runs/line/unfinished/last.ckpt", hours=49)
    written("runs/line/killed/history.csv", "runs/line/lock", hours=49)
    written("models/line/manifest.json", ".dvc/cache/files/md5/aa", hours=49)
    written("runs/line/new/run.json")
    before = left()
    clean(yes=True)
    clean(yes=True, runs_older_than=3)
    assert left() == before
    clean(yes=True, runs_older_than=2)
    assert before - left() == {"runs/line/ended/run.json", "runs/line/ended/history.csv"}


def test_runs_of_wandb_go_on_request_only() -> None:
    written("runs/wandb/offline-run-1/run-1.wandb", "runs/wandb/run-2/run-2.wandb", "runs/wandb/cache/x")
    before = left()
    clean(yes=True)
    assert left() == before
    clean(yes=True, wandb=True)
    assert left() == {"dvc.yaml", "runs/wandb/cache/x"}


def test_leftovers_of_killed_processes_go_but_never_the_only_version() -> None:
    written("models/.line.partial/model.safetensors", "reports/studies/.a.partial/x", ".report.html.partial")
    written("models/.words.older/manifest.json", "models/words/manifest.json")
    written("models/.spiral.older/manifest.json")
    written("runs/line/1/.run.json.partial", "runs/prepared/line/.x.partial/x")
    clean(yes=True)
    assert left() == {"dvc.yaml", "models/words/manifest.json", "models/.spiral.older/manifest.json"}


def test_what_is_being_written_or_is_new_stays() -> None:
    written("models/.line.partial/x")
    cell("old", PAST)
    for path in ("models/.line.partial/x", "runs/cells/old/models/line/manifest.json"):
        os.utime(path)
    with written_whole(Path("models/words")) as partial:
        (partial / "x").touch()
        past = time.time() - 2 * HOUR
        for path in (partial / "x", partial):
            os.utime(path, (past, past))
        clean(yes=True)
    assert {"models/words/x", "models/.line.partial/x"} < left()
    assert Path("runs/cells/old").is_dir()


def test_fetched_models_go_with_their_tag(project: Path) -> None:
    git(project, "init", "--quiet")
    git(project, "commit", "--quiet", "--allow-empty", "--message", "Start")
    commit = git(project, "rev-parse", "HEAD").strip()
    git(project, "tag", "line@v0.0.1")
    written(f"runs/registry/{commit[:12]}/line/manifest.json", f"runs/registry/{PAST}/line/manifest.json")
    clean(yes=True)
    assert [path.name for path in Path("runs/registry").iterdir()] == [commit[:12]]


def test_links_are_neither_followed_nor_counted(tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "data").write_text("x" * 10_000)
    cell("old", PAST)
    Path("runs/cells/old/link").symlink_to(outside)
    written()
    assert size_of(Path("runs/cells/old")) < 2000
    clean(yes=True)
    assert not Path("runs/cells/old").exists()
    assert (outside / "data").is_file()


def test_options_are_those_of_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written("runs/line/ended/run.json", hours=49)
    monkeypatch.setattr("sys.argv", ["clean", "--yes", "--runs_older_than", "1.5"])
    assert ended(main) == 0
    assert "runs/line/ended: 100 bytes, ended 2 days ago" in capsys.readouterr().out
    assert not Path("runs/line/ended").exists()


def test_another_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(ConfigurationError, match=r"dvc\.yaml is not here"):
        clean(yes=True)


def test_files_that_vanish_meanwhile_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept").write_bytes(b"1234")
    rglob = Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda self, name: [*rglob(self, name), tmp_path / ".gone.partial"])
    assert size_of(tmp_path) == 4
    assert newest(tmp_path) > 0
