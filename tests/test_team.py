"""The commands of docs/team.md, with git and DVC: two people, a remote, and a pipeline of two small tasks."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PIPELINE = """
stages:
  train:
    foreach: [line, words]
    do:
      cmd: python train.py ${item}
      deps: [train.py, "configs/${item}.yaml"]
      outs: ["models/${item}"]
  report:
    cmd: python train.py
    deps: [train.py, models]
    outs: [report.html]
"""
TRAIN = """
import sys
from pathlib import Path
for name in sys.argv[1:]:
    Path("models", name).mkdir(parents=True)
    Path("models", name, "weights").write_text(Path(f"configs/{name}.yaml").read_text())
if not sys.argv[1:]:
    Path("report.html").write_text("".join(path.read_text() for path in sorted(Path("models").glob("*/*"))))
"""

pytestmark = pytest.mark.slow


def run(folder: Path, command: str, code: int = 0) -> str:
    """Run a command as a person does; its output, both streams."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])}
    done = subprocess.run(
        shlex.split(command), cwd=folder, env=environment, stdout=-1, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def person(folder: Path, name: str) -> Path:
    """A clone with a name for commits, and the merge driver that `make setup` registers."""
    run(folder, f"git clone --quiet hub {name}")
    clone = folder / name
    run(clone, f"git config user.name {name}")
    run(clone, f"git config user.email {name}@example.org")
    found = re.search(r"git config merge\.dvc-lock\.driver '(.*)'", (ROOT / "Makefile").read_text())
    assert found
    driver = found[1].replace("$(BIN)/python", shlex.quote(sys.executable))
    run(clone, f"git config merge.dvc-lock.driver {shlex.quote(driver)}")
    return clone


@pytest.fixture
def people(tmp_path: Path) -> tuple[Path, Path]:
    """Two clones of a project whose results are in a remote of DVC; the first person has made them."""
    run(tmp_path, "git init --quiet --bare --initial-branch main hub")
    first = person(tmp_path, "first")
    (first / "configs").mkdir()
    for name, text in {
        "dvc.yaml": PIPELINE,
        "train.py": TRAIN,
        "configs/line.yaml": "a: 1\n",
        "configs/words.yaml": "b: 1\n",
        ".gitignore": "/models\n/report.html\n",
        ".gitattributes": (ROOT / ".gitattributes").read_text(),
    }.items():
        (first / name).write_text(text)
    run(first, "git switch --quiet --create main")
    run(first, "dvc init --quiet")
    run(first, f"dvc remote add --default storage {tmp_path / 'shared'}")
    assert "Running stage 'report'" in run(first, "dvc repro")
    run(first, "git add --all")
    run(first, "git commit --quiet -m Start")
    run(first, "git push --quiet --set-upstream origin main")
    run(first, "dvc push")
    return first, person(tmp_path, "second")


def change(folder: Path, name: str, text: str) -> None:
    """Change a configuration, run what depends on it, and share it."""
    (folder / "configs" / f"{name}.yaml").write_text(text)
    run(folder, "dvc repro")
    run(folder, f"git commit --quiet --all -m 'Change {name}'")
    run(folder, "dvc push")


def test_a_fresh_clone_pulls_the_models_and_runs_nothing(people: tuple[Path, Path]) -> None:
    first, second = people
    run(second, "dvc pull")
    said = run(second, "dvc repro")
    assert "Running stage" not in said
    assert "Data and pipelines are up to date." in said
    assert (second / "models/line/weights").read_text() == "a: 1\n"

    change(first, "line", "a: 2\n")
    run(first, "git push --quiet")
    run(second, "git pull --quiet")
    run(second, "dvc pull")
    assert (second / "models/line/weights").read_text() == "a: 2\n"
    assert "Running stage" not in run(second, "dvc repro")

    run(second, "git checkout --quiet HEAD~1")
    run(second, "dvc checkout")
    assert (second / "models/line/weights").read_text() == "a: 1\n"
    assert not run(second, "git status --porcelain")


def test_changes_of_two_people_to_two_tasks_are_merged(people: tuple[Path, Path]) -> None:
    first, second = people
    run(second, "dvc pull")
    change(first, "line", "a: 2\n")
    run(first, "git push --quiet")
    change(second, "words", "b: 3\n")
    said = run(second, "git pull --no-rebase --no-edit")
    assert "dvc.lock was merged by stage; now run: dvc repro" in said
    run(second, "dvc pull")
    said = run(second, "dvc repro")
    assert re.findall(r"Running stage '(.+)'", said) == ["report"]
    assert (second / "report.html").read_text() == "a: 2\nb: 3\n"


def test_changes_of_two_people_to_one_task_are_a_conflict_that_dvc_repro_ends(
    people: tuple[Path, Path],
) -> None:
    first, second = people
    run(second, "dvc pull")
    change(first, "line", "a: 2\n")
    run(first, "git push --quiet")
    change(second, "line", "a: 3\n")
    said = run(second, "git pull --no-rebase", code=1)
    assert "error: dvc.lock: both branches have changed train@line; resolve conflicts of other files" in said
    assert set(run(second, "git diff --name-only --diff-filter=U").split()) == {
        "configs/line.yaml",
        "dvc.lock",
    }
    yaml.safe_load((second / "dvc.lock").read_text())  # without marks of a conflict
    (second / "configs/line.yaml").write_text("a: 4\n")
    said = run(second, "dvc repro")
    assert re.findall(r"Running stage '(.+)'", said) == ["train@line", "report"]
    run(second, "git add dvc.lock configs")
    run(second, "git commit --quiet --no-edit")
    assert "Data and pipelines are up to date." in run(second, "dvc status")
