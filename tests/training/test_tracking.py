import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import wandb

from src.training import tracking
from src.training.tracking import Tracker, start_tracker

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """The default settings of W&B; variables that the tracker sets are removed after the test."""
    with mock.patch.dict(os.environ):
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            del os.environ[name]
        yield


class Experiment:
    """A stand-in for the run that wandb.init returns."""

    id = name = "abc"

    def __init__(self) -> None:
        self.logged: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}

    def log(self, metrics: dict[str, Any], **named: Any) -> None:
        self.logged.append(metrics)

    def define_metric(self, *arguments: Any, **named: Any) -> None:
        pass

    def finish(self) -> None:
        self.summary["finished"] = True


def start(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[dict[str, Any]]:
    """Let wandb.init give or raise `answer`; its arguments are collected."""
    calls: list[dict[str, Any]] = []

    def init(**named: Any) -> Any:
        calls.append(named)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("wandb.init", init)
    return calls


def use(tracker: Tracker | None) -> None:
    """Call a logger as Lightning, its callbacks and the command line do during a fit."""
    assert tracker is not None
    hasattr(tracker, "experiment")
    tracker.log_hyperparams({"a": 1})
    tracker.log_graph(mock.Mock())
    for epoch in (1, 2, 3):
        tracker.log_metrics({"train/loss": 1.0}, step=epoch)
        tracker.save()
    # ModelCheckpoint makes its folder's name of these
    for name in ("name", "version", "save_dir"):
        getattr(tracker, name)
    tracker.finalize("success")
    tracker.finish({"test/rmse": 2.0})


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_metrics_and_summary_reach_wandb(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = Experiment()
    calls = start(monkeypatch, experiment)
    use(start_tracker(tmp_path, "boxes", {"model": {"depth": 3}}))
    assert len(calls) == 1
    assert (calls[0]["project"], calls[0]["group"], calls[0]["tags"]) == ("lockstep", "boxes", ["boxes"])
    assert calls[0]["config"] == {"model": {"depth": 3}}
    assert Path(calls[0]["dir"]) == tmp_path
    assert [metrics["train/loss"] for metrics in experiment.logged] == [1.0, 1.0, 1.0]
    assert experiment.summary == {"test/rmse": 2.0, "finished": True}
    assert warnings_of(caplog) == []


@pytest.mark.parametrize(
    "error", [ConnectionResetError("gone"), RuntimeError("no service"), OSError(28, "full")]
)
def test_init_that_fails_costs_one_warning(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls = start(monkeypatch, error)
    assert start_tracker(tmp_path, "boxes", {}) is None
    assert len(calls) == 1
    (warning,) = warnings_of(caplog)
    assert type(error).__name__ in warning
    assert "going on without it" in warning


def test_logger_that_cannot_be_made_costs_one_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start(monkeypatch, Experiment())
    absent = mock.Mock(side_effect=ModuleNotFoundError("No module named 'wandb'"))
    monkeypatch.setattr(tracking.WandbLogger, "__init__", absent)
    assert start_tracker(tmp_path, "boxes", {}) is None
    assert len(warnings_of(caplog)) == 1


@pytest.mark.parametrize(("name", "calls"), [("log", 1), ("finish", 3)])
def test_connection_that_breaks_costs_one_warning(
    name: str, calls: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = Experiment()
    monkeypatch.setattr(experiment, "log", mock.Mock())
    monkeypatch.setattr(experiment, name, mock.Mock(side_effect=ConnectionResetError("gone")))
    start(monkeypatch, experiment)
    use(start_tracker(tmp_path, "boxes", {}))
    assert experiment.log.call_count == calls  # type: ignore[attr-defined]
    (warning,) = warnings_of(caplog)
    assert "ConnectionResetError: gone" in warning


def mode(call: dict[str, Any]) -> str:
    return str(call.get("mode") or os.environ["WANDB_MODE"])


def test_wandb_is_offline_and_keeps_its_files_below_the_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = start(monkeypatch, Experiment())
    use(start_tracker(tmp_path, "boxes", {}))
    assert mode(calls[0]) == "offline"
    for name in ("CACHE", "CONFIG", "DATA", "ARTIFACT"):
        assert tmp_path in Path(os.environ[f"WANDB_{name}_DIR"]).parents


def test_environment_decides_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "own"))
    calls = start(monkeypatch, Experiment())
    use(start_tracker(tmp_path / "runs", "boxes", {}))
    assert mode(calls[0]) == "online"
    assert os.environ["WANDB_CACHE_DIR"] == str(tmp_path / "own")


def test_offline_run_of_wandb_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    use(start_tracker(tmp_path, "boxes", {"depth": 3}))
    wandb.teardown()
    (file,) = tmp_path.rglob("*.wandb")
    assert b"test/rmse" in file.read_bytes()
    assert warnings_of(caplog) == []


def test_each_run_of_a_process_has_its_own_name(tmp_path: Path) -> None:
    # a worker of a study trains one cell after the other
    names = []
    for name in ("relu, seed 1", "tanh, seed 1"):
        os.environ["WANDB_NAME"] = name
        tracker = start_tracker(tmp_path, "boxes", {})
        assert tracker is not None
        names.append(tracker.experiment.name)
        tracker.finish({})
    wandb.teardown()
    assert names == ["relu, seed 1", "tanh, seed 1"]


def test_helper_process_that_is_killed_costs_one_warning(tmp_path: Path) -> None:
    program = """
import logging, sys
from pathlib import Path
import psutil
from src.training.tracking import start_tracker
logging.basicConfig()
for number in (1, 2):  # the second run of the process has a helper of its own
    tracker = start_tracker(Path(sys.argv[1]), "boxes", {})
    tracker.log_metrics({"train/loss": 1.0}, step=1)
    for helper in psutil.Process().children() if number == 1 else []:
        helper.kill()
        helper.wait()
    for epoch in (2, 3):
        tracker.log_metrics({"train/loss": 1.0}, step=epoch)
    tracker.finish({"test/rmse": 2.0})
print("went on")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=120, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (0, "went on\n")
    (line,) = done.stderr.splitlines()
    assert line.startswith("WARNING:src.training.tracking:W&B failed (")
    finished = [b"test/rmse" in file.read_bytes() for file in sorted(tmp_path.rglob("*.wandb"))]
    assert sorted(finished) == [False, True]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "UsageError: No API key"),
        ({"WANDB_API_KEY": "a" * 40, "WANDB_INIT_TIMEOUT": "0.5"}, "CommError: Timed out"),
    ],
    ids=["no key", "server down"],
)
def test_wandb_that_cannot_be_reached_costs_one_warning(
    settings: dict[str, str], message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.environ |= {"WANDB_MODE": "online", "WANDB_BASE_URL": "http://127.0.0.1:9", "HOME": str(tmp_path)}
    os.environ |= settings
    assert start_tracker(tmp_path, "boxes", {}) is None
    wandb.teardown()
    (warning,) = [record.getMessage() for record in caplog.records if record.name == tracking.__name__]
    assert message in warning


def test_the_end_of_a_run_has_a_time_limit(tmp_path: Path) -> None:
    tracker = start_tracker(tmp_path, "boxes", {})
    assert tracker is not None
    settings = tracker.experiment.settings
    wandb.teardown()
    assert (settings.finish_timeout, settings.finish_timeout_raises) == (60, True)


def test_disabled_wandb_is_not_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = start(monkeypatch, Experiment())
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert start_tracker(tmp_path, "boxes", {}) is None
    assert calls == []


def test_group_tags_and_folder_of_the_environment_are_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = start(monkeypatch, Experiment())
    start_tracker(tmp_path, "prices", {})
    monkeypatch.setenv("WANDB_RUN_GROUP", "activations")
    monkeypatch.setenv("WANDB_TAGS", "study,activations")
    monkeypatch.setenv("WANDB_DIR", "elsewhere")
    start_tracker(tmp_path, "prices", {})
    chosen = [(call["group"], call["tags"], call["dir"]) for call in calls]
    assert chosen == [
        ("prices", ["prices"], tmp_path),
        ("activations", ["prices", "study", "activations"], "elsewhere"),
    ]
