"""A kind of data can be deleted: its package, tasks and tests go, and the rest works as before."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.deletion import copy_project, delete_kind

ROOT = Path(__file__).parents[1]
TASKS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["tasks"]
KINDS = sorted(set(TASKS.values()))
QUICK = ("bowl", "perceptron")  # tasks that train in a second
PARTS = ("core", "preparation", "reporting", "pipelines/test_findings.py", "pipelines/test_report.py")
PROGRAM = """
import importlib, pathlib, sys
for name in ("study", "new_task", "export", "serve", "compare", "verify"):
    module = importlib.import_module(f"pipelines.{name}.__main__" if pathlib.Path("pipelines", name).is_dir()
                                     else f"pipelines.{name}")
from pipelines.report.report import report
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_data_can_be_deleted(tmp_path: Path, kind: str) -> None:
    project = copy_project(ROOT, tmp_path / "project")
    delete_kind(project, kind)

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=project,
            env=os.environ | {"WANDB_MODE": "disabled"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    for command in ("study", "new_task"):
        assert kind not in run("-m", f"pipelines.{command}", "--help").split()
    run("-c", "import pipelines.report.__main__, pipelines.export.__main__, pipelines.serve.__main__")
    # all tests are collected, a part of them run
    paths = [f"tests/{name}" for name in PARTS]
    run("-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q")
    run("-m", "pytest", "-p", "no:cacheprovider", "-q", "-m", "not slow", *paths, "tests/test_structure.py")
    (project / ".dvc/config.local").write_text("[core]\n no_scm = true\n")
    task = next(task for task in QUICK if TASKS.get(task, kind) != kind)
    assert f"evaluated: reports/{task}/" in run("-m", "dvc", "repro", f"evaluate@{task}")
