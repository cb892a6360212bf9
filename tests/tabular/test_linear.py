from functools import partial

import pytest
import torch
from torch import Tensor, nn

from src.tabular.linear import separable, weights_table
from src.tabular.model import TabularModel
from src.tabular.number_columns import NumericColumn
from src.tabular.preprocessing import Preprocessing, Target
from src.training.networks import MLP

CORNERS = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])


def column(name: str, center: float = 0.0, scale: float = 1.0) -> NumericColumn:
    return NumericColumn(name, 0.0, center, scale, 0, center)


def linear(preprocessing: Preprocessing, weights: list[float], bias: float) -> TabularModel:
    model = TabularModel(preprocessing, partial(MLP, hidden_sizes=[]))
    layer = model.network[0]
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([weights]))
        layer.bias.fill_(bias)
    return model


def as_splits(features: Tensor, target: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    return dict.fromkeys(("train", "validation", "test"), (features, target))


def test_a_line_separates_and_but_not_exclusive_or() -> None:
    assert separable(CORNERS, torch.tensor([0, 0, 0, 1]))
    assert separable(CORNERS, torch.tensor([1, 1, 1, 1]))
    assert not separable(CORNERS, torch.tensor([0, 1, 1, 0]))


def test_weights_are_in_the_units_of_the_columns_beside_least_squares_and_the_truth() -> None:
    columns = [column("a", center=1, scale=2), column("b")]
    target = Target("y", center=10.0, scale=5.0)
    preprocessing = Preprocessing(columns, [target], truth={"a": 3.0, "bias": 4.0})
    # y = 10 + 5 (0.4 (a - 1) / 2 + 2 b + 1) = 14 + a + 10 b
    model = linear(preprocessing, [0.4, 2.0], 1.0)
    # on the corners of the features: a = 1, 3 and y = 10 + 5 (0, 2, 1, 3), that is 5 (a - 1) / 2 + 10 b + 10
    table = weights_table(model, as_splits(CORNERS, torch.tensor([[0.0], [2], [1], [3]])), preprocessing)
    assert table is not None
    assert list(table.index) == ["a", "b", "bias"]
    assert table["learnt"].tolist() == pytest.approx([1, 10, 14])
    assert table["least squares"].tolist() == pytest.approx([2.5, 10, 7.5])
    assert table["truth"].tolist() == [3, 0, 4]


def test_deep_models_have_no_table_of_weights() -> None:
    preprocessing = Preprocessing([column("a")], [Target("y")])
    splits = as_splits(CORNERS[:, :1], torch.zeros(4, 1))
    assert (
        weights_table(TabularModel(preprocessing, partial(MLP, hidden_sizes=[2])), splits, preprocessing)
        is None
    )
