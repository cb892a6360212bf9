"""Every argument of the Trainer, every callback and logger of Lightning is honoured or refused by name."""

import inspect
import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import lightning
import pytest
import torch
import yaml
from lightning.pytorch import callbacks, loggers
from lightning.pytorch.strategies import ModelParallelStrategy
from safetensors.torch import load_file

from pipelines.evaluate import evaluate
from pipelines.study.cells import Cell, metric_names
from src.core.errors import ConfigurationError
from src.core.paths import PREPARED
from src.training import compilation, exactness
from src.training.options import require_usable, require_whole_weights
from tests.support import PowerFailureError, cli, contents, power_failure
from tests.training import trainer_features
from tests.training.ordinary import Classifier
from tests.training.trainer_features import (
    ARGUMENT_ROWS,
    CALLBACK_ROWS,
    EXACT,
    LOGGER_ROWS,
    PAGE,
    REFUSED,
    ROWS,
    WORKS,
    Feature,
    page,
    spec,
)

pytestmark = pytest.mark.usefixtures("settings_of_the_process")

ROOT = Path(__file__).parents[2]
FEATURES = trainer_features.__name__
CALLBACK = "lightning.pytorch.callbacks"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one task, whose module is an ordinary one; the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compilation, "computes_in_bfloat16", lambda: True)
    Path("params.yaml").write_text(
        "tasks: {mine: mine}\ntrusted: [tests]\nmine: {source: none, files: {}, prepare: {}}\n"
    )
    return tmp_path


def configure(trainer: dict[str, Any], model: str = "", data: str = "", **options: Any) -> None:
    """Write the configuration."""
    ordinary = "tests.training.ordinary"
    content = {
        "task": "mine",
        "checkpoint_seconds": 0,
        "portable": True,  # as the other trainings of this process
        "trainer": {"accelerator": "cpu", "max_epochs": 4, **trainer},
        "model": spec(f"{FEATURES}.{model}" if model else f"{ordinary}.Classifier"),
        "data": spec(f"{FEATURES}.{data}" if data else f"{ordinary}.PointsData"),
        **options,
    }
    Path("mine.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def fit(last: int | None = None) -> Any:
    """Train, or fail within the step after `last` steps; the exit code."""
    with power_failure(Classifier, last):
        return cli("fit", "--config=mine.yaml")


def trained() -> tuple[str, str]:
    """The digest of the tensors of the bundle, and its history."""
    manifest = json.loads(Path("models/mine/manifest.json").read_text(encoding="utf-8"))
    return manifest["tensors"], Path("models/mine/history.csv").read_text(encoding="utf-8")


def shown(outcome: str) -> list[Feature]:
    """The rows of an outcome that a training of this test shows."""
    return [row for row in ROWS if row.outcome == outcome and row.trainer is not None]


# ------------------------------------------------------------------------------------------- the table


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), f"run: python -m {FEATURES}"


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        ([*inspect.signature(lightning.Trainer).parameters], ARGUMENT_ROWS),
        (callbacks.__all__, CALLBACK_ROWS),
        (loggers.__all__, LOGGER_ROWS),
    ],
    ids=["arguments", "callbacks", "loggers"],
)
def test_all_that_lightning_has_is_in_the_table(names: list[str], rows: list[Feature]) -> None:
    assert {row.name for row in rows} == set(names)


def test_what_another_test_shows_is_there() -> None:
    for row in ROWS:
        assert (row.trainer is None) == bool(row.shown_by), row
        file, _, name = row.shown_by.partition("::")
        if name:
            if not (ROOT / file).is_file():
                continue  # it went with a kind of data that was removed
            assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), row
        else:
            assert not file or any(other.name == file and other.trainer for other in ROWS), row


# --------------------------------------------------------------------------------------- the outcomes


@pytest.mark.slow
@pytest.mark.parametrize("row", shown(EXACT), ids=str)
def test_what_is_exact_ends_like_an_uninterrupted_training(row: Feature, project: Path) -> None:
    if row.needs:
        pytest.importorskip(row.needs)
    assert row.trainer is not None
    configure(row.trainer, row.model, row.data)
    assert fit() == 0
    whole = trained()
    for folder in ("models", "runs"):
        shutil.rmtree(folder)
    for number in row.cuts:
        with pytest.raises(PowerFailureError):
            fit(number)
    assert list(Path("runs").glob("mine/*/last.ckpt"))
    assert fit() == 0
    assert trained() == whole


@pytest.mark.parametrize("row", [row for row in shown(WORKS) if not row.needs], ids=str)
def test_what_works_trains(row: Feature, capsys: pytest.CaptureFixture[str]) -> None:
    assert row.trainer is not None
    configure(row.trainer, row.model, row.data)
    assert fit() == 0
    output = capsys.readouterr().out
    assert Path("models/mine").exists() != ("a trial" in output or "write it into" in output)


@pytest.mark.parametrize("row", shown(REFUSED), ids=str)
def test_what_is_refused_says_so_before_the_training(
    row: Feature, capsys: pytest.CaptureFixture[str]
) -> None:
    assert row.trainer is not None
    configure(row.trainer, row.model, row.data)
    assert fit(0) == 2
    (line,) = [text for text in capsys.readouterr().err.splitlines() if text.startswith("error: ")]
    assert (row.message or row.note.removeprefix("Lightning needs ")) in line
    assert not Path("models/mine").exists()


@pytest.mark.parametrize("row", [row for row in ROWS if row.needs and find_spec(row.needs) is None], ids=str)
def test_a_missing_package_is_named(row: Feature, capsys: pytest.CaptureFixture[str]) -> None:
    assert row.trainer is not None
    configure(row.trainer)
    assert fit(0) == 2
    line = capsys.readouterr().err
    assert f"{row.name} needs another package: " in line
    assert row.needs.replace("_", "-") in line


def test_weights_in_parts_are_refused() -> None:
    trainer = mock.Mock(strategy=ModelParallelStrategy.__new__(ModelParallelStrategy))
    with pytest.raises(
        ConfigurationError, match=r"trainer.strategy: ModelParallelStrategy splits the weights"
    ):
        require_whole_weights(trainer)


# -------------------------------------------------------------------------------------------- averages


def test_the_average_after_the_last_epoch_is_the_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, torch.Tensor]] = []

    def record(self: Classifier) -> None:
        started.append({name: tensor.clone() for name, tensor in self.named_parameters()})

    monkeypatch.setattr(Classifier, "on_train_epoch_start", record)
    configure({"callbacks": [spec(f"{CALLBACK}.StochasticWeightAveraging", swa_lrs=0.01, swa_epoch_start=3)]})
    assert fit() == 0
    weights = load_file("models/mine/model.safetensors")
    for name in started[0]:
        # the average of what epochs 3 and 4 begin with; a further epoch sets the statistics of batch norm
        assert torch.allclose(weights[name], (started[2][name] + started[3][name]) / 2), name
    history = Path("models/mine/history.csv").read_text(encoding="utf-8").splitlines()
    assert len(history) == 1 + 5
    (run,) = Path("runs/mine").glob("*/run.json")
    metrics = json.loads(run.read_text(encoding="utf-8"))["metrics"]
    assert cli("validate", "--config=mine.yaml") == 0
    assert metrics["best_epoch"] == 5
    assert metrics["val_loss"] == pytest.approx(metrics["test_loss"])  # the same rows, with the average


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"max_steps": 20}, "which max_steps may prevent"),
        ({"max_time": "00:00:01:00"}, "which max_time may prevent"),
        ({"max_epochs": 1}, "begins in epoch 2 and ends with the last of trainer.max_epochs; found 1"),
        ({"max_epochs": -1}, "found -1"),
    ],
)
def test_an_average_that_may_never_be_made_is_refused(trainer: dict[str, Any], message: str) -> None:
    averaging = spec(f"{CALLBACK}.StochasticWeightAveraging", swa_epoch_start=2)
    with pytest.raises(ConfigurationError, match=message):
        require_usable({"max_epochs": 4, "callbacks": [averaging], **trainer})


# --------------------------------------------------------------------------- checkpoints of ModelCheckpoint


def test_validate_takes_a_checkpoint_and_fit_refuses_one(capsys: pytest.CaptureFixture[str]) -> None:
    configure({"callbacks": [spec(f"{CALLBACK}.ModelCheckpoint", save_top_k=-1)]})
    assert fit() == 0
    history = Path("models/mine/history.csv").read_text(encoding="utf-8").splitlines()
    shutil.rmtree("models")
    (path,) = Path("runs").glob("mine/*/checkpoints/epoch=2-*.ckpt")
    capsys.readouterr()
    assert cli("validate", "--config=mine.yaml", f"--ckpt_path={path}") == 0
    assert history[3].rpartition(",")[2][:8] in capsys.readouterr().out
    assert cli("test", "--config=mine.yaml", "--ckpt_path=best") == 2
    assert "ckpt_path: best has no weights of this model: " in capsys.readouterr().err
    assert cli("fit", "--config=mine.yaml", f"--ckpt_path={path}") == 2
    assert "cannot be used: a training goes on from its own checkpoint" in capsys.readouterr().err


def test_a_logger_hears_a_validation(capsys: pytest.CaptureFixture[str]) -> None:
    configure({"logger": spec("lightning.pytorch.loggers.CSVLogger", save_dir="logs"), "fast_dev_run": False})
    assert fit() == 0
    before = contents(Path("logs"))
    assert cli("validate", "--config=mine.yaml") == 0
    assert len(contents(Path("logs"))) > len(before)


@pytest.mark.parametrize(("given", "steps"), [(None, 1), (0, 0), (2, 2)])
def test_the_validation_before_the_training_is_as_long_as_asked_for(
    given: int | None, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    step = Classifier.validation_step

    def counted(self: Classifier, *arguments: Any) -> None:
        seen.append(self.trainer.sanity_checking)
        step(self, *arguments)

    monkeypatch.setattr(Classifier, "validation_step", counted)
    configure({"max_epochs": 1, **({} if given is None else {"num_sanity_val_steps": given})})
    assert fit() == 0
    assert sum(seen) == steps


# -------------------------------------------------------------------------- the kept epoch and the bundle


def test_an_epoch_without_validation_is_not_the_best(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    configure({"max_epochs": 5, "check_val_every_n_epoch": 2}, "Rising")
    assert fit() == 0
    assert "best of 5 epochs: 2" in capsys.readouterr().out
    assert "the last epoch is kept" not in caplog.text
    _, history = trained()
    assert [row.rpartition(",")[2] for row in history.splitlines()[1:]] == ["", "2.0", "", "4.0", ""]


def test_a_module_without_a_usual_monitor_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    configure({"max_epochs": 4, "check_val_every_n_epoch": 2}, "Unmonitored")
    assert fit() == 0
    assert caplog.text.count("the last epoch is kept") == 1


@pytest.mark.parametrize("steps", [5, 6])
def test_max_steps_of_two_optimizers_ends_with_a_validation(steps: int) -> None:
    configure({"max_epochs": -1, "max_steps": steps}, "TwoOptimizers", monitor="val_loss")
    assert cli("fit", "--config=mine.yaml") == 0
    assert Path("models/mine/model.safetensors").is_file()


def test_parameters_of_one_memory_are_kept() -> None:
    configure({"max_epochs": 1}, "Tied")
    assert cli("fit", "--config=mine.yaml") == 0
    weights = load_file("models/mine/model.safetensors")
    assert torch.equal(weights["again.weight"], weights["net.4.weight"])
    assert cli("test", "--config=mine.yaml") == 0


def test_a_module_may_leave_layers_out_of_its_state() -> None:
    configure({"max_epochs": 2}, "HeadOnly", monitor="val_loss")
    assert cli("fit", "--config=mine.yaml") == 0
    assert not [name for name in load_file("models/mine/model.safetensors") if "net.0" in name]
    assert cli("test", "--config=mine.yaml") == 0


def test_a_mistake_in_the_test_costs_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    configure({"max_epochs": 2})

    def mistake(*_: Any) -> None:
        raise RuntimeError("a mistake")

    with monkeypatch.context() as broken:
        broken.setattr(Classifier, "test_step", mistake)
        with pytest.raises(RuntimeError, match="a mistake"):
            cli("fit", "--config=mine.yaml")
    tensors, _ = trained()
    assert not list(Path("runs").glob("mine/*/run.json"))
    assert cli("fit", "--config=mine.yaml") == 0
    assert trained()[0] == tensors


def test_a_study_knows_what_a_callback_logs(project: Path) -> None:
    others = [spec(f"{CALLBACK}.RichProgressBar"), spec(f"{CALLBACK}.LearningRateMonitor")]
    configure({"max_epochs": 1, "callbacks": [spec(f"{FEATURES}.Judge"), *others]})
    Path("configs").mkdir()
    Path("mine.yaml").rename("configs/mine.yaml")
    cell = Cell("judged", "plain", "mine", {}, 1, 0, PREPARED / "mine")
    assert "test_fid" in (metric_names(cell) or [])


def test_max_steps_are_known_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(Classifier, "on_fit_start", lambda module: seen.append(module.trainer.max_steps))
    configure({"max_epochs": -1, "max_steps": 7})
    assert fit() == 0
    assert seen == [7]


def test_a_bundle_of_float64_is_judged_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    configure({"max_epochs": 1, "precision": "64-true"}, data="Doubles")
    assert cli("fit", "--config=mine.yaml") == 0
    trained_weight = load_file("models/mine/model.safetensors")["net.0.weight"]
    assert not torch.equal(trained_weight, trained_weight.float().double())
    seen: list[torch.Tensor] = []
    step = Classifier.test_step

    def noted(self: Classifier, *arguments: Any) -> None:
        seen.append(self.net[0].weight.detach().clone())
        step(self, *arguments)

    monkeypatch.setattr(Classifier, "test_step", noted)
    assert cli("test", "--config=mine.yaml") == 0
    evaluate("mine")
    assert all(torch.equal(weight, trained_weight) for weight in seen)
    assert len(seen) > 1
    assert cli("predict", "--config=mine.yaml") == 0


def test_a_monitor_that_is_never_a_number_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    configure({"max_epochs": 2}, "NeverANumber", monitor="val_auc")
    assert cli("fit", "--config=mine.yaml") == 2
    assert "monitor: 'val_auc' was not a number in any epoch" in capsys.readouterr().err


def test_what_a_module_draws_on_a_device_in_validation_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[tuple[str, int]] = []
    monkeypatch.setattr(
        exactness, "_seed_device", lambda module, seed: seeds.append((str(module.trainer.state.stage), seed))
    )
    configure({"max_epochs": 2, "num_sanity_val_steps": 0})
    assert fit() == 0
    validation = [seed for stage, seed in seeds if stage.endswith("VALIDATING")]
    assert len(validation) == 2 * 4  # the start and three batches, in two epochs
    assert validation[:4] == validation[4:]
    assert len(set(validation)) == 4
    training = [seed for stage, seed in seeds if stage.endswith("TRAINING")]
    assert len(training) == len(set(training)) == 2 * 7
