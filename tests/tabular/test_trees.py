"""Estimators of the extra `tables` beside a model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from src.tabular.columns import CategoricalColumn
from src.tabular.model import TabularModel
from src.tabular.number_columns import NumericColumn
from src.tabular.preprocessing import Preprocessing, Target

trees = pytest.importorskip("benchmarks.trees")  # a project made from this one has no benchmarks


@pytest.mark.parametrize("package", [name for name in trees.OPTIONS if name != "tabicl"])
@pytest.mark.parametrize(("classes", "loss"), [(None, "mse"), (["no", "yes"], "bce")])
def test_trees_answer_as_a_model_does(package: str, classes: Any, loss: Any) -> None:
    pytest.importorskip(package)
    outputs = answered(package, classes, loss)
    assert outputs.shape == (3, 1)
    assert outputs[0] < -0.5 < 0.5 < outputs[1]


@pytest.mark.parametrize(("classes", "loss", "most"), [(None, "mse", 0), (["no", "yes"], "bce", 10)])
def test_tabicl_answers_with_the_weights_of_a_file(
    classes: Any, loss: Any, most: int, tmp_path: Path
) -> None:
    network = pytest.importorskip("tabicl._model.tabicl").TabICL
    sizes = {"embed_dim": 16, "col_num_blocks": 1, "row_num_blocks": 1, "icl_num_blocks": 1}
    heads = {"col_nhead": 2, "row_nhead": 2, "icl_nhead": 2}
    config = {"max_classes": most, "num_quantiles": 9, **sizes, **heads}
    torch.manual_seed(0)
    weights = {"config": config, "state_dict": network(**config).state_dict()}
    torch.save(weights, tmp_path / "weights.ckpt")
    outputs = answered("tabicl", classes, loss, model_path=tmp_path / "weights.ckpt")
    assert outputs.shape == (3, 1)
    assert outputs.isfinite().all()
    with pytest.raises(ValueError, match="automatic download is disabled"):
        answered("tabicl", classes, loss, model_path=tmp_path / "other.ckpt")


def answered(package: str, classes: Any, loss: Any, **options: Any) -> torch.Tensor:
    """What an estimator answers for rows of the category `a`, of `b` and of one without a training row."""
    columns = [NumericColumn("x", 0.0, 0.0, 1.0, 0, 0.0), CategoricalColumn("k", ["a", "b"], [], 0, "a")]
    model = TabularModel(Preprocessing(columns, [Target("y", classes)]), nn.Linear, loss)
    numbers = torch.arange(200.0)[:, None] % 7
    codes = (torch.arange(200) % 2).to(torch.uint8)[:, None]
    wanted = codes[:, 0].long() if classes else codes.float() * 2 - 1
    train, target = trees.table_of(numbers, codes, wanted)
    unseen = torch.tensor([[0], [1], [2]], dtype=torch.uint8)
    test, _ = trees.table_of(torch.tensor([[3.0], [3], [3]]), unseen, wanted[:3])
    found: torch.Tensor = trees.outputs_of(package, model, train, target, test, **options)
    return found
