"""A kind of data can be deleted: its package, tasks and tests go, and the rest works as before."""

import contextlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.remove import remove

ROOT = Path(__file__).parents[1]
TASKS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["tasks"]
KINDS = sorted(set(TASKS.values()))
QUICK = ("bowl", "perceptron")  # tasks that train in a second
# all tests are collected, these run
PARTS = [f"tests/{name}" for name in ("preparation", "reporting", "test_structure.py")]
PARTS += [f"tests/core/{name}.py" for name in ("test_atomic", "test_code", "test_errors")]
PARTS += [f"tests/pipelines/{name}.py" for name in ("test_findings", "test_report")]
PROGRAM = """
import contextlib, io, runpy, sys
from pathlib import Path
import pytest
import pipelines.export.__main__, pipelines.report.__main__, pipelines.serve.__main__
from dvc.cli import main as dvc

kind, task, *parts = sys.argv[1:]
with contextlib.redirect_stdout(io.StringIO()) as told:
    for name in ("study", "new_task"):
        sys.argv = [name, "--help"]
        try:
            runpy.run_module(f"pipelines.{name}", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            assert not end.code
assert kind not in told.getvalue().split()

class Chosen:
    def pytest_collection_modifyitems(self, items):
        paths = [Path(part).absolute() for part in parts]
        items[:] = [
            item
            for item in items
            if not item.get_closest_marker("slow") and any(item.path.is_relative_to(path) for path in paths)
        ]

assert pytest.main(["-p", "no:cacheprovider"], plugins=[Chosen()]) == 0
from tests.conftest import run_stages
run_stages([task], [])
assert dvc(["repro", "code"]) == 0  # the others depend on its values, also in a dry run
assert dvc(["repro", "--dry", f"evaluate@{task}"]) == 0
"""


def copy_project(root: Path, folder: Path) -> Path:
    """Copy the files of the project that git knows or would add, without dvc.lock."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    for name in sorted(set(listed.split("\0")) - {"", "dvc.lock"}):
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, folder / name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_data_can_be_deleted(tmp_path: Path, kind: str, python: Callable[..., Any]) -> None:
    project = copy_project(ROOT, tmp_path / "project")
    with contextlib.chdir(project):
        remove("kind", kind, yes=True)
    (project / ".dvc/config.local").write_text("[core]\n no_scm = true\n")
    task = next(task for task in QUICK if TASKS.get(task, kind) != kind)
    done = python("-c", PROGRAM, kind, task, *PARTS, cwd=project)
    assert done.returncode == 0, done.stdout
    assert f"evaluated: reports/{task}/" in done.stdout
