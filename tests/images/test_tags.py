"""Pictures with several labels: prepare, train, evaluate, predict, export and the form."""

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
from src.images.data import ImageData
from src.images.evaluate import evaluate, samples
from src.images.export import exportable
from src.images.labels import marked_pictures
from src.images.model import ImageModel
from src.images.predict import predict_pictures
from src.images.prepare import Preparation, prepare
from src.images.preprocessing import Preprocessing
from src.images.propose import propose
from src.images.tags import ImageTagger
from src.preparation.proposals import plain
from tests.support import cli

PREPARED = Path("data/prepared/scenes")
NAMES = ["left", "right", "top"]


@pytest.fixture
def scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prepared task `scenes` in this folder: 60 pictures, the label of each side that is bright."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    lists, marked = ["file,labels"], ["file,left,right,top"]
    Path("raw/views").mkdir(parents=True)
    for number in range(60):
        marks = generator.integers(0, 2, 3)
        values = generator.integers(0, 40, (12, 12))
        for mark, part in zip(marks, (np.s_[6:, :6], np.s_[6:, 6:], np.s_[:6, :]), strict=True):
            values[part] += 200 * mark
        Image.fromarray(values.astype(np.uint8)).save(f"raw/views/{number}.png")
        found = [name for name, mark in zip(NAMES, marks, strict=True) if mark]
        lists.append(f"{number}.png,{'; '.join(found)}")
        marked.append(f"{number}.png,{','.join(map(str, marks))}")
    Path("raw/lists.csv").write_text("\n".join(lists) + "\n", encoding="utf-8")
    Path("raw/marked.csv").write_text("\n".join(marked) + "\n", encoding="utf-8")
    prepare(Path("raw"), PREPARED, settings())


def settings(**changed: Any) -> Preparation:
    options: dict[str, Any] = {
        "train": "views",
        "labels": "lists.csv",
        "label": "labels",
        "task": "multilabel",
    }
    return Preparation(**options | changed)


@pytest.mark.usefixtures("scenes")
def test_lists_and_columns_of_labels_are_the_same_targets() -> None:
    learnt = Preprocessing.load(PREPARED)
    assert (learnt.task, learnt.classes) == ("multilabel", NAMES)
    assert learnt.prediction_columns == ["id", *NAMES]
    images, target = (np.load(PREPARED / f"train_{part}.npy") for part in ("images", "target"))
    assert (target.shape, target.dtype) == ((43, 3), np.uint8)
    bright = np.stack([images[:, 0, 6:, 0], images[:, 0, 6:, -1], images[:, 0, 0, :6]]).mean(axis=2) > 128
    assert (target == bright.T).all()
    prepare(Path("raw"), Path("data/prepared/marked"), settings(labels="marked.csv", label=NAMES))
    assert (np.load("data/prepared/marked/train_target.npy") == target).all()


@pytest.mark.usefixtures("scenes")
def test_labels_that_cannot_be_used_are_named() -> None:
    columns = settings(labels="marked.csv", label=NAMES)
    path = Path("raw/marked.csv")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("\n3.png,", "\n3.png,yes"), encoding="utf-8")
    with pytest.raises(DataError, match=r"row 4, column 'left': 'yes[01]', expected 0 or 1"):
        prepare(Path("raw"), PREPARED, columns)
    path.write_text("file,left,right,top\n" + "".join(f"{row}.png,1,1,0\n" for row in range(60)))
    with pytest.raises(DataError, match=r"no picture has the label 'top'"):
        prepare(Path("raw"), PREPARED, columns)
    with pytest.raises(
        DataError, match=r"1 labels in left, expected at least two; prepare\.separator is ';'"
    ):
        marked_pictures(Path("raw/views"), path, "file", ["left"], ";")
    with pytest.raises(ConfigurationError, match=r"prepare\.task: multilabel needs prepare\.labels"):
        Preparation(train=".", task="multilabel")
    with pytest.raises(ConfigurationError, match=r"prepare\.label: .*expected one column"):
        Preparation(train=".", label=["a", "b"])


class Passing(nn.Module):
    """The pixels are the logits."""

    def __init__(self, shape: Any, outputs: int) -> None:
        super().__init__()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


@pytest.mark.usefixtures("scenes")
def test_loss_and_metrics_of_labels() -> None:
    learnt = Preprocessing.load(PREPARED)
    model = ImageTagger(learnt, Passing)
    outputs = torch.tensor([[2.0, -1.0, 3.0], [-2.0, 1.0, 1.0]])
    target = torch.tensor([[1, 0, 1], [0, 0, 1]], dtype=torch.uint8)
    chances = outputs.sigmoid()
    right = torch.where(target == 1, chances, 1 - chances)
    assert model.loss_of(outputs, target).item() == pytest.approx(-right.log().mean().item())
    metrics = {name: round(value.item(), 4) for name, value in model.metrics_of(outputs, target).items()}
    # right has no picture: F1 0, and no average precision
    expected = {"f1": 0.6667, "micro_f1": 0.8571, "subset_accuracy": 0.5, "average_precision": 1.0}
    assert metrics == expected
    trivial = model.predict(model.trivial_outputs(target))
    assert trivial.tolist() == [pytest.approx([0.5, 1e-6, 1 - 1e-6], abs=1e-6)]
    mean = model.predict(model.mean_of(torch.stack([outputs, -outputs])))
    assert torch.allclose(mean, torch.full((2, 3), 0.5))


@pytest.mark.usefixtures("scenes")
def test_what_is_for_one_class_is_refused() -> None:
    learnt = Preprocessing.load(PREPARED)
    wrong: list[dict[str, Any]] = [{"class_weights": "auto"}, {"augmentation": Augmentation(cutmix=1.0)}]
    with pytest.raises(
        ConfigurationError, match=r"model\.calibrate: it is for classes, found several labels"
    ):
        ImageTagger(learnt, Passing, calibrate=True)
    for part in wrong:
        with pytest.raises(ConfigurationError, match=r"it is for classes, found several labels an image"):
            ImageTagger(learnt, Passing, **part)
    with pytest.raises(ConfigurationError, match=r"ImageModel is for classification, .*tags\.ImageTagger"):
        ImageModel(learnt, Passing)
    with pytest.raises(ConfigurationError, match=r"data\.balanced: it is for one class an image"):
        ImageData(PREPARED, balanced=True).kind("train")


@pytest.mark.usefixtures("scenes", "settings_of_the_process")
def test_labels_are_trained_evaluated_predicted_and_exported() -> None:
    network = {"class_path": "src.images.networks.MLP", "init_args": {"hidden_sizes": []}}
    optimizer = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.03}}
    model = {"network": network, "optimizer": optimizer, "label_smoothing": 0.1}
    configuration = {
        "task": "scenes",
        "monitor": "validation/average_precision",
        "mode": "max",
        "trainer": {"max_epochs": 60},
        "data": {"class_path": "src.images.data.ImageData", "init_args": {"batch_size": 16}},
        "model": {"class_path": "src.images.tags.ImageTagger", "init_args": model},
    }
    Path("config.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    assert cli("fit", "--config", "config.yaml") == 0

    Path("report").mkdir()
    bundle = Bundle.open(Path("models/scenes"))
    evaluate(bundle, PREPARED, Path("report"))
    metrics = json.loads(Path("report/metrics.json").read_text(encoding="utf-8"))
    assert metrics["test/micro_f1"] > 0.95 > metrics["baseline/trivial/micro_f1"]
    assert {"test/f1", "test/average_precision", "validation/subset_accuracy"} < metrics.keys()
    assert {path.name for path in Path("report/plots").iterdir()} >= {"most_wrong.png", "sheet.png"}
    table = Path("report/tables/classes.md").read_text(encoding="utf-8")
    assert "| right | " in table
    headings, rows = samples(bundle, PREPARED)
    assert headings == ["image", "labels", "predicted"]
    assert len(rows) == 12

    asked = ("--bundle", "models/scenes", "--data.input", "raw/views", "--data.output", "found.csv")
    assert cli("predict", *asked) == 0
    with Path("found.csv").open(encoding="utf-8") as file:
        found = {row["id"]: [float(row[name]) > 0.5 for name in NAMES] for row in csv.DictReader(file)}
    with Path("raw/marked.csv").open(encoding="utf-8") as file:
        actual = {row["file"]: [row[name] == "1" for name in NAMES] for row in csv.DictReader(file)}
    assert sum(found[name] == actual[name] for name in actual) > 50
    answers = predict_pictures(bundle.model, bundle.preprocessing, [Path("raw/views/7.png")])
    assert answers.columns.tolist() == ["id", *NAMES]

    exported = exportable(bundle)
    inputs, outputs = exported.sample(np.random.default_rng(0), 3)
    assert outputs["probabilities"].shape == (3, 3)
    images = torch.from_numpy(inputs["images"])
    program = torch.export.export(exported.module, (images,)).module()
    assert np.allclose(program(images).detach().numpy(), outputs["probabilities"], rtol=1e-5, atol=1e-6)

    gradio = pytest.importorskip("gradio")
    from src.images.form import image_form

    with gradio.Blocks():
        _, answer = image_form(bundle.model, bundle.preprocessing)
    likeliest = answers[NAMES].iloc[0].idxmax()
    assert answer("raw/views/7.png", None).startswith(f"{likeliest}: ")


@pytest.mark.usefixtures("scenes")
@pytest.mark.parametrize(("table", "label"), [("lists.csv", "labels"), ("marked.csv", NAMES)])
def test_a_proposal_sees_several_labels(table: str, label: Any) -> None:
    for path in Path("raw").glob("*.csv"):
        if path.name != table:
            path.unlink()
    proposal = propose(Path("raw"), None)
    keys, configuration = plain(proposal.prepare), plain(proposal.configuration)
    assert (keys["task"], keys["label"], keys["separator"]) == ("multilabel", label, ";")
    assert configuration["model"]["class_path"] == "src.images.tags.ImageTagger"
    assert proposal.findings[0].startswith("raw: 60 images, grey")
    assert "3 labels ('left', 'right', 'top')" in proposal.findings[1]
    prepare(Path("raw"), Path("again"), Preparation(**keys))


@pytest.mark.usefixtures("scenes")
def test_small_logits_are_no_probabilities() -> None:
    learnt = Preprocessing.load(PREPARED)
    model = ImageTagger(learnt, Passing)
    outputs = torch.tensor([[0.2, 0.4, 0.1]])  # probabilities above 1/2
    metrics = model.metrics_of(outputs, torch.tensor([[1, 1, 1]], dtype=torch.uint8))
    assert metrics["f1"] == metrics["micro_f1"] == metrics["subset_accuracy"] == 1
