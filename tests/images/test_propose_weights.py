"""Networks whose weights lie beside the pictures."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from src.images import propose_weights
from src.images.propose import propose
from src.images.propose_weights import find_pretrained
from src.preparation.proposals import plain
from tests.images.test_propose import draw, write_idx


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("mine.pth", "pretrained weights: 'mine.pth': not used: neither the name nor a config.json names a"),
        (
            "resnet18.pth",
            "cannot be read into torchvision's resnet18: .*resnet18.pth: not a file of weights",
        ),
    ],
)
def test_weights_that_cannot_be_used_are_named(name: str, finding: str, tmp_path: Path) -> None:
    draw(tmp_path, (32, 32), "RGB")
    (tmp_path / name).write_bytes(b"")
    proposal = propose(tmp_path, None)
    assert re.search(finding, proposal.findings[-1])
    assert "weights" not in proposal.prepare


@pytest.mark.parametrize("folders", [["."], ["train", "test"]])
def test_a_network_of_torchvision_begins_with_the_weights_beside_the_pictures(
    folders: list[str], tmp_path: Path
) -> None:
    for folder in folders:
        draw(tmp_path / folder, (32, 32), "RGB")
    name = "shufflenet_v2_x0_5-f707e7126e.pth"
    torch.save(torchvision.models.shufflenet_v2_x0_5().state_dict(), tmp_path / name)
    proposal = propose(tmp_path, None)
    prepare = plain(proposal.prepare)
    assert {key: prepare[key] for key in ("weights", "scale", "resize")} == {
        "weights": name,
        "scale": "imagenet",
        "resize": 224,
    }
    assert (name in proposal.files) == ("test" in prepare)
    options = plain(proposal.configuration)["model"]["init_args"]
    assert options["network"]["init_args"] == {"name": "shufflenet_v2_x0_5"}
    assert options["freeze"] == "body"
    assert "of torchvision's shufflenet_v2_x0_5, of which the last layer is trained" in proposal.findings[-1]


def test_files_of_pixels_are_not_enlarged_for_weights_beside_them(tmp_path: Path) -> None:
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", np.arange(8 * 28 * 28).reshape(8, 28, 28) % 251)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.arange(8) % 2)
    torch.save(torchvision.models.shufflenet_v2_x0_5().state_dict(), tmp_path / "shufflenet_v2_x0_5.pth")
    proposal = propose(tmp_path, None)
    assert not {"weights", "resize"} & proposal.prepare.keys()
    assert "'shufflenet_v2_x0_5.pth': not used: they are for picture files" in proposal.findings[-1]


@pytest.mark.parametrize(
    ("file", "network"),
    [
        ("resnet18-f37072fd.pth", "resnet18"),
        ("vgg11_bn-6002323d.pth", "vgg11_bn"),
        ("mnasnet0.5_top1_67.823-3ffadce67e.pth", "mnasnet0_5"),
        ("swin_v2_t-b137f0e2.pth", "swin_v2_t"),
        ("shufflenetv2_x0.5-f707e7126e.pth", "shufflenet_v2_x0_5"),
        ("resnet180.pth", None),
    ],
)
def test_the_name_of_a_published_file_names_its_network(
    file: str, network: str | None, tmp_path: Path
) -> None:
    (tmp_path / file).write_bytes(b"")
    _, (finding,) = find_pretrained([tmp_path / file], are_pictures=True)
    assert network is None or f"'{file}' cannot be read into torchvision's {network}: " in finding
    assert network is not None or f"'{file}': not used: neither" in finding


@pytest.mark.parametrize(
    ("file", "network", "size", "scale"),
    [
        ("inception_v3_google-0cc3c7bd.pth", "inception_v3", 299, "imagenet"),
        (
            "efficientnet_v2_s-dd5fe13b.pth",
            "efficientnet_v2_s",
            384,
            "imagenet",
        ),
        ("efficientnet_v2_l-59c71312.pth", "efficientnet_v2_l", 480, {"mean": [0.5] * 3, "std": [0.5] * 3}),
    ],
)
def test_the_images_are_those_of_the_weights(
    file: str, network: str, size: int, scale: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(propose_weights, "_require_fitting", lambda *_: None)
    (tmp_path / file).write_bytes(b"")
    pretrained, _ = find_pretrained([tmp_path / file], are_pictures=True)
    assert pretrained is not None
    assert pretrained[1:4] == ("torchvision", network, (size, size))
    assert pretrained.scale == scale


def test_of_several_files_of_weights_none_is_used(tmp_path: Path) -> None:
    draw(tmp_path, (32, 32), "RGB")
    for name in ("a.pth", "b.safetensors"):
        (tmp_path / name).write_bytes(b"")
    proposal = propose(tmp_path, None)
    assert "'a.pth', 'b.safetensors': not used: several files; docs" in proposal.findings[-1]


def test_images_that_are_not_square_are_told(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    draw(tmp_path, (32, 32), "RGB")
    published = {"input_size": [3, 160, 224], "mean": [0.5] * 3, "std": [0.5] * 3}
    content = json.dumps({"architecture": "test_resnet", "pretrained_cfg": published})
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    (finding,) = propose(tmp_path, None).findings[-1:]
    assert "into timm's test_resnet: they want images of 160 x 224, which are not square" in finding
