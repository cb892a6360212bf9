"""Pictures with a number for a label: prepare, train, evaluate, predict and export."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from src.bundle.bundle import Bundle
from src.core.errors import ConfigurationError, DataError
from src.images.augmentation import Augmentation
from src.images.evaluate import evaluate, samples
from src.images.export import exportable
from src.images.model import ImageModel
from src.images.predict import predict_pictures
from src.images.prepare import Preparation, prepare
from src.images.preprocessing import Preprocessing
from src.images.propose import propose
from src.images.regression import ImageRegressor
from src.preparation.proposals import plain
from tests.support import cli

PREPARED = Path("data/prepared/ages")


@pytest.fixture
def ages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prepared task `ages` in this folder: 60 grey pictures, age a tenth of their brightness."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    rows = ["file,age"]
    Path("raw/faces").mkdir(parents=True)
    for number in range(60):
        brightness = int(generator.integers(20, 230))
        values = brightness + generator.integers(-10, 11, (12, 12))
        Image.fromarray(values.astype(np.uint8)).save(f"raw/faces/{number}.png")
        rows.append(f"{number}.png,{brightness / 10}")
    Path("raw/ages.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    prepare(Path("raw"), PREPARED, settings())


def settings(**changed: Any) -> Preparation:
    options: dict[str, Any] = {"train": "faces", "labels": "ages.csv", "label": "age", "task": "regression"}
    return Preparation(**options | changed)


@pytest.mark.usefixtures("ages")
def test_the_target_is_the_number_of_the_table() -> None:
    learnt = Preprocessing.load(PREPARED)
    assert (learnt.task, learnt.classes, learnt.prediction_columns) == ("regression", [], ["id", "age"])
    images, target = (np.load(PREPARED / f"train_{part}.npy") for part in ("images", "target"))
    assert (len(target), target.dtype) == (43, np.float32)
    assert np.abs(images.mean(axis=(1, 2, 3)) / 10 - target).max() < 0.3
    assert learnt.quantity is not None
    assert learnt.quantity.name == "age"
    assert learnt.quantity.mean == pytest.approx(target.mean())
    assert learnt.quantity.standard_deviation == pytest.approx(target.std())


@pytest.mark.usefixtures("ages")
def test_labels_that_are_no_numbers_are_named() -> None:
    path = Path("raw/ages.csv")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("\n3.png,", "\n3.png,about "), encoding="utf-8")
    with pytest.raises(DataError, match=r"ages\.csv: row 4, column 'age': 'about [\d.]+', expected a number"):
        prepare(Path("raw"), PREPARED, settings())
    path.write_text("file,age\n" + "".join(f"{number}.png,5\n" for number in range(60)), encoding="utf-8")
    with pytest.raises(DataError, match=r"all training images have the same 'age', 5"):
        prepare(Path("raw"), PREPARED, settings())
    with pytest.raises(ConfigurationError, match=r"prepare\.task: regression needs prepare\.labels"):
        Preparation(train=".", task="regression")


class Bright(nn.Module):
    """The mean of the scaled pixels."""

    def __init__(self, shape: Any, outputs: int) -> None:
        super().__init__()
        assert outputs == 1

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))


@pytest.mark.usefixtures("ages")
def test_numbers_are_trained_standardized_and_answered_in_their_unit() -> None:
    learnt = Preprocessing.load(PREPARED)
    model = ImageRegressor(learnt, Bright)
    target = torch.from_numpy(np.load(PREPARED / "train_target.npy"))
    trivial = model.trivial_outputs(target)
    assert model.predict(trivial).item() == pytest.approx(float(target.mean()))
    assert model.loss_of(trivial.expand(len(target), -1), target).item() == pytest.approx(1, rel=1e-4)
    metrics = model.trivial_metrics(target, target)
    assert metrics["rmse"] == pytest.approx(float(target.std(correction=0)), rel=1e-4)
    assert metrics["r2"] == pytest.approx(0, abs=1e-5)


@pytest.mark.usefixtures("ages")
def test_what_is_for_classes_is_refused() -> None:
    learnt = Preprocessing.load(PREPARED)
    wrong: list[dict[str, Any]] = [{"label_smoothing": 0.1}, {"augmentation": Augmentation(mixup=1.0)}]
    with pytest.raises(ConfigurationError, match=r"model\.calibrate: it is for classes, found a regression"):
        ImageRegressor(learnt, Bright, calibrate=True)
    for part in wrong:
        with pytest.raises(ConfigurationError, match=r"it is for classes, found a regression"):
            ImageRegressor(learnt, Bright, **part)
    with pytest.raises(ConfigurationError, match=r"ImageModel is for classification, .*ImageRegressor"):
        ImageModel(learnt, Bright)


@pytest.mark.usefixtures("ages", "settings_of_the_process")
def test_a_regression_is_trained_evaluated_predicted_and_exported() -> None:
    network = {"class_path": "src.images.networks.MLP", "init_args": {"hidden_sizes": []}}
    optimizer = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}}
    model = {"network": network, "optimizer": optimizer, "flip_averaging": True}
    configuration = {
        "task": "ages",
        "monitor": "validation/rmse",
        "mode": "min",
        "trainer": {"max_epochs": 30},
        "data": {"class_path": "src.images.data.ImageData", "init_args": {"batch_size": 16}},
        "model": {"class_path": "src.images.regression.ImageRegressor", "init_args": model},
    }
    Path("config.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    assert cli("fit", "--config", "config.yaml") == 0

    Path("report").mkdir()
    bundle = Bundle.open(Path("models/ages"))
    evaluate(bundle, PREPARED, Path("report"))
    metrics = json.loads(Path("report/metrics.json").read_text(encoding="utf-8"))
    assert metrics["test/rmse"] < 1 < metrics["baseline/trivial/rmse"]
    assert metrics["test/r2"] > 0.9
    plots = {path.name for path in Path("report/plots").iterdir()}
    assert {"predictions.png", "most_wrong.png", "sheet.png"} < plots
    assert samples(bundle, PREPARED)[0] == ["image", "age", "predicted"]

    assert (
        cli("predict", "--bundle", "models/ages", "--data.input", "raw/faces", "--data.output", "found.csv")
        == 0
    )
    with Path("found.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    actual = dict(csv.reader(Path("raw/ages.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 60
    assert all(abs(float(row["age"]) - float(actual[row["id"]])) < 4 for row in rows)
    found = predict_pictures(bundle.model, bundle.preprocessing, [Path("raw/faces/7.png")])
    assert found.columns.tolist() == ["id", "age"]

    exported = exportable(bundle)
    inputs, outputs = exported.sample(np.random.default_rng(0), 3)
    assert outputs["numbers"].shape == (3,)
    images = torch.from_numpy(inputs["images"])
    program = torch.export.export(exported.module, (images,)).module()
    assert np.allclose(program(images).detach().numpy(), outputs["numbers"], rtol=1e-5, atol=1e-6)

    gradio = pytest.importorskip("gradio")
    from src.images.form import image_form

    with gradio.Blocks():
        _, answer = image_form(bundle.model, bundle.preprocessing)
    assert answer("raw/faces/7.png", None) == f"age: {found['age'].item():.6g}"
    assert exported.description["quantity"] == "age"


@pytest.mark.usefixtures("ages")
def test_a_proposal_sees_numbers() -> None:
    proposal = propose(Path("raw"), None)
    prepare_keys, configuration = plain(proposal.prepare), plain(proposal.configuration)
    assert (prepare_keys["task"], prepare_keys["label"]) == ("regression", "age")
    assert configuration["model"]["class_path"] == "src.images.regression.ImageRegressor"
    assert "label_smoothing" not in configuration["model"]["init_args"]
    assert not any("class" in finding for finding in proposal.findings)


@pytest.mark.usefixtures("ages")
@pytest.mark.parametrize(
    ("column", "distinct", "task", "guess"),
    [
        ("age", 30, "regression", "--task classification"),
        ("label", 30, None, "--task regression"),
        ("breed_class", 55, "regression", "--task classification"),
        ("grade", 55, "regression", "--task classification"),
        ("label", 2, None, None),
    ],
)
def test_whole_numbers_are_a_guess(column: str, distinct: int, task: str | None, guess: str | None) -> None:
    lines = [f"{number}.png,{number % distinct}" for number in range(60)]
    Path("raw/ages.csv").write_text("\n".join([f"file,{column}", *lines]) + "\n", encoding="utf-8")
    proposal = propose(Path("raw"), None)
    assert plain(proposal.prepare).get("task") == task
    guesses = [finding for finding in proposal.findings if "a guess" in finding]
    assert len(guesses) == (guess is not None)
    assert guess is None or guess in guesses[0]


@pytest.mark.usefixtures("ages")
def test_more_than_50_numbers_of_a_label_can_be_classes() -> None:
    faces = Path("raw/faces")
    for number in range(60, 300):
        Image.new("L", (12, 12), number % 200).save(faces / f"{number}.png")
    lines = [f"{number}.png,{number % 60}" for number in range(300)]
    Path("raw/ages.csv").write_text("\n".join(["file,label", *lines]) + "\n", encoding="utf-8")
    assert "task" not in propose(Path("raw"), None).prepare


@pytest.mark.usefixtures("ages")
def test_the_task_of_numbers_can_be_named() -> None:
    lines = [f"{number}.png,{number % 5}" for number in range(60)]
    table = Path("raw/ages.csv")
    table.write_text("\n".join(["file,age", *lines]) + "\n", encoding="utf-8")
    assert "task" not in propose(Path("raw"), None, "classification").prepare
    assert plain(propose(Path("raw"), None, "regression").prepare)["task"] == "regression"
    table.write_text(table.read_text(encoding="utf-8").replace(",3\n", ",three\n"), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="--task: regression needs numbers, 'age' has 'three'"):
        propose(Path("raw"), None, "regression")
    table.unlink()
    Path("raw/more").mkdir()
    Path("raw/faces/1.png").rename("raw/more/1.png")
    with pytest.raises(ConfigurationError, match="--task: regression needs a table of labels"):
        propose(Path("raw"), None, "regression")
