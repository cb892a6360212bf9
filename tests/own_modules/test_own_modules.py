"""Modules as the authors of other projects write them go through all commands, as they are."""

import csv
import json
import multiprocessing
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from lightning import LightningDataModule, LightningModule
from safetensors.torch import load_file
from torch.utils.data import DataLoader, random_split

from benchmarks.own_modules import make_project
from pipelines.study.cells import _working_folder
from pipelines.study.run import validation_metric
from pipelines.study.workers import Workers
from src.bundle.module import lacking, repeat_setup
from src.core.digests import data_digest, write_manifest
from src.core.errors import ConfigurationError
from src.core.scores import chosen_by

# the metrics of the report, and the rows of the predictions: 0 where the module cannot predict
MODULES: dict[str, tuple[set[str], int]] = {
    "lit_mnist": ({"val_loss", "val_acc", "test_loss", "test_acc"}, 50),
    "autoencoder": ({"val_loss", "test_loss"}, 30),
    "gan": (set(), 0),
    "finetune": ({"val_loss", "val_acc", "test_acc"}, 12),
    "transformer": ({"val/loss", "val/perplexity", "test/loss"}, 6),
    "stream": ({"valid_loss"}, 5),
    "weighted": ({"val_loss", "test_loss"}, 32),
    "averaged": (
        {f"{part}/Binary{name}" for part in ("val", "test") for name in ("Accuracy", "F1Score", "AUROC")},
        20,
    ),
    "accumulated": ({"val_loss"}, 0),
    "no_validation": (set(), 0),
    "siamese": ({"val/loss", "val/acc", "val/acc_best", "margin", "test/loss", "test/acc"}, 297),
    "dqn": (set(), 0),
    "log_lines": ({"val_loss", "val_acc", "val_f1", "test_acc", "test_f1"}, 40),
    "simclr": (
        {f"{part}_{name}" for part in ("val", "test") for name in ("loss", "acc_top1", "acc_top5")},
        128,
    ),
    "forecaster": (
        {f"{part}_loss/dataloader_idx_{number}" for part in ("val", "test") for number in range(2)}
        | {f"{part}_{name}" for part in ("val_plain", "val_shifted", "test") for name in ("mae", "rmse")}
        | {"val_total"},
        93,
    ),
    "multitask": ({"val/loss", "val/acc", "val/worst_recall", "test/loss", "test/acc"}, 100),
    "photos": ({"val_loss", "val_acc", "test_loss", "test_acc"}, 8),
}
STAGES = """
import sys
from pipelines.evaluate import evaluate
from pipelines.fetch import fetch
from pipelines.prepare import prepare
from src.cli import main

name, predicts = sys.argv[1:]
fetch(name)
prepare(name)
main(["fit", f"--config=configs/{name}.yaml"])
evaluate(name)
if predicts == "True":
    main(["predict", f"--config=configs/{name}.yaml"])
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own modules")
    assert set(make_project(folder)) == set(MODULES)
    parameters = yaml.safe_load((folder / "params.yaml").read_text())
    study = {"task": "weighted", "metric": "test_loss", "seeds": [1], "fixed": {"trainer.max_epochs": 1}}
    study["grid"] = {"model.channels": [2, 4]}
    parameters["models"] = {"weighted": "data/prepared/weighted"}  # what the page shows
    parameters["more_studies"] = {
        "channels": study,
        "unknown": study | {"metric": "test/loss"},
        "search": study | {"search": "optuna", "budget": 2},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters))
    return folder


@pytest.fixture(scope="module")
def run(project: Path, python: Callable[..., Any]) -> Callable[..., str]:
    def run(*arguments: str, code: int = 0) -> str:
        done = python(*arguments, cwd=project, PYTHONPATH=str(project))
        assert done.returncode == code, done.stdout
        return str(done.stdout)

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.kinds("images")] * (name == "photos")) for name in MODULES],
)
def test_a_module_goes_through_the_stages(name: str, project: Path, run: Callable[..., str]) -> None:
    metrics, rows = MODULES[name]
    run("-c", STAGES, name, str(rows > 0))
    found = json.loads((project / "reports" / name / "metrics.json").read_text())
    assert set(found) == metrics
    assert (project / "reports" / name / "plots" / "learning_curve.png").is_file()
    configuration = yaml.safe_load((project / "configs" / f"{name}.yaml").read_text())
    if "val_loss" in metrics and "monitor" not in configuration:  # the weights are those of the best epoch
        with (project / "models" / name / "history.csv").open() as file:
            losses = [float(row["val_loss"]) for row in csv.DictReader(file)]
        assert found["val_loss"] == pytest.approx(min(losses), rel=1e-5)
    if rows:
        with (project / "predictions" / f"{name}.csv").open() as file:
            assert len(list(csv.DictReader(file))) == rows
    assert load_file(project / "models" / name / "model.safetensors")


@pytest.mark.slow
def test_studies_and_searches_compare_what_a_module_logs(project: Path, run: Callable[..., str]) -> None:
    assert "test_loss of channels 2" in run("-m", "pipelines.study", "channels", "--workers=1")
    assert (project / "runs/studies/channels/plots/curves.png").is_file()
    said = run("-m", "pipelines.study", "search", "--workers=1")
    assert "trial 1: channels" in said
    assert "val_loss" in said
    said = run("-m", "pipelines.study", "unknown", "--workers=1", code=2)
    assert "there is no 'test/loss'; there are: best_epoch, test_loss, train_loss, val_loss" in said


@pytest.mark.slow
def test_a_module_is_exported_or_refused_by_name(project: Path, run: Callable[..., str]) -> None:
    for name in ("autoencoder", "weighted", "accumulated"):
        run("-m", "src.cli", "fit", f"--config=configs/{name}.yaml")
    for name, inputs in (("autoencoder", ["x"]), ("weighted", ["signal"])):
        run("-m", "pipelines.export", name, "--samples=200")
        exported = project / "exports" / name
        assert list(json.loads((exported / "inputs.json").read_text())["inputs"]) == inputs
        assert "output (1," in run(str(exported / "example.py"))
    assert "set self.example_input_array in the module" in run(
        "-m", "pipelines.export", "accumulated", code=2
    )


@pytest.mark.slow
def test_a_file_that_the_constructor_reads_is_named(project: Path, run: Callable[..., str]) -> None:
    run("-m", "src.cli", "fit", "--config=configs/finetune.yaml", "--trainer.max_epochs=1")
    weights = project / "data" / "resnet18.pt"
    weights.rename(project / "elsewhere.pt")
    said = run("-m", "src.cli", "predict", "--config=configs/finetune.yaml", code=2)
    (project / "elsewhere.pt").rename(weights)
    assert "models/finetune: the constructor of the module reads data/resnet18.pt, which is not here" in said


LAYERS = '''"""A module that makes its layers in {hook}."""

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


class Net(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = None

    def {hook}(self{argument}):
        if self.layer is None:
            self.layer = torch.nn.Linear(3, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).square().mean()

    def test_step(self, batch, batch_idx):
        self.log("test_loss", self.training_step(batch, batch_idx) + torch.rand(1))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.randn(16, 3)), 8)

    test_dataloader = train_dataloader
'''


@pytest.mark.slow
@pytest.mark.parametrize(("hook", "argument"), [("configure_model", ""), ("setup", ", stage")])
def test_layers_are_made_where_a_bundle_can_make_them(
    project: Path, run: Callable[..., str], hook: str, argument: str
) -> None:
    (project / "src" / "weighted" / f"{hook}.py").write_text(LAYERS.format(hook=hook, argument=argument))
    text = f"task: {hook}\ntrainer: {{max_epochs: 1}}\nmodel: src.weighted.{hook}.Net\n"
    (project / "configs" / f"{hook}.yaml").write_text(text)
    fit = ("-m", "src.cli", "fit", f"--config=configs/{hook}.yaml")
    if hook == "setup":
        message = "error: Net: setup makes layer.bias; make layers in __init__ or configure_model"
        assert message in run(*fit, code=2)
        return
    (shown,) = re.findall(r"test_loss │ ([\d.]+)", run(*fit))
    said = run("-m", "src.cli", "test", f"--config=configs/{hook}.yaml")
    (again,) = re.findall(r"test_loss +│ +([\d.]+)", said)
    assert float(shown) == pytest.approx(float(again), rel=1e-4)  # the same random numbers are drawn


@pytest.mark.slow
def test_the_page_of_results_shows_a_module_of_other_names(project: Path, run: Callable[..., str]) -> None:
    run("-c", STAGES, "weighted", "False")
    run("-m", "pipelines.report")
    assert "test loss" in (project / "report.html").read_text(encoding="utf-8")


class Parts(LightningDataModule):
    """Splits its rows at random in `setup`, and knows no stage `validate`."""

    def setup(self, stage: str) -> None:
        if stage in ("fit", "test"):
            self.train, self.test = random_split(range(20), [15, 5])  # type: ignore[arg-type, assignment]

    def train_dataloader(self) -> Any:
        return DataLoader(self.train)


class Bare(LightningModule):
    def training_step(self, batch: Any, batch_idx: int) -> None: ...

    def configure_optimizers(self) -> None: ...


def test_a_random_split_in_setup_is_the_same_in_all_commands() -> None:
    seen = []
    for stage in ("fit", "test", "validate"):
        torch.manual_seed(len(seen))
        data = Parts()
        repeat_setup(7, Bare(), data)
        data.setup(stage)
        seen.append(list(data.train))
    data.setup()  # as some data modules call it themselves
    assert seen[0] == seen[1] == seen[2]


class Pretrained(Bare):
    """Reads its first weights in `setup`; with loaders of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1, bias=False)

    def setup(self, stage: str) -> None:
        self.layer.load_state_dict({"weight": torch.zeros(1, 1)})


def test_weights_that_setup_reads_replace_no_trained_ones() -> None:
    model = Pretrained()
    repeat_setup(7, model, None)
    model.setup("fit")
    assert model.layer.weight.item() == 0
    torch.nn.init.ones_(model.layer.weight)
    for stage in ("validate", "test", "predict"):
        model.setup(stage)
        assert model.layer.weight.item() == 1


def test_what_a_module_lacks_is_said_before_training() -> None:
    lines = lacking(Bare(), Parts())
    assert lines == [
        "no validation_step and no val_dataloader: no metrics of the validation; the last epoch is kept "
        "unless `monitor` names a metric",
        "no test_step and no test_dataloader: no metrics of the test",
    ]
    with pytest.raises(ConfigurationError, match="no 'val_acc': no validation_step and no val_dataloader"):
        lacking(Bare(), Parts(), "val_acc")
    with pytest.raises(ConfigurationError, match="LightningModule has no training_step"):
        lacking(LightningModule(), Parts())
    with pytest.raises(ConfigurationError, match="Bare has no train_dataloader: there is nothing to train"):
        lacking(Bare(), None)


def test_a_manifest_that_lists_nothing_is_no_data(tmp_path: Path) -> None:
    assert data_digest(tmp_path / "absent") is None
    write_manifest(tmp_path, raw={})
    assert data_digest(tmp_path) is None
    write_manifest(tmp_path, raw={"a.csv": "0"})
    assert len(str(data_digest(tmp_path))) == 64


@pytest.mark.parametrize(
    ("metric", "known", "expected"),
    [
        ("test/rmse", ["validation/rmse", "test/rmse"], "validation/rmse"),
        ("train/loss", ["validation/loss", "train/loss"], "validation/loss"),
        ("test_acc", ["val_acc", "test_acc"], "val_acc"),
        ("test/f1", ["val/f1"], "val/f1"),
        ("val_loss", ["val_loss"], "val_loss"),
        ("g_loss", ["g_loss", "d_loss"], "g_loss"),
    ],
)
def test_a_search_chooses_by_the_validation(metric: str, known: list[str], expected: str) -> None:
    assert validation_metric(metric, known) == expected


def test_a_search_never_chooses_by_the_test() -> None:
    with pytest.raises(ConfigurationError, match=r"name one of: train_loss$"):
        validation_metric("test_acc", ["test_acc", "train_loss"])


@pytest.mark.parametrize(
    ("configuration", "logged", "expected"),
    [
        ({}, ["val_loss", "epoch"], ("val_loss", "min")),
        ({"monitor": "val_acc"}, ["val_loss"], ("val_acc", "max")),
        ({"monitor": "val_acc", "mode": "min"}, [], ("val_acc", "min")),
        ({}, ["train_loss"], (None, "min")),
    ],
)
def test_the_metric_that_chooses_the_epoch(
    configuration: dict[str, str], logged: list[str], expected: tuple[str | None, str]
) -> None:
    assert chosen_by(configuration, logged) == expected


def start_method(_: Any) -> str | None:
    return multiprocessing.get_start_method()


def test_loaders_start_their_workers_in_a_study_as_elsewhere() -> None:
    with Workers(1) as pool:
        ((_, found, error),) = pool.each(start_method, [SimpleNamespace()])
    assert error is None
    assert found == multiprocessing.get_start_method()


def test_a_cell_sees_the_files_of_the_project_but_writes_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("assets", "data/raw/mine", "data/prepared/mine", "data/prepared/other", "models"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "log.txt").write_text("kept")
    (tmp_path / "params.yaml").write_text(
        "tasks: {mine: mine}\nmine: {source: none}\ntrusted: [torchvision]\n"
    )
    cell = SimpleNamespace(
        folder=tmp_path / "cell",
        task="mine",
        prepared=Path("data/prepared/mine"),
        changes={},
        study="s",
        title="t",
    )
    for name in ("WANDB_RUN_GROUP", "WANDB_TAGS", "WANDB_NAME", "WANDB_DIR"):
        monkeypatch.setenv(name, "")
    with _working_folder(cell, "w"):  # type: ignore[arg-type]
        found = sorted(path.as_posix() for path in (*Path().iterdir(), *Path("data").glob("*/*")))
    assert found == [
        "assets",
        "data",
        "data/prepared/mine",
        "data/raw/mine",
        "log.txt",
        "params.yaml",
    ]
    assert (tmp_path / "log.txt").read_text() == "kept"
