"""Random kills of a pipeline change no result: a small campaign of benchmarks.kills."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import TASKS, Run


@pytest.mark.slow
@pytest.mark.skipif(not TASKS, reason="params.yaml has no task")
def test_kills_at_random_change_no_result(clone: Path, tmp_path: Path, python: Run) -> None:
    task = [*TASKS][-1]
    project = tmp_path / "project"
    subprocess.run(["git", "clone", "--quiet", str(clone), str(project)], check=True)
    done = python("-m", "dvc", "repro", f"evaluate@{task}", cwd=project)
    assert done.returncode == 0, done.stdout
    options = ("--kills=2", "--seed=3", f"--tasks=[{task}]", "--seconds=5")
    output = python("-m", "benchmarks.kills", *options, cwd=project).stdout
    counts = dict(re.findall(r"^([a-z -]+): (\d+)$", output, re.MULTILINE))
    assert int(counts["kills"]) >= 2, output
    for name in ("differing results", "half-written outputs", "failures"):
        assert counts[name] == "0", output
