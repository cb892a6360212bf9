from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from src.images.figures import feature_maps, occlusion, plot_confusion


def test_feature_maps_are_described_with_the_formula_of_their_size() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, stride=3), nn.ReLU(), nn.MaxPool2d(2))
    (conv, maps), (pool, pooled) = feature_maps(network, torch.zeros(1, 1, 4, 4))
    assert conv == "Conv2d: 2 x 2 x 2; (4 + 2*1 - 3) / 3 + 1 = 2"
    assert pool == "MaxPool2d: 2 x 1 x 1; (2 + 2*0 - 2) / 2 + 1 = 1"
    assert (maps.shape, pooled.shape) == ((2, 2, 2), (2, 1, 1))


@pytest.mark.parametrize(("layers", "shown"), [(0, 0), (1, 1), (15, 15), (40, 16)])
def test_feature_maps_of_a_deep_network_are_those_of_some_layers(layers: int, shown: int) -> None:
    network = nn.Sequential(*(nn.Conv2d(1, 1, 1, padding=1) for _ in range(layers)))  # larger by 2 each
    maps = feature_maps(network, torch.zeros(1, 1, 4, 4))
    assert len(maps) == shown
    sides = [found.shape[1] for _, found in maps]
    assert sides == sorted(sides)
    assert not maps or (sides[0], sides[-1]) == (6, 4 + 2 * layers)


def test_occlusion_finds_the_part_that_carries_the_answer() -> None:
    image = torch.zeros(1, 16, 16, dtype=torch.uint8)
    image[0, 2:4, 12:14] = 200  # in the cell of row 1, column 6

    def probabilities_of(images: Tensor) -> Tensor:
        bright = images[:, 0, 2:4, 12:14].float().mean(dim=(1, 2)) / 200
        return torch.stack([bright, 1 - bright], dim=1)

    found = occlusion(probabilities_of, image, cells=8)
    assert found.shape == (8, 8)
    assert found[1, 6] == found.max() > 0.9
    assert (found[4:] == 0).all()
    assert (found[:, :5] == 0).all()


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(1, 2, 3, padding="same"),
        nn.Conv2d(1, 2, 3, padding=2, dilation=2),
        nn.MaxPool2d(2, ceil_mode=True),
    ],
)
def test_other_layers_are_described_by_their_size(layer: nn.Module) -> None:
    (description, maps), *_ = feature_maps(nn.Sequential(layer), torch.zeros(1, 1, 5, 5))
    assert description == f"{type(layer).__name__}: {' x '.join(map(str, maps.shape))}"


def test_a_confusion_matrix_of_many_classes_has_a_size_that_can_be_drawn(tmp_path: Path) -> None:
    target = torch.arange(1000)
    plot_confusion(target, torch.eye(1000), list(map(str, range(1000))), tmp_path / "many.png")
    with Image.open(tmp_path / "many.png") as picture:
        assert max(picture.size) < 2000
