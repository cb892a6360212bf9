"""The stage `evaluate`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import contents


@pytest.mark.slow
@pytest.mark.tasks("autoregression")
def test_an_evaluation_does_not_depend_on_the_number_of_cores(
    workspace: Callable[..., Path], python: Callable[..., Any], tmp_path: Path
) -> None:
    project = workspace(tmp_path, "autoregression")
    reports = []
    for threads in ("1", "3"):
        done = python("-m", "pipelines.evaluate", "autoregression", cwd=project, OMP_NUM_THREADS=threads)
        assert done.returncode == 0, done.stdout
        reports.append(contents(project / "reports/autoregression"))
    assert reports[0] == reports[1]
