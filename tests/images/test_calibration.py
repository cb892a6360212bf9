"""The temperature of picture classifiers."""

import csv
import json
import math
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning import Trainer
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from src.bundle.bundle import Bundle
from src.core.errors import ConfigurationError
from src.images.data import ImageData, load_split
from src.images.evaluate import evaluate
from src.images.export import exportable
from src.images.model import ImageModel
from src.images.networks import MLP
from src.images.predict import predict_pictures
from src.images.prepare import Preparation, prepare
from src.images.preprocessing import Preprocessing
from src.training.calibration import fit_temperature
from src.training.metrics import calibration_error
from tests.support import PowerFailureError, cli, power_failure

PREPARED = Path("data/prepared/marks")

pytestmark = pytest.mark.usefixtures("marks")


class TwoPixels(nn.Module):
    """The logits are the first two pixels."""

    def __init__(self, *_: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :2] * self.weight


def trained(network: Any, epochs: int, lr: float, **settings: Any) -> ImageModel:
    torch.manual_seed(1)
    optimizer = partial(torch.optim.Adam, lr=lr)
    model = ImageModel(Preprocessing.load(PREPARED), network, optimizer=optimizer, **settings)
    options: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    trainer = Trainer(accelerator="cpu", max_epochs=epochs, num_sanity_val_steps=0, **options)
    trainer.fit(model, datamodule=ImageData(PREPARED, batch_size="full"))
    return model.eval()


def test_a_model_that_is_not_calibrated_has_no_further_tensor() -> None:
    model = ImageModel(Preprocessing.load(PREPARED), partial(MLP, hidden_sizes=[4]))
    assert all(name.startswith("network.") for name in model.state_dict())
    calibrated = ImageModel(Preprocessing.load(PREPARED), partial(MLP, hidden_sizes=[4]), calibrate=True)
    assert calibrated.state_dict().keys() - model.state_dict().keys() == {"temperature"}


def test_too_confident_answers_become_less_so_and_stay_the_same_classes() -> None:
    model = trained(partial(MLP, hidden_sizes=[16]), 30, 0.01, calibrate=True)  # of noise
    images, target = load_split(PREPARED, "validation")
    logits = model(images).detach()
    assert model.temperature is not None
    assert model.temperature.item() == pytest.approx(fit_temperature(logits, target))
    assert model.temperature.item() > 2
    found, before = model.predict(logits), logits.softmax(dim=1)
    torch.testing.assert_close(found, (logits / model.temperature).softmax(dim=1))
    assert functional.nll_loss(found.log(), target) < 0.8 * functional.nll_loss(before.log(), target)
    assert torch.equal(found.argmax(dim=1), before.argmax(dim=1))
    assert (found.amax(dim=1) < before.amax(dim=1)).all()


@pytest.mark.parametrize(
    ("settings", "views"),
    [
        ({}, 1),
        ({"flip_averaging": True}, 2),
        ({"shift_averaging": 1}, 5),
        ({"flip_averaging": True, "shift_averaging": 1}, 10),
    ],
)
def test_the_temperature_is_that_of_the_mean_over_the_views(settings: dict[str, Any], views: int) -> None:
    prepare(Path("raw"), PREPARED, Preparation(train=".", scale="none"))
    images = np.zeros((4, 1, 12, 12), np.uint8)
    images[:, 0, 0, 0] = 6  # a logit of 6 in the image as it is, and of 0 in all other views
    np.save(PREPARED / "validation_images.npy", images)
    np.save(PREPARED / "validation_target.npy", np.array([0, 0, 0, 1]))
    model = trained(TwoPixels, 1, 0.0, calibrate=True, **settings)
    mean = (1 / (1 + math.exp(-6)) + (views - 1) / 2) / views
    # 3 of 4 are right, as in tests/training/test_calibration.py
    expected = math.log(mean / (1 - mean)) / math.log(3)
    assert model.state_dict()["temperature"].item() == pytest.approx(expected, rel=1e-3)
    answers = model.predict(model(torch.from_numpy(images)))
    assert answers[0].tolist() == pytest.approx([0.75, 0.25], abs=1e-3)


def test_a_temperature_is_learnt_from_the_prepared_images() -> None:
    model = ImageModel(Preprocessing.load(PREPARED), TwoPixels, calibrate=True)
    model.trainer = Trainer(logger=False, enable_checkpointing=False)
    with pytest.raises(ConfigurationError, match=r"model\.calibrate: .*ImageData, found NoneType"):
        model.setup("fit")


def configure() -> None:
    configuration = {
        "task": "marks",
        "monitor": "validation/loss",
        "checkpoint_seconds": 0,
        "trainer": {"max_epochs": 4, "accelerator": "cpu"},
        "data": {"class_path": "src.images.data.ImageData", "init_args": {"batch_size": 15}},
        "model": {
            "class_path": "src.images.model.ImageModel",
            "init_args": {
                "network": {"class_path": "src.images.networks.MLP", "init_args": {"hidden_sizes": [8]}},
                "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}},
                "flip_averaging": True,
                "calibrate": True,
            },
        },
    }
    Path("config.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")


def manifest() -> Any:
    return json.loads(Path("models/marks/manifest.json").read_text(encoding="utf-8"))


@pytest.mark.usefixtures("settings_of_the_process")
def test_a_killed_training_ends_with_the_same_temperature() -> None:
    configure()
    assert cli("fit", "--config", "config.yaml") == 0
    whole = manifest()
    for folder in ("models", "runs"):
        shutil.rmtree(folder)
    with power_failure(ImageModel, 7), pytest.raises(PowerFailureError):
        cli("fit", "--config", "config.yaml")
    assert cli("fit", "--config", "config.yaml") == 0
    assert manifest() == whole


@pytest.mark.usefixtures("settings_of_the_process")
def test_the_bundle_its_report_and_its_export_have_the_temperature() -> None:
    configure()
    assert cli("fit", "--config", "config.yaml") == 0
    bundle = Bundle.open(Path("models/marks"))
    model = bundle.model_of(ImageModel)
    temperature = load_file("models/marks/model.safetensors")["temperature"].item()
    logits, target = {}, {}
    for split in ("validation", "test"):
        images, target[split] = load_split(PREPARED, split)
        logits[split] = model(images).detach()
    assert temperature != 1
    assert temperature == pytest.approx(fit_temperature(logits["validation"], target["validation"]))

    Path("report").mkdir()
    evaluate(bundle, PREPARED, Path("report"))
    metrics = json.loads(Path("report/metrics.json").read_text(encoding="utf-8"))
    for split in ("validation", "test"):
        expected = calibration_error((logits[split] / temperature).softmax(dim=1), target[split])
        assert metrics[f"{split}/ece"] == pytest.approx(expected, abs=1e-5)
    # that of a baseline is without it
    frequencies = torch.from_numpy(np.load(PREPARED / "train_target.npy")).bincount() / 43
    expected = calibration_error(frequencies.expand(len(target["test"]), -1), target["test"])
    assert metrics["baseline/trivial/ece"] == pytest.approx(expected, abs=1e-5)
    assert Path("report/plots/reliability.png").is_file()

    found = predict_pictures(model, bundle.preprocessing, [Path("raw/cross/0.png")])
    asked = ("--bundle", "models/marks", "--data.input", "raw/cross/0.png", "--data.output", "found.csv")
    assert cli("predict", *asked) == 0
    with Path("found.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert float(row["probability"]) == pytest.approx(found["probability"].item(), abs=1e-6)

    exported = exportable(bundle)
    inputs, outputs = exported.sample(np.random.default_rng(0), 3)
    images = torch.from_numpy(inputs["images"])
    expected = (model(images) / temperature).softmax(dim=1)
    np.testing.assert_allclose(outputs["probabilities"], expected.detach(), rtol=1e-5)
    program = torch.export.export(exported.module, (images,)).module()
    np.testing.assert_allclose(program(images).detach(), outputs["probabilities"], rtol=1e-5, atol=1e-6)
