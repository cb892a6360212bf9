"""The registry: stages of models as git tags, and predictions of a stage beside another model in models/."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dvc.cli import main as dvc

from pipelines.promote import main, promote, show
from pipelines.serve.project import project_text
from src import load
from src.bundle.registry import tags
from src.core.errors import ConfigurationError
from tests.conftest import git, restored_settings
from tests.support import cli, ended

pytestmark = [pytest.mark.usefixtures("settings_of_the_process"), pytest.mark.tasks("spiral")]
PIPELINE = """
stages:
  train:
    cmd: python -c "import shutil; shutil.copytree('trained', 'models/spiral')"
    deps: [trained]
    outs: [models/spiral]
"""


@pytest.fixture(scope="module")
def project(finished: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of one stage with two commits, of a model and of another one without its history."""
    folder, clone = tmp_path_factory.mktemp("project"), finished("spiral")
    shutil.copytree(clone / "models/spiral", folder / "trained")
    shutil.copy(clone / "data/raw/spiral/train.csv", folder / "rows.csv")
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / ".gitignore").write_text("/models\n/trained\n/runs\n/rows.csv\n")
    git(folder, "init", "--quiet")
    for name, value in (("user.name", "Test"), ("user.email", "test@example.org")):
        git(folder, "config", name, value)
    with contextlib.chdir(folder), restored_settings():
        assert dvc(["init", "--quiet"]) == 0
        for message in ("First", "Second"):
            assert dvc(["repro", "--quiet"]) == 0
            git(folder, "add", "--all")
            git(folder, "commit", "--quiet", "--message", message)
            other = folder / "trained/config.yaml"
            shutil.copy(clone / "models/spiral/config.yaml", other)
            other.with_name("note.txt").write_text("not in the manifest\n")
    return folder


@pytest.fixture(autouse=True)
def clean(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(project)
    yield
    if made := git(project, "tag").split():
        git(project, "tag", "--delete", *made)
    shutil.rmtree(project / "runs", ignore_errors=True)


def test_a_stage_moves_to_the_next_version_and_back(capsys: pytest.CaptureFixture[str]) -> None:
    promote("spiral", "production", "HEAD~1")
    promote("spiral", "production")
    assert sorted(tags("*")) == [
        *("spiral#production#1", "spiral#production#2", "spiral@v0.0.1", "spiral@v0.0.2"),
    ]
    promote("spiral", "production")
    assert "spiral@v0.0.2 is in production already\n" in capsys.readouterr().out
    promote("spiral", "production", "HEAD~1")
    promote("spiral", "staging")
    assert sorted(tags("*#*")) == [
        *(f"spiral#production#{number}" for number in (1, 2, 3)),
        "spiral#staging#1",
    ]
    capsys.readouterr()
    show()
    lines = [[cell.strip() for cell in line.split("│")] for line in capsys.readouterr().out.splitlines()]
    rows = [line[1:4] for line in lines if len(line) > 4]
    assert rows == [["spiral", "production", "v0.0.1"], ["spiral", "staging", "v0.0.2"]]


def test_the_page_ends_with_the_stages_and_the_use_of_the_disk() -> None:
    assert "production" not in project_text()
    promote("spiral", "production")
    Path("runs/line/0123456789ab").mkdir(parents=True)
    Path("runs/line/0123456789ab/run.json").write_bytes(b"x" * 2500)
    heading, _, row, _, use = project_text().splitlines()
    assert heading == "| model | stage | version | commit | date |"
    assert row.startswith(f"| spiral | production | v0.0.1 | {tags('*@*')['spiral@v0.0.1'][:12]} | 2")
    assert use.startswith("On the disk beside the results: runs 2.5 kB, fetched models of the registry ")


def test_outside_a_project_the_page_has_no_such_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert project_text() == ""


def test_gto_reads_the_tags() -> None:
    from gto.api import show

    promote("spiral", "production", "HEAD~1")
    (found,) = show(".", "spiral#production")
    assert found["version"] == "v0.0.1"
    assert found["commit_hexsha"] == tags("spiral@v0.0.1")["spiral@v0.0.1"]


def test_predictions_of_a_stage_leave_the_working_folder_as_it_is(project: Path) -> None:
    promote("spiral", "production", "HEAD~1")
    assert (project / "models/spiral/note.txt").is_file()
    assert cli("predict", "--bundle", "spiral@production", "--data.input", "rows.csv") == 0
    assert cli("predict", "--bundle", "spiral@v0.0.1", "--data.input", "rows.csv") == 0
    commit = git(project, "rev-parse", "HEAD~1").strip()
    assert load("spiral@production").bundle.folder == Path("runs/registry", commit[:12], "spiral")
    assert not (load("spiral@production").bundle.folder / "note.txt").exists()
    assert (project / "models/spiral/note.txt").is_file()
    assert not git(project, "status", "--porcelain").replace("?? predictions/\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["spiral"], "the stage is missing: add --stage production"),
        (
            ["words", "--stage", "production"],
            "dvc.lock of HEAD has no models/words; run: dvc",
        ),
        (["spiral", "--stage", "a b"], "--stage: 'a b' cannot be a name"),
        (["spiral", "--stage", "production", "--commit", "nothing"], "git rev-parse failed: fatal:"),
    ],
)
def test_what_cannot_be_promoted_is_said_and_no_tag_is_made(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["promote", *arguments])
    assert ended(main) == 2
    assert f"error: {message}" in capsys.readouterr().err
    assert not tags("*")


def test_a_bundle_that_dvc_does_not_have_is_not_promoted(project: Path) -> None:
    cache = project / ".dvc/cache"
    cache.rename(project / ".dvc/elsewhere")
    try:
        with pytest.raises(ConfigurationError, match="DVC does not have models/spiral of HEAD~1"):
            promote("spiral", "production", "HEAD~1")
    finally:
        shutil.rmtree(cache, ignore_errors=True)
        (project / ".dvc/elsewhere").rename(cache)
    assert not tags("*")


def test_an_unknown_stage_is_said_with_the_command_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="no tag gives spiral the stage or version production"):
        load("spiral@production")
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").touch()
    with pytest.raises(ConfigurationError, match="the registry is tags of git, and git cannot be asked"):
        load("spiral@production")
