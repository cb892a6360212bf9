"""The command line in a project where a task has run: repetition, failures, refusals, predictions."""

import contextlib
import csv
import http.server
import json
import logging
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import yaml
from filelock import FileLock
from lightning import Trainer

from src.tabular.model import TabularModel
from src.training.checkpoint import ResumableCheckpoint
from tests.support import PowerFailureError, cli, contents

pytestmark = [pytest.mark.tasks("house_prices"), pytest.mark.usefixtures("settings_of_the_process")]

TASK = "house_prices"
CONFIG = f"configs/{TASK}.yaml"
BUNDLE = Path("models", TASK)
PREPARED = Path("data/prepared", TASK)
RAW = Path("data/raw", TASK)
REPORT = Path("reports", TASK, "metrics.json")
PREDICT = ("predict", "--config", CONFIG, "--data.input")


def fit() -> dict[str, Any]:
    """Train; the manifest of the bundle."""
    assert cli("fit", "--config", CONFIG) == 0
    return manifest()


def manifest() -> dict[str, Any]:
    return json.loads((BUNDLE / "manifest.json").read_text(encoding="utf-8"))


def change(key: str, value: Any) -> None:
    """Set a key of the configuration, such as model.init_args.network.init_args.dropout."""
    content = yaml.safe_load(Path(CONFIG).read_text(encoding="utf-8"))
    *sections, name = key.split(".")
    section = content
    for part in sections:
        section = section.setdefault(part, {})
    section[name] = value
    Path(CONFIG).write_text(yaml.safe_dump(content), encoding="utf-8")


def read(path: Path | str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def history() -> list[dict[str, str]]:
    return read(BUNDLE / "history.csv")


def copy_of(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target, symlinks=True))


@pytest.fixture(autouse=True)
def project(workspace: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in which the task has run, the working folder of the test."""
    folder = workspace(tmp_path / "project", TASK)
    monkeypatch.chdir(folder)
    return folder


def steps(epochs: int) -> int:
    rows = (PREPARED / "split.csv").read_text().count(",train\n")
    batch_size = yaml.safe_load(Path(CONFIG).read_text())["data"]["init_args"]["batch_size"]
    return epochs * math.ceil(rows / batch_size)


def power_failure() -> None:
    raise PowerFailureError


def interrupt() -> None:
    raise KeyboardInterrupt


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def fail_after(number: int, patch: pytest.MonkeyPatch, fail: Callable[[], None] = power_failure) -> None:
    """Let the training fail within the step after the next `number` steps."""
    step = TabularModel.training_step
    done = iter(range(number))

    def failing(self: TabularModel, *arguments: Any, **named: Any) -> Any:
        loss = step(self, *arguments, **named)
        if next(done, None) is None:
            fail()
        return loss

    patch.setattr(TabularModel, "training_step", failing)


def break_off(number: int) -> None:
    """Train until a simulated power failure after `number` steps."""
    with pytest.MonkeyPatch.context() as patch:
        fail_after(number, patch)
        with pytest.raises(PowerFailureError):
            cli("fit", "--config", CONFIG)


@pytest.fixture(scope="module")
def untrained(
    workspace: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A project before a training of four epochs with dropout and batch norm; the manifest of its bundle."""
    folder = workspace(tmp_path_factory.mktemp("untrained") / "project", TASK)
    with contextlib.chdir(folder):
        change("trainer.max_epochs", 4)
        change("checkpoint_seconds", 0)
        change("data.init_args.batch_size", 64)
        change("model.init_args.network.init_args.norm", "batch")
        change("model.init_args.network.init_args.dropout", 0.2)
        expected = fit()
        assert len(history()) == 4
        shutil.rmtree("runs")
        shutil.rmtree(BUNDLE)
    return folder, expected


@pytest.fixture
def expected(
    untrained: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """The manifest of an uninterrupted training; the working folder is a project before it."""
    monkeypatch.chdir(copy_of(untrained[0], tmp_path / "untrained"))
    return untrained[1]


@pytest.fixture(scope="module")
def broken_off(untrained: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_of(untrained[0], tmp_path_factory.mktemp("broken_off") / "project")
    with contextlib.chdir(folder):
        break_off(steps(2) + 3)
        assert not BUNDLE.exists()
    return folder


@pytest.fixture
def half_way(
    untrained: tuple[Path, dict[str, Any]], broken_off: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """As `expected`, but the training in the working folder was interrupted in the third epoch."""
    monkeypatch.chdir(copy_of(broken_off, tmp_path / "half_way"))
    return untrained[1]


DYING = """
import io, os, sys, torch
from pathlib import Path
from src.cli import main
from src.tabular.model import TabularModel
point, last = sys.argv.pop(1), int(sys.argv.pop(1))
save, replace, step, done, steps = torch.save, Path.replace, TabularModel.training_step, [], []
def die():
    os.kill(os.getpid(), 9)
def half(checkpoint, file):
    if isinstance(file, io.BytesIO):  # no checkpoint
        return save(checkpoint, file)
    done.append(1)
    content = io.BytesIO()
    save(checkpoint, content)
    dying = (point, len(done)) == ("write", last)
    file.write(content.getvalue()[: len(content.getvalue()) // (2 if dying else 1)])
    if dying:
        file.flush()
        die()
def renamed(path, target):
    if (point, len(done), Path(target).name) == ("rename", last, "last.ckpt"):
        die()
    return replace(path, target)
def synced(descriptor):
    if (point, len(done)) == ("sync", last):
        die()
def stepped(self, *arguments):
    steps.append(1)
    if (point, len(steps)) == ("step", last):
        die()
    return step(self, *arguments)
torch.save, Path.replace, os.fsync, TabularModel.training_step = half, renamed, synced, stepped
main()
"""


@pytest.fixture(scope="module", autouse=True)
def killed(
    untrained: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, Future[list[tuple[int, str]]]]]:
    """A project, and the ends of four processes that train in it one after the other, while other tests run.

    Each kills itself: while it writes the checkpoint of the second epoch, before it syncs the one of the
    third epoch to the disk, before it renames that one, and within the fourth epoch. They have another hash
    seed, time zone and locale; TMPDIR is on another file system where there is one.
    """
    folder = copy_of(untrained[0], tmp_path_factory.mktemp("killed") / "project")
    with contextlib.chdir(folder):
        fourth = steps(1) + 5  # the fourth process trains the third epoch first
    environment = os.environ | {"PYTHONHASHSEED": "3", "TZ": "America/Lima", "LC_ALL": "C"}
    memory = Path("/dev/shm")  # noqa: S108
    environment |= {"TMPDIR": str(memory)} if memory.is_dir() else {}

    def run() -> list[tuple[int, str]]:
        ends = []
        for point, last in (("write", 2), ("sync", 2), ("rename", 1), ("step", fourth)):
            done = subprocess.run(
                [sys.executable, "-c", DYING, point, str(last), "fit", "--config", CONFIG],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                encoding="utf-8",
            )
            ends.append((done.returncode, done.stdout))
        return ends

    with ThreadPoolExecutor() as pool:
        yield folder, pool.submit(run)


# ---------------------------------------------------------------------------------------- repetition


def test_configuration_of_the_bundle_repeats_what_the_pipeline_made() -> None:
    before = contents(BUNDLE)
    shutil.move(BUNDLE / "config.yaml", "again.yaml")
    assert cli("fit", "--config", "again.yaml") == 0
    assert contents(BUNDLE) == before
    assert not list(Path("runs").rglob("*.ckpt*"))


def test_a_training_interrupted_twice_gives_the_same_bundle(
    expected: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    break_off(steps(1) + 5)
    break_off(steps(1) + 7)
    assert "going on after epoch 1\n" in capsys.readouterr().out
    assert fit() == expected
    assert "going on after epoch 2\n" in capsys.readouterr().out
    assert [row["epoch"] for row in history()] == ["1", "2", "3", "4"]


def fail_before_the_bundle() -> None:
    """Train to the end, but let the machine fail before the bundle is written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("src.cli.write_bundle", mock.Mock(side_effect=PowerFailureError))
        with pytest.raises(PowerFailureError):
            cli("fit", "--config", CONFIG)


def test_interrupted_between_training_and_bundle_goes_on(
    half_way: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_before_the_bundle()
    fail_after(0, monkeypatch)  # all steps are done
    assert fit() == half_way


@pytest.mark.parametrize(
    ("fail", "code", "told"), [(interrupt, 130, "interrupted\n"), (terminate, 143, "terminated\n")]
)
def test_a_signal_ends_with_its_code_and_the_training_goes_on(
    fail: Callable[[], None],
    code: int,
    told: str,
    expected: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        fail_after(steps(2) + 3, patch, fail)
        assert cli("fit", "--config", CONFIG) == code
    assert not BUNDLE.exists()
    assert fit() == expected
    output = capsys.readouterr()
    assert "going on after epoch 2\n" in output.out
    assert told in output.err


def test_a_second_trainer_of_the_task_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(Path("models"))
    with FileLock(Path("runs", TASK, "lock")):  # as a trainer holds it whose `dvc repro` was killed
        assert cli("fit", "--config", CONFIG) == 7
    assert f"error: another process trains {TASK} in this folder" in capsys.readouterr().err
    assert contents(Path("models")) == before
    assert cli("fit", "--config", CONFIG) == 0
    assert cli("fit", "--config", CONFIG) == 0  # it lets go of it


class Intruder:
    """An object that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("intruded"),)


@pytest.mark.parametrize("damage", ["empty", "half", "malicious"])
def test_damaged_checkpoint_is_reported_and_training_starts_afresh(
    damage: str, half_way: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    (checkpoint,) = Path("runs").rglob("last.ckpt")
    content = checkpoint.read_bytes()
    if damage == "malicious":
        torch.save({"epoch": 1, "state_dict": Intruder()}, checkpoint)
    else:
        checkpoint.write_bytes(content[: len(content) // 2] if damage == "half" else b"")
    assert fit() == half_way
    assert not Path("intruded").exists()
    (warning,) = [message for message in caplog.messages if "starting afresh" in message]
    assert str(checkpoint) in warning


def test_the_time_of_an_interrupted_training_counts(half_way: dict[str, Any]) -> None:
    (checkpoint,) = Path("runs").rglob("last.ckpt")
    content = torch.load(checkpoint, weights_only=True)
    (state,) = (each for each in content["callbacks"].values() if "seconds_before" in each)
    assert state["seconds_before"] > 0
    state["seconds_before"] = 1000.0
    torch.save(content, checkpoint)
    assert fit() == half_way
    (record,) = Path("runs").rglob("run.json")
    assert 1000 < json.loads(record.read_text(encoding="utf-8"))["seconds"] < 1100


def test_another_configuration_does_not_go_on(
    half_way: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    change("seed_everything", 43)
    assert fit()["tensors"] != half_way["tensors"]
    assert "going on" not in capsys.readouterr().out
    assert len(history()) == 4


def test_a_checkpoint_of_another_run_is_refused(
    half_way: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoint,) = Path("runs").rglob("last.ckpt")
    change("seed_everything", 43)
    break_off(steps(1) + 1)
    (other,) = set(Path("runs").rglob("last.ckpt")) - {checkpoint}
    shutil.copyfile(checkpoint, other)
    assert cli("fit", "--config", CONFIG) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert f"is a checkpoint of the run {checkpoint.parent.name}, not of {other.parent.name}" in message


def test_early_stop_is_kept_over_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    stopping = {
        "class_path": "lightning.pytorch.callbacks.EarlyStopping",
        "init_args": {"monitor": "validation/loss", "patience": 2, "min_delta": 100.0},
    }
    change("trainer.max_epochs", 8)
    change("checkpoint_seconds", 0)
    change("trainer.callbacks", [stopping])
    expected = fit()
    assert len(history()) == 3  # the first, and two that are not better by so much
    break_off(steps(1) + 5)
    fail_before_the_bundle()
    assert fit() == expected
    output = capsys.readouterr().out
    assert "going on after epoch 1\n" in output
    assert "going on after epoch 3\n" in output


@pytest.mark.parametrize(
    ("saving_takes", "saved"),
    [
        # the clock begins at 0 and advances by 4 s an epoch; the seventh epoch is the last but one
        (1, [1, 4, 7]),  # the first, which is guessed to take little, then every ten seconds
        (0.06, [1, 3, 5, 7]),  # a hundredth of the time comes sooner: 6 s
        (0, [1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_checkpoints_are_due_by_the_clock_and_by_what_they_cost(
    saving_takes: float, saved: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, epochs = 0.0, []

    def end_of_an_epoch(self: ResumableCheckpoint, trainer: Trainer) -> bool:
        nonlocal now
        now += 4
        return due(self, trainer)

    def save(trainer: Trainer, path: Path) -> None:
        nonlocal now
        now += saving_takes
        epochs.append(trainer.current_epoch + 1)

    due = ResumableCheckpoint._due
    monkeypatch.setattr("src.training.checkpoint.time", mock.Mock(monotonic=lambda: now))
    monkeypatch.setattr(ResumableCheckpoint, "_due", end_of_an_epoch)
    monkeypatch.setattr(Trainer, "save_checkpoint", save)
    change("trainer.max_epochs", 8)
    fit()
    assert epochs == saved


def test_kills_leave_the_last_whole_checkpoint(
    killed: tuple[Path, Future[list[tuple[int, str]]]],
    untrained: tuple[Path, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, ends = killed
    for (code, output), going_on in zip(ends.result(), (None, 1, 2, 2), strict=True):
        assert code == -signal.SIGKILL
        assert re.findall(r"going on after epoch (\d)\n", output) == ([str(going_on)] if going_on else [])
    monkeypatch.chdir(folder)
    assert list(Path("runs").rglob("last.ckpt"))
    assert not BUNDLE.exists()
    assert fit() == untrained[1]
    assert "going on after epoch 3\n" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------ failures


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--model.network.norm=batch", "--data.batch_size=1"],
            "error: data.batch_size: batch norm needs at least 2 rows in a batch",
        ),
        pytest.param(
            ["--trainer.accelerator=gpu"],
            "error: Lightning refuses the configuration: No supported gpu",
            marks=pytest.mark.skipif(
                torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU"
            ),
        ),
    ],
)
def test_a_training_that_cannot_be_is_refused(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("fit", "--config", CONFIG, *options) == 2
    assert message in capsys.readouterr().err


def test_wandb_that_fails_does_not_affect_the_training(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = manifest()
    monkeypatch.setattr("wandb.init", mock.Mock(side_effect=ConnectionResetError("gone")))
    with mock.patch.dict(os.environ, WANDB_MODE="offline"):
        assert fit() == expected
    assert sum("going on without it" in message for message in caplog.messages) == 1


def test_a_wandb_logger_of_the_configuration_takes_the_place_of_the_projects_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    init = mock.Mock(return_value=mock.MagicMock())
    monkeypatch.setattr("wandb.init", init)
    options = (
        "--trainer.logger=WandbLogger",
        "--trainer.logger.project=mine",
        "--trainer.logger.save_dir=runs",
    )
    with mock.patch.dict(os.environ, WANDB_MODE="offline"):
        assert cli("fit", "--config", CONFIG, *options) == 0
    assert [call.kwargs["project"] for call in init.call_args_list] == ["mine"]


# ------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.init_args.network.init_args.hiden_sizes", [8]),
        ("model.init_args.network.init_args.dropout", "much"),
        ("model.init_args.network.init_args.dropout", 1.5),
        ("trainer.max_epochs", "many"),
        ("monitor", "validation/beauty"),
    ],
)
def test_mistakes_in_the_configuration_are_reported_by_name(
    key: str, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(Path("models"))
    change(key, value)
    assert cli("fit", "--config", CONFIG) == 2
    message = capsys.readouterr().err
    assert key.split(".")[-1] in message
    assert ("validation/log_rmse" in message) == (key == "monitor")  # the metrics that there are
    assert contents(Path("models")) == before


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("model.init_args.optimizer", "os.system"),
        ("model.init_args.optimizer", "intruder.Intruder"),
        ("trainer.callbacks", "intruder.Intruder"),
    ],
)
def test_other_classes_are_neither_used_nor_imported(
    key: str, name: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "intruder.py").write_text("class Intruder: pass\n")
    monkeypatch.syspath_prepend(project)
    change(key, {"class_path": name})
    assert cli("fit", "--config", CONFIG) == 2
    assert "intruder" not in sys.modules


def test_nothing_is_read_from_an_address() -> None:
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/{CONFIG}"
        code = cli("fit", "--config", address)
        assert (code, asked) == (2, [])
        urllib.request.urlopen(address).close()
        assert asked == [f"/{CONFIG}"]  # it would have been there
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("folder", "command", "remedy"),
    [(PREPARED, "fit", "run: dvc repro prepare"), (BUNDLE, "test", "train first: dvc repro train")],
)
def test_a_missing_folder_is_reported_with_the_command_that_makes_it(
    folder: Path, command: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(folder)
    assert cli(command, "--config", CONFIG) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"{remedy}@{TASK}")


def test_other_model_than_the_bundle_is_reported_with_the_difference(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configuration = yaml.safe_load((BUNDLE / "config.yaml").read_text())
    held = configuration["model"]["init_args"]["network"]["init_args"]["dropout"]
    change("model.init_args.network.init_args.dropout", 0.75)
    assert cli(*PREDICT, f"{RAW}/test.csv") == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert f"model.network.dropout: 0.75 (bundle: {held})" in message
    assert "hidden_sizes" not in message
    assert not Path(f"predictions/{TASK}.csv").exists()


# ---------------------------------------------------------------------------- optimizers and schedules


def torch_optim(name: str, **init_args: Any) -> dict[str, Any]:
    return {"class_path": f"torch.optim.{name}", "init_args": init_args}


def test_one_cycle_moves_by_steps_over_the_whole_training() -> None:
    change("trainer.max_epochs", 2)
    change("model.init_args.optimizer", torch_optim("Adam", lr=0.001))
    change("model.init_args.lr_scheduler", torch_optim("lr_scheduler.OneCycleLR", max_lr=0.01))
    change("model.init_args.lr_interval", "step")
    fit()
    first, second = (float(row["learning_rate"]) for row in history())
    assert first == pytest.approx(0.01 / 25)  # where torch's cycle begins
    assert 0.005 < second < 0.01  # half way through, past the highest rate


def test_any_optimizer_and_schedule_of_torch_and_the_best_epoch_is_kept() -> None:
    change("trainer.max_epochs", 2)
    change("trainer.gradient_clip_val", 1.0)
    change("model.init_args.optimizer", torch_optim("SGD", lr=0.01, momentum=0.9))
    change("model.init_args.lr_scheduler", torch_optim("lr_scheduler.StepLR", step_size=1, gamma=0.5))
    change("model.init_args.lr_interval", "epoch")
    change("monitor", "learning_rate")  # it falls: the first epoch is best if more is better
    change("mode", "max")
    first_of_two = fit()["tensors"]
    rates, losses = zip(
        *((float(row["learning_rate"]), float(row["train/loss"])) for row in history()), strict=True
    )
    assert rates == pytest.approx((0.01, 0.005))
    assert losses[1] < losses[0]
    change("trainer.max_epochs", 1)
    assert fit()["tensors"] == first_of_two


# --------------------------------------------------------------------------------- the trained bundle


def test_metrics_are_those_of_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(Path("models"))
    assert cli("test", "--config", CONFIG) == 0
    found = re.search(r"test/log_rmse[^\d\n]+([\d.]+)", capsys.readouterr().out)
    assert found
    expected = json.loads(REPORT.read_text(encoding="utf-8"))["test/log_rmse"]
    assert float(found[1]) == pytest.approx(expected, rel=1e-4)
    assert contents(Path("models")) == before


def write(path: str, rows: list[dict[str, str]]) -> None:
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def predicted(
    workspace: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, str]]:
    """The predictions for the rows without a price."""
    folder = workspace(tmp_path_factory.mktemp("predicted") / "project", TASK)
    with contextlib.chdir(folder):
        assert cli(*PREDICT, f"{RAW}/test.csv", "--data.output", "answers/prices.csv") == 0
        return read("answers/prices.csv")


def test_predictions_are_a_table_of_ids_and_prices(predicted: list[dict[str, str]]) -> None:
    assert list(predicted[0]) == ["Id", "SalePrice"]
    assert [row["Id"] for row in predicted] == [row["Id"] for row in read(RAW / "test.csv")]
    assert len(predicted) == 1459
    assert all(1_000 < float(row["SalePrice"]) < 10_000_000 for row in predicted)
    assert len({row["SalePrice"] for row in predicted}) > 1000


def test_predictions_score_as_the_report_says() -> None:
    assert cli(*PREDICT, f"{RAW}/train.csv") == 0
    pairs = zip(read(RAW / "train.csv"), read(f"predictions/{TASK}.csv"), strict=True)
    errors = [float(true["SalePrice"]) - float(found["SalePrice"]) for true, found in pairs]
    held_out = [int(row["row"]) - 1 for row in read(PREPARED / "split.csv") if row["split"] == "test"]
    squares = [errors[row] ** 2 for row in held_out]
    expected = json.loads(REPORT.read_text(encoding="utf-8"))["test/rmse"]
    assert math.sqrt(math.fsum(squares) / len(squares)) == pytest.approx(expected, rel=1e-4)


def test_other_columns_and_unseen_categories_are_accepted(
    predicted: list[dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    rows = [dict(reversed(row.items())) | {"Colour": "red"} for row in read(RAW / "test.csv")]
    rows[3]["Neighborhood"] = "Atlantis"
    write("rows.csv", rows)
    assert cli(*PREDICT, "rows.csv") == 0
    pairs = enumerate(zip(predicted, read(f"predictions/{TASK}.csv"), strict=True))
    assert [number for number, (before, after) in pairs if before != after] == [3]
    (warning,) = [record for record in caplog.records if "never seen" in record.getMessage()]
    assert warning.levelno == logging.WARNING
    assert "rows.csv" in warning.getMessage()
    assert "Neighborhood (1)" in warning.getMessage()
