import csv
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import wandb
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger
from PIL import Image

from src.training import tracking
from src.training.checkpoint import ResumableCheckpoint
from src.training.tracking import (
    UNFINISHED,
    Tracker,
    described,
    log_report,
    run_name,
    start_tracker,
    wandb_project,
)
from tests.training.ordinary import Classifier, PointsData

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

    def __init__(self, offline: bool = True) -> None:
        self.logged: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.axes: dict[str, str | None] = {}
        self.artifacts: list[Any] = []
        self.offline = offline
        self.settings = SimpleNamespace(sync_dir="here")

    def log(self, metrics: dict[str, Any], **named: Any) -> None:
        self.logged.append(metrics)

    def define_metric(self, name: str, step_metric: str | None = None, **named: Any) -> None:
        self.axes[name] = step_metric

    def log_artifact(self, artifact: Any) -> None:
        self.artifacts.append(artifact)

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
    tracker.finish({"best_epoch": 2, "test/rmse": 2.0})


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
    assert [metrics["train/loss"] for metrics in experiment.logged[:-1]] == [1.0, 1.0, 1.0]
    assert experiment.logged[-1] == {"test/rmse": 2.0, "epoch": 2}
    assert experiment.summary == {"best_epoch": 2, "test/rmse": 2.0, "finished": True}
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


@pytest.mark.parametrize(("name", "calls"), [("log", 1), ("finish", 4)])
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


def test_pictures_and_tables_that_a_module_logs_reach_wandb(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").mkdir()
    tracker = start_tracker(tmp_path, "boxes", {}, tmp_path / "run")
    assert tracker is not None
    tracker.follow(Trainer(logger=False, accelerator="cpu"), [])
    tracker.log_image("samples", [Image.new("L", (4, 4))], caption=["grey"])
    tracker.log_table("rows", columns=["a"], data=[[1]])
    tracker.log_metrics({"train/loss": 1.0})
    tracker.finish({"best_epoch": 1})
    wandb.teardown()
    assert sorted(path.suffix for path in tmp_path.rglob("media/**/*.*")) == [".json", ".png"]
    kept = (tmp_path / "run" / UNFINISHED).read_text(encoding="utf-8").splitlines()[1:]
    assert [json.loads(line) for line in kept] == [
        {"epoch": 1},
        {"epoch": 1},
        {"train/loss": 1.0, "epoch": 1},
    ]
    assert warnings_of(caplog) == []


def test_each_run_of_a_process_has_its_own_name(tmp_path: Path) -> None:
    # a worker of a study trains one cell after the other
    names = []
    for name in ("relu, seed 1", "tanh, seed 1"):
        os.environ["WANDB_NAME"] = name
        tracker = start_tracker(tmp_path, "boxes", {})
        assert tracker is not None
        names.append(tracker.experiment.name)
        tracker.finish({"best_epoch": 1})
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
    tracker.finish({"best_epoch": 2, "test/rmse": 2.0})
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
    tracker.finish({"best_epoch": 1})
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


# ------------------------------------------------------------------------- names, project, configuration


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ("--config configs/line.yaml", "line"),
        ("--config=configs/line.yaml --model.network.activation tanh", "line, activation tanh"),
        ("--config configs/line.yaml --model.optimizer=torch.optim.Adam", "line, optimizer Adam"),
        ("--config configs/line.yaml --model.optimizer.lr=-0.1 --portable", "line, lr -0.1, portable"),
        ("--config configs/line.yaml --data.batch_size " + 200 * "1", "line, batch_size " + 111 * "1"),
    ],
)
def test_a_run_is_named_by_what_the_command_line_changes(arguments: str, name: str) -> None:
    assert run_name("line", ["fit", *arguments.split()]) == name


def test_project_and_entity_are_those_of_the_environment_or_of_params_yaml(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert wandb_project() == {"project": "lockstep", "entity": None}
    Path("params.yaml").write_text("wandb: {project: prices, entity: team}\n")
    assert wandb_project() == {"project": "prices", "entity": "team"}
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_ENTITY", "me")
    calls = start(monkeypatch, Experiment())
    start_tracker(tmp_path, "boxes", {})
    assert (calls[0]["project"], calls[0]["entity"]) == ("mine", "me")


def test_the_configuration_has_the_preparation_and_no_defaults_of_the_trainer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("boxes: {source: sample, files: {}, prepare: {scale: none}}\n")
    trainer = {"max_epochs": 3, "precision": None, "devices": "auto", "deterministic": True}
    found = described({"seed_everything": 1, "trainer": trainer}, "boxes", {"deterministic": True})
    assert found == {
        "seed_everything": 1,
        "trainer": {"max_epochs": 3},
        "source": "sample",
        "prepare": {"scale": "none"},
    }


# ------------------------------------------------------------------------------- a training, one record


def test_a_training_has_one_id_until_it_has_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = start(monkeypatch, Experiment())
    run = tmp_path / "12ab"
    run.mkdir()
    for _ in range(2):
        start_tracker(tmp_path, "boxes", {}, run)
    (run / UNFINISHED).unlink()
    start_tracker(tmp_path, "boxes", {}, run)
    first, going_on, again = (call["id"] for call in calls)
    assert first == going_on != again
    assert all(call["id"].startswith("12ab-") for call in calls)
    monkeypatch.setenv("WANDB_RUN_ID", "of-a-sweep")
    start_tracker(tmp_path, "boxes", {}, run)
    assert calls[-1]["id"] == "of-a-sweep"


@pytest.mark.parametrize(("mode", "resume"), [("offline", [None, None]), ("online", [None, "allow"])])
def test_a_run_that_is_online_is_resumed(
    mode: str, resume: list[str | None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    calls = start(monkeypatch, Experiment())
    for _ in range(2):
        start_tracker(tmp_path, "boxes", {}, tmp_path)
    assert [call["resume"] for call in calls] == resume


@pytest.mark.parametrize(("offline", "names"), [(True, []), (False, ["my-boxes"])])
def test_the_bundle_is_an_artifact_of_a_run_that_is_online(
    offline: bool, names: list[str], tmp_path: Path
) -> None:
    bundle = tmp_path / "my boxes"
    bundle.mkdir()
    (bundle / "config.yaml").write_text("task: boxes\n")
    experiment = Experiment(offline)
    Tracker(experiment).finish({"best_epoch": 2, "test/rmse": 2.0}, {"validation/rmse": 1.5}, bundle)
    assert [artifact.name for artifact in experiment.artifacts] == names
    assert [list(artifact.manifest.entries) for artifact in experiment.artifacts] == len(names) * [
        ["config.yaml"]
    ]
    # the summary has the row of the best epoch, not of the last one
    assert experiment.summary["validation/rmse"] == 1.5


@pytest.mark.parametrize(("mode", "calls_of_wandb"), [("offline", 0), ("online", 1)])
def test_plots_and_tables_of_a_report_go_to_the_run_of_its_training(
    mode: str, calls_of_wandb: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    experiment = Experiment()
    calls = start(monkeypatch, experiment)
    for number, configuration in enumerate([{"seed": 1}, {"seed": 2}]):
        folder = tmp_path / "runs" / "boxes" / str(number)
        folder.mkdir(parents=True)
        record = {"configuration": configuration, "wandb_id": f"run-{number}"}
        (folder / "run.json").write_text(json.dumps(record))
    for part in ("plots", "tables"):
        (tmp_path / "report" / part).mkdir(parents=True)
    Image.new("L", (4, 4)).save(tmp_path / "report/plots/confusion_matrix.png")
    table = "# Classes\n\n| class | F1 |\n|---|---|\n| a \\| b | 0.5 |\n"
    (tmp_path / "report/tables/two.md").write_text("| a |\n|---|\n\n| b | c |\n|---|---|\n")
    (tmp_path / "report/tables/classes.md").write_text(table)
    poems = "# Two\n\n`--seed 1`\n\n> a\n> b\n\n`--seed 2`\n\n> c\n"
    (tmp_path / "report/tables/poems.md").write_text(poems)

    def samples() -> tuple[list[str], list[list[Any]]]:
        return ["image", "class"], [[Image.new("L", (4, 4)), "shirt"]]

    log_report(tmp_path / "report", tmp_path / "runs", "boxes", {"seed": 1}, samples)
    log_report(tmp_path / "report", tmp_path / "runs", "boxes", {"seed": 3})  # trained elsewhere
    assert [(call["id"], call["resume"]) for call in calls] == calls_of_wandb * [("run-0", "must")]
    for row in experiment.logged:
        assert list(row) == [f"report/{name}" for name in ("classes", "confusion_matrix", "poems", "samples")]
        assert row["report/poems"].columns == ["settings", "text"]
        assert row["report/poems"].data == [["--seed 1", "a\nb\n"], ["--seed 2", "c\n"]]
        ((image, label),) = row["report/samples"].data
        assert (type(image).__name__, label) == ("Image", "shirt")
        assert row["report/classes"].columns == ["class", "F1"]
        assert row["report/classes"].data == [["a \\| b", "0.5"]]
    assert len(experiment.logged) == calls_of_wandb


@pytest.mark.usefixtures("settings_of_the_process")
def test_metrics_of_an_ordinary_module_are_logged_once(tmp_path: Path) -> None:
    experiment, table = Experiment(), CSVLogger(tmp_path)
    record = ResumableCheckpoint(tmp_path, "val_loss", "min", 10.0)
    trainer = Trainer(
        max_epochs=3,
        log_every_n_steps=2,
        logger=[table, Tracker(experiment)],
        callbacks=[record],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(), PointsData())

    rows = experiment.logged
    counts = Counter(name for row in rows for name in row)
    # six steps an epoch, every second one is logged
    assert counts["train_loss"] == counts["train_acc_step"] == 9
    assert counts["val_loss"] == counts["train_acc_epoch"] == counts["learning_rate"] == 3
    assert "train_acc" not in counts
    by_step = {name for name in counts if experiment.axes.get(name) == "trainer/global_step"}
    assert by_step == {"train_loss", "train_acc_step"}
    places = [(row["epoch"], row["trainer/global_step"]) for row in rows if "val_loss" in row]
    assert places == [(1, 5), (2, 11), (3, 17)]
    assert [row["epoch"] for row in rows if "learning_rate" in row] == [1, 2, 3]
    steps = [row["trainer/global_step"] for row in rows if "train_loss" in row]
    assert steps == [1, 3, 5, 7, 9, 11, 13, 15, 17]

    with Path(table.log_dir, "metrics.csv").open(encoding="utf-8") as file:
        written = [{name for name, value in row.items() if value} for row in csv.DictReader(file)]
    counts = Counter(name for row in written for name in row)
    assert (counts["train_loss"], counts["val_loss"], counts["learning_rate"]) == (9, 3, 3)


KILLED = """
import os, sys
from src.cli import main
from src.mine.model import Classifier
step, last = Classifier.training_step, int(sys.argv.pop(1))
def stepped(self, *arguments):
    if self.global_step == last:
        os.kill(os.getpid(), 9)
    return step(self, *arguments)
Classifier.training_step = stepped
main()
"""


def own_project(folder: Path, epochs: int) -> Path:
    """A project whose only task is one file with an ordinary module and its data."""
    for part in ("src", "pipelines"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "src/mine").mkdir()
    shutil.copyfile(ROOT / "tests/training/ordinary.py", folder / "src/mine/model.py")
    (folder / "requirements.lock").write_text("")
    (folder / "params.yaml").write_text("tasks: {mine: mine}\nwandb: {project: own}\n")
    (folder / "mine.yaml").write_text(
        f"task: mine\ntrainer: {{max_epochs: {epochs}, log_every_n_steps: 2}}\ncheckpoint_seconds: 0\n"
        "model: {class_path: src.mine.model.Classifier}\ndata: {class_path: src.mine.model.PointsData}\n"
    )
    return folder


def records_of(folder: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", str(folder), "--json"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.slow
def test_a_training_that_was_killed_twice_is_one_run(tmp_path: Path) -> None:
    project = own_project(tmp_path / "project", 5)
    environment = os.environ | {"WANDB_MODE": "offline", "PYTHONPATH": str(project)}
    seen = []
    for last in (15, 20):  # in the third and in the fourth epoch
        command = [sys.executable, "-c", KILLED, str(last), "fit", "--config", "mine.yaml"]
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL
        (folder,) = project.glob("runs/wandb/offline-run-*")
        seen.append(folder.name)
    command = [sys.executable, "-m", "src.cli", "fit", "--config", "mine.yaml"]
    subprocess.run(command, cwd=project, env=environment, check=True, capture_output=True)

    (folder,) = project.glob("runs/wandb/offline-run-*")
    (record,) = project.glob("runs/mine/*/run.json")
    found = json.loads(record.read_text(encoding="utf-8"))["wandb_id"]
    assert found.startswith(record.parent.name)
    assert {name.partition("-")[2].partition("-")[2][16:] for name in [*seen, folder.name]} == {found}
    assert len({*seen, folder.name}) == 3
    assert not (record.parent / UNFINISHED).exists()

    records = records_of(folder)
    run = next(each["run"] for each in records if each["type"] == "run")
    assert (run["project"], run["display_name"]) == ("own", "mine")
    rows = [each["history"]["item"] for each in records if each["type"] == "history"]
    assert [row["epoch"] for row in rows if "learning_rate" in row] == [1, 2, 3, 4, 5]
    assert [row["epoch"] for row in rows if "val_loss" in row] == [1, 2, 3, 4, 5]
    assert [row["epoch"] for row in rows if "test_loss" in row] == [found_best(record)]
    assert [row["trainer/global_step"] for row in rows if "train_loss" in row] == list(range(1, 30, 2))


def found_best(record: Path) -> int:
    return int(json.loads(record.read_text(encoding="utf-8"))["metrics"]["best_epoch"])
