"""Experiments of DVC in other folders, in a small repository with this project's settings of DVC."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = """
stages:
  copy:
    cmd: cat params.yaml > copied.yaml
    params: [size]
    metrics: [{copied.yaml: {cache: false}}]
"""


@pytest.mark.slow
def test_experiments_run_in_a_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "a project"
    project.mkdir()
    monkeypatch.chdir(project)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "tests")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "tests@localhost")

    def run(command: str) -> str:
        done = subprocess.run(command, shell=True, capture_output=True, text=True)  # noqa: S602
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    Path("dvc.yaml").write_text(STAGES)
    Path("params.yaml").write_text("size: 1\n")
    run("git init -q && dvc init -q")
    shutil.copyfile(ROOT / ".dvc/config", ".dvc/config")
    recipe = re.search(r"\tdvc config --quiet .*", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert recipe is not None
    run(recipe[0].replace("$(CURDIR)", str(project)))
    run("git add -A && git commit -qm first")
    found = run("dvc exp run --temp -S size=2 --name larger")
    assert "Ran experiment(s): larger" in found, found
    (reference,) = [
        line for line in run("git for-each-ref --format '%(refname)'").split() if "larger" in line
    ]
    assert run(f"git show {reference}:copied.yaml") == "size: 2\n"
