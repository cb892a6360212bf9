"""The stage `evaluate`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.evaluate import evaluate


@pytest.mark.tasks("autoregression")
@pytest.mark.usefixtures("settings_of_the_process")
def test_an_evaluation_has_the_threads_of_the_training(
    workspace: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace(tmp_path, "autoregression"))
    threads: list[int] = []

    def record(*_: Any) -> None:
        threads.append(torch.get_num_threads())

    monkeypatch.setattr("src.tabular.evaluate.evaluate", record)
    torch.set_num_threads(3)  # with more, sums have other last bits
    evaluate("autoregression")
    assert threads == [1]
