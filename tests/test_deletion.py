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
RUN = (
    "atomic",
    "errors",
    "code",
    "cells",
    "proposals",
    "findings",
    "report",
    "scores",
    "compare",
    "structure",
)


@pytest.mark.slow
@pytest.mark.tasks(*QUICK)
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

    run("-m", "pipelines.study", "--help")
    assert kind not in run("-m", "pipelines.new_task", "--help")
    run("-c", "import pipelines.report.report, pipelines.export.__main__, pipelines.serve.__main__")
    # all tests are collected, and some of them run
    names = " or ".join(f"test_{name}.py" for name in RUN)
    run("-m", "pytest", "-p", "no:cacheprovider", "-m", "not slow", "-k", names)
    (project / ".dvc/config.local").write_text("[core]\n no_scm = true\n")
    task = next(task for task in QUICK if TASKS[task] != kind)
    assert f"evaluated: reports/{task}/" in run("-m", "dvc", "repro", f"evaluate@{task}")
