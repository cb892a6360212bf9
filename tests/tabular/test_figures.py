from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from src.tabular.figures import plot_function
from src.tabular.model import TabularModel
from src.tabular.number_columns import NumericColumn
from src.tabular.preprocessing import Preprocessing, Target
from src.training.networks import MLP

PNG = b"\x89PNG"
CORNERS = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])


@pytest.mark.parametrize("inputs", [1, 2])
@pytest.mark.parametrize("classes", [None, ["left", "right", "middle"]])
def test_one_or_two_inputs_have_a_picture(
    tmp_path: Path, inputs: int, classes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.tabular.figures.MAP_POINTS", 20)
    columns = [NumericColumn(f"x{number}", 0.0, 1.0, 3.0, 0, 1.0) for number in range(inputs)]
    preprocessing = Preprocessing(columns, [Target("side", classes)])
    target: Tensor = torch.zeros(4, 1)
    if classes:
        target = torch.tensor([0, 1, 2, 1])
    model = TabularModel(
        preprocessing, partial(MLP, hidden_sizes=[3]), loss="cross_entropy" if classes else "mse"
    )
    plot_function(
        model,
        dict.fromkeys(("train", "validation", "test"), (CORNERS[:, :inputs], target)),
        preprocessing,
        tmp_path / "function.png",
    )
    assert (tmp_path / "function.png").read_bytes().startswith(PNG)
