"""A small network of torchvision is trained further, from weights that the test makes."""

import functools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
import yaml
from lightning import Trainer
from safetensors.torch import load_file, save_file

from src.core.errors import ConfigurationError, DataError
from src.images.augmentation import Augmentation
from src.images.model import ImageModel
from src.images.networks import ConvNet, TorchvisionNetwork
from src.images.prepare import Preparation, prepare
from src.images.preprocessing import Preprocessing
from src.images.pretrained import load_pretrained, read_weights
from src.training.freezing import Frozen, frozen_of, head_of
from tests.support import PowerFailureError, cli, power_failure, write_pictures

NAME = "shufflenet_v2_x0_5"
PREPARED = Path("data/prepared/photos")


@pytest.fixture(scope="module")
def published() -> dict[str, torch.Tensor]:
    """The weights of a network of 1,000 classes, as torchvision would publish them."""
    torch.manual_seed(0)
    return torchvision.models.get_model(NAME, weights=None).state_dict()


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: dict[str, torch.Tensor]) -> None:
    """The prepared task `photos` in the current folder: 40 colour pictures of two classes, 32 x 32."""
    monkeypatch.chdir(tmp_path)
    write_pictures(Path("raw"), ["cat", "dog"], 40, 32, 32, 3)
    torch.save(published, "raw/net.pth")
    prepare(Path("raw"), PREPARED, Preparation(train=".", scale="imagenet", weights="net.pth"))


def network(classes: int = 2) -> TorchvisionNetwork:
    return TorchvisionNetwork((3, 32, 32), classes, NAME)


@pytest.mark.usefixtures("photos")
def test_the_preparation_keeps_the_weights_and_scales_as_torchvision() -> None:
    found = load_file(PREPARED / "weights.safetensors")
    expected = torch.load("raw/net.pth", weights_only=True)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    learnt = Preprocessing.load(PREPARED)
    model = ImageModel(learnt, lambda shape, classes: network(classes))
    image = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    transform = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    torch.testing.assert_close(model.scaled(image), transform(image / 255))


def test_grey_images_become_colour_for_pretrained_networks(tmp_path: Path) -> None:
    write_pictures(tmp_path / "raw", "ab", 20, 32, 32)
    prepare(tmp_path / "raw", tmp_path / "grey", Preparation(train=".", scale="imagenet"))
    learnt = Preprocessing.load(tmp_path / "grey")
    assert learnt.shape == (1, 32, 32)
    grey = torch.full((1, 1, 32, 32), 255, dtype=torch.uint8)
    model = ImageModel(learnt, lambda shape, classes: ConvNet(shape, classes, width=4))
    white = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert model.scaled(grey)[0, :, 0, 0].tolist() == pytest.approx(white)
    assert model.eval()(grey).shape == (1, 2)


def test_all_layers_but_the_head_get_the_weights(published: dict[str, torch.Tensor]) -> None:
    torch.manual_seed(1)
    built = network()
    head = built.network.fc.weight.detach().clone()
    load_pretrained(built, published)
    for name, value in built.network.state_dict().items():
        assert name.startswith("fc.") or torch.equal(value, published[name])
    assert torch.equal(built.network.fc.weight, head)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("conv1.0.weight"), r"network\.conv1\.0\.weight is not in the file"),
        (
            lambda weights: weights.update({"conv1.0.weight": torch.zeros(3, 3)}),
            r"network\.conv1\.0\.weight has the shape \(3, 3\), expected \(24, 3, 3, 3\)",
        ),
        (
            lambda weights: weights.update({"layer9.weight": torch.zeros(1)}),
            r"network\.layer9\.weight is not in the network",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(
    published: dict[str, torch.Tensor], change: Any, message: str
) -> None:
    weights = dict(published)
    change(weights)
    with pytest.raises(ConfigurationError, match=message):
        load_pretrained(network(), weights)


def test_weights_of_another_network_are_refused(published: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ConfigurationError, match=r"0\.weight is not in the file; .* and \d+ more"):
        load_pretrained(ConvNet((3, 32, 32), 2, width=4), published)


@pytest.mark.parametrize(
    ("network", "older"),
    [
        (
            torchvision.models.DenseNet(4, (1, 1), 8, num_classes=2),
            (r"(denselayer1\.(?:norm|conv))([12])\.", r"\1.\2."),
        ),
        (
            torchvision.models.VisionTransformer(32, 16, 1, 2, 8, 16, num_classes=2),
            (r"mlp\.([03])\.", lambda found: {"0": "mlp.linear_1.", "3": "mlp.linear_2."}[found[1]]),
        ),
        (torchvision.models.mnasnet0_5(num_classes=2), ("", "")),
    ],
    ids=["DenseNet", "ViT", "MNASNet"],
)
def test_published_files_with_older_names_are_loaded(
    network: torch.nn.Module, older: tuple[str, Any], tmp_path: Path
) -> None:
    published = {name: torch.ones_like(value) for name, value in network.state_dict().items()}
    torch.save({re.sub(*older, name): value for name, value in published.items()}, tmp_path / "net.pth")
    load_pretrained(network, read_weights(tmp_path / "net.pth"))
    head = head_of(network)
    for name, value in network.state_dict().items():
        assert name.startswith(head) or bool((value == 1).all()), name


def test_the_documented_pattern_freezes_the_first_layers_of_resnet() -> None:
    resnet = TorchvisionNetwork((3, 32, 32), 2, "resnet18")
    frozen = Frozen(resnet, r"^network\.(conv1|bn1|layer1)\.", None)
    assert {name.split(".")[1] for name in frozen.names} == {"conv1", "bn1", "layer1"}
    assert len(frozen.names) == 3 + 2 * 2 * 3


def test_the_weights_of_a_bundle_are_read_as_well(tmp_path: Path, published: dict[str, torch.Tensor]) -> None:
    of_a_bundle = {f"network.network.{name}": value for name, value in published.items()}
    of_a_bundle |= {"class_weights": torch.ones(2), "temperature": torch.tensor(1.5)}
    save_file(of_a_bundle, tmp_path / "w.safetensors")
    torch.save({"model": {f"module.{name}": value for name, value in published.items()}}, tmp_path / "w.pt")
    torch.save({"state_dict": {f"model._orig_mod.{n}": v for n, v in published.items()}}, tmp_path / "l.pt")
    for name in ("w.safetensors", "w.pt", "l.pt"):
        assert read_weights(tmp_path / name).keys() == published.keys()


def test_files_without_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("text", encoding="utf-8")
    (tmp_path / "text.safetensors").write_text("text", encoding="utf-8")
    torch.save(network(), tmp_path / "module.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("text.pth", "text.safetensors", "module.pth", "list.pth"):
        with pytest.raises(DataError, match=rf"{name}: not a file of weights"):
            read_weights(tmp_path / name)
    with pytest.raises(DataError, match=r"none\.pth: there is no such file; prepare\.weights"):
        read_weights(tmp_path / "none.pth")


def test_the_head_is_the_last_layer() -> None:
    assert head_of(network()) == "network.fc"
    assert head_of(TorchvisionNetwork((3, 32, 32), 2, "squeezenet1_1")) == "network.classifier.1"
    assert head_of(ConvNet((3, 32, 32), 2)) == "20"


def test_a_frozen_body_keeps_its_parameters_and_its_mode() -> None:
    built = network()
    frozen = Frozen(built, "body", unfreeze_at=2)
    frozen.apply(built, 1)
    assert {name for name, value in built.named_parameters() if value.requires_grad} == {
        "network.fc.weight",
        "network.fc.bias",
    }
    assert not built.network.stage2.training
    assert built.network.fc.training
    frozen.apply(built, 2)
    assert all(value.requires_grad for value in built.parameters())
    assert all(layer.training for layer in built.modules())


def test_what_is_frozen_is_so_before_the_training() -> None:
    built = network()
    frozen = frozen_of(built, "body", unfreeze_at=2)
    assert frozen is not None
    assert {name for name, value in built.named_parameters() if value.requires_grad} == {
        "network.fc.weight",
        "network.fc.bias",
    }


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("stage9", "matches no parameter"), (".", "matches all parameters"), ("(", r"model\.freeze: \(: ")],
)
def test_patterns_that_freeze_nothing_or_all_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Frozen(network(), pattern, None)


def configuration(**model: Any) -> dict[str, Any]:
    return {
        "task": "photos",
        "seed_everything": 1,
        "monitor": "validation/loss",
        "mode": "min",
        "checkpoint_seconds": 0,
        "trainer": {"max_epochs": 4},
        "data": {"class_path": "src.images.data.ImageData", "init_args": {"batch_size": 15}},
        "model": {
            "class_path": "src.images.model.ImageModel",
            "init_args": {
                "network": {
                    "class_path": "src.images.networks.TorchvisionNetwork",
                    "init_args": {"name": NAME},
                },
                "augmentation": {"flip": 0.5},
                "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}},
                **model,
            },
        },
    }


def trained(last_step: int | None, **model: Any) -> Any:
    """Train, or fail after `last_step` steps: the files of the bundle with their digests."""
    Path("config.yaml").write_text(yaml.safe_dump(configuration(**model)), encoding="utf-8")
    with power_failure(ImageModel, last_step):
        assert cli("fit", "--config", "config.yaml") == 0
    return json.loads(Path("models/photos/manifest.json").read_text(encoding="utf-8"))


# 2 steps an epoch: in epoch 0, at the unfreezing of epoch 2, after it
@pytest.mark.usefixtures("photos", "settings_of_the_process")
@pytest.mark.parametrize("last_step", [3, 4, 7])
def test_a_training_that_was_killed_around_the_unfreezing_ends_with_the_same_weights(last_step: int) -> None:
    settings = {
        "freeze": "body",
        "unfreeze_at": 2,
        "class_weights": "auto",
        "parameter_groups": [{"pattern": r"network\.fc", "lr": 0.05}],
    }
    expected = trained(None, **settings)
    shutil.rmtree("models")
    shutil.rmtree("runs")
    with pytest.raises(PowerFailureError):
        trained(last_step, **settings)
    assert trained(None, **settings) == expected


@pytest.mark.usefixtures("photos", "settings_of_the_process")
def test_features_of_a_frozen_body_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"freeze": "body", "augmentation": None}
    expected = trained(None, **settings)
    with_features = load_file("models/photos/model.safetensors")
    shutil.rmtree("models")
    shutil.rmtree("runs")
    with pytest.raises(PowerFailureError):
        trained(5, **settings)
    assert trained(None, **settings) == expected
    shutil.rmtree("models")
    shutil.rmtree("runs")
    with monkeypatch.context() as patch:
        patch.setattr(ImageModel, "features_of", lambda self, images: images)
        trained(None, **settings)
    for name, value in load_file("models/photos/model.safetensors").items():
        assert torch.allclose(value, with_features[name], rtol=1e-3, atol=1e-5), name


@pytest.mark.usefixtures("photos")
def test_features_are_those_before_the_last_layer_where_it_alone_is_trained() -> None:
    images = torch.from_numpy(np.load(PREPARED / "train_images.npy"))
    learnt = Preprocessing.load(PREPARED)

    def features(part: Any = lambda shape, classes: ConvNet(shape, classes, 4), **settings: Any) -> Any:
        model = ImageModel(learnt, part, **settings)
        model.trainer = Trainer(logger=False, enable_checkpointing=False)
        if model.frozen is not None:
            model.frozen.apply(model.network, 0)
        return model, model.features_of(images)

    model, found = features(freeze="body")
    assert found.shape == (len(images), 16)
    assert torch.equal(model(found), model.eval()(images))
    assert features(freeze="body", unfreeze_at=1)[1] is images
    assert features(freeze="body", augmentation=Augmentation(crop=1))[1] is images
    assert features(freeze="body", flip_averaging=True)[1] is images
    assert features(freeze="^0")[1] is images
    assert features()[1] is images
    with_dropout = functools.partial(ConvNet, width=4, dropout=0.5)
    assert features(with_dropout, freeze="body")[1] is images


@pytest.mark.usefixtures("photos", "settings_of_the_process")
def test_a_frozen_body_is_that_of_the_file_and_the_bundle_needs_none(
    published: dict[str, torch.Tensor],
) -> None:
    trained(None, freeze="body", class_weights="auto")
    weights = load_file("models/photos/model.safetensors")
    counts = np.bincount(np.load(PREPARED / "train_target.npy"))
    assert weights["class_weights"].tolist() == pytest.approx(counts.sum() / (2 * counts))
    body = {name: value for name, value in published.items() if not name.startswith("fc.")}
    for name, value in body.items():
        assert torch.equal(weights[f"network.network.{name}"], value), name
    assert "net.pth" not in Path("models/photos/config.yaml").read_text(encoding="utf-8")
    (PREPARED / "weights.safetensors").unlink()
    Path("raw/net.pth").unlink()
    assert cli("predict", "--bundle", "models/photos", "--data.input", "raw/cat") == 0
