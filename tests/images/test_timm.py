"""Small networks of timm, from weights that the tests make; they need the extra `timm`."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from pipelines.export.export import export
from src.core.errors import ConfigurationError
from src.images.model import ImageModel
from src.images.networks import TimmNetwork
from src.images.prepare import Preparation, prepare
from src.images.preprocessing import Preprocessing
from src.images.propose import propose
from src.preparation.proposals import plain
from src.training.freezing import head_of
from tests.support import PowerFailureError, cli, power_failure, write_pictures

timm = pytest.importorskip("timm")

NAME = "test_resnet"
HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `raw` in the current one: 24 colour pictures of two classes, 32 x 32, and weights."""
    monkeypatch.chdir(tmp_path)
    write_pictures(Path("raw"), ["cat", "dog"], 24, 32, 32, 3)
    torch.manual_seed(0)
    save_file(timm.create_model(NAME).state_dict(), f"raw/{NAME}.r160_in1k.safetensors")
    return Path("raw")


@pytest.mark.parametrize(
    ("name", "size"),
    [(NAME, 32), (f"{NAME}.r160_in1k", 32), ("test_vit", 64), ("test_convnext", 64)],
)
def test_networks_are_built_by_name_for_the_size_of_the_images(name: str, size: int) -> None:
    network = TimmNetwork((1, size, size), 5, name)
    assert network(torch.zeros(2, 1, size, size)).shape == (2, 5)
    assert network.training
    assert head_of(network) == f"network.{network.network.default_cfg['classifier']}"


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        (
            "resnet1",
            32,
            r"name: resnet1, expected one of timm\.list_models\(\), such as .*resnet18",
        ),
        ("hf-hub:some/model", 32, r"name: hf-hub:some/model, expected one of timm"),
        ("test_vit", 33, "model.network: test_vit cannot take images of 33 x 33"),
    ],
)
def test_other_names_and_sizes_are_refused(name: str, size: int, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TimmNetwork((3, size, size), 5, name)


@pytest.mark.parametrize("beside", [False, True])
def test_new_task_proposes_the_network_of_the_weights(beside: bool, pictures: Path) -> None:
    file = next(pictures.glob("*.safetensors"))
    if beside:  # the two files of a model on the Hugging Face Hub
        published = {"input_size": [3, 160, 160], **HALF}
        content = json.dumps({"architecture": NAME, "pretrained_cfg": published})
        (pictures / "config.json").write_text(content, encoding="utf-8")
        file = file.rename(pictures / "model.safetensors")
    proposal = propose(pictures, None)
    chosen = plain(proposal.prepare)
    assert (chosen["weights"], chosen["resize"], chosen["scale"]) == (file.name, 160, HALF)
    model = plain(proposal.configuration)["model"]["init_args"]
    assert model["network"] == {
        "class_path": "src.images.networks.TimmNetwork",
        "init_args": {"name": NAME},
    }
    assert f"'{file.name}' of timm's {NAME}, of which the last layer is trained" in proposal.findings[-1]


@pytest.mark.usefixtures("pictures", "settings_of_the_process")
def test_a_training_from_weights_is_exact_and_its_bundle_predicts_and_exports() -> None:
    weights = f"{NAME}.r160_in1k.safetensors"
    settings = Preparation(train=".", scale=HALF, weights=weights)
    prepare(Path("raw"), Path("data/prepared/photos"), settings)
    learnt = Preprocessing.load(Path("data/prepared/photos"))
    assert (learnt.scaling, np.unique(learnt.center), np.unique(learnt.scale)) == ("normalize", 127.5, 127.5)
    network = {"class_path": "src.images.networks.TimmNetwork", "init_args": {"name": NAME}}
    options: dict[str, Any] = {
        "network": network,
        "freeze": r"^network\.conv1\.",
        "augmentation": {"flip": 0.5},
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}},
    }
    configuration = {
        "task": "photos",
        "seed_everything": 1,
        "monitor": "validation/loss",
        "mode": "min",
        "checkpoint_seconds": 0,
        "trainer": {"max_epochs": 2},
        "data": {"class_path": "src.images.data.ImageData", "init_args": {"batch_size": 8}},
        "model": {"class_path": "src.images.model.ImageModel", "init_args": options},
    }
    Path("config.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    assert cli("fit", "--config", "config.yaml") == 0
    expected = Path("models/photos/manifest.json").read_text(encoding="utf-8")
    shutil.rmtree("models")
    shutil.rmtree("runs")
    with pytest.raises(PowerFailureError), power_failure(ImageModel, 3):
        cli("fit", "--config", "config.yaml")
    assert cli("fit", "--config", "config.yaml") == 0
    assert Path("models/photos/manifest.json").read_text(encoding="utf-8") == expected
    trained = load_file("models/photos/model.safetensors")
    first = "conv1.0.weight"
    assert torch.equal(trained[f"network.network.{first}"], load_file(f"raw/{weights}")[first])

    files = ["--data.input", "raw/cat", "--data.output", "p.csv"]
    assert cli("predict", "--bundle", "models/photos", *files) == 0
    predicted = pd.read_csv("p.csv")
    assert len(predicted) == 12
    export("photos", samples=50)  # compares the programs with the bundle
    assert Path("exports/photos/model.onnx").is_file()
