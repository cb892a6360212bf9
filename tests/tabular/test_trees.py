"""Boosted trees of the extra `tables` beside a model."""

from typing import Any

import pytest
import torch
from torch import nn

from src.tabular.columns import CategoricalColumn
from src.tabular.model import TabularModel
from src.tabular.number_columns import NumericColumn
from src.tabular.preprocessing import Preprocessing, Target

trees = pytest.importorskip("benchmarks.trees")  # a project made from this one has no benchmarks


@pytest.mark.parametrize("package", trees.OPTIONS)
@pytest.mark.parametrize(("classes", "loss"), [(None, "mse"), (["no", "yes"], "bce")])
def test_trees_answer_as_a_model_does(package: str, classes: Any, loss: Any) -> None:
    pytest.importorskip(package)
    columns = [NumericColumn("x", 0.0, 0.0, 1.0, 0, 0.0), CategoricalColumn("k", ["a", "b"], [], 0, "a")]
    model = TabularModel(Preprocessing(columns, [Target("y", classes)]), nn.Linear, loss)
    numbers = torch.arange(200.0)[:, None] % 7
    codes = (torch.arange(200) % 2).to(torch.uint8)[:, None]
    wanted = codes[:, 0].long() if classes else codes.float() * 2 - 1
    train, target = trees.table_of(numbers, codes, wanted)
    unseen = torch.tensor([[0], [1], [2]], dtype=torch.uint8)  # the last category has no training row
    test, _ = trees.table_of(torch.tensor([[3.0], [3], [3]]), unseen, wanted[:3])
    outputs = trees.outputs_of(package, model, train, target, test)
    assert outputs.shape == (3, 1)
    assert outputs[0] < -0.5 < 0.5 < outputs[1]
