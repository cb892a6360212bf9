import torch
from torch import nn

from src.images.figures import feature_maps


def test_feature_maps_are_described_with_the_formula_of_their_size() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, stride=3), nn.ReLU(), nn.MaxPool2d(2))
    (conv, maps), (pool, pooled) = feature_maps(network, torch.zeros(1, 1, 4, 4))
    assert conv == "Conv2d: 2 x 2 x 2; (4 + 2*1 - 3) / 3 + 1 = 2"
    assert pool == "MaxPool2d: 2 x 1 x 1; (2 + 2*0 - 2) / 2 + 1 = 1"
    assert (maps.shape, pooled.shape) == ((2, 2, 2), (2, 1, 1))
